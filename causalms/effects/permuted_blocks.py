"""What randomisation in permuted blocks within strata takes away from the variance of the arms' means, and degrees of freedom."""

from __future__ import annotations

import numpy as np

from causalms.effects.data import TrialData
from causalms.effects.means import ArmMeans
from causalms.errors import RefusalError
from causalms.stats import Array

#: With fewer patients of an arm than this in any stratum, the noise of stratum means is taken out and t replaces the normal law.
SMALL_CELL = 10


def removed_by_blocks(means: ArmMeans) -> Array:
    r"""Variance that stratified permuted blocks take away from the arms' means, times n, shape (..., K, K).

    With :math:`r_z(a)` the mean residual of arm a in stratum z, strata of share :math:`p_z`:

    .. math:: \sum_z p_z\, r_z(a) r_z(b) \,(\pi_a 1\{a=b\} - \pi_a\pi_b) / (\pi_a\pi_b).

    That counts the noise of :math:`r_z(a)` as an effect of the stratum, which is harmless in large strata only.  As soon as a
    stratum has fewer than :data:`SMALL_CELL` patients in an arm, :math:`r_z(a)^2` is replaced by an unbiased estimate, see
    ``docs/decisions/small_strata.md``.

    References
    ----------
    Ye, Shao, Yi, Zhao (2023), JASA 118:2370-2382; Fogarty (2018), JRSS B 80:1035-1056, for fine strata.
    """
    sizes, average, variance = _cells(means)
    shares, of_arms = means.shares, len(means.shares)
    weight = sizes.sum(axis=-1) / sizes.sum(axis=(-1, -2), keepdims=True)[..., 0]
    small = _small(sizes)[..., None, None]
    plain = (weight[..., None, None] * average[..., :, None] * average[..., None, :]).sum(axis=-3) * (np.diag(1 / shares) - 1)
    if not small.any():
        return np.asarray(plain)
    complete = (sizes > 0).all(axis=-1)
    several = 1 - (weight**2).sum(axis=-1)  # what centring the arms leaves of the spread between strata
    with np.errstate(divide="ignore"):
        cross = np.where(several > 0, 1 / several, 0.0)[..., None, None, None]
    products = average[..., :, None] * average[..., None, :] * cross
    between = _squares(means, products, sizes, variance, several > 0)
    own = np.eye(of_arms, dtype=bool)
    products = np.where(own, between[..., None], products) * (weight * complete)[..., None, None]
    in_arm = sizes / sizes.sum(axis=-2, keepdims=True)
    spread = (1 - (in_arm**2).sum(axis=-2)) * means.data.sizes / (means.data.sizes - 1)  # share of it in the variance of an arm
    kernel = np.where(own, (spread / shares - 1)[..., None], -1.0)
    return np.asarray(np.where(small, products.sum(axis=-3) * kernel, plain))


def _squares(means: ArmMeans, products: Array, sizes: Array, variance: Array, several: np.ndarray) -> Array:
    """Estimate of the squared effect of every stratum on every arm's mean, shape (..., M, K).

    Two patients of an arm give it without bias; where there is one, it is taken from the product with the other arms, for counts
    on the scale of ratios.
    """
    arms = products.shape[-1]
    diagonal = products[..., np.arange(arms), np.arange(arms)]
    alone = np.asarray(sizes < 2)
    unbiased = np.where(several[..., None, None], diagonal - variance / np.maximum(sizes, 1), 0.0)
    if not alone.any():
        return np.asarray(unbiased)
    level = means.estimates
    positive = np.asarray(means.counts & (level > 0).all(axis=-1))
    ratio = np.where(positive[..., None, None], level[..., :, None] / np.where(level == 0, 1.0, level)[..., None, :], 1.0)
    scaled = products * ratio[..., None, :, :]
    other_alone = alone[..., None, :]
    borrowed = np.where(other_alone, scaled, 2 * scaled - ratio[..., None, :, :] ** 2 * unbiased[..., None, :])
    borrowed = borrowed * (1 - np.eye(arms))
    return np.asarray(np.where(alone, borrowed.sum(axis=-1) / (arms - 1), unbiased))


def degrees_within_strata(means: ArmMeans) -> Array:
    """Degrees of freedom left by strata, arms and covariates, shape (...): infinite (the normal law) where no stratum is small.

    Raises
    ------
    RefusalError
        Strata, arms and covariates take up all of them.
    """
    sizes, _, _ = _cells(means)
    small, strata = _small(sizes), np.broadcast_to(_strata(means.data), means.residuals.shape)
    X = np.broadcast_to(means.fit.X, (*strata.shape, means.fit.X.shape[-1]))
    degrees = np.full(small.shape, np.inf)
    for index in zip(*np.nonzero(small), strict=True) if small.ndim else [()] * bool(small):
        degrees[index] = _degrees(X[index], strata[index])
    if (degrees < 1).any():
        raise RefusalError(
            "`strata`: the strata, arms and covariates have as many coefficients as there are patients, so no variance is left; "
            "use fewer strata or covariates"
        )
    return degrees


def _degrees(X: Array, strata: np.ndarray) -> int:
    """Patients less strata less the rank of the design within strata."""
    count = np.bincount(strata)
    sums = np.column_stack([np.bincount(strata, weights=column) for column in X.T])
    within = X - (sums / np.maximum(count, 1)[:, None])[strata]
    return len(strata) - int((count > 0).sum()) - int(np.linalg.matrix_rank(within, tol=1e-8 * len(strata)))


def _small(sizes: Array) -> np.ndarray:
    """Whether any stratum that holds patients has few of an arm, shape (...); one stratum alone is never small."""
    return np.asarray((sizes.shape[-2] > 1) & ((sizes.min(axis=-1) < SMALL_CELL) & (sizes.sum(axis=-1) > 0)).any(axis=-1))


def _strata(data: TrialData) -> np.ndarray:
    """Number of the stratum of every patient, shape (..., n)."""
    return np.zeros(data.outcome.shape, dtype=int) if data.strata is None else data.strata


def _cells(means: ArmMeans) -> tuple[Array, Array, Array]:
    """Size, mean residual and variance of residuals of every stratum and arm, shape (..., M, K) each."""
    data, arms = means.data, len(means.data.arms)
    strata = np.broadcast_to(_strata(data), means.residuals.shape)
    count, lead = int(strata.max()) + 1, strata.shape[:-1]
    replicate = np.arange(int(np.prod(lead, dtype=int))).reshape(*lead, 1)
    cell = ((replicate * count + strata) * arms + data.arm).ravel()

    def total(values: Array) -> Array:
        return np.asarray(np.bincount(cell, weights=values.ravel(), minlength=replicate.size * count * arms), dtype=float)

    sizes = total(np.ones(strata.shape))
    average = total(means.residuals) / np.maximum(sizes, 1)
    apart = means.residuals.ravel() - average[cell]
    variance = total(apart**2) / np.maximum(sizes - 1, 1)
    return (
        sizes.reshape(*lead, count, arms),
        average.reshape(*lead, count, arms),
        variance.reshape(*lead, count, arms),
    )
