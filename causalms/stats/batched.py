"""The one loop that fits working models, for R replicates at once: bootstrap, operating characteristics and the single fit.

Every array has a leading axis of R replicates.  ``exact`` (the single fit, R = 1) halves a step until the likelihood does not
fall and stops at the rounding of the coefficients; otherwise steps are capped and the loop stops once the next step would be
below 1e-9, which keeps ten thousand bootstrap fits within two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from causalms.stats.glm import Array, Family
from causalms.stats.negbin import CountSums, alpha_curvature, alpha_slope, log_remainder

_LARGEST_STEP = 1.5
_CLEARLY_OVERDISPERSED = 0.02
_SEPARATION = 30.0
_FLAT = 1e-9


@dataclass(frozen=True)
class _Care:
    """How carefully the loop climbs."""

    exact: bool
    near_limit: bool = False

    def flat(self, slope: Array, batch: Batch) -> np.ndarray:
        """Replicates that are as good as at a maximum at infinity: the score is rounding, the level without events near 0."""
        return (slope < _FLAT * (1 + batch.total(batch.y))) & self.near_limit

    @property
    def iterations(self) -> int:
        return 200 if self.exact else 60

    @property
    def log_alpha_range(self) -> tuple[float, float]:
        return (-25.0, 12.0) if self.exact else (-16.0, 8.0)


@dataclass(frozen=True)
class BatchFit:
    """Fits of R replicates.

    Attributes
    ----------
    coefficients : array (R, p)
    alpha : array (R,)
        Negative-binomial dispersion; 0 for other families and at the Poisson boundary.
    converged : array of bool (R,)
    reason : array of str (R,)
        Why a replicate did not converge: ``singular``, ``separated`` or ``iterations``; kept by exact fits only.
    """

    coefficients: Array
    alpha: Array
    converged: np.ndarray
    reason: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))


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


def fit_batch(
    family: Family, batch: Batch, start: BatchFit | None = None, *, exact: bool = False, near_limit: bool = False
) -> BatchFit:
    """Fit a working model to every replicate by Newton's method.

    Parameters
    ----------
    family : {"poisson", "negbin", "logistic", "linear"}
    batch : Batch
    start : BatchFit, optional
        Starting values (one row for all, or one a replicate), such as the fit of the whole sample.
    exact : bool
        Climb with care and stop at rounding, as :func:`causalms.stats.fit_model` does.
    near_limit : bool
        Replicates without events in some level of a covariate stop where its prediction is about 1e-9 of the events, as R's
        glm does, instead of having no fit.

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
        coefficients = _least_squares(batch, batch.y, exact)
        return BatchFit(coefficients, np.zeros(len(coefficients)), np.asarray(np.isfinite(coefficients).all(axis=1)))
    replicates, care = len(batch.y) if batch.weights is None else len(batch.weights), _Care(exact, near_limit)
    with np.errstate(all="ignore"):
        if start is None:
            beta = _start(family, batch, replicates, exact)
        elif family == "logistic" or len(start.coefficients) > 1 or batch.X.ndim == 3 or len(batch.y) > 1:
            beta = np.broadcast_to(start.coefficients, (replicates, batch.X.shape[-1]))
        elif family == "negbin" and start.alpha[0] > _CLEARLY_OVERDISPERSED:
            return _with_more_care(batch, _negbin_near(batch, start, care), care)
        else:
            beta = _second_order_start(batch, start.coefficients[0])
        fit = _newton(family, batch, np.array(beta), care)
        if family == "negbin":
            fit = _negbin(batch, fit, None if start is None else start.alpha, care)
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


def _least_squares(batch: Batch, y: Array, exact: bool) -> Array:
    """Weighted least squares of each replicate; an exact one survives collinear columns."""
    if exact and batch.weights is None and batch.X.ndim == 2:
        return np.asarray(np.linalg.lstsq(batch.X, y.T, rcond=None)[0].T)
    weights = np.ones(y.shape) if batch.weights is None else batch.weights
    return _solve(batch.gram(weights), batch.project(weights * y))


def _start(family: Family, batch: Batch, replicates: int, exact: bool) -> Array:
    """Least squares on smoothed observed rates or proportions."""
    weights = np.ones((replicates, batch.X.shape[-2])) if batch.weights is None else batch.weights
    if family == "logistic":
        eta = np.log((batch.y + 0.5) / (1.5 - batch.y))
    else:
        rate = (weights * batch.y).sum(axis=1, keepdims=True) / (weights * batch.time).sum(axis=1, keepdims=True)
        mean_time = batch.time.mean(axis=1, keepdims=True)
        eta = np.log((batch.y + np.maximum(rate, 1e-12) * mean_time) / (batch.time + mean_time))
    return _least_squares(batch, np.broadcast_to(eta, weights.shape), exact)


def _mean(family: Family, eta: Array, time: Array) -> tuple[Array, Array]:
    """Means and working weights of the canonical families."""
    if family == "logistic":
        mean = 0.5 * (1 + np.tanh(eta / 2))
        return mean, mean * (1 - mean)
    mean = np.exp(np.clip(eta, -700, 700))
    if not (time.shape[0] == 1 and (time == 1).all()):
        mean = mean * time
    return mean, mean


def _climbed(value: Callable[[Array], Array], now: Array, step: Array) -> Array:
    """Each replicate's step, halved until its log likelihood does not fall."""
    height, factor = value(now), np.ones((len(now), 1))
    for _ in range(40):
        moved = now + factor * step
        fell = ~(value(moved) >= height - 1e-10 * (1 + np.abs(height)))
        if not fell.any():
            break
        factor[fell] /= 2
    return np.asarray(moved)


def _canonical_value(family: Family, batch: Batch, beta: Array) -> Array:
    """Log likelihood of a Poisson or logistic fit up to a constant of the data, shape (R,)."""
    eta = batch.linear(beta)
    if family == "logistic":
        return batch.total(batch.y * eta - np.logaddexp(0, eta))
    return batch.total(batch.y * eta - _mean("poisson", eta, batch.time)[0])


def _newton(family: Family, batch: Batch, beta: Array, care: _Care) -> BatchFit:
    """Newton for Poisson and logistic fits; replicates leave the loop as they converge."""
    canonical: Family = "logistic" if family == "logistic" else "poisson"
    out, reason = np.full_like(beta, np.nan), np.full(len(beta), "iterations", dtype=object)
    alive, now, part = np.arange(len(beta)), beta, batch
    for _ in range(care.iterations):
        mean, weight = _mean(canonical, part.linear(now), part.time)
        gradient = part.project(part.weighted(part.y - mean))
        step = _solve(part.gram(part.weighted(weight)), gradient)
        size = np.abs(step).max(axis=1)
        stay = np.isfinite(size)
        if care.exact:
            reason[alive[~stay]] = "singular"
            now = _climbed(lambda at: _canonical_value(canonical, part, at), now, step)  # noqa: B023
            if family == "logistic":
                apart = np.abs(part.linear(now)).max(axis=1) > _SEPARATION
                reason[alive[apart]], stay = "separated", stay & ~apart
            done = stay & (size < 1e-11 * (1 + np.abs(now).max(axis=1)))
        else:
            now = now + step * np.minimum(1, _LARGEST_STEP / np.maximum(size, 1e-300))[:, None]
            # Newton doubles the digits: after a step below 1e-5 the next would be below 1e-9, so it need not be taken.
            done = (size < 1e-5) | care.flat(np.abs(gradient).max(axis=1), part)
            stay &= np.abs(now).max(axis=1) < 200
        out[alive[done]] = now[done]
        stay &= ~done
        if not stay.all():
            alive, now, part = alive[stay], now[stay], part.take(stay)
        if not len(alive):
            break
    return BatchFit(out, np.zeros(len(out)), np.asarray(np.isfinite(out).all(axis=1)), reason)


def _negbin(batch: Batch, poisson: BatchFit, alpha: Array | None, care: _Care) -> BatchFit:
    """Joint Newton on (coefficients, log alpha) from the Poisson fit; no excess variance leaves alpha = 0."""
    beta, out_alpha, converged = poisson.coefficients.copy(), np.zeros(len(poisson.alpha)), poisson.converged.copy()
    mean = _mean("poisson", batch.linear(beta), batch.time)[0]
    excess = batch.weighted((batch.y - mean) ** 2 - batch.y).sum(axis=1)
    rows = np.flatnonzero(converged & (excess > 0))
    lowest = 1e-4 if care.exact else 1e-3
    if alpha is None:
        alpha = np.clip(excess / batch.weighted(mean**2).sum(axis=1), lowest, 50.0)
    log_alpha = np.log(np.maximum(np.broadcast_to(alpha, (len(beta),)), lowest))[rows]
    if len(rows):
        fitted = _joint_newton(batch.take(rows), beta[rows], log_alpha, care)
        poissonian = (fitted.alpha == 0) & fitted.converged
        beta[rows] = np.where(poissonian[:, None], beta[rows], fitted.coefficients)
        out_alpha[rows], converged[rows] = fitted.alpha, fitted.converged
    beta[~converged] = np.nan
    return BatchFit(beta, out_alpha, converged, poisson.reason)


def _negbin_near(batch: Batch, start: BatchFit, care: _Care) -> BatchFit:
    """Weighted fits near a common fit: the first step shares every patient's terms and needs matrix products alone."""
    log_alpha = np.log(start.alpha[:1])
    step, _, _ = _joint_step(batch, start.coefficients, log_alpha, CountSums.of(batch.y, batch.weights), care)
    return _joint_newton(batch, start.coefficients + step[:, :-1], log_alpha + step[:, -1], care)


def _with_more_care(batch: Batch, fit: BatchFit, care: _Care) -> BatchFit:
    """Negative-binomial replicates that did not converge, from their own starting values and then with halved steps."""
    coefficients, alpha, converged = fit.coefficients.copy(), fit.alpha.copy(), fit.converged.copy()
    for exact in (False, True):
        rows = np.flatnonzero(~converged)
        if not len(rows):
            break
        again = fit_batch("negbin", batch.take(rows), exact=exact, near_limit=care.near_limit)
        coefficients[rows], alpha[rows], converged[rows] = again.coefficients, again.alpha, again.converged
    return BatchFit(coefficients, alpha, converged)


def _joint_newton(batch: Batch, beta: Array, log_alpha: Array, care: _Care) -> BatchFit:
    """Newton on (coefficients, log alpha); replicates leave the loop as they converge or reach alpha = 0."""
    rows, sums = np.arange(len(beta)), CountSums.of(batch.y, batch.weights)
    out, out_alpha = np.full(beta.shape, np.nan), np.zeros(len(beta))
    lowest, highest = care.log_alpha_range
    before = np.full(len(beta), np.inf)
    for _ in range(care.iterations):
        if not len(rows):
            break
        step, size, slope = _joint_step(batch, beta, log_alpha, sums, care)
        now = np.column_stack([beta, log_alpha])
        if care.exact:
            part, tails = batch, sums
            moved = _climbed(lambda at: _joint_value(part, at, tails, care), now, step)  # noqa: B023
        else:
            moved = now + step
        beta, log_alpha = moved[:, :-1], np.clip(moved[:, -1], lowest, highest)
        bounded = log_alpha <= lowest
        if care.exact:  # a small step that no longer shrinks has met the rounding of huge counts
            done = (size < 1e-10 * (1 + np.abs(beta).max(axis=1))) | ((size < 1e-4) & (size > before / 2)) | bounded
        else:
            done = (size < 1e-5) | care.flat(slope, batch) | bounded
        out[rows[done]], out_alpha[rows[done]] = beta[done], np.where(bounded, 0.0, np.exp(log_alpha))[done]
        stay, before = ~done & np.isfinite(size), size
        if not stay.all():
            rows, beta, log_alpha, before = rows[stay], beta[stay], log_alpha[stay], before[stay]
            sums, batch = sums.take(stay), batch.take(stay)
    return BatchFit(out, out_alpha, np.asarray(np.isfinite(out).all(axis=1)))


def _joint_value(batch: Batch, at: Array, sums: CountSums, care: _Care) -> Array:
    """Negative-binomial log likelihood up to a constant of the data, shape (R,)."""
    eta, alpha = batch.linear(at[:, :-1]), np.exp(np.clip(at[:, -1], *care.log_alpha_range))
    spread = (batch.y + 1 / alpha[:, None]) * np.log1p(alpha[:, None] * _mean("poisson", eta, batch.time)[0])
    return np.asarray(sums.value(alpha) + batch.total(batch.y * eta - spread))


def _joint_step(batch: Batch, beta: Array, log_alpha: Array, sums: CountSums, care: _Care) -> tuple[Array, Array, Array]:
    """One Newton step on (coefficients, log alpha), the length of the undamped step and the largest derivative."""
    mean = _mean("poisson", batch.linear(beta), batch.time)[0]
    flat = np.exp(log_alpha)
    alpha = flat[:, None]
    x = alpha * mean
    shrink = 1 / (1 + x)
    mu_shrink = mean * shrink
    gradient = batch.project(batch.weighted((batch.y - mean) * shrink))
    remainder = log_remainder(x)
    first = batch.total(alpha_slope(batch.y, mean, mu_shrink, remainder)) + sums.slope(flat)
    second = batch.total(alpha_curvature(batch.y, mean, mu_shrink, x, remainder)) + sums.curvature(flat)
    p = beta.shape[1]
    matrix = np.empty((len(gradient), p + 1, p + 1))
    matrix[:, :p, :p] = batch.gram(batch.weighted(mu_shrink * shrink * (1 + alpha * batch.y)))
    matrix[:, :p, p] = matrix[:, p, :p] = alpha * batch.project(batch.weighted(mu_shrink * shrink * (batch.y - mean)))
    own = -(flat**2 * second + flat * first)
    matrix[:, p, p] = own
    concave = own > 0
    if care.exact and np.isfinite(matrix).all():
        concave &= np.linalg.eigvalsh(matrix)[:, 0] > 0
    # Where the surface is not concave in log alpha, that coordinate climbs by its gradient's sign.
    matrix[:, p, p] = np.where(concave, own, np.maximum(np.abs(own), np.abs(flat * first)) + 1e-12)
    matrix[~concave, :p, p] = matrix[~concave, p, :p] = 0
    scores = np.column_stack([gradient, flat * first])
    step, slope = _solve(matrix, scores), np.abs(scores).max(axis=1)
    size = np.abs(step).max(axis=1)
    return step * np.minimum(1, (3.0 if care.exact else _LARGEST_STEP) / np.maximum(size, 1e-300))[:, None], size, slope


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
