"""Influence function of the arms' means: every patient's own share in them, and the covariance that follows."""

from __future__ import annotations

import numpy as np

from causalms.effects.covariance import diagonal_matrix, empirical_covariance, vcov
from causalms.effects.means import ArmMeans
from causalms.effects.permuted_blocks import removed_by_blocks
from causalms.stats import Array


def influence_values(means: ArmMeans, residuals: Array | None = None) -> Array:
    r"""Influence of every patient on every arm's mean, shape (..., n, K): :math:`m_i(a) - \theta_a + 1\{A_i=a\} e_i/\pi_a`.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> from causalms.effects.means import unadjusted_means
    >>> data = trial_data(pd.DataFrame({"y": [1, 3, 2, 2], "arm": list("aabb")}), outcome="y", arm="arm", reference="a")
    >>> influence_values(unadjusted_means(data))[:, 0]
    array([-2.,  2.,  0.,  0.])
    """
    own = np.eye(len(means.data.arms))[means.data.arm]
    e = means.residuals if residuals is None else residuals
    values = means.predictions - means.estimates[..., None, :] + own * (e / means.shares[means.data.arm])[..., None]
    if np.any(means.drift):
        values = values + drift_influence(means)
    return np.asarray(values)


def drift_influence(means: ArmMeans) -> Array:
    """What estimating the coefficients adds to the influence where exposure goes with the covariates, shape (..., n, K)."""
    return np.asarray(len(means.data.arm) * means.fit.scores @ means.fit.inverse_information @ np.swapaxes(means.drift, -1, -2))


def influence_covariance(means: ArmMeans, randomization: str = "simple", residuals: Array | None = None) -> Array:
    r"""Covariance of the arms' means with covariates counted as random, shape (..., K, K).

    .. math::
        n V = \mathrm{diag}\!\left(\pi_a^{-1} \mathrm{Var}_a(Y - m(a))\right) + C + C^\top - \mathrm{Var}(m), \qquad
        C_{ab} = \mathrm{Cov}_a(Y, m(b)),

    and under permuted blocks within strata Z minus
    :math:`E[R(Z)\{\mathrm{diag}(\pi) - \pi\pi^\top\}R(Z)]`, :math:`R(Z) = \mathrm{diag}(\pi_a^{-1}E[Y - m(a)\mid Z, A=a])`.
    Within-arm variances divide by n - 1, as RobinCar2 does.

    References
    ----------
    Ye, Shao, Yi, Zhao (2023), JASA 118:2370-2382; Bannick et al. (2025), Biometrika.
    """
    data, shares, predictions = means.data, means.shares, means.predictions
    e = means.residuals if residuals is None else residuals
    spread = empirical_covariance(predictions)
    cross, own = np.empty(spread.shape), np.empty(spread.shape[:-1])
    for arm in range(len(data.arms)):
        rows = data.arm == arm
        outcome = e[..., rows] + predictions[..., rows, arm]
        joint = empirical_covariance(np.concatenate([outcome[..., None], predictions[..., rows, :]], axis=-1))
        cross[..., arm, :] = joint[..., 0, 1:]
        own[..., arm] = (joint[..., 0, 0] + spread[..., arm, arm] - 2 * cross[..., arm, arm]) / shares[arm]
    matrix = diagonal_matrix(own) + cross + np.swapaxes(cross, -1, -2) - spread
    if randomization == "permuted-block":
        matrix = matrix - removed_by_blocks(means)
    if np.any(means.drift):
        full = influence_values(means)
        matrix = matrix + (vcov(full) - vcov(full - drift_influence(means))) / len(data.arm)
    return np.asarray(matrix / len(data.arm))


def leave_one_out_residuals(means: ArmMeans) -> Array:
    """Residuals over one minus leverage, shape (..., n)."""
    return np.asarray(means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None))
