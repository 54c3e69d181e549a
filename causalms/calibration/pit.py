"""Probability integral transform of count forecasts, and the coverage of their central intervals."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.calibration.tests import Band, replicates, simultaneous_band
from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, DrawsLaw, TalliedLaw, interval_positions


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
    if isinstance(law, TalliedLaw):
        size = law.draws + 1
        return law.cdf(y - 1) * law.draws / size, (law.cdf(y) * law.draws + 1) / size
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


LEVELS = (0.5, 0.8, 0.9, 0.95)


def coverage_table(law: CountLaw, observed: object, levels: tuple[float, ...] = LEVELS, confidence: float = 0.95) -> pd.DataFrame:
    """Coverage and width of central prediction intervals.

    An interval of counts cannot hold exactly its nominal probability, so the observed share is judged against
    ``expected``, the probability that the forecasts themselves put into their intervals.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    levels : tuple of float
    confidence : float
        Of the Wilson interval of the observed share.

    Returns
    -------
    DataFrame
        ``level`` (nominal), ``expected`` (mean content), ``coverage``, ``lower``, ``upper``, ``confidence``, ``width`` (mean of
        upper - lower end, in lesions), ``p_value`` (Poisson-binomial, two-sided), ``n``.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([2.0] * 4, [0.8] * 4)
    >>> coverage_table(law, [0, 1, 4, 30], levels=(0.9,))[["expected", "coverage", "width"]].round(3).values.tolist()
    [[0.953, 0.75, 7.0]]
    """
    from scipy import stats

    y = np.asarray(observed, np.int64)
    rows = []
    for nominal in levels:
        low, high = law.interval(nominal)
        inside = (low <= y) & (y <= high)
        content = interval_content(law, y, nominal)
        share = stats.binomtest(int(inside.sum()), len(y)).proportion_ci(confidence, method="wilson")
        rows.append(
            {
                "level": nominal,
                "expected": content.mean(),
                "coverage": inside.mean(),
                "lower": share.low,
                "upper": share.high,
                "confidence": confidence,
                "width": (high - low).mean(),
                "p_value": poisson_binomial_p(int(inside.sum()), content),
                "n": len(y),
            }
        )
    return pd.DataFrame(rows)


def interval_content(law: CountLaw, observed: object, level: float) -> Array:
    """Probability that each forecast's central interval holds the count, if the forecast is calibrated.

    Of draws: the share of the pool of draws and observation that lies in the interval of the others.
    """
    if isinstance(law, TalliedLaw):
        return _content_of_tallies(law.with_observed(np.asarray(observed, np.int64)), interval_positions(law.draws, level))
    if not isinstance(law, DrawsLaw):
        low, high = law.interval(level)
        return law.cdf(high) - law.cdf(low - 1)
    pool = np.sort(np.column_stack([law.draws, np.asarray(observed, np.int64)]), axis=1)
    first, last = interval_positions(law.draws.shape[1], level)
    member = np.arange(pool.shape[1])
    low = np.where(member > first, pool[:, [first]], pool[:, [first + 1]])
    high = np.where(member > last, pool[:, [last]], pool[:, [last + 1]])
    return np.asarray(((low <= pool) & (pool <= high)).mean(axis=1))


def _content_of_tallies(pool: TalliedLaw, ends: tuple[int, int]) -> Array:
    """Share of the pool that lies in the interval of its other members: a member at or before an end moves that end by one."""
    upto = np.cumsum(pool.numbers, axis=1)
    inside = np.zeros(pool.n)
    cuts = sorted({0, ends[0] + 1, ends[1] + 1, pool.draws})
    for start, stop in itertools.pairwise(cuts):  # positions between two cuts share their interval
        low = pool.at(ends[0] if start > ends[0] else ends[0] + 1)
        high = pool.at(ends[1] if start > ends[1] else ends[1] + 1)
        number = np.clip(upto, start, stop) - np.clip(upto - pool.numbers, start, stop)
        inside += (number * ((low[:, None] <= pool.counts) & (pool.counts <= high[:, None]))).sum(axis=1)
    return np.asarray(inside / pool.draws)


def poisson_binomial_p(successes: int, probabilities: Array) -> float:
    """Two-sided p of a number of successes of independent trials: twice the smaller tail, each with half its own mass.

    Examples
    --------
    >>> import numpy as np
    >>> round(poisson_binomial_p(9, np.full(10, 0.5)), 4)
    0.0117
    """
    from scipy import stats

    n = len(probabilities)
    spread = float(np.sum(probabilities * (1 - probabilities)))
    if spread < 1e-12:
        return 1.0 if successes == round(float(probabilities.sum())) else 0.0
    if spread > 100:
        return float(2 * stats.norm.sf(abs(successes - probabilities.sum()) / np.sqrt(spread)))
    mass = np.ones(1)
    for probability in probabilities:
        mass = np.convolve(mass, [1 - probability, probability])
    below, above = mass[:successes].sum(), mass[successes + 1 :].sum()
    return float(min(1.0, 2 * (min(below, above) + mass[successes] / 2))) if n else 1.0
