"""First stage of training: a penalised negative-binomial regression of counts on columns and image features.

With baseline columns ``x``, image features ``f``, modifiers ``m`` (age and Gd lesions), arm ``a`` and share of follow-up ``G``

    Y ~ NB(mu, k),   log mu = b_a + x.beta + f.phi + m.gamma_a + log G
    beta ~ N(0, s_x^2),   phi ~ N(0, s_f^2),   gamma_a ~ N(0, s_m^2)

all standardised; levels ``b_a`` have a wide prior.  The three standard deviations and the size ``k`` are those of the largest
posterior density, the parameters integrated out by Laplace's approximation (empirical Bayes; MacKay, 1992, Neural Computation
4:415-447) under weak log-normal priors of the standard deviations, which matter below a thousand patients.
A log rate that is known from elsewhere, linear in columns and features, may be one more column; its one weight has a wide prior,
and what it says is added to ``beta`` and ``phi``.
Convex in the parameters, it takes a second for thousands of patients, and so few counts are not spent on free weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import optimize, special

from causalms.errors import ConvergenceError
from causalms.generator.network import Network
from causalms.stats import Array

#: Prior standard deviations of a level about the overall rate, and of the weight of a known log rate (standardised).
_LEVEL_SD, _KNOWN_SD = 2.0, 1.0
#: Group of the design's columns that are a known log rate.
_KNOWN = 4
_LARGEST_LOG_MEAN = 12.0
#: Priors of the standard deviations of columns, features and modification: median, and standard deviation of the logarithm.  The
#: medians let nine columns explain .6 of a patient's log rate together, 65 features .5, and leave arms alike for all.
_MEDIANS, _LOG_SDS = (0.20, 0.06, 0.05), (0.7, 0.7, 1.0)
#: Logs of these standard deviations and of the size: where the search starts, and its bounds.
_START = (-1.6, -2.8, -3.0, -0.7)
_BOUNDS = ((-5.0, 1.0), (-6.0, 0.0), (-6.0, 0.0), (-3.0, 3.0))


@dataclass(frozen=True)
class FirstStageData:
    """What the first stage is fitted to, one entry a patient.

    Attributes
    ----------
    counts : array (n,)
    arm : int array (n,)
    columns, features, modifiers : array (n, q), (n, f), (n, m)
        Standardised.
    log_share : array (n,)
        Log of the share of follow-up, and of what else the mean is multiplied by.
    known : array (q + f,), optional
        Weights of columns and features in a log rate that is known from elsewhere.
    """

    counts: Array
    arm: np.ndarray
    columns: Array
    features: Array
    modifiers: Array
    log_share: Array
    known: Array | None = None

    def rows(self, chosen: np.ndarray) -> FirstStageData:
        """Some of the patients."""
        of_patients = ("counts", "arm", "columns", "features", "modifiers", "log_share")
        return replace(self, **{name: getattr(self, name)[chosen] for name in of_patients})

    def design(self, arms: int) -> tuple[Array, list[int]]:
        """Design matrix (n, p): levels, columns, features, modifiers by arm; and the group of every column of it."""
        own = np.eye(arms)[self.arm]
        modified = (own[:, :, None] * self.modifiers[:, None, :]).reshape(len(own), -1)
        parts = [own, self.columns, self.features, modified]
        return np.column_stack(parts), [group for group, part in enumerate(parts) for _ in range(part.shape[1])]

    def known_rate(self, arms: int) -> Array:
        """Parameters (p, 1) that make the design the known log rate, standardised over the patients; (p, 0) without one."""
        p = arms + self.columns.shape[1] + self.features.shape[1] + arms * self.modifiers.shape[1]
        if self.known is None:
            return np.zeros((p, 0))
        rate = np.column_stack([self.columns, self.features]) @ self.known
        if not rate.std():
            return np.zeros((p, 0))
        weights = np.concatenate([np.full(arms, -rate.mean()), self.known, np.zeros(arms * self.modifiers.shape[1])])
        return np.asarray(weights[:, None] / rate.std())


@dataclass(frozen=True)
class FirstStage:
    """Fitted first stage.

    Attributes
    ----------
    level : array (arms,)
    columns, features : array (q,), (f,)
    modification : array (arms, m)
    size : float
        Negative-binomial size.
    prior_sd : dict of str to float
        Of columns, features and modification, by evidence.
    covariance : array (p, p)
        Posterior covariance of levels, columns, features and modification, by Laplace's approximation.
    """

    level: Array
    columns: Array
    features: Array
    modification: Array
    size: float
    prior_sd: dict[str, float]
    covariance: Array = field(repr=False)

    def variance(self, data: FirstStageData) -> Array:
        """Posterior variance (n,) of the log expected count of every patient under the own arm."""
        rows, _ = data.design(len(self.level))
        return np.asarray(((rows @ self.covariance) * rows).sum(axis=1))

    def log_mean(self, data: FirstStageData) -> Array:
        """Log expected count (n,) of every patient under the own arm."""
        patient = data.columns @ self.columns + data.features @ self.features
        return np.asarray(
            self.level[data.arm] + patient + (data.modifiers * self.modification[data.arm]).sum(axis=1) + data.log_share
        )


class _Evidence:
    """How well prior standard deviations and a size explain the counts, by Laplace; keeps its mode to start from."""

    def __init__(self, data: FirstStageData, arms: int) -> None:
        self.counts = data.counts
        X, group = data.design(arms)
        known = data.known_rate(arms)
        self.folded = np.column_stack([np.eye(X.shape[1]), known])  # parameters of the design, of those and the known rate's
        self.X, self.group = np.column_stack([X, X @ known]), np.array([*group, *[_KNOWN] * known.shape[1]])
        self.start = np.zeros(self.X.shape[1])
        rate = np.log((data.counts.sum() + 0.5) / np.exp(data.log_share).sum())
        self.offset = data.log_share + rate
        self.rate = float(rate)

    def precision(self, logs: Array) -> Array:
        """Prior precision (p,)."""
        return np.asarray(np.exp(-2 * np.concatenate([[np.log(_LEVEL_SD)], logs[:3], [np.log(_KNOWN_SD)]]))[self.group])

    def mode(self, precision: Array, size: float) -> tuple[Array, Array]:
        """Posterior mode (p,) and negative Hessian (p, p), by Newton's method with halved steps.

        Raises
        ------
        ConvergenceError
            If 200 steps do not reach it.
        """
        beta = self.start
        here = self._log_posterior(beta, precision, size)
        for _ in range(200):
            mean = np.exp(np.minimum(self.offset + self.X @ beta, _LARGEST_LOG_MEAN))
            gradient = self.X.T @ ((self.counts - mean) * size / (size + mean)) - precision * beta
            weight = mean * size * (size + self.counts) / (size + mean) ** 2
            curvature = (self.X * weight[:, None]).T @ self.X + np.diag(precision)
            step = np.linalg.solve(curvature, gradient)
            if gradient @ step < 1e-9:
                self.start = beta
                return beta, curvature
            share = min(1.0, 3.0 / float(np.abs(self.X @ step).max()))
            while share > 1e-8 and (there := self._log_posterior(beta + share * step, precision, size)) < here - 1e-9:
                share /= 2
            beta, here = beta + share * step, there
        raise ConvergenceError("the readout of counts did not converge; look for outliers among the counts")

    def _log_posterior(self, beta: Array, precision: Array, size: float) -> float:
        y, eta = self.counts, np.minimum(self.offset + self.X @ beta, _LARGEST_LOG_MEAN)
        total = y * (eta - np.log(size)) - (y + size) * np.log1p(np.exp(eta) / size)
        return float(total.sum() + (special.gammaln(y + size) - special.gammaln(size)).sum() - 0.5 * (precision * beta**2).sum())

    def cost(self, logs: Array) -> float:
        """Minus the log posterior density of the log standard deviations and the log size, up to a constant."""
        precision, size = self.precision(logs), float(np.exp(logs[3]))
        beta, curvature = self.mode(precision, size)
        volume = 0.5 * (np.log(precision).sum() - np.linalg.slogdet(curvature)[1])
        unlikely = 0.5 * float((((logs[:3] - np.log(_MEDIANS)) / _LOG_SDS) ** 2).sum())
        return unlikely - self._log_posterior(beta, precision, size) - float(volume)


def fit_first_stage(data: FirstStageData, arms: int, like: FirstStage | None = None) -> FirstStage:
    """First stage of the largest evidence.

    Parameters
    ----------
    data : FirstStageData
    arms : int
    like : FirstStage, optional
        Of which prior standard deviations and size are taken over.

    Raises
    ------
    ConvergenceError
        If Newton's method does not reach a mode.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> arm, x, f = rng.integers(0, 2, 1000), rng.normal(size=(1000, 2)), rng.normal(size=(1000, 20))
    >>> mean = np.exp(1 - 0.8 * arm + 0.5 * x[:, 0] + 0.3 * f[:, 0])
    >>> data = FirstStageData(rng.poisson(mean * rng.gamma(1, 1, 1000)), arm, x, f, x[:, :1], np.zeros(1000))
    >>> fit = fit_first_stage(data, 2)
    >>> float(np.diff(fit.level)[0].round(1)), fit.columns.round(1).tolist()
    (-0.9, [0.5, -0.0])
    """
    evidence = _Evidence(data, arms)
    if like is not None:
        logs = np.log([*like.prior_sd.values(), like.size])
    else:
        options = {"eps": 1e-3, "ftol": 1e-7}
        logs = optimize.minimize(evidence.cost, np.array(_START), method="L-BFGS-B", bounds=_BOUNDS, options=options).x
    fitted, curvature = evidence.mode(evidence.precision(logs), float(np.exp(logs[3])))
    beta, covariance = evidence.folded @ fitted, evidence.folded @ np.linalg.inv(curvature) @ evidence.folded.T
    ends = np.cumsum([arms, data.columns.shape[1], data.features.shape[1]])
    level, columns, features, modified = np.split(beta, ends)
    names = ("columns", "features", "modification")
    sds = {name: float(np.exp(value)) for name, value in zip(names, logs[:3], strict=True)}
    size = float(np.exp(logs[3]))
    return FirstStage(level + evidence.rate, columns, features, modified.reshape(arms, -1), size, sds, covariance)


@torch.no_grad()
def write_first_stage(network: Network, fit: FirstStage) -> None:
    """Put a first stage into the network's rate, levels, modification and size."""
    rate, risk = network.encoder.linear_rate, network.risk
    rate.weight.copy_(torch.from_numpy(np.concatenate([fit.columns, fit.features])[None]))
    risk.intercept.fill_(float(fit.level.mean()))
    risk.effect.copy_(torch.from_numpy(fit.level - fit.level.mean()))
    risk.interaction.copy_(torch.from_numpy(fit.modification))
    risk.log_size.fill_(float(np.log(fit.size)))
    risk.log_size_arm.zero_()
