"""Variances between clusters: sums by cluster (CR1), bias-reduced (CR2), and each cluster left out (CR3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalms.effects.covariance import Covariance, influence_values, vcov
from causalms.effects.means import ArmMeans, counterfactual_means, fit_working_model, unadjusted_means
from causalms.errors import ConvergenceError, RefusalError
from causalms.stats import Array, Fit

#: Eigenvalues below this share of the largest are zero where a matrix is inverted.
_SMALLEST = 1e-10


@dataclass(frozen=True)
class ClusterVariance:
    """A variance between clusters: its name in print, and its functions of means and of coefficients (None: no meaning there)."""

    printed: str
    of_means: Callable[[ArmMeans, np.ndarray], Array] | None
    of_coefficients: Callable[[Fit, np.ndarray], Covariance] | None


def clustered_means(means: ArmMeans, name: str) -> Covariance:
    """Covariance of the arms' means with clusters as the sampling unit.

    ``cr3`` takes t on Satterthwaite's degrees of freedom of the working model's contrasts of arms (the least of them), which few
    clusters and covariates that vary between them make smaller than G - 1; ``cr1`` takes G - 1.
    """
    cluster, chosen = _codes(means.data.cluster), CLUSTER_VARIANCES[name]
    if chosen.of_means is None:
        raise AssertionError(f"{name} is for coefficients")  # refused when settings were checked
    groups = int(cluster.max()) + 1
    matrix = chosen.of_means(means, cluster)
    if name == "cr1":
        return Covariance(matrix, f"{chosen.printed}, clustered ({groups} clusters, t)", groups - 1)
    degrees = min(float(_degrees_of_arms(means.fit, cluster, len(means.data.arms)).min()), groups - 1.0)
    return Covariance(matrix, f"{chosen.printed}, clustered ({groups} clusters, Satterthwaite t)", degrees)


def _degrees_of_arms(fit: Fit, cluster: np.ndarray, arms: int) -> Array:
    """Satterthwaite's degrees of freedom of each arm against the reference, shape (K - 1,)."""
    contrasts = np.eye(fit.X.shape[1])[1:arms]
    if not fit.X[:, 0].all():  # no intercept: arm means without a working model
        contrasts[:, 0] = -1.0
    _, influence, weight = _adjusted_parts(fit, cluster, _half_leverage)
    return _satterthwaite(contrasts @ influence, weight)


def clustered_coefficients(fit: Fit, cluster: np.ndarray, name: str) -> Covariance:
    """Covariance of the working model's coefficients with clusters as the sampling unit, its name and degrees of freedom."""
    codes, chosen = _codes(cluster), CLUSTER_VARIANCES[name]
    if chosen.of_coefficients is None:
        raise AssertionError(f"{name} is for means")
    return chosen.of_coefficients(fit, codes)


def _codes(cluster: np.ndarray | None) -> np.ndarray:
    return np.unique(np.asarray(cluster), return_inverse=True)[1]


def _sums_of_influence(means: ArmMeans, cluster: np.ndarray) -> Array:
    return vcov(influence_values(means) / len(means.data.arm), cluster=cluster)


def _leave_one_out_means(means: ArmMeans, cluster: np.ndarray) -> Array:
    r"""Jackknife by cluster: every cluster is left out once and everything fitted again.

    .. math:: V = \tfrac{G-1}{G}\sum_g (\hat\theta_{(g)}-\bar\theta)(\hat\theta_{(g)}-\bar\theta)^\top.

    The working model, the standardisation and the arms' corrections are made anew without each cluster in turn, so the estimation
    of coefficients is counted.
    """
    groups, data = int(cluster.max()) + 1, means.data
    without = np.empty((groups, len(data.arms)))
    for group in range(groups):
        part = data.take(np.flatnonzero(cluster != group))
        try:
            if not means.fit.X[:, 0].all():  # no intercept: arm means without a working model
                without[group] = unadjusted_means(part, counts=means.counts).estimates
            else:
                interaction = means.fit.X.shape[-1] > len(data.arms) + data.covariates.shape[-1]
                fit = fit_working_model(part, means.fit.family, interaction)
                without[group] = counterfactual_means(part, fit, interaction, means.rate).estimates
        except (RefusalError, ConvergenceError) as error:
            raise RefusalError(
                f"without cluster {data.cluster_names[group]!r} the estimate cannot be had ({error}); "
                "merge clusters, or use `variance=cr1`"
            ) from None
    centred = without - without.mean(axis=0)
    return np.asarray(centred.T @ centred * (groups - 1) / groups)


def _sums_of_scores(fit: Fit, cluster: np.ndarray) -> Covariance:
    groups = int(cluster.max()) + 1
    return Covariance(
        vcov(fit.scores, fit.inverse_information, cluster), f"CR1 sandwich, clustered ({groups} clusters, t)", groups - 1
    )


def _bias_reduced(fit: Fit, cluster: np.ndarray) -> Covariance:
    r"""CR2 with Satterthwaite degrees of freedom for every coefficient.

    With :math:`X` the derivative of the means by the coefficients, :math:`W` one over the variances of the working model,
    :math:`M=(X^\top WX)^{-1}`, :math:`D_g = W_g^{-1/2}` and :math:`B_g = D_g(W_g^{-1} - X_gMX_g^\top)D_g`, residuals are
    multiplied by :math:`A_g = D_gB_g^{-1/2}D_g`.
    A coefficient's degrees of freedom are those of a chi-square with the mean and variance that its estimated variance has under
    the working model.

    References
    ----------
    Bell and McCaffrey (2002), Survey Methodology 28:169-181; Pustejovsky and Tipton (2018), JBES 36:672-683.
    """
    return _with_satterthwaite("CR2", *_adjusted_parts(fit, cluster, _half_leverage))


def _left_out_scores(fit: Fit, cluster: np.ndarray) -> Covariance:
    r"""CR3: residuals multiplied by :math:`(I - X_gMX_g^\top W_g)^{-1}`, which leaves each cluster out in one step."""
    return _with_satterthwaite("CR3", *_adjusted_parts(fit, cluster, _whole_leverage))


def _with_satterthwaite(name: str, parts: Array, influence: Array, weight: Array) -> Covariance:
    words = f"{name} sandwich, clustered ({len(parts)} clusters, Satterthwaite t)"
    return Covariance(parts.T @ parts, words, _satterthwaite(influence, weight))


def _half_leverage(Xg: Array, wg: Array, M: Array) -> Array:
    """What CR2 multiplies a cluster's residuals by."""
    d = 1 / np.sqrt(wg)
    B = d[:, None] * (np.diag(1 / wg) - Xg @ M @ Xg.T) * d
    return np.asarray(d[:, None] * _power(B, -0.5) * d)


def _whole_leverage(Xg: Array, wg: Array, M: Array) -> Array:
    """What CR3 multiplies a cluster's residuals by."""
    left = np.eye(len(wg)) - Xg @ M @ (Xg * wg[:, None]).T
    return np.asarray(np.linalg.pinv(left, rcond=_SMALLEST))


def _satterthwaite(influence: Array, weight: Array) -> Array:
    """Degrees of freedom of p sums of squares over G clusters that are linear in n residuals: influence (G, p, n), shape (p,)."""
    moments = np.einsum("gpi,hpi->pgh", influence / weight, influence)
    return np.asarray(np.einsum("pgg->p", moments) ** 2 / (moments**2).sum(axis=(1, 2)))


def _adjusted_parts(
    fit: Fit, cluster: np.ndarray, adjustment: Callable[[Array, Array, Array], Array]
) -> tuple[Array, Array, Array]:
    """Clusters' parts of the coefficients (G, p), what these are of all residuals (G, p, n), and weights 1/variance (n,)."""
    X, weight, residuals, cluster = _informative(fit, cluster)
    M, groups = fit.inverse_information, int(cluster.max()) + 1
    parts, influence = np.empty((groups, X.shape[1])), np.empty((groups, *X.T.shape))
    for group in range(groups):
        rows = cluster == group
        Xg, wg = X[rows], weight[rows]
        carried = M @ (Xg * wg[:, None]).T @ adjustment(Xg, wg, M)
        parts[group] = carried @ residuals[rows]
        # What the cluster's part of a coefficient is of all residuals: the fit has taken its share of them.
        influence[group] = -(carried @ Xg @ M) @ (X * weight[:, None]).T
        influence[group][:, rows] += carried
    return parts, influence, weight


def _informative(fit: Fit, cluster: np.ndarray) -> tuple[Array, Array, Array, np.ndarray]:
    """Design on the scale of the outcome, weights 1/variance, residuals and clusters, of the patients who have a weight."""
    rows = fit.weights > 0
    X = fit.X[rows] * fit.slope[rows][:, None]
    return X, 1 / fit.variance_function[rows], (fit.y - fit.mean)[rows], _codes(cluster[rows])


def _power(matrix: Array, exponent: float) -> Array:
    """Power of a symmetric matrix on the space where it is not zero."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > _SMALLEST * max(values.max(), 0.0)
    powers = np.where(kept, np.where(kept, values, 1.0) ** exponent, 0.0)
    return np.asarray(vectors * powers @ vectors.T)


#: ``cr1``: influence values (or scores) summed by cluster, times G/(G-1).
CLUSTER_VARIANCES = {
    "cr1": ClusterVariance("influence function", _sums_of_influence, _sums_of_scores),
    "cr2": ClusterVariance("CR2 sandwich", None, _bias_reduced),
    "cr3": ClusterVariance("jackknife, each cluster left out and all refitted", _leave_one_out_means, _left_out_scores),
}
