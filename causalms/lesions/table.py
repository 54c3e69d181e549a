"""One row a lesion, one row a mask."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.lesions.count import region_of_lesions
from causalms.lesions.rule import Components, LesionRule, components_of, voxel_volume_of
from causalms.tables import REGIONS

LESION_COLUMNS = ("label", "voxels", "volume_mm3", "x_mm", "y_mm", "z_mm", "region")


def lesion_table(
    mask: np.ndarray,
    affine: np.ndarray,
    rule: LesionRule | None = None,
    regions: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row a lesion: its size, where its centre of mass is in the world, and its region.

    Parameters
    ----------
    mask : array of shape (X, Y, Z)
        Non-zero inside lesions.
    affine : array of shape (4, 4)
        Voxel index to world coordinate in mm; may be oblique or sheared.
    rule : LesionRule, optional
        :meth:`LesionRule.default` if not given.
    regions : array of shape (X, Y, Z), optional
        Anatomy map with labels 1-4 in the order of :data:`causalms.tables.REGIONS`, 0 where unknown. A lesion belongs to
        the region that holds most of its labelled voxels, see :func:`count_lesions`.

    Returns
    -------
    DataFrame
        Columns ``label`` (as in :meth:`LesionRule.label`), ``voxels``, ``volume_mm3``, ``x_mm``, ``y_mm``, ``z_mm``,
        ``region`` (missing without an anatomy map).

    Raises
    ------
    UsageError
        If mask and regions differ in shape, or the mask is not three-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8, 8), bool)
    >>> mask[2:4, 2, 2] = True
    >>> lesion_table(mask, np.diag([1.0, 1.0, 3.0, 1.0]))[["voxels", "volume_mm3", "x_mm", "z_mm"]]
       voxels  volume_mm3  x_mm  z_mm
    0       2         6.0   2.5   6.0
    """
    matrix = np.asarray(affine, dtype=float)
    volume_mm3 = voxel_volume_of(matrix)
    found = components_of(mask, rule or LesionRule.default(), volume_mm3)
    voxels, count = found.voxels, len(found.voxels)
    centre = _centres(found) @ matrix[:3, :3].T + matrix[:3, 3]
    region: list[str | None] = [None] * count
    if regions is not None:
        region = [REGIONS[label - 1] for label in region_of_lesions(found, regions, matrix)]
    return pd.DataFrame(
        {
            "label": np.arange(1, count + 1),
            "voxels": voxels,
            "volume_mm3": voxels * volume_mm3,
            **{f"{axis}_mm": centre[:, number] for number, axis in enumerate("xyz")},
            "region": pd.Series(region, dtype=object),
        },
        columns=list(LESION_COLUMNS),
    )


def mask_summary(lesions: pd.DataFrame, by_region: bool = False) -> dict[str, float]:
    """What the lesions of one mask add up to: number, volume, median and largest lesion, one count a region.

    Parameters
    ----------
    lesions : DataFrame
        Of :func:`lesion_table`.
    by_region : bool
        Count by region too; the table must have been made with an anatomy map.

    Returns
    -------
    dict
        ``lesions``, ``volume_ml``, ``median_volume_mm3``, ``largest_volume_mm3`` (missing without a lesion), and
        ``lesions_<region>``.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 8, 8), bool)
    >>> mask[2:4, 2, 2] = mask[6, 6, 6] = True
    >>> mask_summary(lesion_table(mask, np.diag([2.0, 2.0, 2.0, 1.0])))
    {'lesions': 2, 'volume_ml': 0.024, 'median_volume_mm3': 12.0, 'largest_volume_mm3': 16.0}
    """
    volume = lesions["volume_mm3"]
    summary: dict[str, float] = {
        "lesions": len(lesions),
        "volume_ml": float(volume.sum() / 1000),
        "median_volume_mm3": float(volume.median()) if len(lesions) else np.nan,
        "largest_volume_mm3": float(volume.max()) if len(lesions) else np.nan,
    }
    if by_region:
        summary |= {f"lesions_{region}": int((lesions["region"] == region).sum()) for region in REGIONS}
    return summary


def _centres(found: Components) -> np.ndarray:
    """Mean voxel index of every lesion, shape (lesions, 3)."""
    count = len(found.voxels)
    sums = [np.bincount(found.lesion, weights=axis, minlength=count + 1)[1:] for axis in found.index]
    return np.asarray(np.stack(sums, axis=1) / np.asarray(found.voxels, dtype=float)[:, None])
