"""The negative-binomial likelihood: exact sums over events, derivatives, observed information, and each arm's dispersion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from causalms.stats.glm import Fit

Array = NDArray[np.float64]

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


_LONGEST_SUM = 20_000


@dataclass(frozen=True)
class CountSums:
    r"""The part of the log likelihood in which counts meet the dispersion, for R replicates.

    :math:`\log\Gamma(y + 1/\alpha) - \log\Gamma(1/\alpha) + y\log\alpha = \sum_{j<y} \log(1 + \alpha j)`, and
    summed over patients a sum over j of the number of patients with more than j events.  The sum stays exact as alpha goes to 0,
    where differences of gamma functions lose every digit; counts above 20,000 use the gamma functions, then exact enough.

    Attributes
    ----------
    more : array (R, J)
        Weighted number of patients with more than j events; empty for large counts.
    j : array (J,)
    y, weights : array (R or 1, n)
        Kept for large counts only.
    """

    more: Array
    j: Array
    y: Array
    weights: Array

    @classmethod
    def of(cls, y: Array, weights: Array | None = None) -> CountSums:
        """Build from counts (R, n), or from counts (1, n) shared by R rows of weights."""
        nothing = np.empty((1, 0))
        largest = float(y.max()) if y.size else 0.0
        if largest > _LONGEST_SUM:
            return cls(nothing, nothing[0], y, np.ones((1, y.shape[1])) if weights is None else weights)
        j = np.arange(max(largest, 1.0))
        if len(y) == 1 and weights is not None:
            return cls(np.asarray(weights @ (y[0][:, None] > j).astype(float)), j, nothing, nothing)
        replicates, n = y.shape
        cell = np.repeat(np.arange(replicates), n) * (len(j) + 1) + y.ravel().astype(int)
        flat = None if weights is None else weights.ravel()
        histogram = np.bincount(cell, weights=flat, minlength=replicates * (len(j) + 1)).reshape(replicates, -1)
        more = histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(float)
        return cls(np.asarray(more), j, nothing, nothing)

    def take(self, rows: np.ndarray) -> CountSums:
        """Chosen replicates."""

        def pick(values: Array) -> Array:
            return values[rows] if len(values) > 1 else values

        return CountSums(pick(self.more) if self.j.size else self.more, self.j, pick(self.y), pick(self.weights))

    def value(self, alpha: Array) -> Array:
        """Sum over patients and j < y of log(1 + alpha j), for alpha (R,)."""
        if self.j.size:
            return np.asarray((self.more * np.log1p(alpha[:, None] * self.j)).sum(axis=1))
        from scipy.special import gammaln

        k = 1 / alpha[:, None]
        return np.asarray((self.weights * (gammaln(self.y + k) - gammaln(k) - self.y * np.log(k))).sum(axis=1))

    def slope(self, alpha: Array) -> Array:
        """First derivative of :meth:`value` by alpha."""
        if self.j.size:
            return np.asarray((self.more * (self.j / (1 + alpha[:, None] * self.j))).sum(axis=1))
        from scipy.special import digamma

        k = 1 / alpha[:, None]
        return np.asarray((self.weights * (self.y * k - k**2 * (digamma(self.y + k) - digamma(k)))).sum(axis=1))

    def curvature(self, alpha: Array) -> Array:
        """Second derivative of :meth:`value` by alpha."""
        if self.j.size:
            return np.asarray(-(self.more * (self.j / (1 + alpha[:, None] * self.j)) ** 2).sum(axis=1))
        from scipy.special import digamma, polygamma

        k = 1 / alpha[:, None]
        first, second = digamma(self.y + k) - digamma(k), polygamma(1, k) - polygamma(1, self.y + k)
        return np.asarray(-(self.weights * k**2 * (self.y - 2 * k * first + k**2 * second)).sum(axis=1))


def log_likelihood(fit: Fit) -> Array:
    """Full negative-binomial (or Poisson, at alpha = 0) log likelihood, constants included, shape (...).

    Examples
    --------
    >>> import numpy as np
    >>> from causalms.stats.glm import Fit
    >>> fit = Fit("negbin", np.ones((1, 1)), np.array([2.0]), np.ones(1), np.array([np.log(2.0)]), alpha=0.0)
    >>> float(log_likelihood(fit).round(6))
    -1.306853
    """
    from scipy.special import gammaln, xlogy

    y = np.atleast_2d(fit.y)
    mean, alpha = np.atleast_2d(fit.mean), np.atleast_1d(np.asarray(fit.alpha, float))
    constant = (xlogy(y, mean) - gammaln(y + 1)).sum(axis=1)
    over = alpha > 0
    safe = np.where(over, alpha, 1.0)
    spread = CountSums.of(y).value(safe) - ((y + 1 / safe[:, None]) * np.log1p(safe[:, None] * mean)).sum(axis=1)
    return np.asarray((constant + np.where(over, spread, -mean.sum(axis=1))).reshape(np.shape(fit.alpha)))


def alpha_slope(y: Array, mean: Array, shrunk: Array, remainder: Array) -> Array:
    """Derivative of each patient's log likelihood by alpha, without sums over events; ``shrunk`` is mean / (1 + alpha mean)."""
    return np.asarray(mean * mean * remainder - y * shrunk)


def alpha_curvature(y: Array, mean: Array, shrunk: Array, x: Array, remainder: Array) -> Array:
    """Second derivative by alpha, without sums over events; ``x`` is alpha mean, ``remainder`` its :func:`log_remainder`."""
    return np.asarray(mean * mean * mean * log_remainder_slope(x, remainder) + y * shrunk * shrunk)


def observed_information(fit: Fit) -> Array:
    """Negative second derivatives of the log likelihood by (coefficients, alpha), shape (..., p + 1, p + 1).

    At the Poisson boundary alpha plays no part: its row and column are those of the unit matrix.
    """
    alpha = np.asarray(fit.alpha, float)[..., None]
    shrink = 1 / (1 + alpha * fit.mean)
    p = fit.X.shape[-1]
    matrix = np.zeros((*fit.y.shape[:-1], p + 1, p + 1))
    curved = fit.X * (fit.mean * (1 + alpha * fit.y) * shrink**2)[..., None]
    matrix[..., :p, :p] = np.swapaxes(curved, -1, -2) @ fit.X
    cross = ((fit.mean * (fit.y - fit.mean) * shrink**2)[..., None] * fit.X).sum(axis=-2)
    sums = CountSums.of(np.atleast_2d(fit.y)).curvature(np.atleast_1d(np.maximum(alpha[..., 0], 1e-12)))
    x = alpha * fit.mean
    second = alpha_curvature(fit.y, fit.mean, fit.mean * shrink, x, log_remainder(x)).sum(axis=-1) + sums.reshape(
        alpha.shape[:-1]
    )
    boundary = alpha == 0
    matrix[..., :p, p] = matrix[..., p, :p] = np.where(boundary, 0, cross)
    matrix[..., p, p] = np.where(boundary[..., 0], 1, -second)
    return matrix


def log_remainder(x: Array) -> Array:
    """(log(1 + x) - x / (1 + x)) / x^2 without cancellation near zero."""
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    series = 0.5 - x * (2 / 3 - x * (3 / 4 - x * (4 / 5 - x * 5 / 6)))
    return np.where(small, series, (np.log1p(safe) - safe / (1 + safe)) / safe**2)


def log_remainder_slope(x: Array, remainder: Array | None = None) -> Array:
    """Derivative of :func:`log_remainder`, which may be handed over where it is known."""
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    series = -2 / 3 + x * (3 / 2 - x * (12 / 5 - x * 10 / 3))
    remainder = log_remainder(x) if remainder is None else remainder
    return np.where(small, series, 1 / (safe * (1 + safe) ** 2) - 2 * remainder / safe)
