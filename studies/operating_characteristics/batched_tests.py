"""Score test, studentised permutation test and bootstrap of crude rates for many trials at once.

The permutations and resamples are shared between the trials of one call: each trial's answer is that of its own test, and only
the Monte-Carlo noise of the resampling is common.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from causalms.effects.bootstrap import resampling_weights
from causalms.effects.tests import permuted_labels
from causalms.stats.glm import Array


def score_p_values(y: Array, time: Array, arm: np.ndarray) -> Array:
    """Robust score test of equal rates in every row; see :func:`causalms.effects.tests.score_test`.

    Examples
    --------
    >>> y = np.array([[6.0, 2, 4, 5, 1, 2, 0, 1]])
    >>> score_p_values(y, np.ones((1, 8)), np.repeat([0, 1], 4)).round(4)
    array([0.0213])
    """
    mean = time * (y.sum(axis=1) / np.broadcast_to(time, y.shape).sum(axis=1))[:, None]
    treated = (arm == 1) - (mean * (arm == 1)).sum(axis=1, keepdims=True) / mean.sum(axis=1, keepdims=True)
    terms = treated * (y - mean)
    return np.asarray(2 * ndtr(-np.abs(terms.sum(axis=1)) / np.sqrt((terms**2).sum(axis=1))))


def permutation_p_values(y: Array, time: Array, arm: np.ndarray, permutations: int, rng: np.random.Generator) -> Array:
    """Studentised permutation test of equal rates in every row, without covariates or strata."""
    residuals = y - time * (y.sum(axis=1) / np.broadcast_to(time, y.shape).sum(axis=1))[:, None]
    treated = (arm == 1).astype(float)
    observed = _welch(treated[None], residuals)[0]
    labels = permuted_labels(treated, [np.arange(len(arm))], permutations, rng)
    extreme = (np.abs(_welch(labels, residuals)) >= np.abs(observed) * (1 - 1e-12)).sum(axis=0)
    return np.asarray((1 + extreme) / (1 + permutations))


def _welch(labels: Array, residuals: Array) -> Array:
    """Welch's t for B rows of labels and R rows of residuals, shape (B, R)."""
    n1 = labels.sum(axis=1)[:, None]
    n0 = labels.shape[1] - n1
    sums, squares = labels @ residuals.T, labels @ (residuals**2).T
    mean1, mean0 = sums / n1, (residuals.sum(axis=1) - sums) / n0
    var1 = (squares - n1 * mean1**2) / (n1 - 1)
    var0 = ((residuals**2).sum(axis=1) - squares - n0 * mean0**2) / (n0 - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mean1 - mean0) / np.sqrt(var1 / n1 + var0 / n0))


def bootstrap_intervals(
    y: Array, time: Array, arm: np.ndarray, replicates: int, level: float, rng: np.random.Generator
) -> dict[str, tuple[Array, Array]]:
    """Percentile and BCa intervals of the crude log rate ratio of every row, patients drawn within arm."""
    logs, estimate, psi = [], [], []
    time = np.broadcast_to(time, y.shape)
    for value in (0, 1):
        own = arm == value
        events, years, size = y[:, own], time[:, own], int(own.sum())
        weights = resampling_weights([np.arange(size)], size, replicates, rng)
        with np.errstate(divide="ignore"):
            logs.append(np.log(weights @ events.T) - np.log(weights @ years.T))
        rate = events.sum(axis=1) / years.sum(axis=1)
        estimate.append(np.log(rate))
        part = (events - rate[:, None] * years) / events.sum(axis=1, keepdims=True)
        psi.append(part if value else -part)
    drawn = np.sort(logs[1] - logs[0], axis=0)
    observed, influence = estimate[1] - estimate[0], np.concatenate(psi, axis=1)
    below = ((drawn < observed).sum(axis=0) + (drawn <= observed).sum(axis=0)) / 2 / replicates
    shift = ndtri(np.clip(below, 1 / replicates, 1 - 1 / replicates))
    acceleration = (influence**3).sum(axis=1) / (6 * (influence**2).sum(axis=1) ** 1.5)
    z = float(ndtri((1 + level) / 2))
    columns = np.arange(len(y))
    out: dict[str, tuple[Array, Array]] = {}
    for name, b, a in (("bootstrap-percentile", 0 * shift, 0 * shift), ("bootstrap", shift, acceleration)):
        ends = []
        for side in (-z, z):
            at = ndtr(b + (b + side) / (1 - a * (b + side))) * (replicates - 1)
            low = np.clip(np.floor(at).astype(int), 0, replicates - 2)
            ends.append(drawn[low, columns] + (at - low) * (drawn[low + 1, columns] - drawn[low, columns]))
        out[name] = (ends[0], ends[1])
    return out
