"""Fit of the hierarchical error model: parameters by Laplace's approximation, their unknown scales integrated out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from causalms.errors import ConvergenceError, InputError
from causalms.stats.glm import Array
from causalms.stats.model_error import ColumnSummary, ErrorModel, about_mean_lesion, blocks, terms

_MOST_STEPS = 200
_LARGEST_LOG_MEAN = 12.0
#: Blocks of parameters whose prior standard deviation is known, and those that share an unknown one, with its name in the priors.
_KNOWN = ("level", "slope", "width", "arm_column", "arm_width", "log_size")
_SCALED = {"arm": "arm_scale", "arm_slope": "arm_slope_scale", "column": "column_scale", "trial": "trial_scale"}
#: Least curvature of the log posterior of a log scale that is believed: standard deviation 1.
_FLATTEST = 1.0


@dataclass(frozen=True)
class Priors:
    r"""Prior standard deviations of the error model, on the log scale of counts.

    Attributes
    ----------
    level, slope, width : float
        Of what all arms share: :math:`b_0`, :math:`s_0`, :math:`w_0`.
    arm_scale, arm_slope_scale, column_scale, trial_scale : float
        Half-normal priors of the unknown standard deviations of :math:`b_a, s_a, g_0, t_j`.
    arm_cross_fitted : float
        Of :math:`b_a`, known, where predictions are cross-fitted: all folds together have the levels of their own counts, so that
        :math:`b_a` is near 0 whatever the error of the levels, and a scale learned from it would be too small.
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
    arm_cross_fitted: float = 1.0
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


class Likelihood:
    r"""Likelihood of held-out counts in the parameters of the error model, and its mode under a normal prior."""

    def __init__(self, data: HeldOutCounts, z: Array, centre: float, moved: Array | None = None) -> None:
        from scipy.sparse import csr_array

        n, arms = data.log_expected.shape
        trials = int(data.trial.max()) + 1 if n else 0
        self.data, self.at = data, blocks(arms, z.shape[1], trials)
        kept = self.at["trial"].start
        self.X = terms(data.log_expected, z, data.arm, centre)[:, :kept]
        if moved is not None:
            self.X = self.X @ moved
        self.of_trial = csr_array((np.ones(n), (np.arange(n), data.trial)), shape=(n, trials))
        self.offset = data.log_expected[np.arange(n), data.arm] + data.log_exposure
        self.p = kept + trials
        self.own = np.eye(arms)[data.arm]

    def log_likelihood(self, theta: Array) -> float:
        """Of the observed counts, up to a constant."""
        from scipy.special import gammaln

        log_mean, k, y = self._law(theta)
        total = np.log(k + np.exp(log_mean))
        return float((gammaln(y + k) - gammaln(k) + k * np.log(k) + y * log_mean - (y + k) * total).sum())

    def mode(self, precision: Array, prior: Array, start: Array, tolerance: float = 1e-8) -> tuple[Array, Array]:
        """Mode (p,) under a normal prior, and the negative Hessian (p, p) there, by Newton's method with the step halved.

        Raises
        ------
        ConvergenceError
            If no mode is reached.
        """
        theta, here = start, self.log_posterior(start, precision, prior)
        for _ in range(_MOST_STEPS):
            gradient, curvature = self.derivatives(theta)
            gradient, curvature = gradient - precision @ (theta - prior), curvature + precision
            step = _uphill(curvature, gradient)
            if gradient @ step < tolerance:
                return theta, curvature
            share = min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
            while share > 1e-8 and not (there := self.log_posterior(theta + share * step, precision, prior)) >= here - 1e-10:
                share /= 2
            theta, here = theta + share * step, there
        raise ConvergenceError(
            "the error model found no posterior mode; check the held-out counts and expected counts for outliers"
        )

    def log_posterior(self, theta: Array, precision: Array, prior: Array) -> float:
        """Under a normal prior with that precision (p, p) and mean (p,), up to a constant."""
        return self.log_likelihood(theta) - 0.5 * float((theta - prior) @ precision @ (theta - prior))

    def _law(self, theta: Array) -> tuple[Array, Array, Array]:
        kept = self.at["trial"].start
        linear = self.offset + self.X @ theta[:kept] + self.of_trial @ theta[kept:]
        k = self.data.sizes[self.data.arm] * np.exp(theta[self.at["log_size"]][self.data.arm])
        return np.clip(linear, -25.0, _LARGEST_LOG_MEAN), k, self.data.counts

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Gradient (p,) and negative Hessian (p, p) of the log likelihood."""
        from scipy.special import digamma, polygamma

        log_mean, k, y = self._law(theta)
        mean, arms, kept, size = np.exp(log_mean), len(self.data.sizes), self.at["trial"].start, self.at["log_size"]
        total = k + mean
        slope = (y - mean) * k / total
        by_size = digamma(y + k) - digamma(k) + np.log(k) + 1 - np.log(total) - (y + k) / total
        gradient = np.concatenate([self.X.T @ slope, self.of_trial.T @ slope])
        gradient[size] = np.bincount(self.data.arm, k * by_size, minlength=arms)
        weight = mean * k * (k + y) / total**2
        weighted = self.X * weight[:, None]
        second = np.zeros((self.p, self.p))
        second[:kept, :kept] = self.X.T @ weighted
        second[kept:, :kept] = self.of_trial.T @ weighted
        second[kept:, kept:] = np.diag(self.of_trial.T @ weight)
        cross = self.own * (k * (y - mean) * mean / total**2)[:, None]
        second[size, :kept] -= cross.T @ self.X
        second[:kept, size] -= self.X.T @ cross
        second[kept:, size] = -(self.of_trial.T @ cross)
        second[:kept, kept:] = second[kept:, :kept].T
        bend = polygamma(1, y + k) - polygamma(1, k) + 1 / k - 1 / total - (mean - y) / total**2
        second[size, size] -= np.diag(np.bincount(self.data.arm, k * by_size + k**2 * bend, minlength=arms))
        return gradient, second


class _Posterior:
    r"""Log posterior of the parameters given the scales, and of the scales with the parameters integrated out by Laplace.

    With parameters :math:`\theta`, prior precision :math:`P(\tau)` and observed information :math:`H` at the mode,

    .. math::
        \log p(\tau\mid y) = \ell(\hat\theta_\tau) - \tfrac12\hat\theta_\tau'P\hat\theta_\tau
        + \tfrac12\log|P| - \tfrac12\log|H + P| + \log p(\tau).

    The joint mode of scales and standardised effects is no estimate of a scale: the more effects share one, the larger it is.
    """

    def __init__(self, data: HeldOutCounts, z: Array, centre: float, priors: Priors, *, cross_fitted: bool) -> None:
        self.moved = about_mean_lesion(data.log_expected, z, centre)
        self.likelihood = Likelihood(data, z, centre, self.moved)
        self.at, self.p = self.likelihood.at, self.likelihood.p
        self.known = np.zeros(self.p)
        for block in _KNOWN:
            self.known[self.at[block]] = getattr(priors, block) ** -2
        self.scaled = dict(_SCALED)
        if cross_fitted:
            del self.scaled["arm"]
            self.known[self.at["arm"]] = priors.arm_cross_fitted**-2
        self.half_normal = np.array([getattr(priors, name) for name in self.scaled.values()])

    def precision(self, log_scales: Array) -> Array:
        """Prior precisions (p,) of the parameters, the scales given."""
        precision = self.known.copy()
        for block, log_scale in zip(self.scaled, log_scales, strict=True):
            precision[self.at[block]] = np.exp(-2 * log_scale)
        return precision

    def log_marginal(self, log_scales: Array, start: Array) -> tuple[float, Array, Array]:
        """Log posterior density of the log scales up to a constant; mode and negative Hessian of the parameters there."""
        precision, nought = self.precision(log_scales), np.zeros(self.p)
        theta, curvature = self.likelihood.mode(np.diag(precision), nought, start)
        half_normal = float((log_scales - 0.5 * (np.exp(log_scales) / self.half_normal) ** 2).sum())
        volume = 0.5 * float(np.log(precision).sum() - np.linalg.slogdet(curvature)[1])
        return self.likelihood.log_posterior(theta, np.diag(precision), nought) + volume + half_normal, theta, curvature


def _uphill(curvature: Array, gradient: Array) -> Array:
    """Newton's step; on the absolute curvature where that is not positive, so that a saddle is left uphill."""
    try:
        root = np.linalg.cholesky(curvature)
        return np.asarray(np.linalg.solve(root.T, np.linalg.solve(root, gradient)))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(curvature)
        return np.asarray(vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-3)))


@dataclass(frozen=True)
class _Scales:
    """Posterior of the log scales: points of equal weight with their mean and covariance (cubature of degree 3)."""

    points: Array
    conditional: list[tuple[Array, Array]]

    @classmethod
    def of(cls, posterior: _Posterior) -> _Scales:
        from scipy.optimize import minimize

        near = np.zeros(posterior.p)

        def cost(log_scales: Array) -> float:
            nonlocal near
            value, near, _ = posterior.log_marginal(log_scales, near)
            return -value

        bounds = [(np.log(half) - 5.0, np.log(half) + 1.5) for half in posterior.half_normal]
        start = np.log(posterior.half_normal) - 0.5
        best = minimize(cost, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-6, "eps": 0.02, "maxiter": 60}).x
        bend = _second_differences(cost, best, 0.3)
        values, vectors = np.linalg.eigh(bend)
        spread = vectors / np.sqrt(np.maximum(values, _FLATTEST))
        offsets = np.sqrt(len(best)) * np.concatenate([spread.T, -spread.T])
        points = np.clip(best + offsets, [low for low, _ in bounds], [high for _, high in bounds])
        conditional = []
        for point in points:
            _, near, curvature = posterior.log_marginal(point, near)
            conditional.append((near, np.asarray(np.linalg.inv(curvature), float)))
        return cls(points, conditional)

    def moments(self) -> tuple[Array, Array]:
        """Mean (p,) and covariance (p, p) of the parameters, the scales integrated out."""
        means = np.array([mean for mean, _ in self.conditional])
        within = np.mean([covariance for _, covariance in self.conditional], axis=0)
        centred = means - means.mean(axis=0)
        covariance = within + centred.T @ centred / len(means)
        return means.mean(axis=0), (covariance + covariance.T) / 2


def _second_differences(cost: Callable[[Array], float], at: Array, step: float) -> Array:
    """Second derivatives of a function by central differences."""
    steps = step * np.eye(len(at))
    here, second = cost(at), np.empty((len(at), len(at)))
    up, down = [cost(at + move) for move in steps], [cost(at - move) for move in steps]
    for i, j in product(range(len(at)), repeat=2):
        if i == j:
            second[i, i] = (up[i] - 2 * here + down[i]) / step**2
        elif i < j:
            both = cost(at + steps[i] + steps[j]) + cost(at - steps[i] - steps[j])
            second[i, j] = second[j, i] = (both - up[i] - up[j] - down[i] - down[j] + 2 * here) / (2 * step**2)
    return second


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
    Tierney and Kadane (1986), JASA 81:82-86, and Rue, Martino and Chopin (2009), JRSS B 71:319-392, on nested Laplace
    approximation.

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
    posterior = _Posterior(data, summary.standardised(data.columns), centre, priors, cross_fitted=how == "cross-fitted")
    scales = _Scales.of(posterior)
    mean, covariance = scales.moments()
    kept = slice(0, posterior.at["trial"].start)
    moved = posterior.moved
    return ErrorModel(
        tuple(arms),
        moved @ mean[kept],
        moved @ covariance[kept, kept] @ moved.T,
        np.asarray(data.sizes, float),
        float(np.sqrt(np.mean(np.exp(2 * scales.points[:, list(posterior.scaled).index("trial")])))),
        centre,
        summary,
        len(data.counts),
        how,
    )
