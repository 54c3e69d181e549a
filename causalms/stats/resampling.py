"""Randomness by key, and what analyses and simulations resample: draws and labels within groups, Welch's statistic, BCa ends."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def keyed_generator(*key: str | int, separator: str = "\x1f") -> np.random.Generator:
    """A random generator that depends on its key alone (Philox, keyed by the SHA-256 of the joined key).

    Parameters
    ----------
    *key : str or int
        For noise: mechanism name, participant id, draw, seed.
    separator : str
        Joins the key; two uses with different separators never share a stream.

    Examples
    --------
    >>> keyed_generator("m", "p1", 0, 7).random() == keyed_generator("m", "p1", 0, 7).random()
    True
    >>> keyed_generator("m", "p1", 0, 7).random() == keyed_generator("m", "p2", 0, 7).random()
    False
    """
    digest = hashlib.sha256(separator.join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


Array = NDArray[np.float64]


def resampling_weights(groups: list[np.ndarray], n: int, replicates: int, rng: np.random.Generator) -> Array:
    """How often each patient is drawn in each replicate, shape (replicates, n); patients are drawn within their group."""
    weights = np.empty((replicates, n))
    for rows in groups:
        size = len(rows)
        drawn = rng.integers(0, size, (replicates, size), dtype=np.int32) + np.arange(replicates, dtype=np.int32)[:, None] * size
        weights[:, rows] = np.bincount(drawn.ravel(), minlength=replicates * size).reshape(replicates, size)
    return weights


def permuted_labels(treated: Array, blocks: list[np.ndarray], count: int, rng: np.random.Generator) -> Array:
    """Arm labels shuffled within blocks, shape (count, n)."""
    out = np.empty((count, len(treated)))
    for rows in blocks:
        out[:, rows] = rng.permuted(np.broadcast_to(treated[rows], (count, len(rows))), axis=1)
    return out


def welch_statistics(treated: Array, values: Array) -> Array:
    """Welch's t for B rows of labels (1 treated, 0 not; shape (B, n)) and R rows of values (R, n), shape (B, R).

    Examples
    --------
    >>> import numpy as np
    >>> welch_statistics(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 3, 4, 6]])).round(4)
    array([[2.1213]])
    """
    n1 = treated.sum(axis=1)[:, None]
    n0 = treated.shape[1] - n1
    sums, squares = treated @ values.T, treated @ (values**2).T
    mean1, mean0 = sums / n1, (values.sum(axis=1) - sums) / n0
    var1 = (squares - n1 * mean1**2) / (n1 - 1)
    var0 = ((values**2).sum(axis=1) - squares - n0 * mean0**2) / (n0 - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((mean1 - mean0) / np.sqrt(var1 / n1 + var0 / n0))


def mean_differences(treated: Array, values: Array) -> Array:
    """Differences of means for B rows of labels (B, n) and R rows of values (R, n), shape (B, R).

    Examples
    --------
    >>> mean_differences(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 3, 4, 6]]))
    array([[3.]])
    """
    n1, sums = treated.sum(axis=1)[:, None], treated @ values.T
    return np.asarray(sums / n1 - (values.sum(axis=1) - sums) / (treated.shape[1] - n1))


def extreme_permutations(observed: Array, permuted: Array) -> NDArray[np.int64]:
    """Number of permuted statistics (B, R) at least as large in absolute value as the observed (R,), ties counted."""
    return np.asarray((np.abs(permuted) >= np.abs(observed) * (1 - 1e-12)).sum(axis=0))


def acceleration(influence: Array) -> Array:
    r"""Acceleration of the BCa interval, :math:`\sum\psi^3 / 6(\sum\psi^2)^{3/2}`, for influence values (n, R)."""
    return np.asarray((influence**3).sum(axis=0) / (6 * (influence**2).sum(axis=0) ** 1.5))


def bias_correction(replicates: Array, observed: Array) -> Array:
    """Normal score of the share of sorted replicates (B, R) below the observed (R,), ties counted half."""
    from scipy.special import ndtri

    count = len(replicates)
    below = ((replicates < observed).sum(axis=0) + (replicates <= observed).sum(axis=0)) / 2 / count
    return np.asarray(ndtri(np.clip(below, 1 / count, 1 - 1 / count)))


def bootstrap_ends(replicates: Array, shift: Array, accelerated: Array, level: float) -> tuple[Array, Array]:
    """BCa interval of each column of sorted replicates (B, R); with ``shift`` and ``accelerated`` zero the percentile interval.

    References
    ----------
    Efron (1987), JASA 82:171-185.

    Examples
    --------
    >>> import numpy as np
    >>> ends = bootstrap_ends(np.arange(101.0)[:, None], np.zeros(1), np.zeros(1), 0.9)
    >>> [float(end[0].round(6)) for end in ends]
    [5.0, 95.0]
    """
    from scipy.special import ndtr, ndtri

    z, columns = float(ndtri((1 + level) / 2)), np.arange(replicates.shape[1])
    ends = []
    for side in (-z, z):
        at = ndtr(shift + (shift + side) / (1 - accelerated * (shift + side))) * (len(replicates) - 1)
        low = np.clip(np.floor(at).astype(int), 0, len(replicates) - 2)
        ends.append(replicates[low, columns] + (at - low) * (replicates[low + 1, columns] - replicates[low, columns]))
    return ends[0], ends[1]
