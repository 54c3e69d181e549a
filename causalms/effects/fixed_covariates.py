"""Variances with the covariates held fixed: the sandwiches HC0 to HC3, and the working model's own information."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalms.effects.covariance import Covariance, diagonal_matrix, vcov
from causalms.effects.means import ArmMeans, mean_exposure
from causalms.stats import Array, Fit, observed_information


def sandwich_covariance(means: ArmMeans, factor: Callable[[Fit], Array]) -> Covariance:
    """Sandwich covariance of the means with covariates held fixed: delta method through coefficients and arm residuals."""
    fit = means.fit
    centred = means.residuals * mean_exposure(means.data)
    values = fit.scores @ fit.inverse_information @ np.swapaxes(means.gradient, -1, -2)
    return Covariance(vcov((values + _own_share(means) * centred[..., None]) * factor(fit)[..., None]))


def _own_share(means: ArmMeans) -> Array:
    """One over the exposure of the patient's arm in the column of that arm, zero elsewhere, shape (..., n, K)."""
    own = np.eye(len(means.data.arms))[means.data.arm]
    return np.asarray(own / (means.data.exposure @ own)[..., None, :])


def hc0_factor(fit: Fit) -> Array:
    """What HC0 multiplies residuals by, shape (..., n)."""
    return np.ones(fit.X.shape[-2])


def hc1_factor(fit: Fit) -> Array:
    """What HC1 multiplies residuals by."""
    n, p = fit.X.shape[-2], fit.rank
    return np.full(n, np.sqrt(n / (n - p)))


def hc2_factor(fit: Fit) -> Array:
    """What HC2 multiplies residuals by."""
    return np.asarray(1 / np.sqrt(np.clip(1 - fit.leverage, 1e-8, None)))


def hc3_factor(fit: Fit) -> Array:
    """What HC3 multiplies residuals by."""
    return np.asarray(1 / np.clip(1 - fit.leverage, 1e-8, None))


def observed_inverse(fit: Fit) -> Array:
    """Inverse observed information, jointly with the dispersion; residual variance of the linear model divided by n."""
    if fit.family == "negbin":
        return np.asarray(fit.inverse(observed_information(fit))[..., :-1, :-1])
    return np.asarray(fit.inverse_information * _scale(fit, 0))


def expected_inverse(fit: Fit) -> Array:
    """Inverse expected information; residual variance of the linear model divided by n - p."""
    return np.asarray(fit.inverse_information * _scale(fit, fit.rank))


def _scale(fit: Fit, lost: int) -> Array:
    """Residual variance of the linear model, divided by n less the degrees of freedom lost; 1 for other families (..., 1, 1)."""
    if fit.family != "linear":
        return np.ones((1, 1))
    return np.asarray(((fit.y - fit.mean) ** 2).sum(axis=-1) / (fit.X.shape[-2] - lost))[..., None, None]


def model_based_covariance(means: ArmMeans, of_coefficients: Callable[[Fit], Array], lost: Callable[[Fit], int]) -> Covariance:
    """Model-based covariance of the means with covariates held fixed."""
    fit, own, scale = means.fit, _own_share(means), _scale(means.fit, lost(means.fit))
    cross = np.swapaxes(fit.X * fit.slope[..., None], -1, -2) @ own * scale
    mixed = means.gradient @ fit.inverse_information @ cross
    alone = diagonal_matrix((scale * fit.variance_function[..., None, :] @ own**2)[..., 0, :])
    through = means.gradient @ of_coefficients(fit) @ np.swapaxes(means.gradient, -1, -2)
    return Covariance(through + mixed + np.swapaxes(mixed, -1, -2) + alone)
