"""The native grid of a registered scan, and the transform from it to the template."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from causalms.errors import InputError, UsageError
from causalms.trials.nifti import read_displacements, write_displacements
from causalms.trials.space import Space

#: The template that ships, by its name in BIDS.
TEMPLATE = "MNI152NLin2009aSym"


@dataclass(frozen=True, eq=False)
class Deformation:
    """What is left between a scan that an affine transform brought to the template and the template itself.

    Parameters
    ----------
    space : Space
        Grid in coordinates of the template.
    from_template, to_template : array of shape (X, Y, Z, 3)
        Displacements (mm): a point x of the template lies at x + ``from_template`` of the scan, and a point of the scan at
        y + ``to_template`` of the template. Each is the inverse of the other.
    """

    space: Space
    from_template: np.ndarray
    to_template: np.ndarray

    def into_scan(self, world: np.ndarray) -> np.ndarray:
        """Where points of the template lie in the scan (mm), shape (N, 3)."""
        return self._displaced(world, self.from_template)

    def into_template(self, world: np.ndarray) -> np.ndarray:
        """Where points of the scan lie in the template (mm), shape (N, 3)."""
        return self._displaced(world, self.to_template)

    def _displaced(self, world: np.ndarray, field: np.ndarray) -> np.ndarray:
        to_voxel = np.linalg.inv(self.space.affine)
        at = (world @ to_voxel[:3, :3].T + to_voxel[:3, 3]).T
        parts = [ndimage.map_coordinates(field[..., axis], at, order=1, mode="nearest") for axis in range(3)]
        return np.asarray(world + np.stack(parts, axis=1))

    def least_volume_ratio(self, inside: np.ndarray | None = None) -> float:
        """Least determinant of the Jacobian of x + ``from_template``, within a mask on the grid; 0 or less where space folds."""
        gradient = np.stack(
            [np.stack(np.gradient(self.from_template[..., axis], *self.space.voxel_sizes_mm), axis=-1) for axis in range(3)],
            axis=-2,
        )
        ratio = np.linalg.det(gradient + np.eye(3))
        return float((ratio if inside is None else ratio[inside]).min())


@dataclass(frozen=True, eq=False)
class NativeGrid:
    """The grid that a patient's image was taken on, and where it lies against the template.

    Parameters
    ----------
    space : Space
        In the scanner's coordinates.
    to_template : array of shape (4, 4)
        World coordinates (mm, right-anterior-superior) of the scanner to those of the template.
    image : str
        The image that was taken on it.
    deformation : Deformation, optional
        What follows the matrix, if the registration was deformable.

    Examples
    --------
    >>> import numpy as np
    >>> moved = np.eye(4); moved[0, 3] = 5
    >>> grid = NativeGrid(Space((4, 4, 4), np.eye(4)), moved, "FLAIR")
    >>> float(grid.in_template.affine[0, 3])  # what lay at 0 lies at 5 mm of the template
    5.0
    """

    space: Space
    to_template: np.ndarray
    image: str
    deformation: Deformation | None = None

    @cached_property
    def in_template(self) -> Space:
        """The same voxels in coordinates of the template: maps are brought home by resampling onto it."""
        return Space(self.space.shape, self.to_template @ self.space.affine)

    @property
    def through(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Where points of :attr:`in_template` lie in the template itself; None where there is no deformation."""
        return None if self.deformation is None else self.deformation.into_template


def native_path(participant_id: str, session: str | None, root: Path) -> Path:
    """Path of a participant's native grid and transform in a registered folder.

    Examples
    --------
    >>> native_path("sub-1", None, Path("out")).as_posix()
    'out/sub-1/anat/sub-1_from-orig_to-MNI152NLin2009aSym_mode-image_xfm.json'
    """
    parts = [participant_id, *([session] if session else [])]
    return root.joinpath(*parts, "anat", f"{'_'.join(parts)}_from-orig_to-{TEMPLATE}_mode-image_xfm.json")


def write_native(path: Path, grid: NativeGrid) -> None:
    """Write the native grid and transform as JSON."""
    content = {
        "Description": "World coordinates of the native image to those of the template, millimetres, right-anterior-superior",
        "NativeImage": grid.image,
        "NativeShape": list(grid.space.shape),
        "NativeAffine": grid.space.affine.tolist(),
        "ToTemplate": grid.to_template.tolist(),
    }
    if grid.deformation is not None:
        content["Deformation"] = [file.name for file in deformation_paths(path)]
        for file, field in zip(
            deformation_paths(path), (grid.deformation.from_template, grid.deformation.to_template), strict=True
        ):
            write_displacements(file, field, grid.deformation.space)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def deformation_paths(path: Path) -> tuple[Path, Path]:
    """Fields beside the JSON of a native grid: template to the scan that the matrix moved (as ITK pulls an image), and back."""
    start = path.name.partition("_from-")[0]
    names = (
        f"{start}_from-affine_to-{TEMPLATE}_mode-image_xfm.nii.gz",
        f"{start}_from-{TEMPLATE}_to-affine_mode-image_xfm.nii.gz",
    )
    return path.with_name(names[0]), path.with_name(names[1])


def read_native(path: Path) -> NativeGrid | None:
    """Read the native grid and transform; None where there are none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shape = tuple(int(n) for n in content["NativeShape"])
        to_template = np.array(content["ToTemplate"], dtype=float)
        space = Space(shape, np.array(content["NativeAffine"]))  # type: ignore[arg-type]
        grid = NativeGrid(
            space, to_template, str(content["NativeImage"]), _deformation(path) if "Deformation" in content else None
        )
        grid.in_template  # noqa: B018  (the matrix is one that can be inverted)
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise InputError(f"{path}: is no transform that causalms register wrote ({error}); register the scan again") from error
    return grid


def _deformation(path: Path) -> Deformation:
    fields = [read_displacements(file) for file in deformation_paths(path)]
    return Deformation(fields[0][1], fields[0][0], fields[1][0])
