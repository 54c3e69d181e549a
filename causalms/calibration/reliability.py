"""Forecast against observed frequency: of any activity (reliability) and of each count (rootogram)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.decomposition import part_intervals
from causalms.calibration.tests import replicates, simultaneous_band
from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, DrawsLaw


@dataclass(frozen=True)
class Reliability:
    """Reliability of a probability.

    Attributes
    ----------
    table : DataFrame
        ``forecast`` (probability), ``frequency`` (isotonic frequency of the event), ``lower``, ``upper``: where the curve lies
        as a whole with probability ``level`` if the forecasts are calibrated; ``n``: patients at or nearest to the point.
    brier, miscalibration, discrimination, uncertainty : float
        Mean Brier score = miscalibration - discrimination + uncertainty; of draws the score is the fair one, and few draws may
        make the miscalibration slightly negative.
    expected_miscalibration : float
        What calibrated forecasts of these patients show, by simulation: small samples overestimate it.
    intervals : dict
        Of miscalibration, discrimination and uncertainty at ``level``, without what chance adds
        (:func:`~.decomposition.part_intervals`).
    p_value : float
        Of calibration, by the whole curve.
    p_miscalibration : float
        Of calibration, by the miscalibration component.
    n : int
    """

    table: pd.DataFrame
    brier: float
    miscalibration: float
    discrimination: float
    uncertainty: float
    expected_miscalibration: float
    intervals: dict[str, tuple[float, float]]
    p_value: float
    p_miscalibration: float
    n: int


def isotonic(probability: Array, event: Array) -> tuple[Array, Array, Array]:
    """Pool adjacent violators: distinct forecasts, their isotonic event frequency, and how many patients hold each.

    Examples
    --------
    >>> import numpy as np
    >>> [x.tolist() for x in isotonic(np.array([0.1, 0.4, 0.4, 0.9]), np.array([1.0, 0, 1, 1]))]
    [[0.1, 0.4, 0.9], [0.6666666666666666, 0.6666666666666666, 1.0], [1.0, 2.0, 1.0]]
    """
    from scipy.optimize import isotonic_regression

    distinct, place = np.unique(probability, return_inverse=True)
    weight = np.bincount(place).astype(float)
    frequency = np.bincount(place, weights=event) / weight
    return distinct, isotonic_regression(frequency, weights=weight).x, weight


def brier_parts(probability: Array, event: Array) -> tuple[float, float, float, float]:
    """Mean Brier score and its parts: score, miscalibration, discrimination, uncertainty.

    Examples
    --------
    >>> import numpy as np
    >>> score, mcb, dsc, unc = brier_parts(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 1, 1, 1]))
    >>> round(score, 3), bool(abs(mcb - dsc + unc - score) < 1e-12)
    (0.19, True)
    """
    distinct, recalibrated, _ = isotonic(probability, event)
    fitted = recalibrated[np.searchsorted(distinct, probability)]
    score = float(np.mean((probability - event) ** 2))
    after = float(np.mean((fitted - event) ** 2))
    uncertainty = float(event.mean() * (1 - event.mean()))
    return score, score - after, uncertainty - after, uncertainty


def reliability(
    law: CountLaw,
    observed: object,
    probability: Array | None = None,
    level: float = 0.95,
    points: int = 41,
    repetitions: int = 999,
    seed: int = 0,
) -> Reliability:
    """Frequency of "any new lesion" against its forecast probability.

    Isotonic regression of activity on its forecast probability needs no choice of bins.  The band is simultaneous over the
    whole curve: replicates of the observations under calibration go through the same isotonic fit.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
        Counts.
    probability : array (n,), optional
        Probability of activity where it is forecast apart from the law of the count (an expected table).
    level : float
    points : int
        Points of the curve, at quantiles of the forecast probabilities.
    repetitions, seed : int

    Returns
    -------
    Reliability

    References
    ----------
    Dimitriadis, Gneiting, Jordan (2021), PNAS 118:e2016191118.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> rel = reliability(NegativeBinomialLaw([0.2, 1.0, 4.0] * 20, [0.8] * 60), [0, 0, 3] * 20, points=3)
    >>> rel.table[["forecast", "frequency"]].round(2).values.tolist(), rel.p_value < 0.05
    ([[0.16, 0.0], [0.48, 0.0], [0.76, 1.0]], True)
    """
    if points < 2:
        raise UsageError(f"`points`: a reliability curve of {points} point shows nothing; ask for at least 2")
    event = (np.asarray(observed) > 0).astype(float)
    if probability is None:
        chance, draws = law.activity, law.draws.shape[1] if isinstance(law, DrawsLaw) else None
        again = replicates(law, observed, repetitions, seed)
        events, chances = (again.counts > 0).astype(float), again.activity()
    else:
        chance, draws = np.asarray(probability, float), None
        events = (np.random.default_rng(seed).random((len(chance), repetitions)) < chance[:, None]).astype(float)
        chances = np.broadcast_to(chance[:, None], events.shape)
    at = np.unique(np.quantile(chance, np.linspace(0, 1, points)))
    curve = _curve(chance, event, at)
    null = np.array([_curve(chances[:, r], events[:, r], at) for r in range(repetitions)])
    band = simultaneous_band(curve, null, level)
    score, mcb, dsc, unc = _fair_parts(chance, event, draws)
    null_mcb = np.array([_fair_parts(chances[:, r], events[:, r], draws)[1] for r in range(repetitions)])
    nearest = np.abs(chance[:, None] - at).argmin(axis=1)
    table = pd.DataFrame(
        {
            "forecast": at,
            "frequency": curve,
            "lower": np.clip(band.lower, 0, 1),
            "upper": np.clip(band.upper, 0, 1),
            "level": level,
            "n": np.bincount(nearest, minlength=len(at)),
        }
    )
    rng = np.random.default_rng(seed + 1)
    resampled = []
    for _ in range(min(repetitions, 499)):
        rows = rng.integers(0, len(event), len(event))
        resampled.append(_fair_parts(chance[rows], event[rows], draws)[1:])
    p_mcb, chance_mcb = (1 + int((null_mcb >= mcb).sum())) / (1 + repetitions), float(null_mcb.mean())
    intervals = part_intervals((mcb, dsc, unc), np.array(resampled), chance_mcb, p_mcb, level)
    return Reliability(table, score, mcb, dsc, unc, chance_mcb, intervals, band.p_value, p_mcb, len(event))


def _fair_parts(probability: Array, event: Array, draws: int | None) -> tuple[float, float, float, float]:
    """Parts of the Brier score; of shares of draws, score and miscalibration without what the number of draws adds to both."""
    score, mcb, dsc, unc = brier_parts(probability, event)
    added = 0.0 if draws is None else float(np.mean(probability * (1 - probability))) / (draws - 1)
    return score - added, mcb - added, dsc, unc


def _curve(probability: Array, event: Array, at: NDArray[np.float64]) -> Array:
    distinct, recalibrated, _ = isotonic(probability, event)
    return np.interp(at, distinct, recalibrated)


@dataclass(frozen=True)
class Rootogram:
    """A hanging rootogram.

    Attributes
    ----------
    table : DataFrame
        ``count`` (the last row holds all larger counts too), ``label``, ``observed``, ``expected`` (patients), ``sqrt_expected``
        (top of the hanging bar), ``hanging`` (its foot: sqrt expected - sqrt observed), ``lower``, ``upper`` (simultaneous
        tolerance band of the observed patients under calibration, judged on the root scale), ``level``.
    p_value : float
    n : int
    """

    table: pd.DataFrame
    p_value: float
    n: int


def rootogram(
    law: CountLaw, observed: object, largest: int | None = None, level: float = 0.95, repetitions: int = 999, seed: int = 0
) -> Rootogram:
    """Hanging rootogram of counts with a simultaneous tolerance band.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    largest : int, optional
        First count of the last, open class; by default with at most 5% of the patients beyond it, and 25 at most.
    level : float
    repetitions, seed : int

    Returns
    -------
    Rootogram

    References
    ----------
    Kleiber, Zeileis (2016), Am Stat 70:296.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> root = rootogram(NegativeBinomialLaw([1.0] * 40, [0.8] * 40), [0] * 22 + [1] * 9 + [2] * 9, largest=3)
    >>> root.table[["label", "observed", "expected"]].round(1).values.tolist()
    [['0', 22.0, 20.9], ['1', 9.0, 9.3], ['2', 9.0, 4.6], ['3+', 0.0, 5.2]]
    """
    y = np.asarray(observed, np.int64)
    top = _open_class(y) if largest is None else largest
    expected = _expected(law, top)
    seen = np.bincount(np.minimum(y, top), minlength=top + 1).astype(float)
    again = np.minimum(replicates(law, y, repetitions, seed).counts, top)
    null = np.stack([np.bincount(column, minlength=top + 1) for column in again.T])
    foot = np.sqrt(expected) - np.sqrt(seen)
    band = simultaneous_band(foot, np.sqrt(expected) - np.sqrt(null), level)
    table = pd.DataFrame(
        {
            "count": np.arange(top + 1),
            "label": [*map(str, range(top)), f"{top}+"],
            "observed": seen,
            "expected": expected,
            "sqrt_expected": np.sqrt(expected),
            "hanging": foot,
            "lower": np.maximum(np.sqrt(expected) - band.upper, 0) ** 2,
            "upper": (np.sqrt(expected) - band.lower) ** 2,
            "level": level,
        }
    )
    return Rootogram(table, band.p_value, law.n)


def _open_class(y: NDArray[np.int64]) -> int:
    return min(max(int(np.quantile(y, 0.95, method="higher")), 1), 25)


def _expected(law: CountLaw, top: int) -> Array:
    """Expected number of patients with 0, 1, ..., top - 1 and at least top lesions."""
    if isinstance(law, DrawsLaw):
        classes = np.bincount(np.minimum(law.draws, top).ravel(), minlength=top + 1)
        return np.asarray(classes / law.draws.shape[1])
    below = law.cdf(np.broadcast_to(np.arange(top), (law.n, top))).sum(axis=0)
    return np.diff(np.concatenate([[0.0], below, [float(law.n)]]))
