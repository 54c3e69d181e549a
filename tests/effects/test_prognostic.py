"""Prognostic adjustment: it saves variance when the score is right and costs no bias when it is wrong; planning by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse, grouped_arguments
from causalms.effects.planning import prospective_power, sample_size
from causalms.effects.prognostic import cross_fitted, savings
from causalms.effects.variance import coefficient_covariance
from causalms.errors import InputError, RefusalError, UsageError
from studies.operating_characteristics.operating import CountModel


def trial_with_scores(seed: int, n: int = 200) -> pd.DataFrame:
    """Counts whose log rate has SD 0.9; a score that knows it, and one that is deliberately wrong (reversed and noisy)."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 0.9, n)
    arm = rng.permutation(np.repeat(["placebo", "drug"], n // 2))
    rate = np.exp(0.5 + signal + np.where(arm == "drug", np.log(0.5), 0))
    y = rng.poisson(rate * rng.gamma(2, 0.5, n))
    wrong = np.exp(-0.5 * signal + rng.normal(0, 1, n) + 2)
    return pd.DataFrame({"y": y, "arm": arm, "right": np.exp(0.5 + signal), "wrong": wrong})


def test_a_right_score_saves_variance_and_says_how_many_patients_it_is_worth() -> None:
    saved = savings(
        analyse(
            trial_with_scores(1, 1000), **grouped_arguments({"outcome": "y", "reference": "placebo", "prognostic": ["right"]})
        )
    )[0]
    assert saved.variance_ratio < 0.8
    assert saved.equivalent_n == pytest.approx(1000 / saved.variance_ratio)
    assert "saves" in saved.sentence


def test_stated_saving_is_the_saving_over_repeated_trials() -> None:
    crude, adjusted, stated = [], [], []
    for seed in range(80):
        table = trial_with_scores(seed, 400)
        crude.append(
            np.log(
                analyse(table, **grouped_arguments({"outcome": "y", "reference": "placebo", "estimator": "unadjusted"}))
                .contrasts[0]
                .estimate
            )
        )
        analysis = analyse(table, **grouped_arguments({"outcome": "y", "reference": "placebo", "prognostic": ["right"]}))
        adjusted.append(np.log(analysis.contrasts[0].estimate))
        stated.append(savings(analysis)[0].variance_ratio)
    # A ratio of two correlated variances of 80 repetitions: relative error about 12%; some three of them.
    assert np.median(stated) == pytest.approx(np.var(adjusted) / np.var(crude), rel=0.36)


@pytest.mark.parametrize("score", ["right", "wrong"])
def test_right_or_wrong_score_the_estimate_is_unbiased_and_covered(score: str) -> None:
    values, covered = [], []
    for seed in range(150):
        analysis = analyse(
            trial_with_scores(seed),
            **grouped_arguments({"outcome": "y", "reference": "placebo", "prognostic": [score], "variance": "small-sample"}),
        )
        contrast = analysis.contrasts[0]
        values.append(np.log(contrast.estimate))
        covered.append(contrast.lower < 0.5 < contrast.upper)
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values) - np.log(0.5)) < 3 * spread / np.sqrt(150) + 0.01  # and a finite-sample bias of the log below 0.01
    # 95% of 150 has a Monte-Carlo error of 1.8%; the interval must not fall below nominal by more than two of them.
    assert np.mean(covered) > 0.95 - 2 * 0.018


def test_joint_calibration_takes_one_score_an_arm() -> None:
    table = trial_with_scores(3).assign(under_drug=lambda t: t["right"] * 0.5 + 0.1)
    analysis = analyse(
        table, **grouped_arguments({"outcome": "y", "reference": "placebo", "prognostic": ["right", "under_drug"]})
    )
    assert analysis.data.covariate_names == ("log(right)", "log(under_drug)")


def test_cross_fitting_never_shows_a_patient_to_its_own_model() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"y": rng.normal(size=60), "key": range(60)})

    def memory(train: pd.DataFrame):
        known = dict(zip(train["key"], train["y"], strict=True))
        return lambda test: np.array([known.get(key, 0.0) for key in test["key"]])

    assert (cross_fitted(table, memory, folds=6, seed=1) == 0).all()
    with pytest.raises(UsageError, match="expected 2 to 60"):
        cross_fitted(table, memory, folds=100)
    with pytest.raises(InputError, match="missing or misshapen"):
        cross_fitted(table, lambda train: lambda test: np.full(len(test), np.nan))


def test_planned_power_is_the_power_of_simulated_trials() -> None:
    size = sample_size(rate=3, ratio=0.5, dispersion=2, power=0.9)[0]
    trials = CountModel("plan").simulate(0.5, size, 3000, np.random.default_rng(5))
    means = trials.means("negbin")
    z = means.fit.coefficients[:, 1] / np.sqrt(coefficient_covariance(means.fit, "model-sas").matrix[:, 1, 1])
    # Monte-Carlo error 0.55%; the formula is asymptotic, so 2% more.
    assert np.mean(np.abs(z) > 1.959964) == pytest.approx(0.9, abs=0.035)
    assert prospective_power(size, rate=3, ratio=0.5, dispersion=2) >= 0.9


def test_planning_refuses_what_cannot_be_planned() -> None:
    with pytest.raises(RefusalError, match="cannot be detected"):
        sample_size(rate=3, ratio=1, dispersion=2)
    with pytest.raises(UsageError, match="`rate`: found 0"):
        sample_size(rate=0, ratio=0.5, dispersion=2)
    with pytest.raises(UsageError, match="variance_ratio"):
        sample_size(rate=3, ratio=0.5, dispersion=2, variance_ratio=2.4)
    with pytest.raises(UsageError, match="standardized"):
        savings(
            analyse(trial_with_scores(0), **grouped_arguments({"outcome": "y", "reference": "placebo", "estimator": "negbin"}))
        )
