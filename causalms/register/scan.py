"""A volume with its grid, brought onto even voxels or the template's grid, and where its brain is."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from causalms.errors import RefusalError, optional_packages
from causalms.trials import Deformation, Space, resample_image

#: The 1 mm grid of the template's file; registered scans are written on it.
STANDARD_SPACE = Space((197, 233, 189), np.array([[1.0, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]]))


@dataclass(frozen=True, eq=False)
class Scan:
    """Values and the grid that they lie on.

    Parameters
    ----------
    values : array, shape (X, Y, Z)
    space : Space

    Examples
    --------
    >>> import numpy as np
    >>> scan = Scan(np.ones((4, 4, 4)), Space((4, 4, 4), np.eye(4)))
    >>> scan.moved(np.diag([2.0, 2, 2, 1])).space.voxel_sizes_mm
    (2.0, 2.0, 2.0)
    """

    values: np.ndarray
    space: Space

    def moved(self, matrix: np.ndarray) -> Scan:
        """The same voxels elsewhere in the world: nothing is resampled."""
        return Scan(self.values, Space(self.space.shape, matrix @ self.space.affine))

    def on(self, space: Space, deformation: Deformation | None = None) -> Scan:
        """Resampled onto a grid, linearly; with a deformation, onto that of the template."""
        through = None if deformation is None else deformation.into_scan
        return Scan(resample_image(self.values, self.space, space, through), space)

    def even(self, size_mm: float) -> Scan:
        """Resampled onto cubic voxels along the world's axes that hold the whole field of view."""
        corners = np.array(list(itertools.product(*[(0, n - 1) for n in self.space.shape])), dtype=float)
        world = self.space.world(corners)
        low, high = world.min(axis=0), world.max(axis=0)
        affine = np.diag([size_mm, size_mm, size_mm, 1.0])
        affine[:3, 3] = low
        shape = tuple(int(n) for n in np.ceil((high - low) / size_mm) + 1)
        return self.on(Space(shape, affine))  # type: ignore[arg-type]

    def centre_mm(self) -> np.ndarray:
        """World coordinates of the middle of what is not zero."""
        return np.asarray(self.space.world(np.argwhere(self.values > 0).mean(axis=0, keepdims=True))[0])


#: No brain with its fluid is larger; of heads with their skull, 2.6 litres and more are not zero (docs/decisions/space_gate.md).
_LARGEST_BRAIN_MM3 = 2.0e6


def is_extracted(scan: Scan) -> bool:
    """Whether the skull is off: what is not zero has no more than the volume of a brain."""
    return float(np.count_nonzero(scan.values) * scan.space.voxel_volume_mm3) < _LARGEST_BRAIN_MM3


def extract_brain(where: str, scan: Scan) -> np.ndarray:
    """A brain mask of an image with its skull, of any contrast, by deepbet.

    Parameters
    ----------
    where : str
        The image, for messages.
    scan : Scan

    Returns
    -------
    array of bool

    Raises
    ------
    RefusalError
        If the network sees no brain.

    References
    ----------
    Fisch L et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks. Computers in Biology
    and Medicine 2024.
    """
    import nibabel

    try:
        _, mask, _ = _network().run(nibabel.Nifti1Image(scan.values.astype(np.float32), scan.space.affine))
    except (AssertionError, ValueError, IndexError) as error:
        raise RefusalError(f"{where}: no brain is seen in it ({error}); give a brain mask with `brain_mask`") from error
    return np.asarray(mask.dataobj) > 0


@lru_cache(maxsize=1)
def _network() -> Any:
    with optional_packages():
        from deepbet import BrainExtraction
    return BrainExtraction(no_gpu=True)
