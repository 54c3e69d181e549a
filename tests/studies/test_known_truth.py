"""Scores against a known truth are right for forecasts whose scores are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.benchmark import KnownOutcomes, expected_coverage, judge
from causalms.errors import InputError
from causalms.stats import DrawsLaw, NegativeBinomialLaw

ARMS = ("placebo", "drug")
SIZE = 0.6


@pytest.fixture(scope="module")
def known() -> KnownOutcomes:
    rng = np.random.default_rng(1)
    log_rate = rng.normal(0, 0.8, (600, 1)) + np.log([2.5, 0.8])
    counts = rng.poisson(rng.gamma(SIZE, 1 / SIZE, (600, 2)) * np.exp(log_rate))
    return KnownOutcomes(ARMS, log_rate, counts, rng.integers(2, size=600), rng.random(600) < 0.4, SIZE)


def estimates(law: NegativeBinomialLaw | DrawsLaw, known: KnownOutcomes) -> pd.Series:
    return judge(law, known, 60).set_index(["measure", "arm"])["estimate"]


def test_true_law_has_no_error_and_holds_its_coverage(known: KnownOutcomes) -> None:
    estimated = estimates(NegativeBinomialLaw(known.rate.ravel(), SIZE), known)
    assert estimated["PEHE", ""] == pytest.approx(0, abs=1e-12)
    assert estimated["R2 of log rate", ""] == pytest.approx(1)
    ratios = estimated[["mean ratio", "rate ratio / truth", "rate ratio / truth, marker positive"]]
    assert ratios.to_numpy() == pytest.approx(1)
    assert estimated[["variance / truth", "share of zeros / truth"]].to_numpy() == pytest.approx(1)
    # 1,200 counts: the standard error of a coverage of .9 is .009; three of them.
    assert estimated["coverage of 90% intervals", ""] == pytest.approx(0.9, abs=0.026)
    assert estimated["PIT p-value", ""] > 0.01


def test_arm_means_explain_nothing_within_arms(known: KnownOutcomes) -> None:
    mean = np.tile(known.rate.mean(0), 600)
    estimated = estimates(NegativeBinomialLaw(mean, SIZE), known)
    assert estimated["R2 of log rate", ""] == pytest.approx(0, abs=1e-12)
    assert estimated["mean ratio", "drug"] == pytest.approx(1)
    difference = known.rate[:, 1] - known.rate[:, 0]
    assert estimated["PEHE", ""] == pytest.approx(difference.std())


def test_doubled_rates_double_the_mean_and_leave_ratios(known: KnownOutcomes) -> None:
    estimated = estimates(NegativeBinomialLaw(2 * known.rate.ravel(), SIZE), known)
    assert estimated["mean ratio", "placebo"] == pytest.approx(2)
    assert estimated["rate ratio / truth", "drug"] == pytest.approx(1)
    assert estimated["R2 of log rate", ""] == pytest.approx(1)
    assert estimated["PIT p-value", ""] == pytest.approx(1 / 61)  # the least that 60 simulated trials can say


def test_draws_of_the_true_law_score_like_the_law(known: KnownOutcomes) -> None:
    law = NegativeBinomialLaw(known.rate.ravel(), SIZE)
    draws = DrawsLaw(law.sample(np.random.default_rng(2), 200))
    true, own = estimates(law, known), estimates(draws, known)
    # The fair CRPS of 200 draws differs from the law's by Monte-Carlo error alone.
    assert own["CRPS", ""] == pytest.approx(true["CRPS", ""], rel=0.02)
    assert own["mean ratio", "placebo"] == pytest.approx(1, abs=0.05)


def test_activity_of_the_true_law_is_ranked_better_than_by_chance(known: KnownOutcomes) -> None:
    estimated = estimates(NegativeBinomialLaw(known.rate.ravel(), SIZE), known)
    assert 0.6 < estimated["AUC of activity", ""] < 1
    flat = estimates(NegativeBinomialLaw(np.ones(1200), SIZE), known)
    assert flat["AUC of activity", ""] == 0.5


def test_law_of_other_length_is_refused(known: KnownOutcomes) -> None:
    with pytest.raises(InputError, match="expected 600 patients x 2 arms"):
        judge(NegativeBinomialLaw([1.0], [1.0]), known)


def test_expected_coverage_is_the_mean_over_counts_of_the_true_law() -> None:
    rng = np.random.default_rng(8)
    mean, forecast_mean = rng.gamma(1, 4, 50), rng.gamma(1, 4, 50)
    true, law = NegativeBinomialLaw(mean, np.full(50, 0.5)), NegativeBinomialLaw(forecast_mean, np.full(50, 0.8))
    counts = np.arange(4000)[None] * np.ones((50, 1), int)
    low, high = law.cdf(counts - 1), law.cdf(counts)
    inside = (np.minimum(high, 0.95) - np.maximum(low, 0.05)).clip(0) / np.maximum(high - low, 1e-300)
    np.testing.assert_allclose(expected_coverage(law, true, 0.9), (true.pmf(counts) * inside).sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(expected_coverage(true, true, 0.9), 0.9, atol=1e-12)
