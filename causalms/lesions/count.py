"""The fast count: lesions, volume and regions of a mask, thousands of times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import UsageError
from causalms.lesions.rule import Components, LesionRule, components_of
from causalms.tables import REGIONS


@dataclass(frozen=True)
class LesionCount:
    """What one mask adds up to.

    Attributes
    ----------
    lesions : int
    volume_ml : float
        Volume of the counted lesions; components below the rule's volume are left out.
    by_region : tuple of int
        Lesions in each of :data:`causalms.tables.REGIONS`, or empty if no anatomy map was given.
    """

    lesions: int
    volume_ml: float
    by_region: tuple[int, ...] = ()

    def columns(self, prefix: str = "net2") -> dict[str, float]:
        """The same as columns of a draws table.

        Examples
        --------
        >>> LesionCount(2, 0.5).columns()
        {'net2_lesions': 2, 'net2_volume_ml': 0.5}
        """
        regions = {f"{prefix}_lesions_{region}": n for region, n in zip(REGIONS, self.by_region, strict=False)}
        return {f"{prefix}_lesions": self.lesions, f"{prefix}_volume_ml": self.volume_ml, **regions}


def count_lesions(
    mask: np.ndarray,
    voxel_volume_mm3: float,
    rule: LesionRule | None = None,
    regions: np.ndarray | None = None,
    affine: np.ndarray | None = None,
) -> LesionCount:
    """Count the lesions of a mask.

    Parameters
    ----------
    mask : array of shape (X, Y, Z)
        Non-zero inside lesions.
    voxel_volume_mm3 : float
        Volume of one voxel in mm3.
    rule : LesionRule, optional
        :meth:`LesionRule.default` if not given.
    regions : array of shape (X, Y, Z), optional
        Anatomy map with labels 1-4 in the order of :data:`causalms.tables.REGIONS`, 0 where unknown.
    affine : array of shape (4, 4), optional
        Voxel-to-world map in mm; only used for the distance from a lesion that lies outside the anatomy map. Without it
        voxels are taken as cubes.

    Returns
    -------
    LesionCount

    Raises
    ------
    UsageError
        If mask and regions differ in shape.

    Notes
    -----
    A lesion belongs to the region that holds most of its labelled voxels; if two hold equally many, to the one that
    comes first in ``REGIONS``. A lesion without a labelled voxel belongs to the region of the nearest labelled voxel.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8, 8), bool)
    >>> mask[1, 1, 1:3] = mask[5, 5, 5] = True
    >>> count_lesions(mask, voxel_volume_mm3=64.0)
    LesionCount(lesions=2, volume_ml=0.192, by_region=())
    """
    found = components_of(mask, rule or LesionRule.default(), voxel_volume_mm3)
    voxels = found.voxels
    volume_ml = float(voxels.sum() * voxel_volume_mm3 / 1000)
    if regions is None:
        return LesionCount(len(voxels), volume_ml)
    of_lesion = region_of_lesions(found, regions, affine)
    by_region = np.bincount(of_lesion, minlength=len(REGIONS) + 1)[1:]
    return LesionCount(len(voxels), volume_ml, tuple(int(n) for n in by_region))


def region_of_lesions(found: Components, regions: np.ndarray, affine: np.ndarray | None = None) -> np.ndarray:
    """Region label (1-4) of every lesion, by the rule stated in :func:`count_lesions`.

    Parameters
    ----------
    found : Components
    regions : array of shape (X, Y, Z)
    affine : array of shape (4, 4), optional

    Returns
    -------
    array of int, shape (lesions,)
    """
    if found.shape != np.shape(regions):
        raise UsageError(f"the mask has shape {found.shape}, the regions {np.shape(regions)}; give both on one grid")
    kinds, lesions, lesion_of_voxel = len(REGIONS) + 1, len(found.voxels), found.lesion
    region_of_voxel = np.asarray(regions)[found.index].astype(np.int64)
    if lesions and region_of_voxel.size and not (region_of_voxel.min() >= 0 and region_of_voxel.max() < kinds):
        raise UsageError(f"the anatomy map holds label {region_of_voxel.max()}; labels are 0 (unknown) and 1-{kinds - 1}")
    votes = np.bincount(lesion_of_voxel * kinds + region_of_voxel, minlength=(lesions + 1) * kinds).reshape(-1, kinds)[1:, 1:]
    region = np.asarray(votes.argmax(axis=1) + 1)
    for lesion in np.flatnonzero(votes.sum(axis=1) == 0):
        voxels = np.stack(found.index, axis=1)[lesion_of_voxel == lesion + 1]
        region[lesion] = _nearest_region(voxels, regions, np.eye(4) if affine is None else affine)
    return np.asarray(region)


def _nearest_region(voxels: np.ndarray, regions: np.ndarray, affine: np.ndarray) -> int:
    """Region of the labelled voxel nearest (in mm) to any of the given voxels; the first in order if equally near."""
    from scipy.spatial import cKDTree

    linear = np.asarray(affine, dtype=float)[:3, :3]
    nearest = cKDTree(voxels @ linear.T)
    distance = np.full(len(REGIONS) + 1, np.inf)
    for label in range(1, len(REGIONS) + 1):
        there = np.argwhere(regions == label)
        if len(there):
            distance[label] = np.round(nearest.query(there @ linear.T)[0].min(), 6)
    if not np.isfinite(distance).any():
        raise UsageError("the anatomy map has no labelled voxel; give a map with labels 1-4")
    return int(distance.argmin())
