r"""Largest of several correlated t statistics: single-step p-values and the critical value of simultaneous intervals."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from causalms.stats.glm import Array

#: Points of the quasi-Monte-Carlo rule; its error is below 1e-5 for six contrasts of four arms.
_POINTS = 2**15
_NONE = 1e-9


def probability_within(correlation: Array, critical: float, degrees_of_freedom: float = np.inf) -> float:
    r"""Probability that no statistic exceeds a value, :math:`P(\max_j |T_j| \le c)`, of a central multivariate t.

    Genz's sequence of conditional intervals over scrambled Sobol points; rows that depend on the others (all pairs of arms) bound
    the last variable on which they depend.

    Parameters
    ----------
    correlation : array (k, k)
    critical : float
    degrees_of_freedom : float

    References
    ----------
    Genz and Bretz (2009), Computation of Multivariate Normal and t Probabilities.

    Examples
    --------
    >>> round(probability_within(np.eye(2), 1.959964), 4)
    0.9025
    """
    from scipy.special import chdtri, ndtr, ndtri

    factor = _triangular(correlation)
    rank = factor.shape[1]
    points = _sobol(rank)
    scale = np.ones(len(points))
    if np.isfinite(degrees_of_freedom):
        scale = np.sqrt(chdtri(degrees_of_freedom, points[:, -1]) / degrees_of_freedom)
    last = np.array([np.flatnonzero(np.abs(row) > _NONE)[-1] for row in factor])
    drawn, total = np.zeros((len(points), rank)), np.ones(len(points))
    for step in range(rank):
        low, high = np.full(len(points), -np.inf), np.full(len(points), np.inf)
        for row in factor[last == step]:
            before = drawn[:, :step] @ row[:step]
            ends = np.sort([(-critical * scale - before) / row[step], (critical * scale - before) / row[step]], axis=0)
            low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
        below, share = ndtr(low), np.maximum(ndtr(high) - ndtr(low), 0.0)
        total *= share
        drawn[:, step] = ndtri(np.clip(below + points[:, step] * share, 1e-300, 1 - 1e-16))
    return float(total.mean())


def simultaneous_critical_value(correlation: Array, level: float, degrees_of_freedom: float = np.inf) -> float:
    """The value that the largest of the statistics exceeds with probability 1 - level.

    Examples
    --------
    >>> round(simultaneous_critical_value(np.eye(2), 0.95), 2)
    2.24
    """
    from scipy import optimize

    return float(
        optimize.brentq(lambda c: probability_within(correlation, c, degrees_of_freedom) - level, 1e-3, 200.0, xtol=1e-7)
    )


def _triangular(correlation: Array) -> Array:
    """A factor (k, r) of a correlation of rank r, each column opened by the row with the most variance left."""
    left, columns = np.array(correlation, dtype=float), []
    while (left.diagonal() > _NONE).any():
        at = int(left.diagonal().argmax())
        column = left[:, at] / np.sqrt(left[at, at])
        columns.append(np.where(np.abs(column) > _NONE, column, 0.0))
        left = left - np.outer(column, column)
    return np.column_stack(columns)


@lru_cache(maxsize=4)
def _sobol(dimension: int) -> Array:
    """Scrambled Sobol points of one dimension more than the factor (the scale of t), always the same."""
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(dimension + 1, seed=0).random(_POINTS))
