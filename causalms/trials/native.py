"""The native grid of a registered scan, and the transform from it to the template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from causalms.errors import InputError, UsageError
from causalms.trials.space import Space

#: The template that ships, by its name in BIDS.
TEMPLATE = "MNI152NLin2009aSym"


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

    @cached_property
    def in_template(self) -> Space:
        """The same voxels in coordinates of the template: maps are brought home by resampling onto it."""
        return Space(self.space.shape, self.to_template @ self.space.affine)


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
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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
        grid = NativeGrid(Space(shape, np.array(content["NativeAffine"])), to_template, str(content["NativeImage"]))  # type: ignore[arg-type]
        grid.in_template  # noqa: B018  (the matrix is one that can be inverted)
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise InputError(f"{path}: is no transform that causalms register wrote ({error}); register the scan again") from error
    return grid
