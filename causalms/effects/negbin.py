"""The negative-binomial model: Newton on (coefficients, log alpha), with an explicit Poisson boundary."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from causalms.effects.models import Array, Fit, fit_model, newton_step
from causalms.errors import ConvergenceError

_ITERATIONS = 200
_TOLERANCE = 1e-10
_LONGEST_SUM = 200_000
_LOG_ALPHA_RANGE = (-25.0, 12.0)


@dataclass(frozen=True)
class CountTail:
    """How many patients have more than j events, for j = 0, 1, ...: the data's part of the alpha likelihood.

    Because ``log Gamma(y + 1/alpha) - log Gamma(1/alpha)`` is a sum over j < y of ``log(1/alpha + j)``, sums over patients are
    sums over j of these counts; they stay exact as alpha goes to 0, where differences of gamma functions lose every digit.
    """

    j: Array
    more: Array

    @classmethod
    def of(cls, y: Array) -> CountTail:
        """Build from counts; above 200,000 events the sum is taken over bins of j, whose width is far below any mean."""
        largest = int(y.max())
        j = (
            np.arange(largest, dtype=float)
            if largest <= _LONGEST_SUM
            else np.unique(np.geomspace(1, largest, _LONGEST_SUM).round()) - 1
        )
        more = len(y) - np.searchsorted(np.sort(y), j, side="right")
        width = np.diff(np.append(j, largest)) if largest > _LONGEST_SUM else np.ones(len(j))
        return cls(j + (width - 1) / 2, more * width)

    def value(self, alpha: float) -> float:
        """Sum over patients and j < y of log(1 + alpha j)."""
        return float(self.more @ np.log1p(alpha * self.j))

    def slope(self, alpha: float) -> float:
        """First derivative of :meth:`value` by alpha."""
        return float(self.more @ (self.j / (1 + alpha * self.j)))

    def curvature(self, alpha: float) -> float:
        """Second derivative of :meth:`value` by alpha."""
        return float(-self.more @ (self.j / (1 + alpha * self.j)) ** 2)


def fit_negbin(X: Array, y: Array, exposure: Array) -> Fit:
    r"""Joint maximum likelihood of the negative-binomial regression (NB2, log link).

    .. math:: \mathrm{Var}(Y) = \mu + \alpha \mu^2, \qquad \log\mu = \log(\mathrm{exposure}) + x'\beta

    When the score of alpha at zero, :math:`\tfrac12\sum (y-\mu)^2 - y`, is not positive, the maximum is the Poisson model: the
    fit then has ``alpha = 0`` and ``at_poisson_boundary = True``.

    Parameters
    ----------
    X : array (n, p)
    y : array (n,)
        Whole counts.
    exposure : array (n,)
        Time at risk.

    Returns
    -------
    Fit

    Raises
    ------
    RefusalError
        All counts are zero.
    ConvergenceError
        No maximum was reached.

    References
    ----------
    Lawless (1987), Canadian Journal of Statistics 15:209-225.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    >>> fit = fit_negbin(X, np.array([0.0, 3, 12, 0, 1, 5]), np.ones(6))
    >>> np.exp(fit.coefficients).round(6), fit.alpha > 0
    (array([5. , 0.4]), True)
    """
    fit = replace(fit_model("poisson", X, y, exposure), family="negbin")
    excess = ((fit.y - fit.mean) ** 2 - fit.y).sum() / 2
    if excess <= 0:
        return replace(fit, at_poisson_boundary=True)
    tail = CountTail.of(fit.y)
    log_alpha = np.log(max(2 * excess / (fit.mean**2).sum(), 1e-4))
    fit = replace(fit, alpha=float(np.exp(log_alpha)))
    value = log_likelihood(fit, tail)
    for _ in range(_ITERATIONS):
        gradient, curvature = _derivatives(fit, tail)
        step = _ascent(curvature, gradient)
        step *= min(1.0, 3.0 / max(np.abs(step).max(), 1e-300))
        for halving in range(40):
            moved = step / 2**halving
            new_log_alpha = float(np.clip(np.log(fit.alpha) + moved[-1], *_LOG_ALPHA_RANGE))
            candidate = replace(fit, coefficients=fit.coefficients + moved[:-1], alpha=float(np.exp(new_log_alpha)))
            new_value = log_likelihood(candidate, tail)
            if new_value >= value - 1e-10 * (1 + abs(value)):
                break
        fit, value = candidate, new_value
        if np.log(fit.alpha) <= _LOG_ALPHA_RANGE[0]:
            return replace(fit_model("poisson", X, y, exposure), family="negbin", at_poisson_boundary=True)
        if np.abs(step).max() < _TOLERANCE * (1 + np.abs(fit.coefficients).max()):
            return fit
    raise ConvergenceError(
        "the negative-binomial working model did not converge; use the Poisson working model or fewer covariates"
    )


def log_likelihood(fit: Fit, tail: CountTail | None = None) -> float:
    """Full negative-binomial (or Poisson, at alpha = 0) log likelihood, constants included.

    Examples
    --------
    >>> import numpy as np
    >>> fit = Fit("negbin", np.ones((1, 1)), np.array([2.0]), np.ones(1), np.array([np.log(2.0)]), alpha=0.0)
    >>> round(log_likelihood(fit), 6)
    -1.306853
    """
    from scipy.special import gammaln

    mean, alpha, y = fit.mean, fit.alpha, fit.y
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mean = np.log(fit.exposure) + np.clip(fit.X @ fit.coefficients, -700, 700)
    constant = float(y @ log_mean - gammaln(y + 1).sum())
    if alpha == 0:
        return constant - float(mean.sum())
    tail = CountTail.of(y) if tail is None else tail
    return constant + tail.value(alpha) - float(((y + 1 / alpha) * np.log1p(alpha * mean)).sum())


def observed_information(fit: Fit) -> Array:
    """Negative second derivatives of the log likelihood by (coefficients, alpha), shape (p + 1, p + 1)."""
    return _information(fit, -_alpha_derivatives(fit, CountTail.of(fit.y))[1])


def _alpha_derivatives(fit: Fit, tail: CountTail) -> tuple[float, float]:
    """First and second derivative of the log likelihood by alpha."""
    mean, alpha, y = fit.mean, fit.alpha, fit.y
    x = alpha * mean
    first = mean**2 * log_remainder(x) - y * mean / (1 + x)
    second = mean**3 * log_remainder_slope(x) + y * (mean / (1 + x)) ** 2
    return float(first.sum()) + tail.slope(alpha), float(second.sum()) + tail.curvature(alpha)


def log_remainder(x: Array) -> Array:
    """(log(1 + x) - x / (1 + x)) / x^2 without cancellation near zero."""
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    series = 0.5 - x * (2 / 3 - x * (3 / 4 - x * (4 / 5 - x * 5 / 6)))
    return np.where(small, series, (np.log1p(safe) - safe / (1 + safe)) / safe**2)


def log_remainder_slope(x: Array, remainder: Array | None = None) -> Array:
    """Derivative of :func:`log_remainder`, which may be handed over where it is known."""
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    series = -2 / 3 + x * (3 / 2 - x * (12 / 5 - x * 10 / 3))
    remainder = log_remainder(x) if remainder is None else remainder
    return np.where(small, series, 1 / (safe * (1 + safe) ** 2) - 2 * remainder / safe)


def _derivatives(fit: Fit, tail: CountTail) -> tuple[Array, Array]:
    """Gradient and second derivatives by (coefficients, log alpha)."""
    first, second = _alpha_derivatives(fit, tail)
    information = _information(fit, -second)
    scale = np.ones(len(information))
    scale[-1] = fit.alpha
    curvature = -information * np.outer(scale, scale)
    curvature[-1, -1] += fit.alpha * first
    return np.append(fit.scores.sum(axis=0), fit.alpha * first), curvature


def _information(fit: Fit, alpha_information: float) -> Array:
    """Observed information by (coefficients, alpha), with the alpha corner given."""
    mean, alpha, y, X = fit.mean, fit.alpha, fit.y, fit.X
    beta = (X * (mean * (1 + alpha * y) / (1 + alpha * mean) ** 2)[:, None]).T @ X
    cross = (X.T @ (mean * (y - mean) / (1 + alpha * mean) ** 2))[:, None]
    return np.block([[beta, cross], [cross.T, np.array([[alpha_information]])]])


def _ascent(curvature: Array, gradient: Array) -> Array:
    """Newton direction; where the surface is not concave in log alpha, that coordinate climbs by its gradient's sign."""
    matrix = -curvature
    if matrix[-1, -1] <= 0 or np.linalg.eigvalsh(matrix)[0] <= 0:
        matrix = matrix.copy()
        matrix[-1, :-1] = matrix[:-1, -1] = 0
        matrix[-1, -1] = max(abs(matrix[-1, -1]), abs(gradient[-1]))
    return newton_step(matrix, gradient)
