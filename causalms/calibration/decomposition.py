"""Mean scores taken apart: what recalibration would remove, what telling patients apart wins, and what the outcome costs.

A score of counts is a sum over yes/no forecasts; the second half of this file makes these and recalibrates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalms.calibration.tests import replicates
from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, moment_law, others_moments, score

Places = NDArray[np.intp]
DECOMPOSED = ("log", "crps", "brier")


@dataclass(frozen=True)
class Decomposition:
    """A mean score and its parts.

    Attributes
    ----------
    name : {"log", "crps", "brier"}
    score, miscalibration, discrimination, uncertainty : float
        score = miscalibration - discrimination + uncertainty, exactly.
    intervals : dict
        Of each part without what chance adds to it (:func:`part_intervals`).
    expected_miscalibration : float
        What a calibrated forecast of these patients shows, by simulation: not zero in a small sample.
    p_value : float
        Of a miscalibration as large under calibration.
    n : int
    """

    name: str
    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float
    intervals: dict[str, tuple[float, float]]
    expected_miscalibration: float
    p_value: float
    n: int


def decomposition(
    law: CountLaw, observed: object, name: str = "crps", level: float = 0.95, repetitions: int = 199, seed: int = 0
) -> Decomposition:
    r"""Take a mean score apart by isotonic recalibration.

    Every one of these scores is a sum of scores of yes/no forecasts.  The CRPS sums the Brier scores of "at most k lesions" over
    k; the log score sums the logarithmic scores of "stops at k, having reached k" over the counts up to the observed one;
    the Brier score has one such forecast a patient.  One isotonic regression maps all these probabilities to
    observed frequencies and so recalibrates the whole law (a monotone map of its distribution function, or of its hazard).
    With :math:`\bar S` the mean score, :math:`\bar S_{rc}` that of the recalibrated law and :math:`\bar S_{0}` that
    of one law for all patients,

    .. math:: \bar S = (\bar S - \bar S_{rc}) - (\bar S_{0} - \bar S_{rc}) + \bar S_{0}
        = \text{miscalibration} - \text{discrimination} + \text{uncertainty}

    The one law is the observed frequency of counts; for the log score, under which the frequencies of rare counts fit
    themselves, it is the best law whose hazard only falls, or only rises, with the count.

    Parameters
    ----------
    law : CountLaw
        Of a :class:`DrawsLaw` the scores are the fair ones, as in :func:`causalms.stats.score`; few draws blur the ranking
        of patients, which no recalibration undoes, and may make the miscalibration slightly negative.
    observed : array (n,)
    name : {"log", "crps", "brier"}
    level : float
    repetitions : int
        Bootstrap samples, and simulated trials under calibration.
    seed : int

    Returns
    -------
    Decomposition

    Raises
    ------
    UsageError
        If the score has no decomposition here.

    References
    ----------
    Dimitriadis, Gneiting, Jordan (2021), PNAS 118:e2016191118 (isotonic recalibration). Gneiting, Resin (2023), Electron J Stat
    17:3226 (the decomposition for any score). Murphy (1973), J Appl Meteorol 12:595.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([0.5, 4.0] * 100, [0.8] * 200)
    >>> y = law.sample(np.random.default_rng(1), 1)[:, 0]
    >>> parts = decomposition(law, y, repetitions=19)
    >>> [round(part, 2) for part in (parts.score, parts.miscalibration, parts.discrimination, parts.uncertainty)]
    [1.08, 0.04, 0.15, 1.19]
    """
    if name not in DECOMPOSED:
        raise UsageError(f"`name`: no decomposition of the score {name!r}; known are {', '.join(DECOMPOSED)}")
    scores = score(name, law, observed)
    cells = cells_of(name, law, observed)
    mean = float(scores.mean())
    recalibrated, uncertainty = cells.recalibrated(), cells.uncertainty()
    miscalibration = mean - recalibrated
    null = null_miscalibration(law, observed, name, repetitions, seed)
    p_value = (1 + int((null >= miscalibration).sum())) / (1 + len(null))
    parts = (miscalibration, uncertainty - recalibrated, uncertainty)
    intervals = part_intervals(parts, _resampled(scores, cells, repetitions, seed + 1), float(null.mean()), p_value, level)
    return Decomposition(name, mean, *parts, intervals, float(null.mean()), p_value, law.n)


def null_miscalibration(law: CountLaw, observed: object, name: str, repetitions: int, seed: int) -> Array:
    """Miscalibration of replicates under calibration: what its p-value is a rank among."""
    again = replicated_cells(name, law, observed, repetitions, seed)
    return np.array([float(scores.mean()) - cells.recalibrated() for scores, cells in again])


def _resampled(scores: Array, cells: Cells, repetitions: int, seed: int) -> NDArray[np.float64]:
    """The three parts in bootstrap samples of patients; a patient drawn twice weighs two."""
    rng = np.random.default_rng(seed)
    n = len(scores)
    parts: list[tuple[float, float, float]] = []
    for _ in range(repetitions):
        weight = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        mean = float(weight @ scores / n) if np.isfinite(scores).all() else np.nan
        after, alone = cells.recalibrated(weight), cells.uncertainty(weight)
        parts.append((mean - after, alone - after, alone))
    return np.array(parts)


def less_chance(miscalibration: float, discrimination: float, chance: float) -> tuple[float, float]:
    """Miscalibration and discrimination without what isotonic regression adds to both by fitting chance.

    What is taken off is ``chance``, and no more than would leave a negative miscalibration; it is the same for both, so that
    their difference, and with it the sum of the parts, stays.

    Parameters
    ----------
    miscalibration, discrimination : float
    chance : float
        Expected miscalibration under calibration.

    Examples
    --------
    >>> [round(part, 3) for part in less_chance(0.03, 0.05, 0.02)], [round(part, 3) for part in less_chance(0.03, 0.05, 0.04)]
    ([0.01, 0.03], [0.0, 0.02])
    """
    added = min(chance, max(miscalibration, 0.0))
    return miscalibration - added, discrimination - added


def part_intervals(
    parts: tuple[float, float, float], resampled: NDArray[np.float64], chance: float, p_value: float, level: float
) -> dict[str, tuple[float, float]]:
    r"""Intervals of miscalibration, discrimination and uncertainty in all patients like these.

    Isotonic regression fits chance too, which makes the first two parts too large by about what calibrated forecasts show,
    ``chance``; a bootstrap sample adds as much again, so that its percentiles may lie above the estimate and miss the truth.
    So percentiles of the resampled parts, moved by the difference of their mean, are laid around the parts :func:`less_chance`.
    Miscalibration ends at zero below, and begins there unless calibration is rejected at (1 - level) / 2. Uncertainty has
    percentiles.

    Parameters
    ----------
    parts : tuple of float
        With chance in them.
    resampled : array (B, 3)
        The parts in bootstrap samples of patients.
    chance : float
        Expected miscalibration under calibration.
    p_value : float
        Of calibration.
    level : float

    Notes
    -----
    ``studies/part_intervals.py``: 95% intervals held the true miscalibration of Brier scores in .94 to .99 of 500 trials of 60 or
    300 patients (Monte-Carlo error at most .011), percentiles in 0 to .30; the true discrimination in .90 to .94 (.013), less
    than said, percentiles in .52 to .59.

    References
    ----------
    Davison, Hinkley (1997), Bootstrap Methods and their Application, section 5.2. Sun, Chaudhari, Barnett, Dobriban (2024),
    arXiv 2408.08998 (calibration errors: bias, and the bound at zero).

    Examples
    --------
    >>> again = np.array([[0.05, 0.06, 0.2], [0.06, 0.07, 0.21], [0.07, 0.08, 0.22]])
    >>> intervals = part_intervals((0.03, 0.05, 0.21), again, chance=0.02, p_value=0.2, level=0.95)
    >>> [round(end, 4) for end in intervals["miscalibration"]], [round(end, 4) for end in intervals["discrimination"]]
    ([0.0, 0.0195], [0.0205, 0.0395])
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    centre = resampled.mean(axis=0)
    intervals = {}
    for k, (name, estimate) in enumerate(zip(("miscalibration", "discrimination"), less_chance(*parts[:2], chance), strict=True)):
        intervals[name] = (float(estimate + low[k] - centre[k]), float(estimate + high[k] - centre[k]))
    lower, upper = intervals["miscalibration"]
    begin = 0.0 if p_value > (1 - level) / 2 else max(lower, 0.0)
    intervals["miscalibration"] = (min(begin, less_chance(*parts[:2], chance)[0]), max(upper, begin))
    intervals["uncertainty"] = (float(low[2]), float(high[2]))
    return intervals


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
