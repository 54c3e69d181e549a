"""Known lesions in a patient's own brain: what becomes of each in a count, and what unsteady outlines do to a count."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from causalms.errors import UsageError

#: Volumes (mm3) of new and enlarging lesions: log-normal. 790 components of 9 mm3 and more in the change masks of 20 patients.
#: Lesjak Z et al. Validation of white-matter lesion change detection methods on a novel publicly available MRI image database.
#: Neuroinformatics 2016.
MEAN_LOG_MM3, SD_LOG_MM3 = 4.13, 1.22
#: Classes of volume (mm3), each up to the next.
SIZES_MM3 = (3.0, 10.0, 30.0, 100.0, 300.0, np.inf)
#: Shares of lesions that a visit's outlines lack; in MSLesSeg half of the sites vanish from one visit to the next.
VANISHING = (0.0, 0.1, 0.25, 0.5)
_REPEATS, _TAILS = 1000, (0.025, 0.975)


def lesion_volumes(lesions: int, rng: np.random.Generator) -> np.ndarray:
    """Volumes (mm3) of that many new lesions, of 3 mm3 and more.

    Examples
    --------
    >>> volumes = lesion_volumes(1000, np.random.default_rng(1))
    >>> round(float(np.median(volumes))), bool(volumes.min() >= 3)
    (60, True)
    """
    volumes = np.exp(rng.normal(MEAN_LOG_MM3, SD_LOG_MM3, lesions))
    while (small := volumes < SIZES_MM3[0]).any():
        volumes[small] = np.exp(rng.normal(MEAN_LOG_MM3, SD_LOG_MM3, int(small.sum())))
    return volumes


def plant_lesions(where: np.ndarray, affine: np.ndarray, volumes_mm3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw lesions into a brain: ellipsoids in any direction, their middles spread evenly over ``where``.

    Parameters
    ----------
    where : array of bool, shape (X, Y, Z)
        Where a lesion may lie.
    affine : array of shape (4, 4)
    volumes_mm3 : array, shape (L,)
        Each becomes the nearest number of voxels, at least one; fewer where ``where`` ends. A later lesion never takes voxels of
        an earlier one.
    rng : numpy Generator

    Returns
    -------
    array of int32, shape (X, Y, Z)
        0, or 1 to L.

    Raises
    ------
    UsageError
        If ``where`` is empty.
    """
    places = np.argwhere(where)
    if not len(places):
        raise UsageError("no voxel of `where` may hold a lesion; give another mask")
    labels = np.zeros(where.shape, dtype=np.int32)
    linear = np.asarray(affine, dtype=float)[:3, :3]
    voxel_mm3, sizes = abs(np.linalg.det(linear)), np.sqrt((linear**2).sum(axis=0))
    for lesion, volume in enumerate(volumes_mm3, start=1):
        middle = places[rng.integers(len(places))]
        axes = np.exp(rng.normal(0, 0.3, 3))
        shape = np.linalg.qr(rng.standard_normal((3, 3)))[0] * (np.cbrt(axes.prod()) / axes)
        wanted = max(1, round(volume / voxel_mm3))
        reach = np.ceil(3 * np.cbrt(volume) / sizes).astype(int) + 1
        low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, where.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inside = np.argwhere(where[box] & (labels[box] == 0)) + low
        if len(inside):
            distance = (((inside - middle) @ linear.T @ shape) ** 2).sum(axis=1)
            labels[tuple(inside[np.argsort(distance, kind="stable")[:wanted]].T)] = lesion
    return labels


def fates(lesion: np.ndarray, component: np.ndarray, lesions: int) -> np.ndarray:
    """What became of each known lesion in a mask: "alone", "merged" or "lost".

    Parameters
    ----------
    lesion : array of int, shape (N,)
        Number, from 1, of the lesion that a point belongs to.
    component : array of int, shape (N,)
        Number of the counted lesion that lies there, 0 for none.
    lesions : int

    Returns
    -------
    array of str, shape (lesions,)
        A lesion belongs to the counted lesion that covers most of it; it is merged where another belongs to the same.

    Examples
    --------
    >>> fates(np.array([1, 1, 2, 3, 4]), np.array([7, 7, 7, 0, 2]), 4).tolist()
    ['merged', 'merged', 'lost', 'alone']
    """
    votes = np.zeros((lesions + 1, int(component.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(votes, (lesion, component), 1)
    votes[:, 0] = 0
    home = np.where(votes[1:].sum(axis=1) > 0, votes[1:].argmax(axis=1), 0)
    shared = np.bincount(home)[home] > 1
    return np.where(home == 0, "lost", np.where(shared, "merged", "alone"))


def flicker(new: np.ndarray, old: np.ndarray, vanishing: float, apart: bool, rng: np.random.Generator) -> np.ndarray:
    """Counts of new lesions by outlines from which each lesion is absent with one probability, visit by visit.

    Of the new lesions a binomial share is seen. Where the visits were outlined apart and subtracted, an old lesion that is absent
    at the first visit and there at the second counts as new too: its probability is v (1 - v).

    Parameters
    ----------
    new, old : array of int, shape (patients,)
        True new lesions, and lesions at baseline.
    vanishing : float
        Share of lesions that a visit's outlines lack.
    apart : bool
        Whether the two visits were outlined apart, not side by side.
    rng : numpy Generator

    Returns
    -------
    array of int, shape (patients,)

    Examples
    --------
    >>> flicker(np.array([4000]), np.array([50000]), 0.5, True, np.random.default_rng(1)).tolist()
    [14324]
    """
    counted = rng.binomial(new, 1 - vanishing)
    return np.asarray(counted + rng.binomial(old, vanishing * (1 - vanishing)) if apart else counted)


def size_class(volumes_mm3: np.ndarray) -> pd.Categorical:
    """The class of volume of each lesion, in words.

    Examples
    --------
    >>> list(size_class(np.array([5.0, 400.0])))
    ['3 to 10 mm3', '300 mm3 and more']
    """
    words = [f"{low:g} to {high:g} mm3" for low, high in pairwise(SIZES_MM3[:-1])]
    return pd.cut(volumes_mm3, SIZES_MM3, right=False, labels=[*words, f"{SIZES_MM3[-2]:g} mm3 and more"])


def injection_table(lesions: pd.DataFrame, old: dict[str, int], seed: int) -> pd.DataFrame:
    """What a count makes of known lesions, by their volume, and of outlines that flicker.

    Parameters
    ----------
    lesions : DataFrame
        One row a known lesion: participant_id, size, and its fate (:func:`fates`) on each grid, in the columns after ``size``.
    old : dict of str to int
        Lesions of each patient at baseline; every patient stands in it.
    seed : int

    Returns
    -------
    DataFrame
        analysis, where, group, lesions, estimate, lower, upper. Shares have Wilson's 95% interval; the mean count of the
        patients, and the ratio that is seen between them and as many with half of their new lesions, the middle 95% of 1,000
        repeats.
    """
    rows = []
    fate_columns = list(lesions.columns[list(lesions.columns).index("size") + 1 :])
    for where in fate_columns:
        groups = [("all", lesions), *lesions.groupby("size", sort=False)]
        order = {name: place for place, name in enumerate(size_class(np.array(SIZES_MM3[:-1])).categories)}
        for group, rest in sorted(groups, key=lambda one: order.get(str(one[0]), -1)):
            for fate in ("alone", "merged", "lost"):
                share = stats.binomtest(int((rest[where] == fate).sum()), max(len(rest), 1)).proportion_ci(method="wilson")
                estimate = float((rest[where] == fate).mean()) if len(rest) else np.nan
                rows.append((fate, where, str(group), len(rest), estimate, float(share.low), float(share.high)))
    new = lesions.groupby("participant_id").size().reindex(list(old), fill_value=0).to_numpy()
    before = np.array(list(old.values()))
    for apart, where in ((False, "side by side"), (True, "apart, subtracted")):
        for vanishing in VANISHING:
            rng = np.random.default_rng([seed, round(100 * vanishing), apart])
            counts = np.array([flicker(new, before, vanishing, apart, rng).mean() for _ in range(_REPEATS)])
            halved = np.array([flicker(rng.binomial(new, 0.5), before, vanishing, apart, rng).mean() for _ in range(_REPEATS)])
            group = f"{vanishing:.0%} vanish"
            rows.append(("count a patient", where, group, int(new.sum()), float(counts.mean()), *np.quantile(counts, _TAILS)))
            ratios = halved / np.maximum(counts, 1e-9)
            middle = float(halved.mean() / max(counts.mean(), 1e-9))
            rows.append(("ratio seen of 0.5", where, group, int(new.sum()), middle, *np.quantile(ratios, _TAILS)))
    return pd.DataFrame(rows, columns=["analysis", "where", "group", "lesions", "estimate", "lower", "upper"])
