"""Covariance of the arms' means or of coefficients, what it makes of a contrast, and the one sandwich behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
