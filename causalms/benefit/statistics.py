"""Statistics of predicted benefit with their standard errors, on patients sorted by falling score; the last axis is the patients.

One implementation serves the trial and its redraws (:mod:`causalms.benefit.redraws`).  Every function returns estimates and
standard errors whose last axis is the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from causalms.benefit.redraws import Floats

Pair = tuple[Floats, Floats]


def rank_areas(spared: Floats, ties: NDArray[np.intp] | None = None) -> Pair:
    r"""AUTOC and Qini; tied patients (equal values of ``ties``, rising) count as if ordered at random.

    With :math:`H_k = \sum_{j \ge k} 1/j`, AUTOC is the mean of :math:`(H_k - 1) \Gamma_{(k)}` and Qini that of
    :math:`(1/2 - r_k) \Gamma_{(k)}`, :math:`r_k = (k - 1/2) / n`.  The influence functions count that ranks are
    estimated: a patient at rank r pushes all below down, which costs :math:`\int_r^1 \tau(u)/u\,du` and
    :math:`\int_r^1 \tau(u)\,du`.

    Examples
    --------
    >>> import numpy as np
    >>> rank_areas(np.array([4.0, 2.0, 0.0]))[0].round(3).tolist()
    [1.0, 0.444]
    """
    n = spared.shape[-1]
    k = np.arange(1, n + 1)
    reach, place = np.cumsum((1 / k)[::-1])[::-1], (k - 0.5) / n
    past = np.cumsum((spared / k)[..., ::-1], axis=-1)[..., ::-1]
    below = np.cumsum(spared[..., ::-1], axis=-1)[..., ::-1] / n
    if ties is not None:
        reach, place, past, below = (_shared(values, ties) for values in (reach, place, past, below))
    mean = spared.mean(axis=-1, keepdims=True)
    autoc = ((reach - 1) * spared).mean(axis=-1, keepdims=True)
    qini = ((0.5 - place) * spared).mean(axis=-1, keepdims=True)
    first = reach * spared - past - (spared - mean) - autoc
    second = (0.5 - place) * spared - below + (place * spared).mean(axis=-1, keepdims=True) - qini
    ses = [np.sqrt((part**2).sum(axis=-1, keepdims=True) / (n * (n - 1))) for part in (first, second)]
    return np.concatenate([autoc, qini], axis=-1), np.concatenate(ses, axis=-1)


def _shared(values: Floats, ties: NDArray[np.intp]) -> Floats:
    """Each tied patient gets the mean of its ties."""
    return np.asarray((np.bincount(ties, weights=values) / np.bincount(ties))[ties])


def slice_means(values: Floats, slices: Sequence[tuple[int, int]]) -> Pair:
    """Means of the patients from rank a to rank b."""
    return _stacked([_mean(values[..., a:b]) for a, b in slices])


def slice_log_ratios(reference: Floats, drug: Floats, slices: Sequence[tuple[int, int]]) -> Pair:
    """Logarithms of mean outcome under the drug over that under the reference; missing where one is not positive."""
    return _stacked([_log_ratio(reference[..., a:b], drug[..., a:b]) for a, b in slices])


def regression(score: Floats, spared: Floats) -> Pair:
    """Mean benefit, mean benefit less mean score, and the slope of benefit on score (HC3)."""
    n = spared.shape[-1]
    centred = score - score.mean(axis=-1, keepdims=True)
    square = np.maximum((centred**2).sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    slope = (centred * spared).sum(axis=-1, keepdims=True) / square
    residual = spared - spared.mean(axis=-1, keepdims=True) - slope * centred
    left = residual / np.maximum(1 - 1 / n - centred**2 / square, 1e-8)
    error = np.sqrt(((centred * left) ** 2).sum(axis=-1, keepdims=True)) / square
    return _stacked([_mean(spared), _mean(spared - score), (slope[..., 0], error[..., 0])])


def capped_policy(reference: Floats, drug: Floats, treated: int, least: NDArray[np.bool_] | None = None) -> Pair:
    """Value of treating the first ``treated`` ranks (where ``least`` is true), and its gain over the same share at random."""
    spared = reference - drug
    n = spared.shape[-1]
    chance = np.broadcast_to(np.arange(n) < treated, spared.shape).astype(float)
    binds = np.ones((*spared.shape[:-1], 1), bool)
    if least is not None:
        chance = chance * least
        binds = least.sum(axis=-1, keepdims=True) > treated
    share = chance.mean(axis=-1, keepdims=True)
    half = max(round(0.1 * n), 1)
    near = spared[..., max(treated - half, 0) : treated + half].mean(axis=-1, keepdims=True)
    value = reference - chance * spared + np.where(binds, near, 0.0) * (chance - share)
    gain = (chance - share) * (spared - np.where(binds, near, spared.mean(axis=-1, keepdims=True)))
    return _stacked([_mean(value), _mean(gain)])


def _mean(values: Floats) -> Pair:
    n = values.shape[-1]
    if n < 2:
        return values.mean(axis=-1), np.full(values.shape[:-1], np.nan)
    return values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(n)


def _log_ratio(reference: Floats, drug: Floats) -> Pair:
    below, above = reference.mean(axis=-1), drug.mean(axis=-1)
    positive = (below > 0) & (above > 0)
    below, above = np.where(positive, below, np.nan), np.where(positive, above, np.nan)
    error = _mean(drug / above[..., None] - reference / below[..., None])[1]
    return np.log(above / below), error


def _stacked(pairs: Sequence[Pair]) -> Pair:
    return np.stack([pair[0] for pair in pairs], axis=-1), np.stack([pair[1] for pair in pairs], axis=-1)
