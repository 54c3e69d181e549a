"""Mixtures of normal laws: priors whose posterior, quantiles and information are known in closed form or by one sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.stats.glm import Array


@dataclass(frozen=True)
class NormalMixture:
    r"""A law :math:`\sum_k w_k N(m_k, s_k^2)`; a leading axis of replicates is allowed, shown as ``...``.

    Attributes
    ----------
    weights, means, sds : array (..., K)
        Weights add up to 1.

    Examples
    --------
    >>> prior = NormalMixture(np.array([0.5, 0.5]), np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    >>> round(float(prior.variance), 3), round(float(prior.quantile(0.975)), 3)
    (5.0, 4.935)
    """

    weights: Array
    means: Array
    sds: Array

    @property
    def mean(self) -> Array:
        """Mean, shape (...)."""
        return np.asarray((self.weights * self.means).sum(axis=-1))

    @property
    def variance(self) -> Array:
        """Variance, shape (...)."""
        second = (self.weights * (self.sds**2 + self.means**2)).sum(axis=-1)
        return np.asarray(second - self.mean**2)

    def cdf(self, x: Array | float) -> Array:
        """Distribution function at ``x`` (...)."""
        from scipy.special import ndtr

        z = (np.asarray(x, float)[..., None] - self.means) / self.sds
        return np.asarray((self.weights * ndtr(z)).sum(axis=-1))

    def quantile(self, probability: float) -> Array:
        """Quantile, shape (...), by bisection to the last bit that matters."""
        far = 40 * self.sds.max(axis=-1)
        low, high = self.means.min(axis=-1) - far, self.means.max(axis=-1) + far
        for _ in range(48):
            middle = (low + high) / 2
            below = self.cdf(middle) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def posterior(self, estimate: Array | float, se: float) -> NormalMixture:
        r"""The law given a normal estimate with a known standard error: conjugate in every component.

        Weights become :math:`w_k\,\phi(\hat\theta; m_k, s_k^2 + se^2)`, scaled to add up to 1.
        """
        y = np.asarray(estimate, float)[..., None]
        total = self.sds**2 + se**2
        log_weight = np.log(self.weights) - 0.5 * np.log(total) - 0.5 * (y - self.means) ** 2 / total
        log_weight = log_weight - log_weight.max(axis=-1, keepdims=True)
        weights = np.exp(log_weight)
        share = self.sds**2 / total
        shape = np.broadcast_shapes(y.shape, self.means.shape)
        means, sds = self.means + share * (y - self.means), np.broadcast_to(np.sqrt(share) * se, shape)
        return NormalMixture(weights / weights.sum(axis=-1, keepdims=True), means, np.asarray(sds))

    def shifted(self, shift: Array | float, slope: float, sd: float) -> NormalMixture:
        """The law of ``shift + slope X + e`` with a normal e of mean 0 and standard deviation ``sd``."""
        means = np.asarray(shift, float)[..., None] + slope * self.means
        return NormalMixture(self.weights, means, np.sqrt((slope * self.sds) ** 2 + sd**2))

    def density_and_slope(self, x: Array) -> tuple[Array, Array]:
        """Density at points (m,) of one mixture, and its derivative."""
        z = (x[:, None] - self.means) / self.sds
        each = self.weights * np.exp(-0.5 * z**2) / (self.sds * np.sqrt(2 * np.pi))
        return each.sum(axis=-1), (-z / self.sds * each).sum(axis=-1)

    def expected_information(self) -> float:
        r"""Expected local information :math:`E[-(\log p)''] = \int p'^2/p`, of one mixture."""
        steps = np.linspace(-9, 9, 1801)
        x = np.unique((self.means[:, None] + self.sds[:, None] * steps).ravel())
        density, slope = self.density_and_slope(x)
        values = np.divide(slope**2, density, out=np.zeros_like(density), where=density > 0)
        return float(np.trapezoid(values, x))
