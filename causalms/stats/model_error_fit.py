"""Fit of the hierarchical error model: Laplace's approximation to its posterior, by Newton's method with exact derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalms.errors import ConvergenceError, InputError
from causalms.stats.glm import Array
from causalms.stats.model_error import ColumnSummary, ErrorModel, blocks, terms

_MOST_STEPS = 200
_LARGEST_LOG_MEAN = 12.0


@dataclass(frozen=True)
class Priors:
    r"""Prior standard deviations of the error model, on the log scale of counts.

    Attributes
    ----------
    level, slope, width : float
        Of what all arms share: :math:`b_0`, :math:`s_0`, :math:`w_0`.
    arm_scale, arm_slope_scale, column_scale, trial_scale : float
        Half-normal priors of the unknown standard deviations of :math:`b_a, s_a, g_0, t_j`.
    arm_column, arm_width : float
        Of :math:`g_a` and :math:`w_a`, known: a learned common scale of :math:`g_a` hides the modification of one arm by one
        column.
    log_size : float
        Of :math:`\log k_a` about the generator's own.
    """

    level: float = 1.0
    slope: float = 0.25
    width: float = 0.25
    arm_scale: float = 0.2
    arm_slope_scale: float = 0.1
    column_scale: float = 0.1
    trial_scale: float = 0.1
    arm_column: float = 0.2
    arm_width: float = 0.1
    log_size: float = 0.5


@dataclass(frozen=True)
class HeldOutCounts:
    """What the error model is fitted to: patients whose counts the generator has not seen.

    Attributes
    ----------
    counts : array (n,)
    arm : int array (n,)
        Position among the generator's arms.
    log_expected : array (n, arms)
        The generator's log expected counts under every arm, of the same length of follow-up for all.
    columns : array (n, q)
        Baseline columns; NaN where missing.
    sizes : array (arms,)
        The generator's negative-binomial sizes.
    trial : int array (n,)
        Which trial each patient is of.
    log_exposure : array (n,), optional
        Added to the log expected count: a patient's own follow-up against that length; 0 where left out.
    """

    counts: Array
    arm: np.ndarray
    log_expected: Array
    columns: Array
    sizes: Array
    trial: np.ndarray
    log_exposure: Array | float = 0.0

    def __post_init__(self) -> None:
        n, arms = self.log_expected.shape
        if not (len(self.counts) == len(self.arm) == len(self.columns) == len(self.trial) == n and len(self.sizes) == arms):
            raise InputError(f"error model: {len(self.counts)} counts for log expected counts of shape {self.log_expected.shape}")


@dataclass(frozen=True)
class _Scaled:
    """A block whose effects are an unknown scale times standard normals."""

    block: slice
    half_normal: float


class _Posterior:
    """Log posterior of the error model in Newton's coordinates: (standard normals | natural parameters, log scales).

    Scaled effects are their scale times a standard normal: in natural coordinates the joint density has no mode.
    """

    def __init__(self, data: HeldOutCounts, z: Array, centre: float, priors: Priors) -> None:
        self.data = data
        arms, q = data.log_expected.shape[1], z.shape[1]
        trials = int(data.trial.max()) + 1 if len(data.trial) else 0
        self.at = blocks(arms, q, trials)
        X = terms(data.log_expected, z, data.arm, centre)
        self.X = np.column_stack([X, np.eye(trials)[data.trial]])
        self.offset = data.log_expected[np.arange(len(X)), data.arm] + data.log_exposure
        self.p = self.X.shape[1]
        sd = np.ones(self.p)
        known = {"level": "level", "slope": "slope", "width": "width", "arm_column": "arm_column", "arm_width": "arm_width"}
        for block, name in {**known, "log_size": "log_size"}.items():
            sd[self.at[block]] = getattr(priors, name)
        self.prior_precision = 1 / sd**2
        names = {"arm": "arm_scale", "arm_slope": "arm_slope_scale", "column": "column_scale", "trial": "trial_scale"}
        self.scaled = [_Scaled(self.at[block], getattr(priors, name)) for block, name in names.items()]

    def start(self) -> Array:
        """No error, scales at their priors."""
        return np.concatenate([np.zeros(self.p), np.log([scaled.half_normal for scaled in self.scaled])])

    def natural(self, point: Array) -> tuple[Array, Array]:
        """Parameters (p,) at a point and their Jacobian (p, p + scales)."""
        theta, jacobian = point[: self.p].copy(), np.zeros((self.p, len(point)))
        diagonal = np.ones(self.p)
        for number, scaled in enumerate(self.scaled):
            scale = np.exp(point[self.p + number])
            theta[scaled.block] *= scale
            diagonal[scaled.block] = scale
            jacobian[scaled.block, self.p + number] = theta[scaled.block]
        jacobian[:, : self.p] = np.diag(diagonal)
        return theta, jacobian

    def value(self, point: Array) -> float:
        """Log posterior density up to a constant."""
        from scipy.special import gammaln

        theta, _ = self.natural(point)
        log_mean, k, y = self._law(theta)
        mean = np.exp(log_mean)
        likelihood = gammaln(y + k) - gammaln(k) + k * np.log(k) + y * log_mean - (y + k) * np.log(k + mean)
        log_scales = point[self.p :]
        half = np.array([scaled.half_normal for scaled in self.scaled])
        prior = -0.5 * float(self.prior_precision @ point[: self.p] ** 2)
        return float(likelihood.sum()) + prior + float((log_scales - 0.5 * (np.exp(log_scales) / half) ** 2).sum())

    def gradient(self, point: Array) -> Array:
        """First derivative of :meth:`value`."""
        theta, jacobian = self.natural(point)
        inner = self._first(theta)
        return np.asarray(jacobian.T @ inner + self._prior_slope(point))

    def hessian(self, point: Array) -> Array:
        """Second derivative of :meth:`value`."""
        theta, jacobian = self.natural(point)
        inner = self._first(theta)
        curvature = jacobian.T @ self._second(theta) @ jacobian
        diagonal = np.zeros(len(point))
        diagonal[: self.p] = -self.prior_precision
        for number, scaled in enumerate(self.scaled):
            at = self.p + number
            scale = np.exp(point[at])
            curvature[scaled.block, at] += inner[scaled.block] * scale
            curvature[at, scaled.block] += inner[scaled.block] * scale
            curvature[at, at] += inner[scaled.block] @ theta[scaled.block]
            diagonal[at] = -2 * (scale / scaled.half_normal) ** 2
        return np.asarray(curvature + np.diag(diagonal))

    def _prior_slope(self, point: Array) -> Array:
        half = np.array([scaled.half_normal for scaled in self.scaled])
        scales = 1 - (np.exp(point[self.p :]) / half) ** 2
        return np.concatenate([-self.prior_precision * point[: self.p], scales])

    def _law(self, theta: Array) -> tuple[Array, Array, Array]:
        log_mean = np.clip(self.offset + self.X @ theta, -25.0, _LARGEST_LOG_MEAN)
        k = self.data.sizes[self.data.arm] * np.exp(theta[self.at["log_size"]][self.data.arm])
        return log_mean, k, self.data.counts

    def _first(self, theta: Array) -> Array:
        from scipy.special import digamma

        log_mean, k, y = self._law(theta)
        mean = np.exp(log_mean)
        inner = self.X.T @ ((y - mean) * k / (k + mean))
        by_size = k * (digamma(y + k) - digamma(k) + np.log(k) + 1 - np.log(k + mean) - (y + k) / (k + mean))
        inner[self.at["log_size"]] = np.bincount(self.data.arm, by_size, minlength=len(self.data.sizes))
        return np.asarray(inner)

    def _second(self, theta: Array) -> Array:
        from scipy.special import digamma, polygamma

        log_mean, k, y = self._law(theta)
        mean, arms = np.exp(log_mean), len(self.data.sizes)
        total = k + mean
        second = -(self.X * (mean * k * (k + y) / total**2)[:, None]).T @ self.X
        own = np.eye(arms)[self.data.arm]
        size = self.at["log_size"]
        cross = self.X.T @ (own * (k * (y - mean) * mean / total**2)[:, None])
        second[:, size] += cross
        second[size, :] += cross.T
        slope = digamma(y + k) - digamma(k) + np.log(k) + 1 - np.log(total) - (y + k) / total
        bend = polygamma(1, y + k) - polygamma(1, k) + 1 / k - 1 / total - (mean - y) / total**2
        second[size, size] += np.diag(np.bincount(self.data.arm, k * slope + k**2 * bend, minlength=arms))
        return np.asarray(second)


def fit_error_model(
    data: HeldOutCounts,
    arms: Sequence[str],
    names: Sequence[str],
    how: str = "held-out",
    priors: Priors = Priors(),
) -> ErrorModel:
    """Posterior of a generator's error from patients it has not seen.

    Parameters
    ----------
    data : HeldOutCounts
    arms : sequence of str
        The generator's.
    names : sequence of str
        Of the columns.
    how : {"held-out", "cross-fitted"}
    priors : Priors

    Returns
    -------
    ErrorModel

    Raises
    ------
    ConvergenceError
        If Newton's method does not find a mode.

    References
    ----------
    Tierney and Kadane (1986), JASA 81:82-86, on Laplace's approximation.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> arm, log_expected = rng.integers(0, 2, 2000), np.log([4.0, 1.0]) + rng.normal(0, 0.5, (2000, 1))
    >>> mean = np.exp(log_expected[np.arange(2000), arm] + np.array([0.0, 0.3])[arm])
    >>> data = HeldOutCounts(rng.poisson(mean * rng.gamma(0.5, 2.0, 2000)), arm, log_expected, rng.normal(size=(2000, 1)),
    ...     np.array([0.5, 0.5]), np.zeros(2000, int))
    >>> error = fit_error_model(data, ("placebo", "drug"), ("age",))
    >>> ratio = error.log_ratios(log_expected, data.columns, error.mean[None])[0].mean(axis=0)
    >>> bool(abs(ratio[1] - ratio[0] - 0.3) < 0.2)
    True
    """
    summary = ColumnSummary.of(data.columns, names)
    centre = float(data.log_expected.mean()) if len(data.counts) else 0.0
    posterior = _Posterior(data, summary.standardised(data.columns), centre, priors)
    point = _mode(posterior)
    theta, jacobian = posterior.natural(point)
    covariance = jacobian @ np.linalg.inv(-posterior.hessian(point)) @ jacobian.T
    kept = slice(0, posterior.at["trial"].start)
    return ErrorModel(
        tuple(arms),
        theta[kept],
        (covariance[kept, kept] + covariance[kept, kept].T) / 2,
        np.asarray(data.sizes, float),
        float(np.exp(point[-1])),
        centre,
        summary,
        len(data.counts),
        how,
    )


def _mode(posterior: _Posterior, tolerance: float = 1e-6) -> Array:
    """Newton's method on the absolute Hessian, with the step halved until the density rises."""
    point = posterior.start()
    here = posterior.value(point)
    for _ in range(_MOST_STEPS):
        gradient = posterior.gradient(point)
        values, vectors = np.linalg.eigh(-posterior.hessian(point))
        step = vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-3))
        if gradient @ step < tolerance and values.min() > 0:
            return point
        share = min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        while share > 1e-8 and not (there := posterior.value(point + share * step)) >= here - 1e-10:
            share /= 2
        point, here = point + share * step, there
    raise ConvergenceError("the error model found no posterior mode; check the held-out counts and expected counts for outliers")
