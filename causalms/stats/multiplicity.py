"""Multiplicity: adjusted p-values, single-step p-values of correlated t statistics, and levels passed on along a graph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.stats.glm import Array

METHODS = ("holm", "hochberg", "hommel", "bonferroni", "fixed-sequence")


def adjusted_p_values(p_values: Array, method: str = "holm", *, missing: str = "refuse") -> Array:
    r"""Adjusted p-values, in the order given.

    Holm: :math:`\tilde p_{(i)} = \max_{j\le i} \min\{1, (m-j+1) p_{(j)}\}`, valid for any dependence.  Hochberg:
    :math:`\tilde p_{(i)} = \min_{j\ge i} \min\{1, (m-j+1) p_{(j)}\}`, valid for independent or positively dependent tests, as is
    Hommel's, which closes Simes' test and is never larger.
    Fixed sequence (gatekeeping by order): :math:`\tilde p_i = \max_{j\le i} p_j`, so a hypothesis is tested only after all
    before it have been rejected.

    Parameters
    ----------
    p_values : array (m,)
    method : {"holm", "hochberg", "hommel", "bonferroni", "fixed-sequence"}
    missing : {"refuse", "keep"}
        ``keep``: missing p-values stay missing and do not count as tests.

    Raises
    ------
    UsageError
        Unknown method.
    InputError
        A p-value is missing or outside 0 to 1.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70; Hochberg (1988), Biometrika 75:800-802; Hommel (1988),
    Biometrika 75:383-386.

    Examples
    --------
    >>> adjusted_p_values([0.01, 0.04, 0.03], "holm").round(4).tolist()
    [0.03, 0.06, 0.06]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "hochberg").round(4).tolist()
    [0.03, 0.04, 0.04]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "hommel").round(4).tolist()
    [0.03, 0.04, 0.04]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "fixed-sequence").tolist()
    [0.01, 0.04, 0.04]
    >>> adjusted_p_values([0.01, float("nan"), 0.03], missing="keep").tolist()
    [0.02, nan, 0.03]
    """
    p = np.asarray(p_values, dtype=float)
    if method not in METHODS:
        raise UsageError(f"`multiplicity`: found {method!r}, expected one of {', '.join(METHODS)}")
    if missing == "keep":
        known, adjusted = ~np.isnan(p), np.full(len(p), np.nan)
        adjusted[known] = adjusted_p_values(p[known], method)
        return adjusted
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise InputError(f"p_value, row {int(np.flatnonzero(wrong)[0]) + 1}: found {p[wrong][0]}, expected a number from 0 to 1")
    count = len(p)
    if method == "fixed-sequence":
        return np.asarray(np.maximum.accumulate(p))
    if method == "bonferroni":
        return np.asarray(np.minimum(1, count * p))
    order = np.argsort(p, kind="stable")
    if method == "hommel":
        return _hommel(p, order)
    scaled = np.minimum(1, (count - np.arange(count)) * p[order])
    steps = np.maximum.accumulate(scaled) if method == "holm" else np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.full(count, np.nan)
    adjusted[order] = steps
    return adjusted


def _hommel(p: Array, order: np.ndarray) -> Array:
    """Hommel's adjusted p-values: for each m' <= m the smallest Simes p over the m' largest, and what the others add."""
    count, ranked = len(p), p[order]
    adjusted = np.full(count, (count * ranked / np.arange(1, count + 1)).min())
    for size in range(count - 1, 1, -1):
        first, others = np.arange(count - size + 1), np.arange(count - size + 1, count)
        least = (size * ranked[others] / np.arange(2, size + 1)).min()
        bound = np.empty(count)
        bound[first] = np.minimum(size * ranked[first], least)
        bound[others] = bound[count - size]
        adjusted = np.maximum(adjusted, bound)
    out = np.empty(count)
    out[order] = np.maximum(adjusted, ranked)
    return out


def with_adjusted_p_values(results: pd.DataFrame, method: str = "holm") -> pd.DataFrame:
    """A results table with the column ``p_adjusted`` over all its rows as one family, in their order for a fixed sequence.

    Examples
    --------
    >>> import pandas as pd
    >>> with_adjusted_p_values(pd.DataFrame({"p_value": [0.02, 0.01]}))["p_adjusted"].tolist()
    [0.02, 0.02]
    """
    return results.assign(p_adjusted=adjusted_p_values(results["p_value"].to_numpy(dtype=float), method))


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


def graphical_p_values(p_values: Array, weights: Array, transitions: Array) -> Array:
    r"""Adjusted p-values of a graph, in the order given.

    Hypothesis j starts with the share :math:`w_j` of the level.  That with the smallest :math:`p_j/w_j` is taken out; its share
    passes to the others by its row of the transition matrix G, and G becomes
    :math:`(g_{kl}+g_{kj}g_{jl})/(1-g_{kj}g_{jk})`.

    Parameters
    ----------
    p_values : array (m,)
    weights : array (m,)
        Shares of the level, at most 1 in all.
    transitions : array (m, m)
        Rows of shares, at most 1 in all, with a diagonal of 0.

    Raises
    ------
    InputError
        Shares that are negative, or above 1 in all.

    References
    ----------
    Bretz, Maurer, Brannath, Posch (2009), Statistics in Medicine 28:586-604, algorithm 2.

    Examples
    --------
    >>> G = np.array([[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]])
    >>> graphical_p_values(np.array([0.01, 0.005, 0.1, 0.5]), np.array([0.5, 0.5, 0, 0]), G).round(4).tolist()
    [0.0133, 0.01, 0.2, 0.5]
    """
    p, w, G = (np.array(values, dtype=float) for values in (p_values, weights, transitions))
    if G.shape != (len(p), len(p)) or w.shape != p.shape:
        raise InputError(f"graph: found {len(w)} weights and {G.shape} transitions for {len(p)} hypotheses")
    if (w < 0).any() or w.sum() > 1 + 1e-9 or (G < 0).any() or (G.sum(axis=1) > 1 + 1e-9).any() or G.diagonal().any():
        raise InputError("graph: weights and each row of transitions are shares, at most 1 in all, and none goes to itself")
    adjusted, left, highest = np.ones(len(p)), list(range(len(p))), 0.0
    while left:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.array([p[j] / w[j] if w[j] > 0 else np.inf for j in left])
        j = left[int(ratio.argmin())]
        highest = max(highest, min(1.0, float(ratio.min())))
        adjusted[j] = highest
        if not np.isfinite(ratio.min()):
            break
        left.remove(j)
        w, G = _without(j, left, w, G)
    for j in left:
        adjusted[j] = max(adjusted[j], highest)
    return adjusted


def _without(j: int, left: list[int], w: Array, G: Array) -> tuple[Array, Array]:
    """Weights and transitions once hypothesis j is taken out."""
    moved, graph = w.copy(), np.zeros_like(G)
    for k in left:
        moved[k] = w[k] + w[j] * G[j, k]
        back = G[k, j] * G[j, k]
        for other in left:
            if other != k and back < 1:
                graph[k, other] = (G[k, other] + G[k, j] * G[j, other]) / (1 - back)
    moved[j] = 0.0
    return moved, graph
