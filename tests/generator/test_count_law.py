"""The law of counts around cross-fitted means: one size where arms are alike, and as many as there are where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.generator.seen import ERROR_COLUMNS, error_columns
from causalms.generator.train.count_law import log_sizes, shrunk
from causalms.generator.train.first_stage import FirstStageData, fit_first_stage
from causalms.generator.train.held_out import law_of_counts
from causalms.stats import HeldOutCounts, NegativeBinomialLaw, fit_error_model

ARMS = 6


def patients(n: int, seed: int) -> tuple[FirstStageData, np.ndarray]:
    """Patients of six arms of whom 40 features tell the rate, and their true means; counts of size .5."""
    rng = np.random.default_rng(seed)
    arm, columns, features = rng.integers(0, ARMS, n), rng.normal(size=(n, 9)), rng.normal(size=(n, 40))
    weights = np.random.default_rng(1).normal(0, 0.1, 40)
    mean = np.exp(np.linspace(1.8, -0.5, ARMS)[arm] + 0.4 * columns[:, 0] + features @ weights)
    counts = rng.poisson(mean * rng.gamma(0.5, 2.0, n)).astype(float)
    return FirstStageData(counts, arm, columns, features, columns[:, :2], np.zeros(n)), mean


def test_arms_alike_have_one_size_and_others_their_own() -> None:
    rng = np.random.default_rng(2)
    arm = rng.integers(0, 3, 9000)
    for sizes in (np.full(3, 0.5), np.array([0.25, 0.5, 1.5])):
        counts = rng.poisson(5 * rng.gamma(sizes[arm], 1 / sizes[arm]))
        found = np.exp(log_sizes(counts, np.full(9000, np.log(5.0)), arm, 3))
        assert found == pytest.approx(sizes, rel=0.12)  # 3,000 patients an arm: standard error .03 to .04 of its logarithm
        assert (np.ptp(found) < 1e-9) == (np.ptp(sizes) == 0)


def test_an_arm_without_counts_has_the_size_of_the_others() -> None:
    rng = np.random.default_rng(3)
    counts, arm = rng.poisson(4 * rng.gamma(0.5, 2, 2000)), np.zeros(2000, int)
    assert np.exp(log_sizes(counts, np.full(2000, np.log(4.0)), arm, 2)) == pytest.approx([0.5, 0.5], rel=0.1)


def test_estimates_without_a_spread_of_their_own_are_one() -> None:
    assert np.ptp(shrunk(np.array([0.1, -0.1, 0.15]), np.full(3, 0.15))) == 0
    assert shrunk(np.array([0.0, 0.0, 0.4]), np.full(3, 0.05), centre=0.0)[2] == pytest.approx(0.4, abs=0.03)


def test_the_law_of_unseen_counts_is_as_wide_as_they_are() -> None:
    """Over eight trials of 1,000: the mean is right to 3%, the variance given it to 8%, 90% of unseen counts in 90% sets."""
    ratios, held = [], []
    for seed in range(8):
        data, _ = patients(1000, 10 + seed)
        whole, fold = fit_first_stage(data, ARMS), np.arange(1000) % 5
        log_expected, variance = np.zeros((1000, ARMS)), np.zeros(1000)
        for number in range(5):
            rows = fold == number
            fit, own = fit_first_stage(data.rows(~rows), ARMS, like=whole), data.rows(rows)
            log_expected[rows] = (fit.log_mean(own) - fit.level[own.arm])[:, None] + fit.level
            variance[rows] = fit.variance(own)
        columns = error_columns(np.column_stack([data.columns[:, :5], np.abs(data.columns[:, 5:8])]))
        unseen = HeldOutCounts(data.counts, data.arm, log_expected, columns, np.full(ARMS, whole.size), np.zeros(1000, int))
        error = fit_error_model(unseen, tuple("abcdef"), ERROR_COLUMNS, "cross-fitted")
        own_mean = log_expected[np.arange(1000), data.arm]
        levels = error.level_corrections(log_expected, columns)
        shift, log_size = law_of_counts(error, data.counts, data.arm, own_mean, levels, variance)
        new, mean = patients(2000, 100 + seed)
        law = NegativeBinomialLaw(np.exp(whole.log_mean(new) + shift[new.arm]), whole.size * np.exp(log_size[new.arm]))
        level = mean.sum() / law.mean.sum()
        scaled = NegativeBinomialLaw(law.mean * level, law.size).variance.sum() / (mean + 2 * mean**2).sum()
        ratios.append((level, scaled))
        upper = law.cdf(new.counts)
        inside = np.minimum(upper, 0.95) - np.maximum(upper - law.pmf(new.counts), 0.05)
        held.append((inside.clip(0) / law.pmf(new.counts)).mean())
    assert np.mean(ratios, axis=0) == pytest.approx([1.0, 1.0], abs=0.08)
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)
