"""Judging one effect by another: the difference on the scale of inference, equivalence, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.agreement import correlate
from causalms.agreement.result import Effect, Rule, judge
from causalms.errors import RefusalError, UsageError

RATIOS = Rule(is_ratio=True, margin=1.25, level=0.95)


def test_equivalence_is_two_one_sided_tests_on_the_log_scale() -> None:
    judged = judge(Effect(0.5, 0.45, 0.55, True), Effect(0.55, 0.5, 0.6, True), 0.05, RATIOS)
    gap, limit = np.log(1.1), np.log(1.25)
    larger = max(stats.norm.sf((gap + limit) / 0.05), stats.norm.cdf((gap - limit) / 0.05))
    assert judged["equivalence_p"] == pytest.approx(larger, rel=1e-9)
    assert judged["equivalent"]
    # Two one-sided tests at 5% are the 90% interval within the margin.
    assert 1 / 1.25 < judged["equivalence_lower"] < judged["equivalence_upper"] < 1.25


def test_few_degrees_of_freedom_widen_the_interval_by_the_quantile_of_t() -> None:
    effects = Effect(0.5, 0.3, 0.8, True), Effect(0.6, 0.5, 0.7, True)
    normal, few = judge(*effects, 0.2, RATIOS), judge(*effects, 0.2, RATIOS, degrees_of_freedom=5)
    widening = np.log(few["upper"] / few["ratio"]) / np.log(normal["upper"] / normal["ratio"])
    assert widening == pytest.approx(stats.t.ppf(0.975, 5) / stats.norm.ppf(0.975), rel=1e-9)


def test_without_a_standard_error_there_is_a_ratio_and_no_verdict() -> None:
    judged = judge(Effect(0.5, np.nan, np.nan, True), Effect(0.6, 0.5, 0.7, True), np.nan, RATIOS)
    assert judged["ratio"] == pytest.approx(1.2)
    assert np.isnan(judged["lower"])
    assert "equivalent" not in judged


def test_opposite_significant_effects_disagree_and_two_unclear_ones_do_not() -> None:
    harm, benefit = Effect(1.5, 1.2, 1.9, True), Effect(0.6, 0.5, 0.7, True)
    unclear, below = Effect(1.1, 0.8, 1.5, False), Effect(0.9, 0.7, 1.2, False)
    assert not judge(harm, benefit, 0.2, RATIOS)["significance_agreement"]
    assert judge(unclear, below, 0.2, RATIOS)["significance_agreement"]


def test_a_margin_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="`margin`: found 0, expected a difference above 0"):
        Rule(is_ratio=False, margin=0, level=0.95)


def test_correlation_needs_three_contrasts() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4], "simulated_estimate": [0.25, 0.35]})
    with pytest.raises(RefusalError, match="fewer than three"):
        correlate(table)


def test_one_simulated_effect_for_all_contrasts_has_no_correlation() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4, 0.6, 0.9], "simulated_estimate": 0.5})
    correlation = correlate(table)
    assert np.isnan(correlation["estimate"].iloc[0])
