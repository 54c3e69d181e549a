"""The probability integral transform of count forecasts: non-randomised, randomised, and its bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.calibration.tests import replicates
from causalms.errors import UsageError
from causalms.stats import Array, Band, CountLaw, DrawsLaw, simultaneous_band


def pit_ends(law: CountLaw, observed: object) -> tuple[Array, Array]:
    """Both ends of each patient's probability integral transform: P(Y < y) and P(Y <= y).

    For draws, the ends of the rank of the observation among draws and observation together, divided by their number, which
    is uniform under calibration for any number of draws.

    Examples
    --------
    >>> [end.tolist() for end in pit_ends(DrawsLaw([[0, 1, 1]]), [1])]
    [[0.25], [1.0]]
    """
    y = np.asarray(observed, np.int64)
    if isinstance(law, DrawsLaw):
        size = law.draws.shape[1] + 1
        return (law.draws < y[:, None]).sum(axis=1) / size, ((law.draws <= y[:, None]).sum(axis=1) + 1) / size
    return law.cdf(y - 1), law.cdf(y)


def mean_pit(lower: Array, upper: Array, at: Array) -> Array:
    r"""Mean non-randomised PIT distribution function.

    :math:`\bar F(u) = n^{-1} \sum_i \min(1, \max(0, (u - P_i(y_i - 1)) / (P_i(y_i) - P_i(y_i - 1))))`

    Parameters
    ----------
    lower, upper : array (n,) or (n, m)
        Ends of the transform.
    at : array (g,)

    Returns
    -------
    array (g,) or (g, m)

    References
    ----------
    Czado, Gneiting, Held (2009), Biometrics 65:1254.

    Examples
    --------
    >>> import numpy as np
    >>> mean_pit(np.array([0.25]), np.array([1.0]), np.array([0.25, 0.625, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    width = np.maximum(upper - lower, np.finfo(float).tiny)
    return np.array([np.clip((u - lower) / width, 0, 1).mean(axis=0) for u in at])


@dataclass(frozen=True)
class Pit:
    """A PIT histogram or curve with its band.

    Attributes
    ----------
    table : DataFrame
        Histogram: ``bin``, ``lower_edge``, ``upper_edge``, ``density``, ``lower``, ``upper`` (simultaneous band), ``level``.
        Curve: ``u``, ``pit``, ``lower``, ``upper``, ``level``.
    p_value : float
        Probability, under calibration, of a histogram or curve at least as far from what calibration shows.
    n : int
    """

    table: pd.DataFrame
    p_value: float
    n: int


def pit_histogram(
    law: CountLaw, observed: object, bins: int = 10, level: float = 0.95, repetitions: int = 999, seed: int = 0
) -> Pit:
    """Non-randomised PIT histogram; flat (density 1) under calibration, hump = too wide, cup = too narrow, slope = bias.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    bins : int
    level : float
        Of the simultaneous band, by simulation under calibration of exactly these forecasts.
    repetitions : int
        Simulated trials.
    seed : int

    Returns
    -------
    Pit

    Raises
    ------
    UsageError
        If there are fewer than two bins.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([1.0] * 30, [0.8] * 30)
    >>> pit = pit_histogram(law, [0] * 15 + [1] * 8 + [3] * 7, bins=4)
    >>> pit.table.density.round(2).tolist(), pit.p_value > 0.05
    ([0.96, 0.96, 1.13, 0.96], True)
    """
    if bins < 2:
        raise UsageError(f"`bins`: a PIT histogram of {bins} bin shows nothing; ask for at least 2")
    edges = np.arange(bins + 1) / bins
    density = np.diff(mean_pit(*pit_ends(law, observed), edges)) * bins
    again = mean_pit(*replicates(law, observed, repetitions, seed).pit(), edges)
    band = simultaneous_band(density, np.diff(again, axis=0).T * bins, level)
    table = pd.DataFrame(
        {
            "bin": np.arange(1, bins + 1),
            "lower_edge": edges[:-1],
            "upper_edge": edges[1:],
            "density": density,
            "lower": np.maximum(band.lower, 0),
            "upper": band.upper,
            "level": level,
        }
    )
    return Pit(table, band.p_value, law.n)


def randomised_pit(law: CountLaw, observed: object, seed: int = 0) -> Array:
    """One uniform number a patient between the ends of the transform: exactly uniform under calibration.

    Examples
    --------
    >>> randomised_pit(DrawsLaw([[0, 1, 1]]), [1], seed=1).round(3).tolist()
    [0.634]
    """
    lower, upper = pit_ends(law, observed)
    return lower + np.random.default_rng(seed).random(len(lower)) * (upper - lower)


def pit_curve(
    law: CountLaw, observed: object, points: int = 99, level: float = 0.95, repetitions: int = 999, seed: int = 0
) -> Pit:
    """Distribution function of the randomised PIT with a simultaneous band.

    The null is known whatever the forecasts: n independent uniforms.

    References
    ----------
    Sailynoja, Burkner, Vehtari (2022), Stat Comput 32:32.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> pit_curve(NegativeBinomialLaw([1.0] * 30, [0.8] * 30), [9] * 30).p_value
    0.001
    """
    at = np.arange(1, points + 1) / (points + 1)
    values = randomised_pit(law, observed, seed)
    band = uniform_band(values, at, level, repetitions, seed + 1)
    curve = (values[:, None] <= at).mean(axis=0)
    table = pd.DataFrame({"u": at, "pit": curve, "lower": band.lower, "upper": band.upper, "level": level})
    return Pit(table, band.p_value, law.n)


def uniform_band(values: Array, at: Array, level: float, repetitions: int, seed: int) -> Band:
    """Band of the distribution function of independent uniforms, and the p-value of ``values``."""
    rng = np.random.default_rng(seed)
    # Counts in the cells between the points are multinomial: no need for the uniforms themselves.
    cells = np.diff(np.concatenate([[0.0], at, [1.0]]))
    null = np.cumsum(rng.multinomial(len(values), cells, size=repetitions)[:, :-1], axis=1) / len(values)
    return simultaneous_band((values[:, None] <= at).mean(axis=0), null, level)
