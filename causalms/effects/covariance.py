"""Covariances as a sum of patients' shares: the sandwich, and the influence function of the arms' means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.means import ArmMeans
from causalms.effects.permuted_blocks import removed_by_blocks
from causalms.errors import UsageError
from causalms.stats import Array


@dataclass(frozen=True)
class Covariance:
    """Covariance of the arms' means (or coefficients), its name and its degrees of freedom (infinite for the normal law).

    ``arm_variances`` (..., K) and ``arm_degrees`` (..., K) give each arm's own part and its degrees of freedom, which a contrast
    combines by Welch and Satterthwaite.
    """

    matrix: Array
    name: str = ""
    degrees_of_freedom: float | Array = np.inf
    arm_variances: Array | None = None
    arm_degrees: Array | None = None

    def of_contrast(self, pair: np.ndarray, gradient: Array) -> tuple[Array, Array]:
        """Variance and degrees of freedom of a contrast of two arms with derivative ``gradient`` (..., 2), shape (...) each."""
        inner = self.matrix[..., pair[:, None], pair]
        variance = np.einsum("...a,...ab,...b->...", gradient, inner, gradient)
        if self.arm_degrees is None or self.arm_variances is None:
            return variance, np.broadcast_to(np.asarray(self.degrees_of_freedom, dtype=float), variance.shape)
        parts = gradient**2 * self.arm_variances[..., pair]
        weight = (parts**2 / self.arm_degrees[..., pair]).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return variance, np.where(weight > 0, parts.sum(axis=-1) ** 2 / weight, np.inf)


def vcov(influence: Array, bread: Array | None = None, cluster: np.ndarray | None = None) -> Array:
    r"""The sandwich :math:`B^\top \psi^\top\psi B`, with rows of one cluster summed and times G / (G - 1).

    Parameters
    ----------
    influence : array (..., n, k)
        Scores or influence values, one row a patient.
    bread : array (..., k, q), optional
        Identity by default.
    cluster : integer array (n,), optional

    Raises
    ------
    UsageError
        One cluster only.

    Examples
    --------
    >>> import numpy as np
    >>> vcov(np.array([[1.0], [-1.0], [2.0]]))
    array([[6.]])
    """
    values = influence if bread is None else influence @ bread
    if cluster is None:
        return np.asarray(np.swapaxes(values, -1, -2) @ values)
    groups = int(cluster.max()) + 1
    if groups < 2:
        raise UsageError("`cluster`: the column holds one cluster only; a variance between clusters needs at least two")
    sums = np.column_stack([np.bincount(cluster, weights=column, minlength=groups) for column in values.T])
    return np.asarray(sums.T @ sums * groups / (groups - 1))


def empirical_covariance(values: Array) -> Array:
    """Empirical covariance over patients (..., n, k), dividing by n - 1."""
    return np.asarray(vcov(values - values.mean(axis=-2, keepdims=True)) / (values.shape[-2] - 1))


def diagonal_matrix(values: Array) -> Array:
    """Diagonal matrices (..., K, K) of values (..., K)."""
    return np.asarray(values[..., None] * np.eye(values.shape[-1]))


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
