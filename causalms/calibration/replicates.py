"""What a calibrated forecast would have shown: replicates of the observed counts under the forecast's own law."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, crps_at, plain_score, pool_ranks, pool_scores


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
        return crps_at(self.law, self.counts) if name == "crps" else plain_score(name, self.law, self.counts)

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
        raise UsageError(f"{repetitions} repetitions simulate nothing; ask for at least 19, better 999")
    rng = np.random.default_rng(seed)
    if isinstance(law, DrawsLaw):
        pool = np.sort(np.column_stack([law.draws, np.asarray(observed, np.int64)]), axis=1)
        return _Exchange(pool, rng.integers(0, pool.shape[1], size=(law.n, repetitions)))
    if isinstance(law, NegativeBinomialLaw):
        return _Formula(law, law.sample(rng, repetitions))
    raise UsageError(f"a law of kind {type(law).__name__} cannot be replicated; give a NegativeBinomialLaw or a DrawsLaw")
