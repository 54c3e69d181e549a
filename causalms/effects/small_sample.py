"""Variance for small arms of counts: leave-one-out influence values with a floor from the counts' own law, and Welch's t."""

from __future__ import annotations

import numpy as np

from causalms.effects.covariance import Covariance, diagonal_matrix, influence_covariance, leave_one_out_residuals
from causalms.effects.means import ArmMeans
from causalms.effects.permuted_blocks import degrees_within_strata
from causalms.stats import FULL_WEIGHT, Array, adjusted_alphas

#: Patients of the smallest arm below which rates are compared with this variance unless another is named: below it the influence
#: function covers less than it says (``studies/small_arms.py``).
SMALL_ARM = 250
#: Arm size above which the counts' own law is not looked at.
LARGEST_ARM_WITH_FLOOR = 20_000


def small_sample_covariance(means: ArmMeans, randomization: str) -> Covariance:
    r"""Leave-one-out influence function with a floor under each arm's variance from the counts' own law, with Welch's t.

    In small arms of overdispersed counts the empirical variance is too small just when the mean is.  Each arm's residual variance
    :math:`S_a` (leave-one-out) is therefore replaced by

    .. math:: \lambda_a \max(S_a, P_a) + (1-\lambda_a) S_a, \qquad
              P_a = \frac{n_a}{n_a-1}\,\frac{1}{n_a}\sum_{A_i=a} \frac{\mu_i + \hat\alpha_a\mu_i^2}{\bar E_a^2}, \qquad
              \lambda_a = \min(1, \sqrt{50/n_a}),

    with :math:`\hat\alpha_a` the arm's own dispersion by adjusted profile likelihood.  As arms grow it
    becomes the influence function.  For risks and means :math:`P_a = 0`.
    """
    data, left = means.data, leave_one_out_residuals(means)
    arms = range(len(data.arms))
    own = np.stack([left[..., data.arm == arm].var(axis=-1, ddof=1) for arm in arms], axis=-1) / data.sizes
    gains = np.stack([_variance_floor(means, left, arm) for arm in arms], axis=-1) if means.counts else np.zeros_like(own)
    matrix = influence_covariance(means, randomization, left) + diagonal_matrix(gains)
    degrees = (data.sizes - 1).astype(float)
    if randomization == "permuted-block":
        degrees = np.minimum(degrees, degrees_within_strata(means)[..., None] * means.shares)
    return Covariance(matrix, arm_variances=own + gains, arm_degrees=degrees)


def _variance_floor(means: ArmMeans, left: Array, arm: int) -> Array:
    """What the counts' own law adds to an arm's variance, shape (...)."""
    rows, lead = means.data.arm == arm, left.shape[:-1]
    size = int(rows.sum())
    if size > LARGEST_ARM_WITH_FLOOR:
        return np.zeros(lead)
    time = means.data.exposure[..., rows].mean(axis=-1)
    y = np.atleast_2d(means.data.outcome[..., rows])
    corrected = y - np.atleast_2d(means.residuals[..., rows] * time[..., None])
    mean = np.clip(corrected, 1e-8 * np.maximum(corrected.mean(axis=1, keepdims=True), 1e-8), None)
    alpha = adjusted_alphas(y, np.broadcast_to(mean, y.shape))[:, None]
    law = (mean + alpha * mean**2).sum(axis=1).reshape(lead) / (size - 1) / time**2
    weight = min(1.0, float(np.sqrt(FULL_WEIGHT / size)))
    return np.asarray(weight * np.maximum(law - left[..., rows].var(axis=-1, ddof=1), 0.0) / size)
