"""Intervals, bands and p-values from studentised statistics of redrawn trials, or from t where there are no redraws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalms.benefit.redraws import Floats
from causalms.errors import UsageError

#: Redrawn trials: with 999 the 2.5% and 97.5% quantiles are order statistics.
REDRAWS = 999


@dataclass(frozen=True)
class NullDistribution:
    """Null distribution of the studentised benefit statistics.

    Attributes
    ----------
    redrawn : array (B, K) or None
        (estimate - truth) / se of every redrawn trial.
    degrees_of_freedom : float or array (K,)
        Of the t law that stands in where there are no redraws.
    """

    redrawn: Floats | None
    degrees_of_freedom: Floats | float

    @property
    def name(self) -> str:
        """As it is printed."""
        if self.redrawn is None:
            return "influence function, t"
        return f"influence function, studentised; {len(self.redrawn)} trials drawn again with negative-binomial counts"

    def interval(self, estimate: Floats, se: Floats, level: float) -> tuple[Floats, Floats]:
        """Equal-tailed interval of each statistic; missing where no redrawn trial says anything of it.

        Raises
        ------
        UsageError
            If the level is none, or there are too few redraws for it.
        """
        if not 0 < level < 1:
            raise UsageError(f"level {level:g} of an interval; give a number between 0 and 1, such as 0.95")
        least = round(2 / (1 - level)) - 1
        if self.redrawn is not None and len(self.redrawn) < least:
            raise UsageError(
                f"{len(self.redrawn)} redraws for {level:.4g} intervals; give at least {least}, or 0 for t quantiles"
            )
        return estimate - self._times((1 + level) / 2, se), estimate - self._times((1 - level) / 2, se)

    def band(self, estimate: Floats, se: Floats, level: float, correlation: Floats | None = None) -> tuple[Floats, Floats]:
        """Simultaneous interval of all statistics: each tail of each is as rare as needed for all to hold together.

        Without redraws the largest of correlated normal statistics decides (``correlation``: their influence functions,
        (n, K)).
        """
        if self.redrawn is None:
            quantile = _largest_normal(correlation, level) if correlation is not None else stats.norm.ppf((1 + level) / 2)
            wide = np.maximum(quantile, self._quantiles((1 + level) / 2))
            return estimate - wide * se, estimate + wide * se
        ranks = stats.rankdata(np.nan_to_num(self.redrawn), axis=0) / (len(self.redrawn) + 1)
        tail = float(np.quantile(np.maximum(ranks, 1 - ranks).max(axis=1), level, method="weibull"))
        return estimate - self._times(tail, se), estimate - self._times(1 - tail, se)

    def p_value(self, estimate: Floats, se: Floats, null: Floats | float = 0.0) -> Floats:
        """Both tails; never below 2 / (B + 1)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(se > 0, (estimate - null) / se, np.nan)
        if self.redrawn is None:
            return np.asarray(2 * stats.t.sf(np.abs(t), self.degrees_of_freedom))
        size = (~np.isnan(self.redrawn)).sum(axis=0)
        above, below = ((1 + side.sum(axis=0)) / (1 + size) for side in (self.redrawn >= t, self.redrawn <= t))
        return np.where(np.isnan(t), np.nan, np.minimum(2 * np.minimum(above, below), 1.0))

    def _times(self, at: float, se: Floats) -> Floats:
        """Quantile times standard error; a statistic that cannot vary has no width."""
        return np.where(se == 0, 0.0, self._quantiles(at) * se)

    def _quantiles(self, at: float) -> Floats:
        if self.redrawn is None:
            return np.asarray(stats.t.ppf(at, self.degrees_of_freedom))
        # A redrawn trial in which a statistic has no error says nothing of its quantiles.
        known = [column[~np.isnan(column)] for column in self.redrawn.T]
        return np.array([np.quantile(column, at, method="weibull") if len(column) else np.nan for column in known])


def studentised(estimate: Floats, se: Floats, truth: Floats) -> Floats:
    """(estimate - truth) / se, missing where there is no error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (estimate - truth) / se
    return np.where(np.isfinite(found), found, np.nan)


def _largest_normal(influence: Floats, level: float, draws: int = 1000) -> float:
    """Quantile of the largest of correlated standard normal statistics (multiplier bootstrap, a fixed stream)."""
    spread = np.sqrt((influence**2).sum(axis=0))
    scaled = influence / np.maximum(spread, np.finfo(float).tiny)
    noise = np.random.default_rng(0).standard_normal((draws, len(influence))) @ scaled
    return float(np.quantile(np.abs(noise).max(axis=1), level))
