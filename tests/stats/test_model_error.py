"""The error model of expected counts: exact derivatives, intervals that hold known errors, and its form in a file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from causalms.errors import InputError
from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model
from causalms.stats.model_error import about_mean_lesion, blocks, terms
from causalms.stats.model_error_fit import Likelihood, Priors

ARMS = ("placebo", "old", "new")
SIZE = 0.5


def patients(seed: int, n: int = 800, columns: int = 2, scale: float = 1.0) -> tuple[HeldOutCounts, np.ndarray]:
    """Held-out patients of a generator whose error is drawn from the priors, and that error."""
    rng = np.random.default_rng(seed)
    base, priors = np.log([9.0, 5.0, 1.0]), Priors()
    log_expected = base + rng.normal(0, 0.6, (n, 1)) + rng.normal(0, 0.1, (n, 3))
    z, arm, trial = rng.normal(size=(n, columns)), rng.integers(0, 3, n), rng.integers(0, 4, n)
    at = blocks(3, columns)
    error = np.zeros(at["trial"].stop)
    half = {"arm": priors.arm_scale, "arm_slope": priors.arm_slope_scale, "column": priors.column_scale}
    sds = {name: abs(rng.normal(0, value)) for name, value in half.items()}
    sds |= {name: getattr(priors, name) for name in ("slope", "width", "arm_column", "arm_width", "log_size")} | {"level": 0.3}
    for name, sd in sds.items():
        error[at[name]] = scale * rng.normal(0, sd, at[name].stop - at[name].start)
    between = rng.normal(0, abs(rng.normal(0, priors.trial_scale)), 4)
    X = terms(log_expected, z, arm, float(base.mean()))
    mean = np.exp(log_expected[np.arange(n), arm] + X @ error + between[trial])
    k = SIZE * np.exp(error[at["log_size"]][arm])
    counts = rng.poisson(mean * rng.gamma(k, 1 / k)).astype(float)
    return HeldOutCounts(counts, arm, log_expected, z, np.full(3, SIZE), trial), error


@pytest.fixture(scope="module")
def fitted() -> ErrorModel:
    return fit_error_model(patients(1)[0], ARMS, ("age", "edss"))


def test_gradient_and_hessian_are_the_derivatives_of_the_log_likelihood():
    data, _ = patients(2, n=60)
    likelihood = Likelihood(data, data.columns, 1.0)
    point = np.random.default_rng(0).normal(0, 0.1, likelihood.p)
    steps = np.eye(len(point)) * 1e-5
    slope = [(likelihood.log_likelihood(point + h) - likelihood.log_likelihood(point - h)) / 2e-5 for h in steps]
    bend = [(likelihood.derivatives(point - h)[0] - likelihood.derivatives(point + h)[0]) / 2e-5 for h in steps]
    gradient, curvature = likelihood.derivatives(point)
    assert gradient == pytest.approx(np.array(slope), abs=1e-6 * np.abs(gradient).max())
    assert curvature == pytest.approx(np.array(bend), abs=1e-6 * np.abs(curvature).max())


def test_the_scale_of_many_effects_is_not_that_of_their_joint_mode():
    """60 trials that do not differ: the joint mode of scale and standardised effects puts their standard deviation at .39."""
    data, _ = patients(300, n=4000)
    model = fit_error_model(replace(data, trial=np.random.default_rng(0).integers(0, 60, 4000)), ARMS, ("age", "edss"))
    assert model.trial_sd < 0.15


def test_intervals_hold_errors_drawn_from_the_priors():
    """40 generators: 95% intervals of log rate ratio, modification and width; three binomial errors are .103."""
    contrasts, modifications, widths = [], [], []
    for seed in range(40):
        data, error = patients(100 + seed)
        model = fit_error_model(data, ARMS, ("age", "edss"))
        against = (model.terms(data.log_expected, data.columns, 2) - model.terms(data.log_expected, data.columns, 0)).mean(axis=0)
        contrasts.append(abs(against @ (model.mean - error)) < 1.96 * np.sqrt(against @ model.covariance @ against))
        inside = np.abs(model.mean - error) < 1.96 * np.sqrt(np.diag(model.covariance))
        modifications.append(inside[model.at["arm_column"]].mean())
        widths.append(inside[model.at["width"]].mean())
    assert np.mean(contrasts) >= 0.85
    assert 0.92 <= np.mean(modifications) <= 0.98  # 240 of them
    assert np.mean(widths) >= 0.85


def test_more_patients_make_the_error_of_a_rate_ratio_smaller():
    spread = {}
    for n in (300, 4800):
        data, _ = patients(7, n=n, scale=0.0)
        model = fit_error_model(data, ARMS, ("age", "edss"))
        against = (model.terms(data.log_expected, data.columns, 2) - model.terms(data.log_expected, data.columns, 0)).mean(axis=0)
        spread[n] = np.sqrt(against @ model.covariance @ against)
    assert spread[4800] < 0.5 * spread[300]


def test_without_a_patient_the_posterior_is_the_prior():
    nobody = HeldOutCounts(np.zeros(0), np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 2)), np.ones(3), np.zeros(0, int))
    model = fit_error_model(nobody, ARMS, ("age", "edss"))
    sd = np.sqrt(np.diag(model.covariance))
    assert model.mean == pytest.approx(0, abs=1e-9)
    assert sd[model.at["arm_column"]] == pytest.approx(0.2)
    assert sd[model.at["level"]] == pytest.approx(1.0)


def test_draws_have_the_posterior_moments_and_depend_on_the_seed_alone(fitted: ErrorModel):
    drawn = fitted.draw(4000, seed=3)
    sd = np.sqrt(np.diag(fitted.covariance))
    assert np.array_equal(drawn, fitted.draw(4000, seed=3))
    assert np.abs((drawn.mean(axis=0) - fitted.mean) / sd).max() < 4 / np.sqrt(4000)  # 29 means, four errors
    assert drawn.std(axis=0) / sd == pytest.approx(1, abs=0.06)


def test_loadings_are_the_covariance_of_drawn_log_means(fitted: ErrorModel):
    data, _ = patients(5, n=3)
    means = np.log(fitted.means(data.log_expected, data.columns, draws=20000, seed=1))
    first, second = (fitted.loadings(data.log_expected, data.columns, arm) for arm in (0, 2))
    drawn = [np.cov(means[:, row, 0], means[:, row, 2])[0, 1] for row in range(3)]
    assert drawn == pytest.approx((first * second).sum(axis=1), rel=0.05)


def test_about_the_generators_own_numbers_the_mean_is_part_of_the_error(fitted: ErrorModel):
    own = fitted.about_zero()
    assert not own.mean.any()
    assert np.diag(own.covariance) == pytest.approx(np.diag(fitted.covariance) + fitted.mean**2)


def test_a_patient_unlike_the_fitted_ones_has_a_wider_error(fitted: ErrorModel):
    log_expected = np.log([[9.0, 5.0, 1.0]] * 2)
    near, far = (fitted.loadings(log_expected, np.array([[0.0, 0.0], [4.0, 0.0]]), 2) ** 2).sum(axis=1)
    assert far > 1.5 * near
    assert fitted.summary.distance(np.array([[0.0, 0.0], [4.0, 0.0]]))[1] > 13.8  # beyond 99.9% of chi-squared with 2 df


def test_written_and_read_again_it_is_the_same(fitted: ErrorModel):
    model = replace(fitted, volume_sd=np.full(3, 0.1))
    words = json.loads(json.dumps(model.words_and_numbers()))
    again = ErrorModel.read(model.arrays(), words)
    assert again.words == "from 800 held-out patients"
    assert np.array_equal(again.covariance, model.covariance)
    with pytest.raises(InputError, match=r"error model: mean of shape \(2,\), expected finite numbers of \(23,\); fit it again"):
        ErrorModel.read({**model.arrays(), "mean": np.zeros(2)}, words)
    with pytest.raises(InputError, match="error model: incomplete or unreadable"):
        ErrorModel.read(model.arrays(), {})


def ratio_direction(model: ErrorModel, log_expected: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Derivative (p,) of the log ratio of the summed counts of arms 2 and 0."""
    weights = np.exp(log_expected) / np.exp(log_expected).sum(axis=0)
    last, first = (weights[:, arm] @ model.terms(log_expected, columns, arm) for arm in (2, 0))
    return np.asarray(last - first)


def test_about_the_mean_lesion_a_population_ratio_depends_on_the_levels_of_its_arms():
    """One ratio for everybody: the weights of all arms are the same, and only b_2 - b_0 is left."""
    data, _ = patients(8, n=200)
    log_expected = np.log([9.0, 5.0, 1.0]) + data.log_expected[:, [0]]
    model = fit_error_model(replace(data, log_expected=log_expected), ARMS, ("age", "edss"))
    moved = about_mean_lesion(log_expected, model.summary.standardised(data.columns), model.centre)
    expected = np.zeros(len(model.mean))
    expected[model.at["arm"]] = (-1, 0, 1)
    assert ratio_direction(model, log_expected, data.columns) @ moved == pytest.approx(expected, abs=1e-10)


def test_levels_that_were_moved_leave_the_same_law():
    data, _ = patients(9, n=100)
    model, shift = fit_error_model(data, ARMS, ("age", "edss")), np.array([0.3, -0.2, 0.1])
    moved = model.with_levels(shift)
    before = model.log_ratios(data.log_expected, data.columns, model.mean[None])[0]
    assert moved.log_ratios(data.log_expected + shift, data.columns, moved.mean[None])[0] + shift == pytest.approx(before)
    sds = [np.linalg.norm(m.loadings(d, data.columns, 2), axis=1) for m, d in
           ((model, data.log_expected), (moved, data.log_expected + shift))]  # fmt: skip
    assert sds[1] == pytest.approx(sds[0])


def test_cross_fitted_levels_err_as_their_own_counts_do():
    """Levels of every fold are the means of the others, nothing else is learned: the ratio errs as two means do.

    12 generators, 400 patients an arm, counts of size .5 and mean 4: sd of the log ratio sqrt(2 (2 + .25) / 400) = .106.  A scale
    of the levels, learned from residuals that folds make small, gave less.
    """
    rng, n, arm = np.random.default_rng(12), 1200, np.repeat([0, 1, 2], 400)
    held, errors, trial = [], [], np.zeros(n, int)
    for _ in range(12):
        counts = rng.poisson(4.0 * rng.gamma(SIZE, 1 / SIZE, n)).astype(float)
        fold, columns = rng.permutation(n) % 5, rng.normal(size=(n, 2))
        others = [[np.log(counts[(fold != f) & (arm == a)].mean()) for a in range(3)] for f in range(5)]
        log_expected = np.array(others)[fold]
        data = HeldOutCounts(counts, arm, log_expected, columns, np.full(3, SIZE), trial)
        model = fit_error_model(data, ARMS, ("age", "edss"), "cross-fitted")
        direction = ratio_direction(model, log_expected, columns)
        errors.append(np.sqrt(direction @ model.covariance @ direction))
        final = np.log([counts[arm == a].mean() for a in range(3)]) + model.level_corrections(log_expected, columns)[0]
        held.append(abs(final[2] - final[0]) < 1.96 * errors[-1])
    assert np.mean(errors) == pytest.approx(0.106, rel=0.25)
    assert np.mean(held) >= 0.76  # three binomial errors below .95
