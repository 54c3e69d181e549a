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

from causalms.effects import fixed_covariates as fixed
from causalms.effects.clusters import CLUSTER_VARIANCES, clustered_coefficients, clustered_means
from causalms.effects.covariance import Covariance, influence_covariance, leave_one_out_residuals, vcov
from causalms.effects.means import ArmMeans
from causalms.effects.permuted_blocks import degrees_within_strata
from causalms.effects.small_sample import small_sample_covariance
from causalms.errors import UsageError
from causalms.stats import Array, Fit


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
        lambda means, _: fixed.sandwich_covariance(means, factor),
        lambda fit: vcov(fit.scores * factor(fit)[..., None], fit.inverse_information),
        degrees,
    )


VARIANCES: dict[str, Variance] = {
    "influence": Variance("influence function, {scheme}", _influence),
    "small-sample": Variance("small-sample influence function (arm dispersion, Welch t), {scheme}", small_sample_covariance),
    "leave-one-out": Variance("leave-one-out influence function, {scheme}, normal", _left_out),
    "leave-one-out-t": Variance("leave-one-out influence function, {scheme}, t", _left_out, degrees=_residual_degrees),
    "hc0": _sandwich(fixed.hc0_factor, "HC0"),
    "hc1": _sandwich(fixed.hc1_factor, "HC1"),
    "hc2": _sandwich(fixed.hc2_factor, "HC2"),
    "hc3": _sandwich(fixed.hc3_factor, "HC3"),
    "hc3-t": _sandwich(fixed.hc3_factor, "HC3", ", t", _residual_degrees),
    "model-sas": Variance(
        "model-based, observed information (SAS)",
        lambda means, _: fixed.model_based_covariance(means, fixed.observed_inverse, lambda fit: 0),
        fixed.observed_inverse,
        needs_model=True,
    ),
    "model-r": Variance(
        "model-based, expected information (R)",
        lambda means, _: fixed.model_based_covariance(means, fixed.expected_inverse, lambda fit: fit.rank),
        fixed.expected_inverse,
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
