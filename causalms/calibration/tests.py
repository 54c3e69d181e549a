"""Tests of calibration: replicates of the counts under the forecasts' own law, mean scores among them, bands of curves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causalms.errors import UsageError
from causalms.stats import (
    Array,
    CountLaw,
    DrawsLaw,
    NegativeBinomialLaw,
    pool_ranks,
    pool_scores,
    score,
)


class Replicates(Protocol):
    """Replicated observations; every array is (n, repetitions)."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Replicated counts."""

    def pit(self) -> tuple[Array, Array]:
        """Lower and upper end of each replicate's probability integral transform."""

    def score(self, name: str) -> Array:
        """Score of each replicate."""

    def activity(self) -> Array:
        """Forecast probability of activity that goes with each replicate."""


@dataclass(frozen=True)
class _Formula:
    law: NegativeBinomialLaw
    counts: NDArray[np.int64]

    def pit(self) -> tuple[Array, Array]:
        return self.law.cdf(self.counts - 1), self.law.cdf(self.counts)

    def score(self, name: str) -> Array:
        return score(name, self.law, self.counts)

    def activity(self) -> Array:
        return np.broadcast_to(self.law.activity[:, None], self.counts.shape)


@dataclass(frozen=True)
class _Exchange:
    """One member of the pool of draws and observation plays the observation, the others the draws."""

    pool: NDArray[np.int64]
    position: NDArray[np.intp]

    def _at(self, table: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.take_along_axis(table, self.position, axis=1)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.take_along_axis(self.pool, self.position, axis=1)

    def pit(self) -> tuple[Array, Array]:
        below, upto = pool_ranks(self.pool)
        size = self.pool.shape[1]
        return self._at(below / size), self._at(upto / size)  # type: ignore[return-value]

    def score(self, name: str) -> Array:
        return self._at(pool_scores(name, self.pool))  # type: ignore[return-value]

    def activity(self) -> Array:
        active = self.pool > 0
        share = (active.sum(axis=1, keepdims=True) - active) / (self.pool.shape[1] - 1)
        return self._at(share)  # type: ignore[return-value]


def replicates(law: CountLaw, observed: object, repetitions: int = 999, seed: int = 0) -> Replicates:
    """Replicate the observed counts under calibration.

    A formula's replicates are drawn from it.  Of draws, the observation and the draws are exchangeable under calibration,
    so a replicate lets a random member of the D + 1 play the observation: exact for any number of draws.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    repetitions : int
    seed : int

    Returns
    -------
    Replicates

    Examples
    --------
    >>> again = replicates(DrawsLaw([[0, 2, 5]]), [2], repetitions=4, seed=1)
    >>> again.counts.tolist()
    [[2, 2, 5, 5]]
    """
    if repetitions < 1:
        raise UsageError(f"`repetitions`: {repetitions} simulate nothing; ask for at least 19, better 999")
    rng = np.random.default_rng(seed)
    if isinstance(law, DrawsLaw):
        pool = np.sort(np.column_stack([law.draws, np.asarray(observed, np.int64)]), axis=1)
        return _Exchange(pool, rng.integers(0, pool.shape[1], size=(law.n, repetitions)))
    if isinstance(law, NegativeBinomialLaw):
        return _Formula(law, law.sample(rng, repetitions))
    raise UsageError(f"a law of kind {type(law).__name__} cannot be replicated; give a NegativeBinomialLaw or a DrawsLaw")


@dataclass(frozen=True)
class CalibrationTest:
    """A calibration test: observed mean score, its expectation under calibration, z (normal form) and p."""

    score: str
    method: str
    mean: float
    expected: float
    z: float
    p_value: float
    n: int


def calibration_test(
    law: CountLaw, observed: object, name: str = "crps", method: str = "monte-carlo", repetitions: int = 999, seed: int = 0
) -> CalibrationTest:
    r"""Unconditional calibration test of count forecasts.

    ``normal``: :math:`z = n^{-1/2} \sum_i (s_i - E_i) / \sqrt{V_i}` with mean and variance of the score under each forecast
    (Wei and Held; the default of surveillance::calibrationTest in R).  ``monte-carlo``: the mean
    score among its replicates under calibration; its level is exact for skewed scores of few patients, and it is the only
    form for draws.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    name : {"log", "crps", "dawid-sebastiani", "brier"}
    method : {"monte-carlo", "normal"}
    repetitions, seed : int

    Returns
    -------
    CalibrationTest

    Raises
    ------
    UsageError
        If the method is unknown, or the normal form is asked for draws.

    References
    ----------
    Wei, Held (2014), Test 23:787.

    Examples
    --------
    >>> law = NegativeBinomialLaw([0.5, 1, 1, 2], [0.8] * 4)
    >>> round(calibration_test(law, [0, 0, 1, 3], "dawid-sebastiani", method="normal").p_value, 4)
    0.6239
    """
    from scipy import stats

    scores = score(name, law, observed)
    if method == "normal":
        if not isinstance(law, NegativeBinomialLaw):
            raise UsageError("`method`: the normal form needs a formula; for draws use `method=monte-carlo`")
        mean, variance = score_moments(name, law)
        z = float(((scores - mean) / np.sqrt(variance)).sum() / np.sqrt(law.n))
        return CalibrationTest(name, method, float(scores.mean()), float(mean.mean()), z, float(2 * stats.norm.sf(abs(z))), law.n)
    if method != "monte-carlo":
        raise UsageError(f"`method`: found {method!r}, expected 'monte-carlo' or 'normal'")
    null = replicates(law, observed, repetitions, seed).score(name).mean(axis=0)
    p = two_sided_p(float(scores.mean()), null)
    spread = float(null.std(ddof=1))
    z = float((scores.mean() - null.mean()) / spread) if spread > 0 else float("nan")
    return CalibrationTest(name, method, float(scores.mean()), float(null.mean()), z, p, law.n)


def two_sided_p(observed: float, null: Array) -> float:
    """Monte-Carlo p: twice the smaller tail, the observed value counted in it.

    Examples
    --------
    >>> import numpy as np
    >>> two_sided_p(5.0, np.arange(99) / 99)
    0.02
    """
    smaller = min(int((null >= observed).sum()), int((null <= observed).sum()))
    return min(1.0, 2 * (1 + smaller) / (1 + len(null)))


def score_moments(name: str, law: NegativeBinomialLaw) -> tuple[Array, Array]:
    """Mean and variance of each patient's score if the forecast is true, by summation over the support."""
    mean, variance = np.empty(law.n), np.empty(law.n)
    for rows, below in law.tables(np.zeros(law.n, np.int64)):
        part = law.take(rows)
        counts = np.broadcast_to(np.arange(below.shape[1]), below.shape)
        chance = np.diff(np.concatenate([np.zeros((len(rows), 1)), below], axis=1), axis=1)
        values = score(name, part, counts)
        values = np.where(chance > 0, values, 0.0)
        mean[rows] = (chance * values).sum(axis=1)
        variance[rows] = (chance * (values - mean[rows, None]) ** 2).sum(axis=1)
    return mean, variance


def mean_with_interval(values: Array, level: float) -> dict[str, float]:
    """Mean over patients with t interval and p of a mean of zero: the fields of a results row.

    Examples
    --------
    >>> import numpy as np
    >>> {name: round(value, 3) for name, value in mean_with_interval(np.array([0.0, 1.0, 2.0]), 0.95).items()}
    {'estimate': 1.0, 'se': 0.577, 'lower': -1.484, 'upper': 3.484, 'p_value': 0.225, 'se_patient': 0.577}
    """
    mean, se, half, p_value = _t_interval(float(np.mean(values)), values, level)
    return {"estimate": mean, "se": se, "lower": mean - half, "upper": mean + half, "p_value": p_value, "se_patient": se}


def ratio_of_means(observed: Array, predicted: Array, level: float) -> dict[str, float]:
    """Observed over predicted mean, interval on the log scale by the influence function, patients the unit; a row's fields.

    Examples
    --------
    >>> import numpy as np
    >>> ratio_of_means(np.zeros(3), np.ones(3), 0.95)
    {'estimate': 0.0}
    >>> round(ratio_of_means(np.array([1.0, 2.0, 3.0]), np.ones(3), 0.95)["estimate"], 3)
    2.0
    """
    if observed.sum() == 0 or predicted.sum() == 0:
        return {"estimate": 0.0 if observed.sum() == 0 and predicted.sum() > 0 else float("nan")}
    ratio = float(observed.mean() / predicted.mean())
    influence = observed / observed.mean() - predicted / predicted.mean()
    _, se, half, p_value = _t_interval(float(np.log(ratio)), influence, level)
    ends = {"lower": ratio * float(np.exp(-half)), "upper": ratio * float(np.exp(half))}
    return {"estimate": ratio, "se": se, **ends, "p_value": p_value, "se_patient": se}


def _t_interval(estimate: float, values: Array, level: float) -> tuple[float, float, float, float]:
    """Estimate, its standard error from patients' values, half the width of its t interval, and p of zero."""
    from scipy import stats

    n = len(values)
    se = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    half = float(stats.t.ppf((1 + level) / 2, max(n - 1, 1))) * se
    p_value = float(2 * stats.t.sf(abs(estimate) / se, max(n - 1, 1))) if se > 0 else float("nan")
    return estimate, se, half, p_value


@dataclass(frozen=True)
class Band:
    """A simultaneous band and the p-value of the curve that was judged by it."""

    lower: Array
    upper: Array
    level: float
    p_value: float


def simultaneous_band(observed: Array, simulated: Array, level: float = 0.95) -> Band:
    """Global envelope of a curve under a null hypothesis that can be simulated.

    The largest deviation over the curve, in units of the null's own lower and upper quantile distances at each point, is a
    single statistic; the observed curve and the simulated ones are exchangeable under the null, so the Monte-Carlo
    p-value (1 + number as extreme) / (1 + simulations) is exact, and the band is the set of curves that are not rejected.

    Parameters
    ----------
    observed : array (m,)
    simulated : array (simulations, m)
        Curves drawn under the null.
    level : float
        Probability that a whole null curve stays inside.

    Returns
    -------
    Band
        ``p_value`` <= 1 - level exactly when the curve leaves the band somewhere (ties aside).

    References
    ----------
    Myllymaki, Mrkvicka, Grabarnik, Seijo, Hahn (2017), J R Stat Soc B 79:381; the use for PIT curves: Sailynoja, Burkner,
    Vehtari (2022), Stat Comput 32:32.

    Examples
    --------
    >>> import numpy as np
    >>> null = np.random.default_rng(1).normal(size=(999, 5))
    >>> band = simultaneous_band(np.array([0, 0, 5.0, 0, 0]), null)
    >>> band.p_value, bool(band.upper[2] < 5)
    (0.001, True)
    """
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {level} for a band; give a number between 0 and 1, for example 0.95")
    curves = np.vstack([observed, simulated])
    centre = curves.mean(axis=0)
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    spread = high - low
    # A one-sided null (a bin that is nearly always empty) must not make its other side infinitely strict.
    least = np.maximum(np.maximum(0.1 * spread, 0.02 * spread.max()), np.finfo(float).tiny)
    below, above = np.maximum(centre - low, least), np.maximum(high - centre, least)
    deviation = curves - centre
    # A point where the null never varies (an empty bin) says nothing and must not divide by zero.
    fixed = np.ptp(curves, axis=0) < 1e-12
    scaled = np.where(fixed, 0.0, np.where(deviation < 0, -deviation / below, deviation / above))
    statistic = scaled.max(axis=1)
    rank = int((statistic >= statistic[0]).sum())
    limit = np.sort(statistic)[int(np.ceil(level * len(statistic))) - 1]
    lower, upper = centre - limit * below, centre + limit * above
    return Band(np.where(fixed, centre, lower), np.where(fixed, centre, upper), level, rank / len(statistic))
