"""Score test, studentised permutation test and bootstrap of crude rates for many trials at once.

The permutations and resamples are shared between the trials of one call: each trial's answer is that of its own test, and only
the Monte-Carlo noise of the resampling is common.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from causalms.stats import (
    Array,
    acceleration,
    bias_correction,
    bootstrap_ends,
    extreme_permutations,
    permuted_labels,
    resampling_weights,
    welch_statistics,
)


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
    observed = welch_statistics(treated[None], residuals)[0]
    labels = permuted_labels(treated, [np.arange(len(arm))], permutations, rng)
    extreme = extreme_permutations(observed, welch_statistics(labels, residuals))
    return np.asarray((1 + extreme) / (1 + permutations))


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
    shift, none = bias_correction(drawn, observed), np.zeros(len(observed))
    return {
        "bootstrap-percentile": bootstrap_ends(drawn, none, none, level),
        "bootstrap": bootstrap_ends(drawn, shift, acceleration(influence.T), level),
    }
