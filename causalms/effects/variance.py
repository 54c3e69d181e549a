"""Step 3, the covariance of the arms' means and of coefficients: every named variance, each one function, registered once.

**Where is the variance of a rate ratio computed?**  :func:`means_covariance` looks the name up in :data:`VARIANCES` and calls its
function, which gives the covariance of the arms' means, shape (..., K, K); :meth:`Covariance.of_contrast` turns it into the
variance of a contrast by the delta method.  ``...`` is an optional axis of replicates: the simulations of operating
characteristics call the same functions for thousands of trials at once.

**How is a new one added?**  Write one function of the means (and, where it has a meaning for coefficients, one of the fit), then
add one line to :data:`VARIANCES`.  HC4 (Cribari-Neto 2004), for example, is a residual factor and a line::

    def _hc4(fit):
        relative = fit.X.shape[-2] * fit.leverage / fit.X.shape[-1]
        return (1 - fit.leverage) ** (-np.minimum(4, relative) / 2)

    "hc4": _sandwich(_hc4, "HC4"),

and a wholly new one::

    def _naive(means, randomization):
        return Covariance(vcov(influence_values(means) / len(means.data.arm)))

    "naive": Variance("influence values as they are, {scheme}", _naive),

Settings, print-outs and error messages take the name, the words and what the variance can be used for from that line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from causalms.effects.means import ArmMeans, mean_exposure
from causalms.errors import UsageError
from causalms.stats import FULL_WEIGHT, Array, Fit, adjusted_alphas, observed_information

#: Arm size above which the counts' own law is not looked at.
LARGEST_ARM_WITH_FLOOR = 20_000


@dataclass(frozen=True)
class Covariance:
    """Covariance of the arms' means (or coefficients), its name and its degrees of freedom (infinite for the normal law).

    ``arm_variances`` (..., K) and ``arm_degrees`` (K,) give each arm's own part and its degrees of freedom, which a contrast
    combines by Welch and Satterthwaite.
    """

    matrix: Array
    name: str = ""
    degrees_of_freedom: float = np.inf
    arm_variances: Array | None = None
    arm_degrees: Array | None = None

    def of_contrast(self, pair: np.ndarray, gradient: Array) -> tuple[Array, Array]:
        """Variance and degrees of freedom of a contrast of two arms with derivative ``gradient`` (..., 2), shape (...) each."""
        inner = self.matrix[..., pair[:, None], pair]
        variance = np.einsum("...a,...ab,...b->...", gradient, inner, gradient)
        if self.arm_degrees is None or self.arm_variances is None:
            return variance, np.full(variance.shape, float(self.degrees_of_freedom))
        parts = gradient**2 * self.arm_variances[..., pair]
        weight = (parts**2 / self.arm_degrees[pair]).sum(axis=-1)
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
    spread = _covariance(predictions)
    cross, own = np.empty(spread.shape), np.empty(spread.shape[:-1])
    for arm in range(len(data.arms)):
        rows = data.arm == arm
        outcome = e[..., rows] + predictions[..., rows, arm]
        joint = _covariance(np.concatenate([outcome[..., None], predictions[..., rows, :]], axis=-1))
        cross[..., arm, :] = joint[..., 0, 1:]
        own[..., arm] = (joint[..., 0, 0] + spread[..., arm, arm] - 2 * cross[..., arm, arm]) / shares[arm]
    matrix = _diagonal(own) + cross + np.swapaxes(cross, -1, -2) - spread
    if randomization == "permuted-block":
        matrix = matrix - _blocked(means)
    if np.any(means.drift):
        full = influence_values(means)
        matrix = matrix + (vcov(full) - vcov(full - drift_influence(means))) / len(data.arm)
    return np.asarray(matrix / len(data.arm))


def _covariance(values: Array) -> Array:
    """Empirical covariance over patients (..., n, k), dividing by n - 1."""
    return np.asarray(vcov(values - values.mean(axis=-2, keepdims=True)) / (values.shape[-2] - 1))


def _diagonal(values: Array) -> Array:
    return np.asarray(values[..., None] * np.eye(values.shape[-1]))


def _blocked(means: ArmMeans) -> Array:
    """Variance that stratified permuted blocks take away, times n, shape (..., K, K)."""
    data, shares = means.data, means.shares
    strata = np.zeros(len(data.arm), dtype=int) if data.strata is None else data.strata
    own = np.eye(len(shares))[data.arm]
    kernel = np.diag(shares) - np.outer(shares, shares)
    removed = np.zeros((*means.estimates.shape, len(shares)))
    for stratum in np.unique(strata):
        rows = (strata == stratum).astype(float)
        bias = (means.residuals * rows) @ own / np.maximum(rows @ own, 1) / shares
        removed = removed + rows.mean(axis=-1)[..., None, None] * bias[..., :, None] * bias[..., None, :] * kernel
    return removed


def _leave_one_out(means: ArmMeans) -> Array:
    """Residuals over one minus leverage, shape (..., n)."""
    return np.asarray(means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None))


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
    data, left = means.data, _leave_one_out(means)
    arms = range(len(data.arms))
    own = np.stack([left[..., data.arm == arm].var(axis=-1, ddof=1) for arm in arms], axis=-1) / data.sizes
    gains = np.stack([_variance_floor(means, left, arm) for arm in arms], axis=-1) if means.counts else np.zeros_like(own)
    matrix = influence_covariance(means, randomization, left) + _diagonal(gains)
    return Covariance(matrix, arm_variances=own + gains, arm_degrees=(data.sizes - 1).astype(float))


def _variance_floor(means: ArmMeans, left: Array, arm: int) -> Array:
    """What the counts' own law adds to an arm's variance, shape (...)."""
    rows, lead = means.data.arm == arm, left.shape[:-1]
    size = int(rows.sum())
    if size > LARGEST_ARM_WITH_FLOOR:
        return np.zeros(lead)
    time = means.data.exposure[..., rows].mean(axis=-1)
    y, covariates = np.atleast_2d(means.data.outcome[..., rows]), means.data.covariates[..., rows, :]
    corrected = y - np.atleast_2d(means.residuals[..., rows] * time[..., None])
    mean = np.clip(corrected, 1e-8 * np.maximum(corrected.mean(axis=1, keepdims=True), 1e-8), None)
    columns = covariates if 2 * (covariates.shape[-1] + 1) < size else covariates[..., :0]
    X = np.concatenate([np.ones((*columns.shape[:-1], 1)), columns], axis=-1)
    alpha = adjusted_alphas(y, mean, np.broadcast_to(X, (len(y), *X.shape[-2:])))[:, None]
    law = (mean + alpha * mean**2).sum(axis=1).reshape(lead) / (size - 1) / time**2
    weight = min(1.0, float(np.sqrt(FULL_WEIGHT / size)))
    return np.asarray(weight * np.maximum(law - left[..., rows].var(axis=-1, ddof=1), 0.0) / size)


def _fixed_covariates(means: ArmMeans, factor: Callable[[Fit], Array]) -> Covariance:
    """Sandwich covariance of the means with covariates held fixed: delta method through coefficients and arm residuals."""
    fit = means.fit
    centred = means.residuals * mean_exposure(means.data)
    values = fit.scores @ fit.inverse_information @ np.swapaxes(means.gradient, -1, -2)
    return Covariance(vcov((values + _own_share(means) * centred[..., None]) * factor(fit)[..., None]))


def _own_share(means: ArmMeans) -> Array:
    """One over the exposure of the patient's arm in the column of that arm, zero elsewhere, shape (..., n, K)."""
    own = np.eye(len(means.data.arms))[means.data.arm]
    return np.asarray(own / (means.data.exposure @ own)[..., None, :])


def _hc0(fit: Fit) -> Array:
    return np.ones(fit.X.shape[-2])


def _hc1(fit: Fit) -> Array:
    n, p = fit.X.shape[-2:]
    return np.full(n, np.sqrt(n / (n - p)))


def _hc2(fit: Fit) -> Array:
    return np.asarray(1 / np.sqrt(np.clip(1 - fit.leverage, 1e-8, None)))


def _hc3(fit: Fit) -> Array:
    return np.asarray(1 / np.clip(1 - fit.leverage, 1e-8, None))


def _sas(fit: Fit) -> Array:
    """Inverse observed information, jointly with the dispersion; residual variance of the linear model divided by n."""
    if fit.family == "negbin":
        return np.asarray(fit.inverse(observed_information(fit))[..., :-1, :-1])
    return np.asarray(fit.inverse_information * _scale(fit, 0))


def _r(fit: Fit) -> Array:
    """Inverse expected information; residual variance of the linear model divided by n - p."""
    return np.asarray(fit.inverse_information * _scale(fit, fit.X.shape[-1]))


def _scale(fit: Fit, lost: int) -> Array:
    """Residual variance of the linear model, divided by n less the degrees of freedom lost; 1 for other families (..., 1, 1)."""
    if fit.family != "linear":
        return np.ones((1, 1))
    return np.asarray(((fit.y - fit.mean) ** 2).sum(axis=-1) / (fit.X.shape[-2] - lost))[..., None, None]


def _model_based(means: ArmMeans, of_coefficients: Callable[[Fit], Array], lost: Callable[[Fit], int]) -> Covariance:
    """Model-based covariance of the means with covariates held fixed."""
    fit, own, scale = means.fit, _own_share(means), _scale(means.fit, lost(means.fit))
    cross = np.swapaxes(fit.X * fit.slope[..., None], -1, -2) @ own * scale
    mixed = means.gradient @ fit.inverse_information @ cross
    alone = _diagonal((scale * fit.variance_function[..., None, :] @ own**2)[..., 0, :])
    through = means.gradient @ of_coefficients(fit) @ np.swapaxes(means.gradient, -1, -2)
    return Covariance(through + mixed + np.swapaxes(mixed, -1, -2) + alone)


def _residual_degrees(fit: Fit) -> float:
    return float(fit.X.shape[-2] - fit.X.shape[-1])


def _normal(_: Fit) -> float:
    return np.inf


def _linear_degrees(fit: Fit) -> float:
    return _residual_degrees(fit) if fit.family == "linear" else np.inf


@dataclass(frozen=True)
class Variance:
    """A named variance: what it is called in print, its functions, its degrees of freedom and what it needs.

    Attributes
    ----------
    printed : str
        ``{scheme}`` becomes the randomisation; what follows "covariates fixed" is left out for coefficients.
    of_means : function of (ArmMeans, randomization)
    of_coefficients : function of Fit, or None where it is for means only
    degrees : function of Fit
    needs_model : bool
        Whether it is meaningless for plain arm means.
    """

    printed: str
    of_means: Callable[[ArmMeans, str], Covariance]
    of_coefficients: Callable[[Fit], Array] | None = None
    degrees: Callable[[Fit], float] = _normal
    needs_model: bool = False


def _influence(means: ArmMeans, randomization: str) -> Covariance:
    return Covariance(influence_covariance(means, randomization))


def _left_out(means: ArmMeans, randomization: str) -> Covariance:
    return Covariance(influence_covariance(means, randomization, _leave_one_out(means)))


def _sandwich(factor: Callable[[Fit], Array], name: str, law: str = "", degrees: Callable[[Fit], float] = _normal) -> Variance:
    """A sandwich whose residuals are multiplied by ``factor``."""
    return Variance(
        f"{name} sandwich, covariates fixed{law}",
        lambda means, _: _fixed_covariates(means, factor),
        lambda fit: vcov(fit.scores * factor(fit)[..., None], fit.inverse_information),
        degrees,
    )


VARIANCES: dict[str, Variance] = {
    "influence": Variance("influence function, {scheme}", _influence),
    "small-sample": Variance("small-sample influence function (arm dispersion, Welch t), {scheme}", small_sample_covariance),
    "leave-one-out": Variance("leave-one-out influence function, {scheme}, normal", _left_out),
    "leave-one-out-t": Variance("leave-one-out influence function, {scheme}, t", _left_out, degrees=_residual_degrees),
    "hc0": _sandwich(_hc0, "HC0"),
    "hc1": _sandwich(_hc1, "HC1"),
    "hc2": _sandwich(_hc2, "HC2"),
    "hc3": _sandwich(_hc3, "HC3"),
    "hc3-t": _sandwich(_hc3, "HC3", ", t", _residual_degrees),
    "model-sas": Variance(
        "model-based, observed information (SAS)",
        lambda means, _: _model_based(means, _sas, lambda fit: 0),
        _sas,
        needs_model=True,
    ),
    "model-r": Variance(
        "model-based, expected information (R)",
        lambda means, _: _model_based(means, _r, lambda fit: fit.X.shape[-1]),
        _r,
        _linear_degrees,
        needs_model=True,
    ),
}
#: Names that also have a meaning for coefficients, and those that need a working model.
OF_COEFFICIENTS = tuple(name for name, variance in VARIANCES.items() if variance.of_coefficients)
MODEL_BASED = tuple(name for name, variance in VARIANCES.items() if variance.needs_model)


def variance_named(name: str) -> Variance:
    """The registered variance; an unknown name is a UsageError that lists the known ones."""
    if name not in VARIANCES:
        raise UsageError(f"`variance`: found {name!r}, expected one of {', '.join(VARIANCES)}")
    return VARIANCES[name]


def means_covariance(means: ArmMeans, variance: str, randomization: str = "simple") -> Covariance:
    """The named covariance of the arms' means; with clusters that of the influence values summed by cluster.

    Raises
    ------
    UsageError
        For a name that is not one of :data:`VARIANCES`.
    """
    cluster = means.data.cluster
    if cluster is not None:
        matrix = vcov(influence_values(means) / len(means.data.arm), cluster=cluster)
        return _between_clusters(matrix, cluster, "influence function")
    chosen = variance_named(variance)
    scheme = "stratified permuted blocks" if randomization == "permuted-block" else "simple randomisation"
    return replace(
        chosen.of_means(means, randomization),
        name=chosen.printed.format(scheme=scheme),
        degrees_of_freedom=chosen.degrees(means.fit),
    )


def coefficient_covariance(fit: Fit, variance: str, cluster: np.ndarray | None = None) -> Covariance:
    r"""The named covariance of the working model's coefficients, shape (..., p, p).

    Parameters
    ----------
    fit : Fit
    variance : str
        ``model-r``: inverse expected information (``vcov(glm.nb)``); ``model-sas``: inverse observed information, jointly with
        the dispersion (PROC GENMOD); ``hc0`` to ``hc3``: sandwich with the expected information as bread, as R's sandwich gives.
    cluster : integer array (n,), optional
        Sums scores by cluster instead, with t on G - 1.

    Raises
    ------
    UsageError
        For a name that has no meaning for coefficients.

    References
    ----------
    MacKinnon and White (1985), Journal of Econometrics 29:305-325; Lawless (1987).

    Examples
    --------
    >>> import numpy as np
    >>> from causalms.stats import fit_model
    >>> fit = fit_model("poisson", np.ones((4, 1)), np.array([1.0, 2, 3, 2]))
    >>> coefficient_covariance(fit, "model-r").matrix.round(6)
    array([[0.125]])
    """
    if cluster is not None:
        return _between_clusters(vcov(fit.scores, fit.inverse_information, cluster), cluster, "sandwich")
    chosen = variance_named(variance)
    if chosen.of_coefficients is None:
        raise UsageError(f"`variance={variance}` is for means; for coefficients use {', '.join(OF_COEFFICIENTS)}")
    name = chosen.printed.replace(", covariates fixed", "")
    return Covariance(chosen.of_coefficients(fit), name, chosen.degrees(fit))


def _between_clusters(matrix: Array, cluster: np.ndarray, kind: str) -> Covariance:
    groups = int(cluster.max()) + 1
    return Covariance(matrix, f"{kind}, clustered ({groups} clusters, t)", groups - 1)
