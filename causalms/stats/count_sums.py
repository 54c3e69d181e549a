"""Sums over a patient's events in the negative-binomial likelihood, exact down to no overdispersion at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LONGEST_SUM = 20_000


@dataclass(frozen=True)
class CountSums:
    r"""The part of the log likelihood in which counts meet the dispersion, for R replicates.

    :math:`\log\Gamma(y + 1/\alpha) - \log\Gamma(1/\alpha) + y\log\alpha = \sum_{j<y} \log(1 + \alpha j)`, and
    summed over patients a sum over j of the number of patients with more than j events.  The sum stays exact as alpha goes to 0,
    where differences of gamma functions lose every digit; counts above 20,000 use the gamma functions, then exact enough.

    Attributes
    ----------
    more : array (R, J)
        Weighted number of patients with more than j events; empty for large counts.
    j : array (J,)
    y, weights : array (R or 1, n)
        Kept for large counts only.
    """

    more: Array
    j: Array
    y: Array
    weights: Array

    @classmethod
    def of(cls, y: Array, weights: Array | None = None) -> CountSums:
        """Build from counts (R, n), or from counts (1, n) shared by R rows of weights."""
        nothing = np.empty((1, 0))
        largest = float(y.max()) if y.size else 0.0
        if largest > _LONGEST_SUM:
            return cls(nothing, nothing[0], y, np.ones((1, y.shape[1])) if weights is None else weights)
        j = np.arange(max(largest, 1.0))
        if len(y) == 1 and weights is not None:
            return cls(np.asarray(weights @ (y[0][:, None] > j).astype(float)), j, nothing, nothing)
        replicates, n = y.shape
        cell = np.repeat(np.arange(replicates), n) * (len(j) + 1) + y.ravel().astype(int)
        flat = None if weights is None else weights.ravel()
        histogram = np.bincount(cell, weights=flat, minlength=replicates * (len(j) + 1)).reshape(replicates, -1)
        more = histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].astype(float)
        return cls(np.asarray(more), j, nothing, nothing)

    def take(self, rows: np.ndarray) -> CountSums:
        """Chosen replicates."""

        def pick(values: Array) -> Array:
            return values[rows] if len(values) > 1 else values

        return CountSums(pick(self.more) if self.j.size else self.more, self.j, pick(self.y), pick(self.weights))

    def value(self, alpha: Array) -> Array:
        """Sum over patients and j < y of log(1 + alpha j), for alpha (R,)."""
        if self.j.size:
            return np.asarray((self.more * np.log1p(alpha[:, None] * self.j)).sum(axis=1))
        from scipy.special import gammaln

        k = 1 / alpha[:, None]
        return np.asarray((self.weights * (gammaln(self.y + k) - gammaln(k) - self.y * np.log(k))).sum(axis=1))

    def slope(self, alpha: Array) -> Array:
        """First derivative of :meth:`value` by alpha."""
        if self.j.size:
            return np.asarray((self.more * (self.j / (1 + alpha[:, None] * self.j))).sum(axis=1))
        from scipy.special import digamma

        k = 1 / alpha[:, None]
        return np.asarray((self.weights * (self.y * k - k**2 * (digamma(self.y + k) - digamma(k)))).sum(axis=1))

    def curvature(self, alpha: Array) -> Array:
        """Second derivative of :meth:`value` by alpha."""
        if self.j.size:
            return np.asarray(-(self.more * (self.j / (1 + alpha[:, None] * self.j)) ** 2).sum(axis=1))
        from scipy.special import digamma, polygamma

        k = 1 / alpha[:, None]
        first, second = digamma(self.y + k) - digamma(k), polygamma(1, k) - polygamma(1, self.y + k)
        return np.asarray(-(self.weights * k**2 * (self.y - 2 * k * first + k**2 * second)).sum(axis=1))
