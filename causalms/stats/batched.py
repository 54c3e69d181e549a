"""Many working-model fits at once: the engine of the bootstrap and of the operating characteristics.

Every array has a leading axis of R replicates.  The answers are those of :mod:`causalms.stats.glm` and
:mod:`causalms.stats.negbin` to the last digits; only the loop over replicates is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.stats.count_sums import CountSums
from causalms.stats.glm import Array, Family
from causalms.stats.negbin import log_remainder, log_remainder_slope

_ITERATIONS = 60
_LARGEST_STEP = 1.5
_CLEARLY_OVERDISPERSED = 0.02
_LOG_ALPHA_RANGE = (-16.0, 8.0)


@dataclass(frozen=True)
class BatchFit:
    """Fits of R replicates.

    Attributes
    ----------
    coefficients : array (R, p)
    alpha : array (R,)
        Negative-binomial dispersion; 0 for other families and at the Poisson boundary.
    converged : array of bool (R,)
    """

    coefficients: Array
    alpha: Array
    converged: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Outcomes, time at risk and weights of R replicates over one design (n, p) or a design each (R, n, p)."""

    X: Array
    y: Array
    time: Array
    weights: Array | None = None

    def linear(self, coefficients: Array) -> Array:
        """Linear predictors, shape (R, n)."""
        if self.X.ndim == 2:
            return np.asarray(coefficients @ self.X.T)
        return np.asarray(np.matmul(self.X, coefficients[:, :, None])[:, :, 0])

    def weighted(self, values: Array) -> Array:
        """Values times the replicate's weights."""
        return values if self.weights is None else values * self.weights

    def total(self, values: Array) -> Array:
        """Weighted sum over patients, shape (R,)."""
        if self.weights is None:
            return np.asarray(values.sum(axis=1))
        if len(values) == 1:
            return np.asarray(self.weights @ values[0])
        return np.asarray(np.einsum("rn,rn->r", values, self.weights))

    def project(self, values: Array) -> Array:
        """X' values of each replicate, shape (R, p)."""
        if self.X.ndim == 2:
            return np.asarray(values @ self.X)
        return np.asarray(np.matmul(values[:, None, :], self.X)[:, 0])

    def gram(self, values: Array) -> Array:
        """X' diag(values) X of each replicate, shape (R, p, p)."""
        p = self.X.shape[-1]
        if self.X.ndim == 2:
            products = (self.X[:, :, None] * self.X[:, None, :]).reshape(len(self.X), p * p)
            return np.asarray((values @ products).reshape(-1, p, p))
        return np.asarray(np.matmul((self.X * values[:, :, None]).transpose(0, 2, 1), self.X))

    def take(self, rows: np.ndarray) -> Batch:
        """Chosen replicates."""

        def pick(values: Array) -> Array:
            return values[rows] if len(values) > 1 else values

        return Batch(
            self.X if self.X.ndim == 2 else self.X[rows],
            pick(self.y),
            pick(self.time),
            None if self.weights is None else self.weights[rows],
        )


def fit_batch(family: Family, batch: Batch, start: BatchFit | None = None) -> BatchFit:
    """Fit a working model to every replicate by Newton's method.

    Parameters
    ----------
    family : {"poisson", "negbin", "logistic", "linear"}
    batch : Batch
    start : BatchFit, optional
        Starting values (one row for all, or one a replicate), such as the fit of the whole sample.

    Returns
    -------
    BatchFit
        Replicates without a finite fit have ``converged`` False and missing coefficients.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(4), [0, 0, 1, 1]])
    >>> y = np.array([[4.0, 6, 2, 3], [1, 1, 4, 4]])
    >>> np.exp(fit_batch("poisson", Batch(X, y, np.ones((1, 4)))).coefficients).round(6).tolist()
    [[5.0, 0.5], [1.0, 4.0]]
    """
    if family == "linear":
        weights = np.ones(batch.y.shape) if batch.weights is None else batch.weights
        coefficients = _solve(batch.gram(weights), batch.project(weights * batch.y))
        return BatchFit(coefficients, np.zeros(len(coefficients)), np.asarray(np.isfinite(coefficients).all(axis=1)))
    replicates = len(batch.y) if batch.weights is None else len(batch.weights)
    with np.errstate(all="ignore"):
        if start is None:
            beta = _start(family, batch, replicates)
        elif family == "logistic" or len(start.coefficients) > 1 or batch.X.ndim == 3 or len(batch.y) > 1:
            beta = np.broadcast_to(start.coefficients, (replicates, batch.X.shape[-1]))
        elif family == "negbin" and start.alpha[0] > _CLEARLY_OVERDISPERSED:
            return _negbin_near(batch, start)
        else:
            beta = _second_order_start(batch, start.coefficients[0])
        fit = _newton(family, batch, np.array(beta))
        if family == "negbin":
            fit = _negbin(batch, fit, None if start is None else start.alpha)
    return fit


def _second_order_start(batch: Batch, beta: Array) -> Array:
    """Weighted Poisson fits near a common fit: one Newton step and its second-order correction, by matrix products alone."""
    p = len(beta)
    X, weights = batch.X, np.ones((1, len(batch.X))) if batch.weights is None else batch.weights
    mean = (batch.time * np.exp(X @ beta)[None])[0]
    squares = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    cubes = (squares[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    columns = np.column_stack([X * (batch.y[0] - mean)[:, None], squares * mean[:, None], cubes * mean[:, None]])
    sums = weights @ columns
    information = sums[:, p : p + p * p].reshape(-1, p, p)
    step = _solve(information, sums[:, :p])
    third = sums[:, p + p * p :].reshape(-1, p, p, p)
    return beta + step - _solve(information, np.einsum("rabc,rb,rc->ra", third, step, step)) / 2


def _start(family: Family, batch: Batch, replicates: int) -> Array:
    """Least squares on smoothed observed rates or proportions."""
    weights = np.ones((replicates, batch.X.shape[-2])) if batch.weights is None else batch.weights
    if family == "logistic":
        eta = np.log((batch.y + 0.5) / (1.5 - batch.y))
    else:
        rate = (weights * batch.y).sum(axis=1, keepdims=True) / (weights * batch.time).sum(axis=1, keepdims=True)
        mean_time = batch.time.mean(axis=1, keepdims=True)
        eta = np.log((batch.y + np.maximum(rate, 1e-12) * mean_time) / (batch.time + mean_time))
    return _solve(batch.gram(weights), batch.project(weights * eta))


def _mean(family: Family, eta: Array, time: Array) -> tuple[Array, Array]:
    """Means and working weights of the canonical families."""
    if family == "logistic":
        mean = 0.5 * (1 + np.tanh(eta / 2))
        return mean, mean * (1 - mean)
    mean = np.exp(np.clip(eta, -700, 700))
    if not (time.shape[0] == 1 and (time == 1).all()):
        mean = mean * time
    return mean, mean


def _newton(family: Family, batch: Batch, beta: Array) -> BatchFit:
    """Newton for Poisson and logistic fits; replicates leave the loop as they converge."""
    canonical: Family = "logistic" if family == "logistic" else "poisson"
    out = np.full_like(beta, np.nan)
    alive, now, part = np.arange(len(beta)), beta, batch
    for _ in range(_ITERATIONS):
        mean, weight = _mean(canonical, part.linear(now), part.time)
        gradient = part.project(part.weighted(part.y - mean))
        step = _solve(part.gram(part.weighted(weight)), gradient)
        size = np.abs(step).max(axis=1)
        now = now + step * np.minimum(1, _LARGEST_STEP / np.maximum(size, 1e-300))[:, None]
        # Newton doubles the digits: after a step below 1e-5 the next would be below 1e-9, so it need not be taken.
        done = size < 1e-5
        out[alive[done]] = now[done]
        stay = ~done & np.isfinite(size) & (np.abs(now).max(axis=1) < 200)
        if not stay.all():
            alive, now, part = alive[stay], now[stay], part.take(stay)
        if not len(alive):
            break
    return BatchFit(out, np.zeros(len(out)), np.asarray(np.isfinite(out).all(axis=1)))


def _negbin(batch: Batch, poisson: BatchFit, alpha: Array | None) -> BatchFit:
    """Joint Newton on (coefficients, log alpha) from the Poisson fit; no excess variance leaves alpha = 0."""
    beta, out_alpha, converged = poisson.coefficients.copy(), np.zeros(len(poisson.alpha)), poisson.converged.copy()
    mean = _mean("poisson", batch.linear(beta), batch.time)[0]
    excess = batch.weighted((batch.y - mean) ** 2 - batch.y).sum(axis=1)
    rows = np.flatnonzero(converged & (excess > 0))
    if alpha is None:
        alpha = np.clip(excess / batch.weighted(mean**2).sum(axis=1), 1e-3, 50.0)
    log_alpha = np.log(np.maximum(np.broadcast_to(alpha, (len(beta),)), 1e-3))[rows]
    fitted = _joint_newton(batch.take(rows), beta[rows], log_alpha)
    beta[rows], out_alpha[rows], converged[rows] = fitted.coefficients, fitted.alpha, fitted.converged
    beta[~converged] = np.nan
    return BatchFit(beta, out_alpha, converged)


def _negbin_near(batch: Batch, start: BatchFit) -> BatchFit:
    """Weighted fits near a common fit: the first step shares every patient's terms and needs matrix products alone."""
    log_alpha = np.log(start.alpha[:1])
    step, _ = _joint_step(batch, start.coefficients, log_alpha, CountSums.of(batch.y, batch.weights))
    return _joint_newton(batch, start.coefficients + step[:, :-1], log_alpha + step[:, -1])


def _joint_newton(batch: Batch, beta: Array, log_alpha: Array) -> BatchFit:
    """Newton on (coefficients, log alpha); replicates leave the loop as they converge or reach alpha = 0."""
    rows, sums = np.arange(len(beta)), CountSums.of(batch.y, batch.weights)
    out, out_alpha = np.full(beta.shape, np.nan), np.zeros(len(beta))
    for _ in range(_ITERATIONS):
        if not len(rows):
            break
        step, size = _joint_step(batch, beta, log_alpha, sums)
        beta, log_alpha = beta + step[:, :-1], np.clip(log_alpha + step[:, -1], *_LOG_ALPHA_RANGE)
        bounded = log_alpha <= _LOG_ALPHA_RANGE[0]
        done = (size < 1e-5) | bounded
        out[rows[done]], out_alpha[rows[done]] = beta[done], np.where(bounded, 0.0, np.exp(log_alpha))[done]
        stay = ~done & np.isfinite(size)
        if not stay.all():
            rows, beta, log_alpha = rows[stay], beta[stay], log_alpha[stay]
            sums, batch = sums.take(stay), batch.take(stay)
    return BatchFit(out, out_alpha, np.asarray(np.isfinite(out).all(axis=1)))


def _joint_step(batch: Batch, beta: Array, log_alpha: Array, sums: CountSums) -> tuple[Array, Array]:
    """One Newton step on (coefficients, log alpha) and the length of the undamped step."""
    mean = _mean("poisson", batch.linear(beta), batch.time)[0]
    alpha = np.exp(log_alpha)[:, None]
    x = alpha * mean
    shrink = 1 / (1 + x)
    gradient = batch.project(batch.weighted((batch.y - mean) * shrink))
    mu_shrink = mean * shrink
    remainder = log_remainder(x)
    y_part = batch.y * mu_shrink
    first = batch.total(mean * mean * remainder - y_part) + sums.slope(alpha[:, 0])
    second = batch.total(mean * mean * mean * log_remainder_slope(x, remainder) + y_part * mu_shrink)
    second += sums.curvature(alpha[:, 0])
    flat = alpha[:, 0]
    p = beta.shape[1]
    matrix = np.empty((len(gradient), p + 1, p + 1))
    matrix[:, :p, :p] = batch.gram(batch.weighted(mu_shrink * shrink * (1 + alpha * batch.y)))
    matrix[:, :p, p] = matrix[:, p, :p] = flat[:, None] * batch.project(batch.weighted(mu_shrink * shrink * (batch.y - mean)))
    own = -(flat**2 * second + flat * first)
    concave = own > 0
    matrix[:, p, p] = np.where(concave, own, np.maximum(np.abs(own), np.abs(flat * first)) + 1e-12)
    matrix[~concave, :p, p] = matrix[~concave, p, :p] = 0
    step = _solve(matrix, np.column_stack([gradient, flat * first]))
    size = np.abs(step).max(axis=1)
    return step * np.minimum(1, _LARGEST_STEP / np.maximum(size, 1e-300))[:, None], size


def _solve(matrix: Array, right: Array) -> Array:
    """Solve every replicate's system; a singular one gives missing values for that replicate alone."""
    try:
        return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        out = np.full_like(right, np.nan)
        for row in range(len(right)):
            try:
                out[row] = np.linalg.solve(matrix[row], right[row])
            except np.linalg.LinAlgError:
                continue
        return out
