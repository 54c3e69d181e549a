"""One grid of voxels in the world: what every image of a trial must share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from causalms.errors import UsageError

#: Two grids are one if no corner of the box moves by more than this: NIfTI keeps affines in single precision.
SAME_GRID_MM = 0.01

#: Grids of the model: shape and voxel size. The box is centred on the MNI152 brain.
_GRIDS = {"4mm": ((40, 48, 40), 4.0), "3mm": ((56, 64, 56), 3.0), "2mm": ((80, 96, 80), 2.0), "1mm": ((160, 192, 160), 1.0)}
_BRAIN_CENTRE_MM = (0.0, -17.0, 5.0)


@dataclass(frozen=True, eq=False)
class Space:
    """A grid of voxels: how many, and where each is in the world.

    Parameters
    ----------
    shape : tuple of three int
    affine : array of shape (4, 4)
        Voxel index to world coordinate (mm, right-anterior-superior).

    Raises
    ------
    UsageError
        If the shape is not three positive numbers or the affine cannot be inverted.

    Examples
    --------
    >>> import numpy as np
    >>> space = Space((40, 48, 40), np.diag([4.0, 4.0, 4.0, 1.0]))
    >>> space.voxel_volume_mm3, space.describe()
    (64.0, '40x48x40 voxels of 4x4x4 mm, axes RAS, first voxel at (0.0, 0.0, 0.0) mm')
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=float) + 0.0  # adding zero turns -0.0 into 0.0, so that equal grids hash alike
        if len(shape) != 3 or min(shape) < 1:
            raise UsageError(f"a grid has three positive sizes, found {shape}; give one three-dimensional volume")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise UsageError("the affine is not an invertible 4x4 matrix; correct the header (sform) of the image")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def voxel_sizes_mm(self) -> tuple[float, float, float]:
        """Length of a voxel's three edges."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel; exact for oblique and sheared grids."""
        return float(round(abs(np.linalg.det(self.affine[:3, :3])), 9))

    @property
    def axes(self) -> str:
        """Which way the three voxel axes point, nearest to right/left, anterior/posterior, superior/inferior."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    def same_as(self, other: Space, tolerance_mm: float = SAME_GRID_MM) -> bool:
        """Whether two grids have the same voxels: equal shape, and no corner further apart than the tolerance."""
        if self is other:
            return True
        if self.shape != other.shape:
            return False
        corners = np.array([[*corner, 1.0] for corner in itertools.product(*[(0, n - 1) for n in self.shape])])
        apart = corners @ (self.affine - other.affine).T
        return bool(np.abs(apart[:, :3]).max() <= tolerance_mm)

    def describe(self) -> str:
        """The grid in words, for messages."""
        return _described(self)

    def world(self, voxels: np.ndarray) -> np.ndarray:
        """World coordinates (mm), shape (N, 3), of voxel indices, shape (N, 3)."""
        return np.asarray(np.asarray(voxels, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3])


@lru_cache(maxsize=64)
def _described(space: Space) -> str:
    count = "x".join(str(n) for n in space.shape)
    size = "x".join(f"{round(length, 3):g}" for length in space.voxel_sizes_mm)
    first = ", ".join(f"{value:.1f}" for value in space.affine[:3, 3])
    return f"{count} voxels of {size} mm, axes {space.axes}, first voxel at ({first}) mm"


def mni_space(grid: str) -> Space:
    """A grid in MNI152 coordinates that holds the brain with room for heads 5% larger.

    Parameters
    ----------
    grid : {"4mm", "3mm", "2mm", "1mm"}
        40x48x40, 56x64x56, 80x96x80 or 160x192x160 voxels.

    Raises
    ------
    UsageError
        For another name.

    Examples
    --------
    >>> mni_space("4mm").describe()
    '40x48x40 voxels of 4x4x4 mm, axes RAS, first voxel at (-78.0, -111.0, -73.0) mm'
    """
    if grid not in _GRIDS:
        raise UsageError(f"no grid is called {grid!r}; choose one of {', '.join(_GRIDS)}")
    shape, size = _GRIDS[grid]
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = np.array(_BRAIN_CENTRE_MM) - size * (np.array(shape) - 1) / 2
    return Space(shape, affine)
