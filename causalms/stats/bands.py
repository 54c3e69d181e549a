"""Simultaneous bands: one curve, judged once over its whole length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import UsageError
from causalms.stats.glm import Array


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
