"""Resampling: statistics against scipy, intervals against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causalms.stats import adjusted_p_values
from causalms.stats.resampling import bootstrap_ends, welch_statistics


def test_welch_statistics_are_scipys_for_every_row_of_labels_and_values() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.permutation(np.repeat([0.0, 1.0], [12, 8])) for _ in range(3)])
    values = rng.normal(size=(2, 20))
    ours = welch_statistics(labels, values)
    for b, label in enumerate(labels):
        for r, value in enumerate(values):
            theirs = stats.ttest_ind(value[label == 1], value[label == 0], equal_var=False).statistic
            assert ours[b, r] == pytest.approx(theirs, rel=1e-10)


def test_an_interval_without_corrections_is_the_percentile_interval() -> None:
    drawn = np.sort(np.random.default_rng(1).normal(size=(500, 2)), axis=0)
    lower, upper = bootstrap_ends(drawn, np.zeros(2), np.zeros(2), 0.95)
    np.testing.assert_allclose([lower, upper], np.quantile(drawn, [0.025, 0.975], axis=0), rtol=1e-9)


def test_missing_p_values_stay_missing_and_do_not_count() -> None:
    np.testing.assert_allclose(adjusted_p_values(np.array([0.01, np.nan, 0.03]), missing="keep"), [0.02, np.nan, 0.03])
