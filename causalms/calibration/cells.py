"""The yes/no forecasts that a score of counts is a sum over, and their isotonic recalibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalms.calibration.replicates import replicates
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, moment_law, others_moments

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Cells:
    """Yes/no forecasts, several a patient.

    Attributes
    ----------
    rank : integer array (cells,)
        Rank of the forecast probability among the distinct ones, from 0.
    event : array (cells,)
        1 where it happened.
    patient, step : integer array (cells,)
        Whose forecast it is, and of which count.
    n : int
        Patients.
    logarithmic : bool
        Logarithmic instead of Brier score.
    """

    rank: Places
    event: Array
    patient: Places
    step: Places
    n: int
    logarithmic: bool

    def recalibrated(self, weight: Array | None = None) -> float:
        """Mean score over patients after one isotonic regression of all events on all probabilities."""
        at, yes = self._totals(self.rank, weight)
        return self._loss(_isotonic(yes / at, at), at, yes)

    def uncertainty(self, weight: Array | None = None) -> float:
        """Mean score of the one law for all patients that is best in hindsight."""
        at, yes = self._totals(self.step, weight)
        if not self.logarithmic:
            return self._loss(yes / at, at, yes)
        return min(self._loss(side * _isotonic(side * yes / at, at), at, yes) for side in (1.0, -1.0))

    def _totals(self, groups: Places, weight: Array | None) -> tuple[Array, Array]:
        """Weight and weighted events of every group that has any weight, as shares of a patient."""
        of_cell = np.ones(len(groups)) if weight is None else weight[self.patient]
        at = np.bincount(groups, weights=of_cell)
        yes = np.bincount(groups, weights=of_cell * self.event)
        used = at > 0
        return at[used] / self.n, yes[used] / self.n

    def _loss(self, probability: Array, at: Array, yes: Array) -> float:
        if not self.logarithmic:
            return float((at * probability**2 - 2 * probability * yes + yes).sum())
        sure = np.clip(probability, np.finfo(float).tiny, 1.0)
        not_sure = np.clip(1 - probability, np.finfo(float).tiny, 1.0)
        # A frequency of zero or one is only given to groups that are all no or all yes: their zero times infinity is zero.
        return float(-(yes * np.log(sure) + np.maximum(at - yes, 0) * np.log(not_sure)).sum())


def _isotonic(frequency: Array, weight: Array) -> Array:
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(frequency, weights=weight).x)


def cells_of(name: str, law: CountLaw, observed: object) -> Cells:
    """The yes/no forecasts behind a score of observed counts.

    Examples
    --------
    >>> law = NegativeBinomialLaw([1.0, 2.0], [0.8, 0.8])
    >>> cells = cells_of("log", law, [0, 2])
    >>> cells.patient.tolist(), cells.step.tolist(), cells.event.tolist()
    ([0, 1, 1, 1], [0, 0, 1, 2], [1.0, 0.0, 0.0, 1.0])
    """
    y = np.asarray(observed, np.int64)
    if isinstance(law, DrawsLaw):
        return _of_pool(name, np.column_stack([law.draws, y]), y)
    assert isinstance(law, NegativeBinomialLaw)
    return _of_formula(name, law, y, _Table.of(law, int(y.max())))


def replicated_cells(name: str, law: CountLaw, observed: object, repetitions: int, seed: int) -> Iterator[tuple[Array, Cells]]:
    """Scores and yes/no forecasts of counts replicated under calibration, one replicate at a time."""
    again = replicates(law, observed, repetitions, seed)
    scores = again.score(name)
    pool = np.column_stack([law.draws, np.asarray(observed, np.int64)]) if isinstance(law, DrawsLaw) else None
    table = None
    for r in range(repetitions):
        y = again.counts[:, r]
        if pool is not None:
            yield scores[:, r], _of_pool(name, pool, y)
            continue
        assert isinstance(law, NegativeBinomialLaw)
        # One table serves all replicates, unless one patient's very large count would make it too large to hold.
        if table is None and law.n * int(again.counts.max()) <= _LARGEST_TABLE:
            table = _Table.of(law, int(again.counts.max()))
        yield scores[:, r], _of_formula(name, law, y, table or _Table.of(law, int(y.max())))


_LARGEST_TABLE = 5_000_000


@dataclass(frozen=True)
class _Table:
    """Probabilities of every patient's counts 0, 1, ..., up to a largest one: P(Y <= k) and P(Y = k)."""

    below: Array
    mass: Array

    @classmethod
    def of(cls, law: NegativeBinomialLaw, top: int) -> _Table:
        counts = np.broadcast_to(np.arange(top + 1), (law.n, top + 1))
        return cls(law.cdf(counts), law.pmf(counts))


def _of_formula(name: str, law: NegativeBinomialLaw, y: NDArray[np.int64], table: _Table) -> Cells:
    if name == "brier":
        return _cells(law.activity, (y > 0).astype(float), np.arange(law.n), np.zeros(law.n, np.intp), law.n, False)
    patient, step = _grid(y) if name == "crps" else _steps(y)
    if name == "crps":
        return _cells(table.below[patient, step], (y[patient] <= step).astype(float), patient, step, law.n, False)
    mass = table.mass[patient, step]
    reached = 1 - (table.below[patient, step] - mass)
    return _cells(_hazard(mass, reached), (y[patient] == step).astype(float), patient, step, law.n, True)


def _of_pool(name: str, pool: NDArray[np.int64], y: NDArray[np.int64]) -> Cells:
    """Of draws: the law of the pool's other members, when the one that holds ``y`` plays the observation."""
    n, draws = len(pool), pool.shape[1] - 1
    if name == "brier":
        share = ((pool > 0).sum(axis=1) - (y > 0)) / draws
        return _cells(share, (y > 0).astype(float), np.arange(n), np.zeros(n, np.intp), n, False)
    patient, step = _grid(y) if name == "crps" else _steps(y)
    top = int(y.max())
    held = np.apply_along_axis(np.bincount, 1, np.minimum(pool, top + 1), minlength=top + 2)
    upto = np.cumsum(held, axis=1)
    seen = y[patient]
    if name == "crps":
        below = (upto[patient, step] - (seen <= step)) / draws
        return _cells(below, (seen <= step).astype(float), patient, step, n, False)
    mean, variance = others_moments_of(pool, y)
    smooth = moment_law(mean, variance).take(patient)
    mass = held[patient, step] - (seen == step) + smooth.pmf(step)
    reached = draws + 1 - (upto[patient, step] - held[patient, step] + smooth.cdf(step - 1))
    return _cells(_hazard(mass, reached), (seen == step).astype(float), patient, step, n, True)


def others_moments_of(pool: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and variance of each pool without the member that holds ``y``."""
    place = (pool == y[:, None]).argmax(axis=1)
    mean, variance = others_moments(pool)
    rows = np.arange(len(pool))
    return mean[rows, place], variance[rows, place]


def _hazard(mass: Array, reached: Array) -> Array:
    return np.asarray(np.clip(mass / np.maximum(reached, np.finfo(float).tiny), 0.0, 1.0))


def _cells(probability: Array, event: Array, patient: Places, step: Places, n: int, logarithmic: bool) -> Cells:
    # Sums of the same terms in another order differ in the last digits; such probabilities are the same forecast.
    rank = np.unique(np.round(probability, 12), return_inverse=True)[1]
    return Cells(rank, event, patient, step, n, logarithmic)


def _grid(y: NDArray[np.int64]) -> tuple[Places, Places]:
    """Every patient at every count below the largest observed one; from there on every law in hindsight is sure."""
    top = max(int(y.max()), 1)
    return np.repeat(np.arange(len(y)), top), np.tile(np.arange(top), len(y))


def _steps(y: NDArray[np.int64]) -> tuple[Places, Places]:
    """Every patient at every count up to the observed one."""
    patient = np.repeat(np.arange(len(y)), y + 1)
    first = np.repeat(np.cumsum(y + 1) - (y + 1), y + 1)
    return patient, np.arange(len(patient)) - first
