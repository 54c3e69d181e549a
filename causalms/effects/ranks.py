"""Wilcoxon's rank-sum test, van Elteren's within strata, and the Hodges-Lehmann shift with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.data import TrialData
from causalms.effects.printing import interval, number
from causalms.effects.tests import blocks, pair_with_reference
from causalms.errors import RefusalError
from causalms.stats import Array, normal_cdf, normal_quantile
from causalms.tables import percent_in_full

#: Pairs of patients above which no shift is computed.
MOST_PAIRS = 20_000_000


@dataclass(frozen=True)
class RankTest:
    """A rank test of one arm against the reference and the shift between them.

    Attributes
    ----------
    arm, reference : str
    statistic : float
        Standardised; above 0 where the arm's outcomes are larger.
    p_value : float
        Two-sided, by the normal law, without continuity correction.
    shift, lower, upper : float
        Hodges-Lehmann shift and the shifts that the test does not reject.
    strata : int
    level : float
    """

    arm: str
    reference: str
    statistic: float
    p_value: float
    shift: float
    lower: float
    upper: float
    strata: int
    level: float

    @property
    def name(self) -> str:
        """The test as it is printed."""
        return f"van Elteren test within {self.strata} strata" if self.strata > 1 else "Wilcoxon rank-sum test"

    @property
    def sentence(self) -> str:
        """The shift as it is printed."""
        limits = f"{percent_in_full(self.level)} CI {interval(self.lower, self.upper)}"
        return f"{self.name}: Hodges-Lehmann shift, {self.arm} vs {self.reference}: {number(self.shift)} ({limits})"


def rank_test(data: TrialData, arm: int, level: float = 0.95) -> RankTest:
    r"""Rank test of one arm against the reference, within randomisation strata and trials.

    With :math:`W_h` the sum of the arm's midranks in stratum h of :math:`n_h` patients,

    .. math:: z = \frac{\sum_h (W_h - E W_h)/(n_h+1)}{\sqrt{\sum_h \mathrm{Var}(W_h)/(n_h+1)^2}},

    variances corrected for ties.  The shift is the weighted median of the differences between patients of the two arms in one
    stratum; its limits are where the same statistic reaches the normal quantile.

    Raises
    ------
    RefusalError
        No stratum holds both arms, or the outcome does not vary within strata.

    References
    ----------
    van Elteren (1960), Bulletin of the International Statistical Institute 37:351-361; Hodges and Lehmann (1963), Annals of
    Mathematical Statistics 34:598-611.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [6, 2, 4, 5, 1, 2, 0, 1], "arm": list("aaaabbbb")})
    >>> test = rank_test(trial_data(table, outcome="y", arm="arm", reference="a"), 1)
    >>> round(test.statistic, 4), test.shift
    (-2.1913, -3.5)
    """
    pair = pair_with_reference(data, arm)
    treated = pair.arm == arm
    total, variance = 0.0, 0.0
    differences, weights, used = [], [], 0
    for rows in blocks(pair):
        own, y = treated[rows], pair.outcome[rows]
        size, mine = len(rows), int(own.sum())
        if mine in (0, size):
            continue
        ranks, weight = _midranks(y), 1 / (size + 1)
        total += weight * float(ranks[own].sum() - mine * ranks.mean())
        variance += weight**2 * mine * (size - mine) / (size - 1) * float(ranks.var())
        differences.append(np.subtract.outer(y[own], y[~own]).ravel())
        weights.append(np.full(mine * (size - mine), weight))
        used += 1
    if variance == 0:
        raise RefusalError("outcome: does not vary within strata that hold both arms, so ranks compare nothing")
    statistic = total / np.sqrt(variance)
    shift, lower, upper = _shift(np.concatenate(differences), np.concatenate(weights), float(np.sqrt(variance)), level)
    p_value = 2 * normal_cdf(-abs(statistic))
    return RankTest(data.arms[arm], data.arms[0], float(statistic), p_value, shift, lower, upper, used, level)


def _midranks(y: Array) -> Array:
    _, code, count = np.unique(y, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[code])


def _shift(differences: Array, weights: Array, spread: float, level: float) -> tuple[float, float, float]:
    """Weighted median of the differences, and the ends of the shifts that are not rejected."""
    if len(differences) > MOST_PAIRS:
        return np.nan, np.nan, np.nan
    order = np.argsort(differences, kind="stable")
    d, below = differences[order], np.cumsum(weights[order])
    half, reach = below[-1] / 2, normal_quantile((1 + level) / 2) * spread
    middle = int(np.searchsorted(below, half * (1 - 1e-12)))
    exactly = abs(below[middle] - half) <= 1e-12 * half and middle + 1 < len(d)
    shift = (d[middle] + d[middle + 1]) / 2 if exactly else d[middle]
    inside = np.flatnonzero(np.abs(below - half) <= reach)  # gaps after each difference that the test accepts
    if not len(inside):
        return float(shift), float(shift), float(shift)
    return float(shift), float(d[inside[0]]), float(d[min(inside[-1] + 1, len(d) - 1)])
