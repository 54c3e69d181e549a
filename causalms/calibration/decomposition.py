"""Mean scores taken apart: what recalibration would remove, what telling patients apart wins, and what the outcome costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalms.calibration.cells import Cells, cells_of, replicated_cells
from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, score

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
        Percentile bootstrap interval (over patients) of each part.
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
        Of a :class:`DrawsLaw` the scores are the fair ones, as in :func:`causalms.calibration.score`; few draws blur the ranking
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
        raise UsageError(f"no decomposition of the score {name!r}; known are {', '.join(DECOMPOSED)}")
    scores = score(name, law, observed)
    cells = cells_of(name, law, observed)
    mean = float(scores.mean())
    recalibrated, uncertainty = cells.recalibrated(), cells.uncertainty()
    miscalibration = mean - recalibrated
    null = null_miscalibration(law, observed, name, repetitions, seed)
    p_value = (1 + int((null >= miscalibration).sum())) / (1 + len(null))
    return Decomposition(
        name,
        mean,
        miscalibration,
        uncertainty - recalibrated,
        uncertainty,
        _intervals(scores, cells, level, repetitions, seed + 1),
        float(null.mean()),
        p_value,
        law.n,
    )


def null_miscalibration(law: CountLaw, observed: object, name: str, repetitions: int, seed: int) -> Array:
    """Miscalibration of replicates under calibration: what its p-value is a rank among."""
    again = replicated_cells(name, law, observed, repetitions, seed)
    return np.array([float(scores.mean()) - cells.recalibrated() for scores, cells in again])


def _intervals(scores: Array, cells: Cells, level: float, repetitions: int, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap of patients; a patient drawn twice weighs two."""
    rng = np.random.default_rng(seed)
    n = len(scores)
    parts: list[tuple[float, float, float]] = []
    for _ in range(repetitions):
        weight = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        mean = float(weight @ scores / n) if np.isfinite(scores).all() else np.nan
        after, alone = cells.recalibrated(weight), cells.uncertainty(weight)
        parts.append((mean - after, alone - after, alone))
    return dict(zip(("miscalibration", "discrimination", "uncertainty"), _quantiles(np.array(parts), level), strict=True))


def _quantiles(values: NDArray[np.float64], level: float) -> list[tuple[float, float]]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
