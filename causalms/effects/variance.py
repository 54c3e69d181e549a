"""Step 3, the covariance of the arms' means, under a name that is printed beside every interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.means import ArmMeans
from causalms.errors import UsageError
from causalms.stats.dispersion import FULL_WEIGHT, adjusted_alpha
from causalms.stats.glm import Array, Fit
from causalms.stats.negbin import observed_information

#: Arm size up to which the counts' own law holds up a variance in full, and above which it is not looked at.
LARGEST_HELD_UP = 20_000
HC = ("hc0", "hc1", "hc2", "hc3", "hc3-t")
MODEL = ("model-sas", "model-r")
VARIANCES = ("influence", "small-sample", "leave-one-out", "leave-one-out-t", *HC, *MODEL)


@dataclass(frozen=True)
class Covariance:
    """Covariance of the arms' means (or coefficients), its name and its degrees of freedom (infinite for the normal law).

    ``arm_variances`` and ``arm_degrees`` give each arm's own part and its degrees of freedom, which a contrast combines by Welch
    and Satterthwaite.
    """

    matrix: Array
    name: str
    degrees_of_freedom: float = np.inf
    arm_variances: Array | None = None
    arm_degrees: Array | None = None

    def of_contrast(self, pair: np.ndarray, gradient: Array) -> tuple[float, float]:
        """Variance and degrees of freedom of a contrast of two arms."""
        variance = float(gradient @ self.matrix[np.ix_(pair, pair)] @ gradient)
        if self.arm_degrees is None or self.arm_variances is None:
            return variance, self.degrees_of_freedom
        parts = gradient**2 * self.arm_variances[pair]
        weight = float((parts**2 / self.arm_degrees[pair]).sum())
        return variance, float(parts.sum() ** 2 / weight) if weight > 0 else np.inf


def influence_values(means: ArmMeans, residuals: Array | None = None) -> Array:
    r"""Influence of every patient on every arm's mean, shape (n, K): :math:`m_i(a) - \theta_a + 1\{A_i=a\} e_i/\pi_a`.

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
    values = means.predictions - means.estimates + own * (e / means.shares[means.data.arm])[:, None]
    if np.any(means.drift):
        values = values + drift_influence(means)
    return np.asarray(values)


def drift_influence(means: ArmMeans) -> Array:
    """What estimating the coefficients adds to the influence where exposure goes with the covariates, shape (n, K)."""
    return np.asarray(means.data.n * means.fit.scores @ np.linalg.inv(means.fit.information) @ means.drift.T)


def influence_covariance(means: ArmMeans, randomization: str = "simple", residuals: Array | None = None) -> Array:
    r"""Covariance of the arms' means with covariates counted as random, shape (K, K).

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
    arms = len(data.arms)
    spread = np.atleast_2d(np.cov(predictions, rowvar=False))
    cross, own = np.empty((arms, arms)), np.empty(arms)
    for arm in range(arms):
        rows = data.arm == arm
        outcome = e[rows] + predictions[rows, arm]
        joint = np.cov(np.column_stack([outcome, predictions[rows]]), rowvar=False)
        cross[arm] = joint[0, 1:]
        own[arm] = (joint[0, 0] + spread[arm, arm] - 2 * cross[arm, arm]) / shares[arm]
    matrix = np.diag(own) + cross + cross.T - spread
    if randomization == "permuted-block":
        matrix = matrix - _blocked(means)
    if np.any(means.drift):
        full = influence_values(means)
        plain = full - drift_influence(means)
        matrix = matrix + (full.T @ full - plain.T @ plain) / data.n
    return np.asarray(matrix / data.n)


def _blocked(means: ArmMeans) -> Array:
    """Variance that stratified permuted blocks take away, times n, shape (K, K)."""
    data, shares = means.data, means.shares
    strata = np.zeros(data.n, dtype=int) if data.strata is None else data.strata
    removed = np.zeros((len(shares), len(shares)))
    for stratum in np.unique(strata):
        rows = strata == stratum
        bias = np.array([_mean(means.residuals[rows & (data.arm == arm)]) for arm in range(len(shares))]) / shares
        removed += rows.mean() * np.outer(bias, bias) * (np.diag(shares) - np.outer(shares, shares))
    return removed


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else 0.0


def small_sample_covariance(means: ArmMeans, randomization: str, scheme: str) -> Covariance:
    r"""Leave-one-out influence function whose arm variances are held up by the counts' own law, with Welch's t.

    In small arms of overdispersed counts the empirical variance is too small just when the mean is.  Each arm's residual variance
    :math:`S_a` (leave-one-out) is therefore replaced by

    .. math:: \lambda_a \max(S_a, P_a) + (1-\lambda_a) S_a, \qquad
              P_a = \frac{n_a}{n_a-1}\,\frac{1}{n_a}\sum_{A_i=a} \frac{\mu_i + \hat\alpha_a\mu_i^2}{\bar E_a^2}, \qquad
              \lambda_a = \min(1, \sqrt{50/n_a}),

    with :math:`\hat\alpha_a` the arm's own dispersion by adjusted profile likelihood.  As arms grow it
    becomes the influence function.  For risks and means :math:`P_a = 0`.
    """
    data = means.data
    left = means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None)
    matrix = influence_covariance(means, randomization, left)
    gains = np.array([_held_up(means, left, arm) if means.counts else 0.0 for arm in range(len(data.arms))])
    own = np.array([left[data.arm == arm].var(ddof=1) for arm in range(len(data.arms))]) / data.sizes + gains
    name = f"small-sample influence function (arm dispersion, Welch t), {scheme}"
    return Covariance(matrix + np.diag(gains), name, arm_variances=own, arm_degrees=(data.sizes - 1).astype(float))


def _held_up(means: ArmMeans, left: Array, arm: int) -> float:
    """What the small-sample variance adds to an arm's variance."""
    rows = means.data.arm == arm
    size = int(rows.sum())
    if size > LARGEST_HELD_UP:
        return 0.0
    corrected = means.data.outcome[rows] - means.residuals[rows] * means.data.exposure[rows].mean()
    mean = np.clip(corrected, 1e-8 * max(float(corrected.mean()), 1e-8), None)
    covariates = means.data.covariates[rows]
    X = np.column_stack([np.ones(size), covariates]) if 2 * (covariates.shape[1] + 1) < size else np.ones((size, 1))
    alpha = adjusted_alpha(means.data.outcome[rows], mean, X)
    law = float((mean + alpha * mean**2).sum()) / (size - 1) / means.data.exposure[rows].mean() ** 2
    weight = min(1.0, float(np.sqrt(FULL_WEIGHT / size)))
    return weight * max(law - float(left[rows].var(ddof=1)), 0.0) / size


def cluster_covariance(means: ArmMeans) -> Array:
    """Influence-function covariance with patients of one cluster (a site) summed, times G / (G - 1)."""
    assert means.data.cluster is not None
    return _clustered(influence_values(means) / means.data.n, means.data.cluster)


def _clustered(values: Array, cluster: np.ndarray) -> Array:
    groups = cluster.max() + 1
    if groups < 2:
        raise UsageError("--cluster: the column holds one cluster only; a variance between clusters needs at least two")
    sums = np.column_stack([np.bincount(cluster, weights=column, minlength=groups) for column in values.T])
    return np.asarray(sums.T @ sums * groups / (groups - 1))


def hc_factor(fit: Fit, kind: str) -> Array:
    """What a residual is multiplied by: 1, sqrt(n/(n-p)), 1/sqrt(1-h) or 1/(1-h), shape (n,)."""
    n, p = fit.X.shape
    if kind == "hc0":
        return np.ones(n)
    if kind == "hc1":
        return np.full(n, np.sqrt(n / (n - p)))
    rest = np.clip(1 - fit.leverage, 1e-8, None)
    return 1 / np.sqrt(rest) if kind == "hc2" else 1 / rest


def hc_covariance(means: ArmMeans, kind: str) -> Array:
    """Sandwich covariance of the means with covariates held fixed: delta method through coefficients and arm residuals."""
    inverse = np.linalg.inv(means.fit.information)
    total = np.bincount(means.data.arm, weights=means.data.exposure)
    own = np.eye(len(total))[means.data.arm] / total[means.data.arm][:, None]
    centred = means.residuals * _mean_time(means)
    values = (means.fit.scores @ inverse @ means.gradient.T + own * centred[:, None]) * hc_factor(means.fit, kind)[:, None]
    return np.asarray(values.T @ values)


def model_covariance(means: ArmMeans, convention: str) -> Array:
    """Model-based covariance of the means with covariates held fixed, in the SAS or the R convention."""
    fit = means.fit
    scale = _scale(fit, convention)
    coefficients = coefficient_covariance(fit, convention)
    total = np.bincount(means.data.arm, weights=means.data.exposure)
    own = np.eye(len(total))[means.data.arm] / total[means.data.arm][:, None]
    cross = (fit.X * fit.slope[:, None]).T @ own * scale
    mixed = means.gradient @ np.linalg.inv(fit.information) @ cross
    alone = np.diag(scale * fit.variance_function @ own**2)
    return np.asarray(means.gradient @ coefficients @ means.gradient.T + mixed + mixed.T + alone)


def coefficient_covariance(fit: Fit, variance: str) -> Array:
    r"""Covariance of the working model's coefficients, shape (p, p).

    Parameters
    ----------
    fit : Fit
    variance : str
        ``model-r``: inverse expected information (``vcov(glm.nb)``); ``model-sas``: inverse observed information, jointly with
        the dispersion (PROC GENMOD); ``hc0`` to ``hc3``: sandwich with the expected information as bread, as R's sandwich gives.

    References
    ----------
    MacKinnon and White (1985), Journal of Econometrics 29:305-325; Lawless (1987).

    Examples
    --------
    >>> import numpy as np
    >>> from causalms.stats.glm import fit_model
    >>> fit = fit_model("poisson", np.ones((4, 1)), np.array([1.0, 2, 3, 2]))
    >>> coefficient_covariance(fit, "model-r").round(6)
    array([[0.125]])
    """
    if variance in MODEL:
        if fit.family == "negbin" and variance == "model-sas" and not fit.at_poisson_boundary:
            return np.asarray(np.linalg.inv(observed_information(fit))[:-1, :-1])
        return np.asarray(np.linalg.inv(fit.information) * _scale(fit, variance))
    inverse = np.linalg.inv(fit.information)
    values = fit.scores @ inverse * hc_factor(fit, variance.removesuffix("-t"))[:, None]
    return np.asarray(values.T @ values)


def _scale(fit: Fit, convention: str) -> float:
    """Residual variance of the linear model: divided by n in PROC GENMOD, by n - p in R's lm; 1 for the other families."""
    if fit.family != "linear":
        return 1.0
    n, p = fit.X.shape
    return float(((fit.y - fit.mean) ** 2).sum() / (n if convention == "model-sas" else n - p))


def _mean_time(means: ArmMeans) -> Array:
    total = np.bincount(means.data.arm, weights=means.data.exposure)
    return np.asarray((total / means.data.sizes)[means.data.arm])


def means_covariance(means: ArmMeans, variance: str, randomization: str = "simple") -> Covariance:
    """The named covariance of the arms' means.

    Raises
    ------
    UsageError
        For a name that is not one of :data:`VARIANCES`.
    """
    n, p = means.fit.X.shape
    scheme = "stratified permuted blocks" if randomization == "permuted-block" else "simple randomisation"
    if means.data.cluster is not None:
        groups = int(means.data.cluster.max()) + 1
        return Covariance(cluster_covariance(means), f"influence function, clustered ({groups} clusters, t)", groups - 1)
    if variance == "influence":
        return Covariance(influence_covariance(means, randomization), f"influence function, {scheme}")
    if variance == "small-sample":
        return small_sample_covariance(means, randomization, scheme)
    if variance.startswith("leave-one-out"):
        left = means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None)
        law, degrees = ("t", n - p) if variance.endswith("-t") else ("normal", np.inf)
        return Covariance(
            influence_covariance(means, randomization, left), f"leave-one-out influence function, {scheme}, {law}", degrees
        )
    if variance in HC:
        degrees = n - p if variance == "hc3-t" else np.inf
        return Covariance(hc_covariance(means, variance.removesuffix("-t")), _hc_name(variance), degrees)
    if variance in MODEL:
        degrees = n - p if means.fit.family == "linear" and variance == "model-r" else np.inf
        return Covariance(model_covariance(means, variance), model_name(variance), degrees)
    raise UsageError(f"no variance is called {variance!r}; known are {', '.join(VARIANCES)}")


def _hc_name(variance: str) -> str:
    kind = variance.removesuffix("-t").upper()
    return f"{kind} sandwich, covariates fixed" + (", t" if variance.endswith("-t") else "")


def model_name(variance: str) -> str:
    """What a model-based variance is called in print."""
    return "model-based, observed information (SAS)" if variance == "model-sas" else "model-based, expected information (R)"


def coefficient_variance_name(variance: str) -> str:
    """What a variance of coefficients is called in print."""
    return model_name(variance) if variance in MODEL else _hc_name(variance).replace(", covariates fixed", "")


def cluster_coefficient_covariance(fit: Fit, cluster: np.ndarray) -> Covariance:
    """Sandwich covariance of coefficients with scores summed by cluster, times G / (G - 1), with t on G - 1."""
    matrix = _clustered(fit.scores @ np.linalg.inv(fit.information), cluster)
    groups = int(cluster.max()) + 1
    return Covariance(matrix, f"sandwich, clustered ({groups} clusters, t)", groups - 1)
