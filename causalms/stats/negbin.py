"""The negative-binomial likelihood, its derivatives by dispersion, and the observed information, for one sample or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalms.stats.count_sums import CountSums

if TYPE_CHECKING:
    from causalms.stats.glm import Fit

Array = NDArray[np.float64]


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
