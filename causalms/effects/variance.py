"""Step 3, the covariance of the arms' means and of coefficients: every named variance, each one function, registered once.

**Where is the variance of a rate ratio computed?**  :func:`means_covariance` looks the name up in :data:`VARIANCES` and calls its
function, which gives the covariance of the arms' means, shape (..., K, K); :meth:`Covariance.of_contrast` turns it into the
variance of a contrast by the delta method.  ``...`` is an optional axis of replicates: the simulations of operating
characteristics call the same functions for thousands of trials at once.

**How is a new one added?**  Write one function of the means (and, where it has a meaning for coefficients, one of the fit), then
add one line to :data:`VARIANCES`.  HC4 (Cribari-Neto 2004), for example, is a residual factor and a line::

    def _hc4(fit: Fit) -> Array:
        relative = fit.X.shape[-2] * fit.leverage / fit.X.shape[-1]
        return np.asarray((1 - fit.leverage) ** (-np.minimum(4, relative) / 2))

    "hc4": _sandwich(_hc4, "HC4"),

and a wholly new one::

    def _naive(means: ArmMeans, randomization: str) -> Covariance:  # influence_values stands in covariance.py
        return Covariance(vcov(influence_values(means) / len(means.data.arm)))

    "naive": Variance("influence values as they are, {scheme}", _naive),

Settings, print-outs and error messages take the name, the words and what the variance can be used for from that line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from causalms.effects.clusters import CLUSTER_VARIANCES, clustered_coefficients, clustered_means
from causalms.effects.covariance import Covariance, diagonal_matrix, influence_covariance, leave_one_out_residuals, vcov
from causalms.effects.means import ArmMeans, mean_exposure
from causalms.effects.permuted_blocks import degrees_within_strata
from causalms.errors import UsageError
from causalms.stats import FULL_WEIGHT, Array, Fit, adjusted_alphas, observed_information

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


def _residual_degrees(fit: Fit) -> float:
    return float(fit.X.shape[-2] - fit.rank)


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

    @property
    def uses_blocks(self) -> bool:
        """Whether the variance depends on how patients were randomised."""
        return "{scheme}" in self.printed


def _influence(means: ArmMeans, randomization: str) -> Covariance:
    return Covariance(influence_covariance(means, randomization))


def _left_out(means: ArmMeans, randomization: str) -> Covariance:
    return Covariance(influence_covariance(means, randomization, leave_one_out_residuals(means)))


def _sandwich(factor: Callable[[Fit], Array], name: str, law: str = "", degrees: Callable[[Fit], float] = _normal) -> Variance:
    """A sandwich whose residuals are multiplied by ``factor``."""
    return Variance(
        f"{name} sandwich, covariates fixed{law}",
        lambda means, _: sandwich_covariance(means, factor),
        lambda fit: vcov(fit.scores * factor(fit)[..., None], fit.inverse_information),
        degrees,
    )


VARIANCES: dict[str, Variance] = {
    "influence": Variance("influence function, {scheme}", _influence),
    "small-sample": Variance("small-sample influence function (arm dispersion, Welch t), {scheme}", small_sample_covariance),
    "leave-one-out": Variance("leave-one-out influence function, {scheme}, normal", _left_out),
    "leave-one-out-t": Variance("leave-one-out influence function, {scheme}, t", _left_out, degrees=_residual_degrees),
    "hc0": _sandwich(hc0_factor, "HC0"),
    "hc1": _sandwich(hc1_factor, "HC1"),
    "hc2": _sandwich(hc2_factor, "HC2"),
    "hc3": _sandwich(hc3_factor, "HC3"),
    "hc3-t": _sandwich(hc3_factor, "HC3", ", t", _residual_degrees),
    "model-sas": Variance(
        "model-based, observed information (SAS)",
        lambda means, _: model_based_covariance(means, observed_inverse, lambda fit: 0),
        observed_inverse,
        needs_model=True,
    ),
    "model-r": Variance(
        "model-based, expected information (R)",
        lambda means, _: model_based_covariance(means, expected_inverse, lambda fit: fit.rank),
        expected_inverse,
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
    """The named covariance of the arms' means; with clusters ``cr1`` or ``cr3`` (default).

    Raises
    ------
    UsageError
        For a name that is not one of :data:`VARIANCES`.
    """
    cluster = means.data.cluster
    if cluster is not None:
        return clustered_means(means, variance if variance in CLUSTER_VARIANCES else "cr3")
    chosen = variance_named(variance)
    degrees: float | Array = chosen.degrees(means.fit)
    printed = chosen.printed
    scheme = "stratified permuted blocks" if randomization == "permuted-block" else "simple randomisation"
    if chosen.uses_blocks and randomization == "permuted-block":
        within = degrees_within_strata(means)
        if np.isfinite(within).any():
            degrees, printed = np.minimum(within, degrees), printed.removesuffix(", normal").removesuffix(", t")
            scheme += f" with small strata (t on {within.min():g} degrees of freedom)"
    return replace(chosen.of_means(means, randomization), name=printed.format(scheme=scheme), degrees_of_freedom=degrees)


def coefficient_covariance(fit: Fit, variance: str, cluster: np.ndarray | None = None) -> Covariance:
    r"""The named covariance of the working model's coefficients, shape (..., p, p).

    Parameters
    ----------
    fit : Fit
    variance : str
        ``model-r``: inverse expected information (``vcov(glm.nb)``); ``model-sas``: inverse observed information, jointly with
        the dispersion (PROC GENMOD); ``hc0`` to ``hc3``: sandwich with the expected information as bread, as R's sandwich gives.
    cluster : integer array (n,), optional
        The sampling unit; ``variance`` is then ``cr1`` (scores summed by cluster, t on G - 1), ``cr2`` (bias-reduced, t on
        Satterthwaite's degrees of freedom; the default) or ``cr3`` (each cluster left out in one step, the same t).

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
        return clustered_coefficients(fit, cluster, variance if variance in CLUSTER_VARIANCES else "cr2")
    chosen = variance_named(variance)
    if chosen.of_coefficients is None:
        raise UsageError(f"`variance={variance}` is for means; for coefficients use {', '.join(OF_COEFFICIENTS)}")
    name = chosen.printed.replace(", covariates fixed", "")
    return Covariance(chosen.of_coefficients(fit), name, chosen.degrees(fit))
