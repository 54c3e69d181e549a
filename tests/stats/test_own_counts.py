"""A trial's own counts against the generator: the gate's level, and the update's coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model, own_counts_test, update_error_model
from tests.stats.test_model_error import ARMS, SIZE, patients


@pytest.fixture(scope="module")
def stored() -> ErrorModel:
    return fit_error_model(patients(1, scale=0.0)[0], ARMS, ("age", "edss")).about_zero()


def own_trial(seed: int, shift: tuple[float, float, float], n: int = 300) -> HeldOutCounts:
    """A trial whose arms differ from the generator by known shifts of the log mean."""
    rng = np.random.default_rng([8, seed])
    data, _ = patients(seed, n=n, scale=0.0)
    log_mean = data.log_expected[np.arange(n), data.arm] + np.array(shift)[data.arm]
    counts = rng.poisson(np.exp(log_mean) * rng.gamma(SIZE, 1 / SIZE, n)).astype(float)
    return replace(data, counts=counts, trial=np.zeros(n, int))


def log_ratio(error: ErrorModel, data: HeldOutCounts) -> tuple[float, float]:
    """Error of the log rate ratio of the last arm against the first: mean and standard error."""
    against = (error.terms(data.log_expected, data.columns, 2) - error.terms(data.log_expected, data.columns, 0)).mean(axis=0)
    return float(against @ error.mean), float(np.sqrt(against @ error.covariance @ against))


def test_counts_of_the_stated_law_contradict_at_the_gates_level():
    """200 trials without any error but the counts': 2% of them, and four binomial errors of .01 above."""
    expected, arm = np.repeat([9.0, 5.0, 1.0], 100), np.repeat([0, 1, 2], 100)
    rng = np.random.default_rng(1)
    p = [
        own_counts_test(
            rng.poisson(expected * rng.gamma(SIZE, 1 / SIZE, 300)).astype(float),
            expected, expected + expected**2 / SIZE, arm, np.zeros((300, 1)),
        ).arms_p
        for _ in range(200)
    ]  # fmt: skip
    assert np.mean(np.array(p) < 0.02) < 0.06
    assert 0.35 < np.mean(np.array(p) < 0.5) < 0.65


def test_after_a_trial_like_those_learned_from_the_interval_is_narrower_and_holds_the_truth(stored: ErrorModel):
    """20 trials without error: nominal .95, three binomial errors of .05."""
    covers, widths = [], []
    for seed in range(20):
        data = own_trial(seed, (0.0, 0.0, 0.0))
        update = update_error_model(stored, data)
        mean, se = log_ratio(update.error, data)
        covers.append(abs(mean) < 1.96 * se)
        widths.append(se)
    assert np.mean(covers) >= 0.8
    alone = update_error_model(stored, own_trial(1, (0.0, 0.0, 0.0)), known=False)
    assert np.mean(widths) < log_ratio(alone.error, own_trial(1, (0.0, 0.0, 0.0)))[1]


def test_another_law_drops_the_stored_error_model_and_the_interval_holds_the_truth(stored: ErrorModel):
    """20 trials with a harmful arm (the new drug 4.5 times its rate): fired in all, coverage within three binomial errors."""
    covers, dropped = [], []
    for seed in range(20):
        data = own_trial(seed, (0.0, 0.0, 1.5))
        update = update_error_model(stored, data)
        mean, se = log_ratio(update.error, data)
        dropped.append(update.dropped)
        covers.append(abs(mean - 1.5) < 1.96 * se)
    assert all(dropped)
    assert np.mean(covers) >= 0.8


def test_a_lower_rate_shows_in_the_level_and_not_in_the_arm_effects(stored: ErrorModel):
    update = update_error_model(stored, own_trial(3, (-1.2, -1.2, -1.2), n=600))
    assert update.test.level_p < 0.01
    assert not update.dropped
