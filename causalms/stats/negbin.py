"""The negative-binomial model: Newton on (coefficients, log alpha), with an explicit Poisson boundary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalms.errors import ConvergenceError
from causalms.stats.count_sums import CountSums
from causalms.stats.glm import Array, Fit, fit_model, newton_step

_ITERATIONS = 200
_TOLERANCE = 1e-10
_LOG_ALPHA_RANGE = (-25.0, 12.0)


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
    tail = CountSums.of(fit.y[None])
    log_alpha = np.log(max(2 * excess / (fit.mean**2).sum(), 1e-4))
    fit = replace(fit, alpha=float(np.exp(log_alpha)))
    value, before = log_likelihood(fit, tail), np.inf
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
        size = float(np.abs(step).max())
        # Newton doubles the digits at every step, so a small step that no longer shrinks has met the rounding of huge counts.
        if size < _TOLERANCE * (1 + np.abs(fit.coefficients).max()) or (size < 1e-4 and size > before / 2):
            return fit
        before = size
    raise ConvergenceError(
        "the negative-binomial working model did not converge; use the Poisson working model or fewer covariates"
    )


def log_likelihood(fit: Fit, tail: CountSums | None = None) -> float:
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
    tail = CountSums.of(y[None]) if tail is None else tail
    return constant + float(tail.value(np.array([alpha]))[0]) - float(((y + 1 / alpha) * np.log1p(alpha * mean)).sum())


def observed_information(fit: Fit) -> Array:
    """Negative second derivatives of the log likelihood by (coefficients, alpha), shape (p + 1, p + 1)."""
    return _information(fit, -_alpha_derivatives(fit, CountSums.of(fit.y[None]))[1])


def _alpha_derivatives(fit: Fit, tail: CountSums) -> tuple[float, float]:
    """First and second derivative of the log likelihood by alpha."""
    mean, alpha, y = fit.mean, fit.alpha, fit.y
    x = alpha * mean
    first = mean**2 * log_remainder(x) - y * mean / (1 + x)
    second = mean**3 * log_remainder_slope(x) + y * (mean / (1 + x)) ** 2
    return float(first.sum()) + float(tail.slope(np.array([alpha]))[0]), float(second.sum()) + float(
        tail.curvature(np.array([alpha]))[0]
    )


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


def _derivatives(fit: Fit, tail: CountSums) -> tuple[Array, Array]:
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
