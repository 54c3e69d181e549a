"""What counts as one lesion: the rule that every count in causalms goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cc3d
import numpy as np

from causalms.errors import UsageError

#: Relative slack of a volume threshold: NIfTI keeps affines in single precision, so that three voxels of 1 mm3 may
#: measure 2.9999996 mm3.
_VOLUME_SLACK = 1e-5


@dataclass(frozen=True)
class LesionRule:
    """A lesion is a connected component of a mask that is large enough.

    Parameters
    ----------
    connectivity : {6, 18, 26}
        Voxels that share a face (6), a face or an edge (18), or a face, an edge or a corner (26) belong together.
    min_volume_mm3 : float
        Volume below which a component is no lesion.
    strictly_more : bool
        Whether a component of exactly ``min_volume_mm3`` is left out (True) or counted (False).

    Raises
    ------
    UsageError
        If the connectivity is not 6, 18 or 26, or the volume is negative or not finite.

    References
    ----------
    Commowick O, Cervenansky F, Cotton F, Dojat M. MSSEG-2 challenge proceedings: multiple sclerosis new lesions
    segmentation challenge using a data management and processing infrastructure. MICCAI 2021.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((5, 5, 5), bool)
    >>> mask[0:2, 0, 0] = mask[2:4, 1, 1] = True  # two pairs that touch at a corner
    >>> LesionRule.default().label(mask, 1.0).max(), LesionRule.msseg2().label(mask, 2.0).max()
    (np.int32(1), np.int32(2))
    """

    connectivity: int = 26
    min_volume_mm3: float = 3.0
    strictly_more: bool = False

    def __post_init__(self) -> None:
        if self.connectivity not in (6, 18, 26):
            raise UsageError(f"connectivity {self.connectivity!r} is not one of 6, 18, 26; choose one of them")
        if not (math.isfinite(self.min_volume_mm3) and self.min_volume_mm3 >= 0):
            raise UsageError(f"min_volume_mm3 {self.min_volume_mm3!r} is not a volume; give a number of mm3, 0 or more")

    @classmethod
    def default(cls) -> LesionRule:
        """26-connected components of at least 3 mm3."""
        return cls(connectivity=26, min_volume_mm3=3.0, strictly_more=False)

    @classmethod
    def msseg2(cls) -> LesionRule:
        """6-connected components of more than 3 mm3, the convention of the MSSEG-2 challenge."""
        return cls(connectivity=6, min_volume_mm3=3.0, strictly_more=True)

    @classmethod
    def named(cls, name: str) -> LesionRule:
        """Preset by name, ``default`` or ``msseg2``.

        Raises
        ------
        UsageError
            If no preset has this name.
        """
        presets = {"default": cls.default, "msseg2": cls.msseg2}
        if name not in presets:
            raise UsageError(f"no lesion rule is called {name!r}; choose one of {', '.join(presets)}")
        return presets[name]()

    def min_voxels(self, voxel_volume_mm3: float) -> int:
        """Smallest number of voxels that makes a lesion, at least 1.

        Examples
        --------
        >>> LesionRule.default().min_voxels(1.0), LesionRule.msseg2().min_voxels(1.0), LesionRule.default().min_voxels(64.0)
        (3, 4, 1)
        """
        if not voxel_volume_mm3 > 0:
            raise UsageError(f"voxel_volume_mm3 {voxel_volume_mm3!r} is not positive; give the volume of one voxel in mm3")
        voxels = self.min_volume_mm3 / voxel_volume_mm3
        slack = _VOLUME_SLACK * max(voxels, 1.0)
        fewest = math.floor(voxels + slack) + 1 if self.strictly_more else math.ceil(voxels - slack)
        return max(fewest, 1)

    def label(self, mask: np.ndarray, voxel_volume_mm3: float | np.ndarray) -> np.ndarray:
        """Number the lesions of a mask 1, 2, ...; everything else is 0.

        Parameters
        ----------
        mask : array of shape (X, Y, Z)
            Non-zero inside lesions.
        voxel_volume_mm3 : float or array of shape (4, 4)
            Volume of one voxel in mm3, or the affine it follows from.

        Returns
        -------
        array of int32, shape (X, Y, Z)

        Raises
        ------
        UsageError
            If the mask is not three-dimensional.
        """
        return label_components(mask, self, voxel_volume_of(voxel_volume_mm3))[0]


def voxel_volume_of(affine: float | np.ndarray) -> float:
    """Volume of one voxel in mm3 from an affine (4, 4); a number is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> voxel_volume_of(np.diag([2.0, 2.0, 3.0, 1.0]))
    12.0
    """
    if np.ndim(affine) == 0:
        return float(affine)
    return float(round(abs(np.linalg.det(np.asarray(affine, dtype=float)[:3, :3])), 9))


@dataclass(frozen=True)
class Components:
    """The voxels of a mask's lesions, in the order of the array: all that is not lesion is left out.

    Attributes
    ----------
    shape : tuple of int
        Of the mask.
    index : int arrays (voxels,), one an axis
    lesion : int32 array (voxels,)
        Which lesion each voxel belongs to, from 1.
    voxels : int array (lesions,)
        How many voxels each lesion has.
    """

    shape: tuple[int, ...]
    index: tuple[np.ndarray, ...]
    lesion: np.ndarray
    voxels: np.ndarray


def components_of(mask: np.ndarray, rule: LesionRule, voxel_volume_mm3: float) -> Components:
    """The lesions of a mask, looked for in the box around what is set."""
    if np.ndim(mask) != 3:
        raise UsageError(f"a mask has three dimensions, this one has {np.ndim(mask)}; give one volume")
    whole = np.asarray(mask, dtype=bool)
    box = _box(whole)
    solid = np.pad(whole[box], 1)  # cc3d 4.1.1 allots too few labels to [1, 0, 1] without a border
    inside = np.flatnonzero(solid)
    own = np.zeros(0, np.int32)
    if inside.size:
        numbered = cc3d.connected_components(solid, connectivity=rule.connectivity, out_dtype=np.uint32)
        own = numbered.view(np.int32).ravel()[inside]
    voxels = np.bincount(own, minlength=1)
    kept = voxels >= rule.min_voxels(voxel_volume_mm3)
    kept[0] = False
    if not kept[1:].all():
        own = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[own]
        inside, own = inside[own > 0], own[own > 0]
    index = tuple(at + (part.start - 1) for at, part in zip(np.unravel_index(inside, solid.shape), box, strict=True))
    return Components(whole.shape, index, own, voxels[kept])


def label_components(mask: np.ndarray, rule: LesionRule, voxel_volume_mm3: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a mask's lesions (int32) and the number of voxels of each, in the order of the labels."""
    found = components_of(mask, rule, voxel_volume_mm3)
    labels = np.zeros(found.shape, np.int32)
    labels[found.index] = found.lesion
    return labels, found.voxels


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The box of the voxels that are set: labels run in the order of voxels, which is the same in it."""
    first = _ends(mask, (1, 2))
    shadow = np.asarray(mask[first].any(axis=0))
    return first, _ends(shadow, (1,)), _ends(shadow, (0,))


def _ends(mask: np.ndarray, others: tuple[int, ...]) -> slice:
    where = np.flatnonzero(mask.any(axis=others))
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0)
