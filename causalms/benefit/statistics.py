"""Statistics of predicted benefit with their standard errors, and intervals, bands and p-values of them.

Statistics are computed on patients sorted by falling score; the last axis is the patients.

One implementation serves the trial and its redraws (:mod:`causalms.benefit.redraws`).  Every function returns estimates and
standard errors whose last axis is the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalms.benefit.redraws import Floats
from causalms.errors import UsageError
from causalms.tables import name_of

Pair = tuple[Floats, Floats]

#: Redrawn trials: with 999 the 2.5% and 97.5% quantiles are order statistics.
REDRAWS = 999


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How intervals and p-values of the benefit statistics are made.

    Attributes
    ----------
    level : float
        Of the intervals and bands.
    redraws : int
        Trials drawn again for the quantiles of (estimate - truth) / se; 0 takes those of t.
    seed : int
        Of the redraws.

    Examples
    --------
    >>> Inference(redraws=199).level
    0.95
    """

    level: float = 0.95
    redraws: int = REDRAWS
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One estimate with its standard error, interval and p-value, and the name of the variance behind them."""

    estimate: float
    se: float
    lower: float
    upper: float
    level: float
    p_value: float = np.nan
    variance: str = ""


def rank_areas(spared: Floats, ties: NDArray[np.intp] | None = None) -> Pair:
    r"""AUTOC and Qini; tied patients (equal values of ``ties``, rising) count as if ordered at random.

    With :math:`H_k = \sum_{j \ge k} 1/j`, AUTOC is the mean of :math:`(H_k - 1) \Gamma_{(k)}` and Qini that of
    :math:`(1/2 - r_k) \Gamma_{(k)}`, :math:`r_k = (k - 1/2) / n`.  The influence functions count that ranks are
    estimated: a patient at rank r pushes all below down, which costs :math:`\int_r^1 \tau(u)/u\,du` and
    :math:`\int_r^1 \tau(u)\,du`.

    Examples
    --------
    >>> import numpy as np
    >>> rank_areas(np.array([4.0, 2.0, 0.0]))[0].round(3).tolist()
    [1.0, 0.444]
    """
    n = spared.shape[-1]
    k = np.arange(1, n + 1)
    reach, place = np.cumsum((1 / k)[::-1])[::-1], (k - 0.5) / n
    past = np.cumsum((spared / k)[..., ::-1], axis=-1)[..., ::-1]
    below = np.cumsum(spared[..., ::-1], axis=-1)[..., ::-1] / n
    if ties is not None:
        reach, place, past, below = (_shared(values, ties) for values in (reach, place, past, below))
    mean = spared.mean(axis=-1, keepdims=True)
    autoc = ((reach - 1) * spared).mean(axis=-1, keepdims=True)
    qini = ((0.5 - place) * spared).mean(axis=-1, keepdims=True)
    first = reach * spared - past - (spared - mean) - autoc
    second = (0.5 - place) * spared - below + (place * spared).mean(axis=-1, keepdims=True) - qini
    ses = [np.sqrt((part**2).sum(axis=-1, keepdims=True) / (n * (n - 1))) for part in (first, second)]
    return np.concatenate([autoc, qini], axis=-1), np.concatenate(ses, axis=-1)


def _shared(values: Floats, ties: NDArray[np.intp]) -> Floats:
    """Each tied patient gets the mean of its ties."""
    return np.asarray((np.bincount(ties, weights=values) / np.bincount(ties))[ties])


def slice_means(values: Floats, slices: Sequence[tuple[int, int]]) -> Pair:
    """Means of the patients from rank a to rank b."""
    return _stacked([_mean(values[..., a:b]) for a, b in slices])


def slice_log_ratios(reference: Floats, drug: Floats, slices: Sequence[tuple[int, int]]) -> Pair:
    """Logarithms of mean outcome under the drug over that under the reference; missing where one is not positive."""
    return _stacked([_log_ratio(reference[..., a:b], drug[..., a:b]) for a, b in slices])


def regression(score: Floats, spared: Floats) -> Pair:
    """Mean benefit, mean benefit less mean score, and the slope of benefit on score (HC3)."""
    n = spared.shape[-1]
    centred = score - score.mean(axis=-1, keepdims=True)
    square = np.maximum((centred**2).sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    slope = (centred * spared).sum(axis=-1, keepdims=True) / square
    residual = spared - spared.mean(axis=-1, keepdims=True) - slope * centred
    left = residual / np.maximum(1 - 1 / n - centred**2 / square, 1e-8)
    error = np.sqrt(((centred * left) ** 2).sum(axis=-1, keepdims=True)) / square
    return _stacked([_mean(spared), _mean(spared - score), (slope[..., 0], error[..., 0])])


def capped_policy(reference: Floats, drug: Floats, treated: int, least: NDArray[np.bool_] | None = None) -> Pair:
    """Value of treating the first ``treated`` ranks (where ``least`` is true), and its gain over the same share at random."""
    spared = reference - drug
    n = spared.shape[-1]
    chance = np.broadcast_to(np.arange(n) < treated, spared.shape).astype(float)
    binds = np.ones((*spared.shape[:-1], 1), bool)
    if least is not None:
        chance = chance * least
        binds = least.sum(axis=-1, keepdims=True) > treated
    share = chance.mean(axis=-1, keepdims=True)
    half = max(round(0.1 * n), 1)
    near = spared[..., max(treated - half, 0) : treated + half].mean(axis=-1, keepdims=True)
    value = reference - chance * spared + np.where(binds, near, 0.0) * (chance - share)
    gain = (chance - share) * (spared - np.where(binds, near, spared.mean(axis=-1, keepdims=True)))
    return _stacked([_mean(value), _mean(gain)])


def _mean(values: Floats) -> Pair:
    n = values.shape[-1]
    if n < 2:
        return values.mean(axis=-1), np.full(values.shape[:-1], np.nan)
    return values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(n)


def _log_ratio(reference: Floats, drug: Floats) -> Pair:
    below, above = reference.mean(axis=-1), drug.mean(axis=-1)
    positive = (below > 0) & (above > 0)
    below, above = np.where(positive, below, np.nan), np.where(positive, above, np.nan)
    error = _mean(drug / above[..., None] - reference / below[..., None])[1]
    return np.log(above / below), error


def _stacked(pairs: Sequence[Pair]) -> Pair:
    return np.stack([pair[0] for pair in pairs], axis=-1), np.stack([pair[1] for pair in pairs], axis=-1)


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
            raise UsageError(f"level {name_of(level)} of an interval; give a number between 0 and 1, such as 0.95")
        least = round(2 / (1 - level)) - 1
        if self.redrawn is not None and len(self.redrawn) < least:
            raise UsageError(
                f"{len(self.redrawn)} redraws for {name_of(level)} intervals; give at least {least}, or 0 for t quantiles"
            )
        return estimate - self._times((1 + level) / 2, se), estimate - self._times((1 - level) / 2, se)

    def statistics(self, estimate: Floats, se: Floats, level: float, null: float = 0.0) -> list[Statistic]:
        """Each statistic with its interval and its p-value against ``null``."""
        lower, upper = self.interval(estimate, se, level)
        p = self.p_value(estimate, se, null)
        return [
            Statistic(estimate=value, se=se[at], lower=lower[at], upper=upper[at], level=level, p_value=p[at], variance=self.name)
            for at, value in enumerate(estimate)
        ]

    def band(self, estimate: Floats, se: Floats, level: float, correlation: Floats | None = None) -> tuple[Floats, Floats]:
        """Simultaneous interval of all statistics: each tail of each is as rare as needed for all to hold together.

        Without redraws the largest of correlated normal statistics decides (``correlation``: their influence functions,
        (n, K)).
        """
        from scipy import stats

        if self.redrawn is None:
            quantile = _largest_normal(correlation, level) if correlation is not None else stats.norm.ppf((1 + level) / 2)
            wide = np.maximum(quantile, self._quantiles((1 + level) / 2))
            return estimate - wide * se, estimate + wide * se
        ranks = stats.rankdata(np.nan_to_num(self.redrawn), axis=0) / (len(self.redrawn) + 1)
        tail = float(np.quantile(np.maximum(ranks, 1 - ranks).max(axis=1), level, method="weibull"))
        return estimate - self._times(tail, se), estimate - self._times(1 - tail, se)

    def p_value(self, estimate: Floats, se: Floats, null: Floats | float = 0.0) -> Floats:
        """Both tails; never below 2 / (B + 1)."""
        from scipy import stats

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
            from scipy import stats

            return np.asarray(stats.t.ppf(at, self.degrees_of_freedom))
        # A redrawn trial in which a statistic has no error says nothing of its quantiles.
        known = [column[~np.isnan(column)] for column in self.redrawn.T]
        return np.array([np.quantile(column, at, method="weibull") if len(column) else np.nan for column in known])


def studentised(estimate: Floats, se: Floats, truth: Floats) -> Floats:
    """(estimate - truth) / se, missing where there is no error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (estimate - truth) / se
    return np.where(np.isfinite(statistic), statistic, np.nan)


def _largest_normal(influence: Floats, level: float, draws: int = 1000) -> float:
    """Quantile of the largest of correlated standard normal statistics (multiplier bootstrap, a fixed stream)."""
    spread = np.sqrt((influence**2).sum(axis=0))
    scaled = influence / np.maximum(spread, np.finfo(float).tiny)
    noise = np.random.default_rng(0).standard_normal((draws, len(influence))) @ scaled
    return float(np.quantile(np.abs(noise).max(axis=1), level))
