"""Dispersion of each arm by adjusted profile likelihood, for variances that hold in small or unequally dispersed arms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalms.stats.glm import Array
from causalms.stats.negbin import CountSums, alpha_slope, log_remainder

#: Arm size up to which the counts own law holds up a variance in full.
FULL_WEIGHT = 50
#: Where the maximum is looked for first; dispersions below the first value count as none.
_LOG_ALPHA = np.linspace(-7.0, 5.0, 49)
#: Steps of the root search; each ends within rounding long before.
_STEPS = 100


def adjusted_alphas(y: Array, mean: Array) -> Array:
    r"""Negative-binomial dispersions of R arms given their fitted means, corrected for the level that was estimated.

    Maximises the Cox-Reid adjusted profile likelihood :math:`\ell(\alpha) - \tfrac12\log\sum_i \mu_i/(1+\alpha\mu_i)` of an arm's
    level to machine precision; plain maximum likelihood is too small in small arms.  Covariates whose coefficients were estimated
    on all arms together take no part in the correction: counted in each arm they would widen intervals.

    Parameters
    ----------
    y : array (R, m)
        Counts of one arm.
    mean : array (R, m)
        Fitted means over each patient's exposure.

    Returns
    -------
    array (R,)

    References
    ----------
    Cox and Reid (1987), JRSS B 49:1-39; Robinson and Smyth (2008), Biostatistics 9:321-332.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([[0.0, 1, 0, 9, 2, 0]])
    >>> adjusted_alphas(y, np.full((1, 6), 2.0)).round(4)
    array([3.8122])
    """
    sums = CountSums.of(y)

    def slope(log_alpha: Array) -> Array:
        """Derivative of the adjusted likelihood by the logarithm of alpha, shape (R,)."""
        alpha = np.exp(log_alpha)
        shrunk = mean / (1 + alpha[:, None] * mean)
        own = alpha_slope(y, mean, shrunk, log_remainder(alpha[:, None] * mean)).sum(axis=1)
        return np.asarray(alpha * (sums.slope(alpha) + own + (shrunk**2).sum(axis=1) / shrunk.sum(axis=1) / 2))

    at = np.stack([_adjusted_likelihood(sums, y, mean, alpha) for alpha in np.exp(_LOG_ALPHA)], axis=1).argmax(axis=1)
    low, high = _LOG_ALPHA[np.maximum(at - 1, 0)], _LOG_ALPHA[np.minimum(at + 1, len(_LOG_ALPHA) - 1)]
    events = y.any(axis=1)  # of an arm without any the adjustment alone would rise for ever
    while (rising := events & (slope(high) > 0)).any():  # beyond the last value of the grid
        low, high = np.where(rising, high, low), np.where(rising, high + 2, high)
    none = ~events | (slope(low) <= 0)
    return np.where(none, 0.0, np.exp(_root(slope, low, high)))


def _adjusted_likelihood(sums: CountSums, y: Array, mean: Array, alpha: float) -> Array:
    information = (mean / (1 + alpha * mean)).sum(axis=1)
    return np.asarray(
        sums.value(np.full(len(y), alpha)) - ((y + 1 / alpha) * np.log1p(alpha * mean)).sum(axis=1) - np.log(information) / 2
    )


def _root(slope: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where a slope that falls from ``low`` to ``high`` is zero, by bisection and the secant in turn (R,)."""
    below, above = slope(low), slope(high)
    for step in range(_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = low + (high - low) * below / (below - above)
        middle = np.where((step % 3 == 2) | ~np.isfinite(secant), (low + high) / 2, np.clip(secant, low, high))
        value = slope(middle)
        rising = value > 0
        low, below = np.where(rising, middle, low), np.where(rising, value, below)
        high, above = np.where(rising, high, middle), np.where(rising, above, value)
        if (high - low <= 4 * np.finfo(float).eps * np.maximum(np.abs(low), 1.0)).all() or (value == 0).all():
            break
    return np.where(np.abs(below) < np.abs(above), low, high)
