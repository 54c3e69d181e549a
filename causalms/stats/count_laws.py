"""Predictive laws of a lesion count: a negative binomial of any size, zero-inflated or not, and a set of draws.

A law answers for ``n`` patients at once.  Two laws are enough for every generator: whoever has a formula gives
:class:`NegativeBinomialLaw`, whoever has a simulator gives :class:`DrawsLaw`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats.glm import Array

Counts = NDArray[np.int64]

_CELLS = 2_000_000  # cells of a probability table held at once


class CountLaw(Protocol):
    """What a predictive law of counts must answer; every array has one entry a patient."""

    @property
    def n(self) -> int:
        """Number of patients."""

    @property
    def mean(self) -> Array:
        """Predicted mean counts."""

    @property
    def variance(self) -> Array:
        """Predicted variances."""

    @property
    def activity(self) -> Array:
        """Predicted probabilities of at least one lesion."""

    def cdf(self, counts: Counts) -> Array:
        """P(Y <= counts), element by element."""

    def pmf(self, counts: Counts) -> Array:
        """P(Y = counts), element by element."""

    def quantile(self, probability: float) -> Counts:
        """Smallest count whose distribution function reaches ``probability``."""

    def interval(self, level: float) -> tuple[Counts, Counts]:
        """Ends of the central prediction interval."""

    def take(self, rows: NDArray[np.intp]) -> CountLaw:
        """The law of some of the patients."""


@dataclass(frozen=True)
class NegativeBinomialLaw:
    """Negative-binomial counts: variance = mean + mean^2 / size, with extra zeros if asked for.

    Parameters
    ----------
    mean : array (n,)
        Mean of the whole law, the extra zeros included.
    size : array (n,)
        Size of the negative-binomial part; ``numpy.inf`` is Poisson.  With dispersion alpha, size = 1 / alpha.
    zero_inflation : array (n,), optional
        Probability of a zero that does not come from the negative-binomial part.

    Raises
    ------
    InputError
        If a mean is negative or missing, a size is not positive, or a zero inflation is outside [0, 1).

    Examples
    --------
    >>> law = NegativeBinomialLaw([0.5, 2.0], [0.8, 0.8])
    >>> law.cdf([0, 3]).round(4).tolist()
    [0.6781, 0.8016]
    >>> law.interval(0.9)[1].tolist()
    [2, 7]
    """

    mean: Array
    size: Array
    zero_inflation: Array = 0.0  # type: ignore[assignment]

    def __post_init__(self) -> None:
        mean, size, zero = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(part, float)) for part in (self.mean, self.size, self.zero_inflation))
        )
        for name, part, wrong in (
            ("mean", mean, ~(mean >= 0) | np.isinf(mean)),
            ("size", size, ~(size > 0)),
            ("zero_inflation", zero, ~((zero >= 0) & (zero < 1))),
        ):
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                raise InputError(
                    f"predictive law: {name} of row {row + 1} is {part[row]}; "
                    "expected mean >= 0, size > 0, zero inflation in [0, 1)"
                )
            object.__setattr__(self, name, np.array(part, float))

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.mean)

    @property
    def _component_mean(self) -> Array:
        return self.mean / (1 - self.zero_inflation)

    @property
    def variance(self) -> Array:
        """Variances of the whole law."""
        within = self._component_mean
        return (1 - self.zero_inflation) * (within + within**2 / self.size + self.zero_inflation * within**2)

    @property
    def activity(self) -> Array:
        """Probabilities of at least one lesion."""
        return 1 - self.pmf(np.zeros(self.n, np.int64))

    def _shaped(self, counts: object) -> tuple[NDArray[np.float64], Array, Array, Array]:
        k = np.asarray(counts, float)
        extra = (slice(None),) + (None,) * (k.ndim - 1)
        return k, self._component_mean[extra], self.size[extra], self.zero_inflation[extra]

    def pmf(self, counts: object) -> Array:
        """P(Y = counts); counts (n,) or (n, m)."""
        k, _, _, zero = self._shaped(counts)
        return np.where(k < 0, 0.0, zero * (k == 0) + (1 - zero) * np.exp(self._component_log_pmf(counts)))

    def log_pmf(self, counts: object) -> Array:
        """Logarithm of P(Y = counts), finite where the probability itself is too small for a number; counts (n,) or (n, m)."""
        k, _, _, zero = self._shaped(counts)
        with np.errstate(divide="ignore"):
            inflated = np.where(k == 0, np.log(np.broadcast_to(zero, k.shape)), -np.inf)
        whole: Array = np.logaddexp(inflated, np.log1p(-zero) + self._component_log_pmf(counts))
        return np.where(k < 0, -np.inf, whole)

    def _component_log_pmf(self, counts: object) -> Array:
        from scipy.special import gammaln, xlogy

        k, mean, size, _ = self._shaped(counts)
        at = np.maximum(k, 0)
        finite = np.where(np.isinf(size), 1.0, size)
        binomial = (
            gammaln(at + finite)
            - gammaln(finite)
            - gammaln(at + 1)
            - finite * np.log1p(mean / finite)
            + xlogy(at, mean / (finite + mean))
        )
        poisson = xlogy(at, mean) - mean - gammaln(at + 1)
        return np.asarray(np.where(np.isinf(size), poisson, binomial))

    def cdf(self, counts: object) -> Array:
        """P(Y <= counts); counts (n,) or (n, m)."""
        from scipy.special import betainc, gammaincc

        k, mean, size, zero = self._shaped(counts)
        at = np.maximum(k, 0)
        finite = np.where(np.isinf(size), 1.0, size)
        below = np.where(np.isinf(size), gammaincc(at + 1, mean), betainc(finite, at + 1, finite / (finite + mean)))
        return np.where(k < 0, 0.0, np.minimum(zero + (1 - zero) * below, 1.0))

    def quantile(self, probability: float | Array) -> Counts:
        """Smallest count whose distribution function reaches ``probability`` (one, or one a patient), by bisection."""
        if not np.all((np.asarray(probability) >= 0) & (np.asarray(probability) < 1)):
            raise UsageError(f"a quantile was asked at {probability}; give a probability in [0, 1)")
        high = np.maximum(np.ceil(self.mean), 1).astype(np.int64)
        while (short := self.cdf(high) < probability).any():
            high = np.where(short, high * 2, high)
        low = np.full(self.n, -1, np.int64)
        while (high - low > 1).any():
            middle = (low + high) // 2
            reached = self.cdf(middle) >= probability
            high, low = np.where(reached, middle, high), np.where(reached, low, middle)
        return high

    def interval(self, level: float) -> tuple[Counts, Counts]:
        """Central interval: the quantiles at (1 - level) / 2 and (1 + level) / 2."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def sample(self, rng: np.random.Generator, repetitions: int) -> Counts:
        """Counts drawn from the law, shape (n, repetitions)."""
        shape = (self.n, repetitions)
        mean, size = self._component_mean[:, None], self.size[:, None]
        finite = np.where(np.isinf(size), 1.0, size)
        rate = np.where(np.isinf(size), mean, rng.gamma(np.broadcast_to(finite, shape)) * mean / finite)
        counts = rng.poisson(rate)
        return np.where(rng.random(shape) < self.zero_inflation[:, None], 0, counts)

    def take(self, rows: NDArray[np.intp]) -> NegativeBinomialLaw:
        """The law of some of the patients."""
        return NegativeBinomialLaw(self.mean[rows], self.size[rows], self.zero_inflation[rows])

    def tables(self, at_least: Counts) -> Iterator[tuple[NDArray[np.intp], Array]]:
        """Distribution functions at 0, 1, ..., in blocks of patients of similar support.

        Yields rows and an array (rows, support); the support reaches past ``at_least`` and leaves out at most 1e-12.
        """
        support = np.maximum(self.quantile(1 - 1e-12), at_least) + 1
        order = np.argsort(support, kind="stable")
        start = 0
        while start < self.n:
            stop = start + 1
            while stop < self.n and (stop + 1 - start) * (support[order[stop]] + 1) <= _CELLS:
                stop += 1
            rows = order[start:stop]
            counts = np.broadcast_to(np.arange(support[rows].max() + 1), (len(rows), support[rows].max() + 1))
            yield rows, np.minimum(np.cumsum(self.take(rows).pmf(counts), axis=1), 1.0)
            start = stop


@dataclass(frozen=True)
class DrawsLaw:
    """The law that a simulator's draws describe: D exchangeable draws a patient.

    Parameters
    ----------
    draws : array (n, D)
        Sampled counts, the same number of draws for every patient, at least two.

    Notes
    -----
    With a finite number of draws the empirical distribution function is not the predictive law.  Everything that judges
    calibration therefore uses the rank of the observed count among draws and observation together, whose law under
    calibration is known exactly for any D: the two are exchangeable.

    Examples
    --------
    >>> law = DrawsLaw([[0, 1, 1, 4]])
    >>> law.mean.tolist(), law.cdf([1]).tolist(), law.activity.tolist()
    ([1.5], [0.75], [0.75])
    """

    draws: Counts

    def __post_init__(self) -> None:
        draws = np.atleast_2d(np.asarray(self.draws))
        if draws.shape[1] < 2:
            raise RefusalError(f"{draws.shape[1]} draw a patient describes no law; ask for at least 2, better 64")
        object.__setattr__(self, "draws", np.sort(draws.astype(np.int64), axis=1))

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.draws)

    @property
    def mean(self) -> Array:
        """Means of the draws."""
        return np.asarray(self.draws.mean(axis=1))

    @property
    def variance(self) -> Array:
        """Variances of the draws, unbiased."""
        return np.asarray(self.draws.var(axis=1, ddof=1))

    @property
    def activity(self) -> Array:
        """Shares of draws with at least one lesion."""
        return np.asarray((self.draws > 0).mean(axis=1))

    def cdf(self, counts: object) -> Array:
        """Share of draws <= counts; counts (n,) or (n, m)."""
        k = np.asarray(counts)
        flat = k.reshape(self.n, -1)
        share = np.stack([np.searchsorted(row, at, side="right") for row, at in zip(self.draws, flat, strict=True)])
        return np.asarray((share / self.draws.shape[1]).reshape(k.shape))

    def pmf(self, counts: object) -> Array:
        """Share of draws equal to counts."""
        k = np.asarray(counts)
        return self.cdf(k) - self.cdf(k - 1)

    def quantile(self, probability: float) -> Counts:
        """Smallest draw whose empirical distribution function reaches ``probability``."""
        position = max(int(np.ceil(probability * self.draws.shape[1] - 1e-9)), 1)
        return self.draws[:, position - 1]

    def interval(self, level: float) -> tuple[Counts, Counts]:
        """Central interval by order statistics, widened to the exchangeable ranks: content at least ``level``.

        With fewer than 2 / (1 - level) - 1 draws no such interval exists; then from the least to the greatest draw.
        """
        first, last = interval_positions(self.draws.shape[1], level)
        return self.draws[:, first], self.draws[:, last]

    def take(self, rows: NDArray[np.intp]) -> DrawsLaw:
        """The law of some of the patients."""
        return DrawsLaw(self.draws[rows])


@dataclass(frozen=True)
class TalliedLaw:
    """The law of draws that are known by how often each count came: what :class:`DrawsLaw` says of them, without holding them.

    Parameters
    ----------
    counts, numbers : array (n, M)
        Counts, and how many of each patient's draws had them; the same number of draws for every patient.

    Examples
    --------
    >>> law = TalliedLaw(np.array([[0, 1, 4]]), np.array([[1, 2, 1]]))
    >>> law.mean.tolist(), law.cdf([1]).tolist(), law.interval(0.5)[1].tolist()
    ([1.5], [0.75], [4])
    """

    counts: Counts
    numbers: Counts

    def __post_init__(self) -> None:
        order = np.argsort(self.counts, axis=1, kind="stable")
        for name in ("counts", "numbers"):
            object.__setattr__(self, name, np.take_along_axis(getattr(self, name), order, axis=1))

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.counts)

    @property
    def draws(self) -> int:
        """Draws a patient."""
        return int(self.numbers[0].sum())

    @property
    def mean(self) -> Array:
        """Means of the draws."""
        return np.asarray((self.counts * self.numbers).sum(axis=1) / self.draws)

    @property
    def variance(self) -> Array:
        """Variances of the draws, unbiased."""
        return np.asarray((self.numbers * (self.counts - self.mean[:, None]) ** 2).sum(axis=1) / (self.draws - 1))

    @property
    def activity(self) -> Array:
        """Shares of draws with at least one lesion."""
        return np.asarray((self.numbers * (self.counts > 0)).sum(axis=1) / self.draws)

    def cdf(self, counts: object) -> Array:
        """Share of draws <= counts; counts (n,)."""
        return np.asarray((self.numbers * (self.counts <= np.asarray(counts)[:, None])).sum(axis=1) / self.draws)

    def pmf(self, counts: object) -> Array:
        """Share of draws equal to counts; counts (n,)."""
        return np.asarray((self.numbers * (self.counts == np.asarray(counts)[:, None])).sum(axis=1) / self.draws)

    def at(self, position: int) -> Counts:
        """The draw at a position, from 0, when they are sorted."""
        reached = np.cumsum(self.numbers, axis=1) > position
        return np.take_along_axis(self.counts, reached.argmax(axis=1)[:, None], axis=1)[:, 0]

    def quantile(self, probability: float) -> Counts:
        """Smallest draw whose empirical distribution function reaches ``probability``."""
        return self.at(max(int(np.ceil(probability * self.draws - 1e-9)), 1) - 1)

    def interval(self, level: float) -> tuple[Counts, Counts]:
        """Central interval by order statistics, as of :class:`DrawsLaw`."""
        first, last = interval_positions(self.draws, level)
        return self.at(first), self.at(last)

    def take(self, rows: NDArray[np.intp]) -> TalliedLaw:
        """The law of some of the patients."""
        return TalliedLaw(self.counts[rows], self.numbers[rows])

    def with_observed(self, observed: Counts) -> TalliedLaw:
        """The pool of draws and observation, one draw more."""
        one = np.ones((self.n, 1), np.int64)
        return TalliedLaw(np.column_stack([self.counts, observed]), np.column_stack([self.numbers, one]))


def interval_positions(draws: int, level: float) -> tuple[int, int]:
    """Positions (from 0) of the sorted draws that are the ends of a central interval of content at least ``level``.

    Examples
    --------
    >>> interval_positions(99, 0.9)
    (4, 94)
    """
    first = int(np.floor((draws + 1) * (1 - level) / 2 + 1e-9))
    return max(first - 1, 0), min(draws - first, draws - 1)
