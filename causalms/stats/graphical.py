"""Graphical multiple testing: levels that are passed on along the arrows of a graph when a hypothesis is rejected."""

from __future__ import annotations

import numpy as np

from causalms.errors import InputError
from causalms.stats.glm import Array


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
