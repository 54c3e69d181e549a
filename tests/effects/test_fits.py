"""Own fits against statsmodels, at the edges, and many at once against one at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from causalms.errors import ConvergenceError, RefusalError
from causalms.stats import Batch, BatchFit, fit_batch, fit_model, log_likelihood, observed_information


def design(trial: pd.DataFrame) -> np.ndarray:
    return np.column_stack([np.ones(len(trial)), trial["arm"] == "drug", trial["x"]]).astype(float)


@pytest.mark.parametrize("family", ["poisson", "logistic", "linear"])
def test_generalised_linear_fits_match_statsmodels(trial: pd.DataFrame, family: str) -> None:
    import statsmodels.api as sm

    X, y, time = design(trial), trial["y"].to_numpy(float), trial["exposure_years"].to_numpy()
    if family == "logistic":
        y = (y > 0).astype(float)
    kind = {"poisson": sm.families.Poisson(), "logistic": sm.families.Binomial(), "linear": sm.families.Gaussian()}[family]
    offset = np.log(time) if family == "poisson" else None
    theirs = sm.GLM(y, X, family=kind, offset=offset).fit(tol=1e-12)
    ours = fit_model(family, X, y, time if family == "poisson" else None)
    np.testing.assert_allclose(ours.coefficients, theirs.params, rtol=1e-8)
    scale = 1.0 if family != "linear" else theirs.scale
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(ours.information)) * scale), theirs.bse, rtol=1e-7)


def test_negative_binomial_fit_and_sas_standard_errors_match_statsmodels(trial: pd.DataFrame) -> None:
    import statsmodels.api as sm

    X, y, time = design(trial), trial["y"].to_numpy(float), trial["exposure_years"].to_numpy()
    ours = fit_model("negbin", X, y, time)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sm.NegativeBinomial(y, X, exposure=time).fit(method="newton", tol=1e-12, maxiter=500, disp=0)
    np.testing.assert_allclose([*ours.coefficients, ours.alpha], theirs.params, rtol=1e-6)
    assert log_likelihood(ours) == pytest.approx(theirs.llf, rel=1e-10)
    # statsmodels inverts the same joint observed information (by its analytic Hessian).
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(observed_information(ours)))), theirs.bse, rtol=1e-4)


def test_gradient_of_the_negative_binomial_likelihood_is_zero_at_the_fit(trial: pd.DataFrame) -> None:
    from dataclasses import replace

    fit = fit_model("negbin", design(trial), trial["y"].to_numpy(float), trial["exposure_years"].to_numpy())
    step = 1e-5
    for index in range(3):
        moved = np.eye(3)[index] * step
        up = log_likelihood(replace(fit, coefficients=fit.coefficients + moved))
        down = log_likelihood(replace(fit, coefficients=fit.coefficients - moved))
        assert abs(up - down) / (2 * step) < 1e-4  # rounding of a likelihood near 250 over 2e-5
    up, down = (log_likelihood(replace(fit, alpha=fit.alpha + sign * step)) for sign in (1, -1))
    assert abs(up - down) / (2 * step) < 1e-4


def test_underdispersed_counts_end_at_the_poisson_boundary() -> None:
    X = np.column_stack([np.ones(40), np.repeat([0, 1], 20)]).astype(float)
    y = np.tile([2.0, 3.0, 2.0, 3.0], 10)
    fit = fit_model("negbin", X, y)
    assert fit.at_poisson_boundary
    assert fit.alpha == 0
    np.testing.assert_allclose(fit.coefficients, fit_model("poisson", X, y).coefficients)


def test_every_poisson_sample_of_forty_gets_a_fit_with_standard_errors() -> None:
    rng = np.random.default_rng(4)
    X = np.column_stack([np.ones(40), np.repeat([0, 1], 20)]).astype(float)
    for _ in range(200):
        fit = fit_model("negbin", X, rng.poisson(3, 40).astype(float))
        errors = np.sqrt(np.diag(np.linalg.inv(fit.information)))
        assert fit.converged
        assert np.isfinite(errors).all()


def test_dispersion_close_to_zero_is_found_without_cancellation() -> None:
    rng = np.random.default_rng(1)
    y = rng.negative_binomial(1 / 0.002, 1 / (1 + 0.002 * 50), 4000).astype(float)
    fit = fit_model("negbin", np.ones((4000, 1)), y)
    # Standard error of alpha about sqrt(2 / n) / mean = 0.00045.
    assert fit.alpha == pytest.approx(0.002, abs=3 * 0.00045)


def test_counts_of_a_billion_still_fit() -> None:
    rng = np.random.default_rng(2)
    y = rng.negative_binomial(1, 0.3, 60) * 1e9
    X = np.column_stack([np.ones(60), np.repeat([0, 1], 30)]).astype(float)
    fit = fit_model("negbin", X, y)
    means = [y[:30].mean(), y[30:].mean()]
    assert np.exp(fit.coefficients[0]) == pytest.approx(means[0], rel=1e-8)
    assert np.exp(fit.coefficients.sum()) == pytest.approx(means[1], rel=1e-8)


def test_separation_is_refused_and_collinearity_named() -> None:
    X = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]]).astype(float)
    with pytest.raises(RefusalError, match="separate"):
        fit_model("logistic", X, np.array([0.0, 0, 0, 1, 1, 1]))
    with pytest.raises(RefusalError, match="all counts are zero"):
        fit_model("poisson", X, np.zeros(6))
    with pytest.raises(ConvergenceError, match="collinear"):
        fit_model("poisson", np.column_stack([X, X[:, 1]]), np.array([1.0, 2, 3, 1, 1, 2]))


@pytest.mark.parametrize("family", ["poisson", "negbin", "logistic", "linear"])
def test_weighted_fits_at_once_equal_fits_of_repeated_rows(trial: pd.DataFrame, family: str) -> None:
    X, y, time = design(trial), trial["y"].to_numpy(float), trial["exposure_years"].to_numpy()
    if family in ("logistic", "linear"):
        time = np.ones_like(time)
        y = (y > 0).astype(float) if family == "logistic" else y
    whole = fit_model(family, X, y, time)
    rng = np.random.default_rng(3)
    weights = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=6).astype(float)
    start = BatchFit(whole.coefficients[None], np.array([whole.alpha]), np.array([True]))
    batch = Batch(X, y[None], time[None], weights)
    for many in (fit_batch(family, batch), fit_batch(family, batch, start)):
        assert many.converged.all()
        for row, weight in enumerate(weights):
            rows = np.repeat(np.arange(len(y)), weight.astype(int))
            one = fit_model(family, X[rows], y[rows], time[rows])
            np.testing.assert_allclose(many.coefficients[row], one.coefficients, atol=1e-8)
            assert many.alpha[row] == pytest.approx(one.alpha, abs=1e-7)


def test_a_replicate_without_a_finite_fit_is_flagged_and_spares_the_others() -> None:
    X = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]]).astype(float)
    y = np.array([[1.0, 2, 3, 0, 0, 0], [1, 2, 3, 2, 1, 1]])
    fit = fit_batch("poisson", Batch(X, y, np.ones((1, 6))))
    assert fit.converged.tolist() == [False, True]
    np.testing.assert_allclose(np.exp(fit.coefficients[1].sum()), 4 / 3)
