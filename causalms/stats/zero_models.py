r"""Zero-inflated and hurdle regression models of counts, Poisson or negative binomial.

Zero-inflated: :math:`P(0) = \pi + (1-\pi)f(0)`, :math:`P(y) = (1-\pi)f(y)`.  Hurdle: :math:`P(0) = \pi`,
:math:`P(y) = (1-\pi)f(y)/(1-f(0))`.  In both :math:`\log\mu = \log E + x'\beta` and :math:`\mathrm{logit}\,\pi = z'\gamma`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalms.errors import ConvergenceError
from causalms.stats.glm import Array

_STEP = 1e-4  # of the numerical derivatives
_LARGEST_COEFFICIENT = 12.0  # a larger logit coefficient is taken as infinite: no finite fit


@dataclass(frozen=True)
class ZeroModel:
    """A fitted model.

    Attributes
    ----------
    kind : {"zero-inflated", "hurdle"}
    family : {"poisson", "negbin"}
    beta, gamma : array
        Coefficients of the counts and of the zeros.
    alpha : float
        Dispersion; 0 for Poisson.
    log_likelihood, aic : float
    covariance : array
        Of (beta, gamma, log alpha), by the observed information.
    """

    kind: str
    family: str
    beta: Array
    gamma: Array
    alpha: float
    log_likelihood: float
    aic: float
    covariance: Array

    @property
    def parameters(self) -> Array:
        """Coefficients and, of a negative binomial, log alpha."""
        return np.concatenate([self.beta, self.gamma, [np.log(self.alpha)] if self.family == "negbin" else []])

    def means(self, parameters: Array, X: Array, Z: Array) -> Array:
        """Mean count for unit exposure at rows of the two designs."""
        beta, gamma, alpha = _parts(parameters, X.shape[1], Z.shape[1], self.family)
        mu, own = np.exp(X @ beta), 1 / (1 + np.exp(Z @ gamma))
        return np.asarray(own * mu / (-np.expm1(_log_zero(mu, alpha))) if self.kind == "hurdle" else own * mu)


def fit_zero_model(kind: str, family: str, X: Array, Z: Array, y: Array, exposure: Array) -> ZeroModel:
    """Maximum likelihood by BFGS, polished by Newton steps with numerical derivatives.

    Raises
    ------
    ConvergenceError
        No finite maximum: an arm or level without zeros of their own kind.

    References
    ----------
    Zeileis, Kleiber, Jackman (2008), Journal of Statistical Software 27(8).

    Examples
    --------
    >>> y = np.repeat([0.0, 1, 2, 3, 4], [12, 3, 4, 3, 2])
    >>> one = np.ones((24, 1))
    >>> fit = fit_zero_model("hurdle", "poisson", one, one, y, np.ones(24))
    >>> round(float(1 / (1 + np.exp(-fit.gamma[0]))), 4)  # 12 zeros of 24
    0.5
    """
    from scipy import optimize

    start = np.concatenate([np.zeros(X.shape[1] + Z.shape[1]), [0.0] if family == "negbin" else []])
    start[0] = np.log(y[y > 0].mean() / exposure.mean())
    value = _log_likelihood(kind, family, X, Z, y, exposure)
    found = optimize.minimize(lambda at: -value(at), start, method="BFGS", options={"gtol": 1e-6, "maxiter": 1000})
    at = found.x
    for _ in range(20):
        gradient, hessian = _derivatives(value, at)
        if not np.isfinite(hessian).all() or np.linalg.eigvalsh(-hessian)[0] <= 0:
            break
        step = np.linalg.solve(-hessian, gradient)
        at = at + step
        if np.abs(step).max() < 1e-9:
            break
    information = -_derivatives(value, at)[1]
    p, q = X.shape[1], Z.shape[1]
    if (
        np.abs(at[p:]).max() > _LARGEST_COEFFICIENT
        or not np.isfinite(information).all()
        or np.linalg.eigvalsh(information)[0] <= 1e-8
    ):
        raise ConvergenceError(f"the {kind} model has no finite fit: no zeros beyond those of its counts in some arm or level")
    beta, gamma, alpha = _parts(at, p, q, family)
    top = value(at)
    return ZeroModel(kind, family, beta, gamma, alpha, top, 2 * (len(at) - top), np.asarray(np.linalg.inv(information)))


def _parts(parameters: Array, p: int, q: int, family: str) -> tuple[Array, Array, float]:
    return parameters[:p], parameters[p : p + q], float(np.exp(parameters[-1])) if family == "negbin" else 0.0


def _log_zero(mu: Array, alpha: float) -> Array:
    """Log probability of no event."""
    return np.asarray(-mu if alpha == 0 else -np.log1p(alpha * mu) / alpha)


def _log_likelihood(kind: str, family: str, X: Array, Z: Array, y: Array, exposure: Array) -> Callable[[Array], float]:
    from scipy.special import gammaln

    zero = y == 0

    def value(parameters: Array) -> float:
        beta, gamma, alpha = _parts(parameters, X.shape[1], Z.shape[1], family)
        eta, zeta = np.clip(X @ beta + np.log(exposure), -50, 50), Z @ gamma
        mu = np.exp(eta)
        log_zero, log_own, log_no = _log_zero(mu, alpha), -np.logaddexp(0, -zeta), -np.logaddexp(0, zeta)
        if alpha == 0:
            log_pmf = y * eta - mu - gammaln(y + 1)
        else:
            size = 1 / alpha
            log_pmf = (
                gammaln(y + size) - gammaln(size) - gammaln(y + 1) + y * (eta + np.log(alpha)) - (y + size) * np.log1p(alpha * mu)
            )
        if kind == "hurdle":
            terms = np.where(zero, log_own, log_no + log_pmf - np.log(-np.expm1(log_zero)))
        else:
            terms = np.where(zero, np.logaddexp(log_own, log_no + log_zero), log_no + log_pmf)
        return float(terms.sum())

    return value


def _derivatives(value: Callable[[Array], float], at: Array) -> tuple[Array, Array]:
    """Gradient and second derivatives by central differences of fourth and second order."""
    size, step = len(at), _STEP * (1 + np.abs(at))
    unit = np.eye(size) * step
    gradient = np.array(
        [(8 * (value(at + e) - value(at - e)) - value(at + 2 * e) + value(at - 2 * e)) / (12 * e.sum()) for e in unit]
    )
    hessian = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            a, b = unit[i], unit[j]
            second = value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)
            hessian[i, j] = hessian[j, i] = second / (4 * step[i] * step[j])
    return gradient, hessian
