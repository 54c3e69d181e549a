"""How often prediction intervals hold the observed count, and how wide they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.stats import Array, CountLaw, DrawsLaw, interval_positions

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
    if not isinstance(law, DrawsLaw):
        low, high = law.interval(level)
        return law.cdf(high) - law.cdf(low - 1)
    pool = np.sort(np.column_stack([law.draws, np.asarray(observed, np.int64)]), axis=1)
    first, last = interval_positions(law.draws.shape[1], level)
    member = np.arange(pool.shape[1])
    low = np.where(member > first, pool[:, [first]], pool[:, [first + 1]])
    high = np.where(member > last, pool[:, [last]], pool[:, [last + 1]])
    return np.asarray(((low <= pool) & (pool <= high)).mean(axis=1))


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
