"""Counterfactual means and their variances for many replicates at once; the formulas are those of means.py and variance.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causalms.stats.batched import Batch, BatchFit
from causalms.stats.count_sums import CountSums
from causalms.stats.glm import LOG_LINK, Array, Family, inverse_link


@dataclass(frozen=True)
class BatchMeans:
    """Counterfactual means of R replicates; the arm of a patient is the same in every replicate.

    Attributes
    ----------
    batch : Batch
    fit : BatchFit
    family : str
    arm : integer array (n,)
    designs : tuple of array
        The design with every patient set to each arm, (n, p) or (R, n, p).
    rate : {"unit", "exposure-weighted"}
    """

    batch: Batch
    fit: BatchFit
    family: Family
    arm: np.ndarray
    designs: tuple[Array, ...]
    rate: str = "unit"

    @cached_property
    def rates(self) -> Array:
        """Predicted rate of every patient under every arm, shape (K, R, n)."""
        parts = [Batch(X, self.batch.y, self.batch.time).linear(self.fit.coefficients) for X in self.designs]
        return np.stack([inverse_link(self.family, eta) for eta in parts])

    @cached_property
    def weights(self) -> Array:
        """Weight of each patient in the average, before exposure: bootstrap counts or ones, shape (R or 1, n)."""
        return np.ones((1, self.batch.X.shape[-2])) if self.batch.weights is None else self.batch.weights

    @cached_property
    def correction(self) -> Array:
        """Arm-wise mean residual per unit of exposure, shape (K, R)."""
        out = []
        for arm, rates in enumerate(self.rates):
            own = self.arm == arm
            w, time = self.weights[:, own], self.batch.time[:, own]
            out.append((w * (self.batch.y[:, own] - time * rates[:, own])).sum(axis=1) / (w * time).sum(axis=1))
        return np.stack(out)

    @cached_property
    def estimates(self) -> Array:
        """Counterfactual means, shape (K, R)."""
        w = self.weights * self.batch.time if self.rate == "exposure-weighted" else self.weights
        return (w * self.rates).sum(axis=2) / w.sum(axis=1) + self.correction

    @property
    def mean(self) -> Array:
        """Fitted mean of each patient in the patient's own arm, shape (R, n)."""
        return self.batch.time * inverse_link(self.family, self.batch.linear(self.fit.coefficients))

    @cached_property
    def working(self) -> tuple[Array, Array]:
        """Slope / variance and slope^2 / variance of the working model, shape (R, n) each."""
        mean = self.mean
        if self.family in LOG_LINK:
            factor = 1 / (1 + self.fit.alpha[:, None] * mean)
            return factor, mean * factor
        if self.family == "logistic":
            return np.ones_like(mean), mean * (1 - mean)
        return np.ones_like(mean), np.ones_like(mean)

    @cached_property
    def inverse_information(self) -> Array:
        """Inverse expected information of the coefficients, shape (R, p, p)."""
        return np.asarray(np.linalg.inv(self.batch.gram(self.working[1])))

    @cached_property
    def leverage(self) -> Array:
        """Diagonal of each replicate's hat matrix, shape (R, n)."""
        X = np.broadcast_to(self.batch.X, (len(self.fit.alpha), *self.batch.X.shape[-2:]))
        return np.asarray(((X @ self.inverse_information) * X).sum(axis=2) * self.working[1])

    @cached_property
    def corrected(self) -> Array:
        """Corrected own-arm mean over each patient's exposure, shape (R, n)."""
        out = np.empty(self.rates.shape[1:])
        for arm in range(len(self.designs)):
            own = self.arm == arm
            out[:, own] = self.batch.time[:, own] * (self.rates[arm][:, own] + self.correction[arm][:, None])
        return out

    @cached_property
    def residuals(self) -> Array:
        """Own-arm residual on the scale of the mean, shape (R, n)."""
        return (self.batch.y - self.corrected) / self.mean_time

    @cached_property
    def mean_time(self) -> Array:
        """Mean exposure of the patient's arm, shape (R or 1, n)."""
        out = np.empty(self.batch.time.shape)
        for arm in range(len(self.designs)):
            own = self.arm == arm
            out[:, own] = self.batch.time[:, own].mean(axis=1, keepdims=True)
        return out

    @cached_property
    def predictions(self) -> Array:
        """Contribution of each patient to each arm's mean, shape (K, R, n)."""
        corrected = self.rates + self.correction[:, :, None]
        if self.rate == "unit":
            return corrected
        share = self.batch.time / self.batch.time.mean(axis=1, keepdims=True)
        return self.estimates[:, :, None] + share * (corrected - self.estimates[:, :, None])

    @cached_property
    def gradients(self) -> tuple[Array, Array]:
        """Derivative of the means by the coefficients with outcomes held fixed, and its large-sample part, (K, R, p) each."""
        full, drift = [], []
        w = self.batch.time if self.rate == "exposure-weighted" else np.ones_like(self.batch.time)
        for arm, X in enumerate(self.designs):
            own = self.arm == arm
            slope = self.rates[arm] if self.family in LOG_LINK else np.ones_like(self.rates[arm])
            if self.family == "logistic":
                slope = self.rates[arm] * (1 - self.rates[arm])
            time = self.batch.time
            average = Batch(X, self.batch.y, time).project(slope * w) / w.sum(axis=1, keepdims=True)
            inside = Batch(X, self.batch.y, time).project(slope * time * own) / (time * own).sum(axis=1, keepdims=True)
            overall = Batch(X, self.batch.y, time).project(slope * time) / time.sum(axis=1, keepdims=True)
            full.append(average - inside)
            drift.append(average - overall)
        return np.stack(full), np.stack(drift)

    @property
    def scores(self) -> Array:
        """Score of each patient, shape (R, n, p)."""
        X = np.broadcast_to(self.batch.X, (len(self.fit.alpha), *self.batch.X.shape[-2:]))
        return np.asarray(X * (self.working[0] * (self.batch.y - self.mean))[:, :, None])


def influence_log_ratio(means: BatchMeans, residuals: Array | None = None, strata: np.ndarray | None = None) -> Array:
    """Influence-function variance of the log ratio of arm 1 to arm 0, shape (R,); ``strata`` (R, n) for permuted blocks."""
    e = means.residuals if residuals is None else residuals
    n = len(means.arm)
    theta = means.estimates
    gradient = np.stack([-1 / theta[0], 1 / theta[1]])
    prediction = np.einsum("kr,krn->rn", gradient, means.predictions)
    prediction = prediction - prediction.mean(axis=1, keepdims=True)
    variance = -(prediction**2).sum(axis=1) / (n - 1)
    for arm in (0, 1):
        own = means.arm == arm
        share = own.mean()
        outcome = e[:, own] + means.predictions[arm][:, own]
        outcome = outcome - outcome.mean(axis=1, keepdims=True)
        mine = means.predictions[arm] - means.predictions[arm].mean(axis=1, keepdims=True)
        here = mine[:, own] - mine[:, own].mean(axis=1, keepdims=True)
        both = prediction[:, own] - prediction[:, own].mean(axis=1, keepdims=True)
        size = own.sum() - 1
        residual = (outcome**2).sum(axis=1) / size + (mine**2).sum(axis=1) / (n - 1) - 2 * (outcome * here).sum(axis=1) / size
        variance = variance + gradient[arm] ** 2 * residual / share + 2 * gradient[arm] * (outcome * both).sum(axis=1) / size
    if strata is not None:
        variance = variance - _blocked(means, strata, gradient)
    drift = np.einsum("kr,krp->rp", gradient, means.gradients[1])
    if np.any(np.abs(drift) > 0):
        extra = np.einsum("rnp,rpq,rq->rn", means.scores, means.inverse_information, drift)
        plain = prediction + _own(means, gradient) * means.residuals
        variance = variance + ((plain + extra * n) ** 2 - plain**2).sum(axis=1) / n
    return np.asarray(variance / n)


def _own(means: BatchMeans, gradient: Array) -> Array:
    """Gradient over share of each patient's own arm, shape (R, n)."""
    out = np.empty((gradient.shape[1], len(means.arm)))
    for arm in (0, 1):
        own = means.arm == arm
        out[:, own] = gradient[arm][:, None] / own.mean()
    return out


def _blocked(means: BatchMeans, strata: np.ndarray, gradient: Array) -> Array:
    removed = np.zeros(gradient.shape[1])
    shares = np.array([(means.arm == arm).mean() for arm in (0, 1)])
    kernel = np.diag(shares) - np.outer(shares, shares)
    for stratum in np.unique(strata):
        inside = strata == stratum
        bias = []
        for arm in (0, 1):
            rows = inside & (means.arm == arm)
            bias.append((means.residuals * rows).sum(axis=1) / np.maximum(rows.sum(axis=1), 1) / shares[arm] * gradient[arm])
        vector = np.stack(bias)
        removed = removed + inside.mean(axis=1) * np.einsum("kr,kl,lr->r", vector, kernel, vector)
    return np.asarray(removed)


def hc_log_ratio(means: BatchMeans, kind: str) -> Array:
    """Sandwich variance of the log ratio with covariates held fixed, shape (R,)."""
    theta = means.estimates
    gradient = np.stack([-1 / theta[0], 1 / theta[1]])
    direction = np.einsum("kr,krp->rp", gradient, means.gradients[0])
    values = np.einsum("rnp,rpq,rq->rn", means.scores, means.inverse_information, direction)
    own = np.empty_like(values)
    for arm in (0, 1):
        rows = means.arm == arm
        own[:, rows] = gradient[arm][:, None] / means.batch.time[:, rows].sum(axis=1, keepdims=True)
    values = values + own * (means.batch.y - means.corrected)
    return np.asarray(((values * hc_factors(means, kind)) ** 2).sum(axis=1))


def hc_factors(means: BatchMeans, kind: str) -> Array:
    """Residual factors of HC0 to HC3, broadcastable to (R, n)."""
    n, p = means.batch.X.shape[-2:]
    if kind == "hc0":
        return np.ones((1, 1))
    if kind == "hc1":
        return np.full((1, 1), np.sqrt(n / (n - p)))
    rest = np.clip(1 - means.leverage, 1e-8, None)
    return 1 / np.sqrt(rest) if kind == "hc2" else 1 / rest


def coefficient_variance(means: BatchMeans, variance: str, position: int = 1) -> Array:
    """Variance of one coefficient in the named convention, shape (R,)."""
    inverse = means.inverse_information
    if variance == "model-r":
        return np.asarray(inverse[:, position, position])
    if variance == "model-sas":
        return _observed_variance(means, position)
    values = np.einsum("rnp,rp->rn", means.scores, inverse[:, position]) * hc_factors(means, variance)
    return np.asarray((values**2).sum(axis=1))


def _observed_variance(means: BatchMeans, position: int) -> Array:
    """Inverse of the observed information jointly with alpha (SAS); at the Poisson boundary alpha plays no part."""
    from causalms.stats.negbin import log_remainder, log_remainder_slope

    mean, y, alpha = means.mean, means.batch.y, means.fit.alpha[:, None]
    shrink = 1 / (1 + alpha * mean)
    p = means.batch.X.shape[-1]
    matrix = np.zeros((len(mean), p + 1, p + 1))
    matrix[:, :p, :p] = means.batch.gram(mean * (1 + alpha * y) * shrink**2)
    cross = means.batch.project(mean * (y - mean) * shrink**2)
    sums = CountSums.of(y)
    remainder = log_remainder(alpha * mean)
    second = (mean**3 * log_remainder_slope(alpha * mean, remainder) + y * (mean * shrink) ** 2).sum(axis=1)
    second += sums.curvature(np.maximum(alpha[:, 0], 1e-12))
    boundary = means.fit.alpha == 0
    matrix[:, :p, p] = matrix[:, p, :p] = np.where(boundary[:, None], 0, cross)
    matrix[:, p, p] = np.where(boundary, 1, -second)
    return np.asarray(np.linalg.inv(matrix)[:, position, position])


def small_sample_log_ratio(means: BatchMeans, strata: np.ndarray | None = None) -> tuple[Array, Array]:
    """Small-sample variance of the log ratio and Welch's degrees of freedom, shape (R,) each."""
    from causalms.stats.dispersion import FULL_WEIGHT, adjusted_alphas

    left = means.residuals / np.clip(1 - means.leverage, 1e-8, None)
    variance = influence_log_ratio(means, left, strata)
    parts = []
    for arm in (0, 1):
        own = means.arm == arm
        size = int(own.sum())
        mean = np.clip(means.corrected[:, own], 1e-8, None)
        X = np.broadcast_to(means.designs[0], (len(mean), *means.designs[0].shape[-2:]))[:, own]
        inner = np.delete(X, 1, axis=2) if 2 * (X.shape[2] - 1) < size else X[:, :, :1]
        alpha = adjusted_alphas(means.batch.y[:, own], mean, inner)[:, None]
        law = (mean + alpha * mean**2).sum(axis=1) / (size - 1) / means.mean_time[:, own][:, 0] ** 2
        spread = left[:, own].var(axis=1, ddof=1)
        gain = min(1.0, float(np.sqrt(FULL_WEIGHT / size))) * np.maximum(law - spread, 0) / size
        variance = variance + gain / means.estimates[arm] ** 2
        parts.append((spread / size + gain) / means.estimates[arm] ** 2)
    sizes = np.array([(means.arm == arm).sum() - 1 for arm in (0, 1)])
    degrees = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / sizes[0] + parts[1] ** 2 / sizes[1])
    return np.asarray(variance), np.asarray(degrees)
