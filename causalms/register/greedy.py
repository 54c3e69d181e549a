"""Linear and deformable registration of two scans by greedy, on one thread, so that the same scans give the same matrix."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from causalms.errors import optional_packages
from causalms.register.scan import Scan
from causalms.trials import Deformation

#: Iterations on ever finer voxels; the coarser the first, the farther off a scan may be, and the more often it is lost.
_FAR, _NEAR = "100x50x20", "50x20"
#: The same of a deformation, and how smooth its steps and the whole are.
_DEFORM, _SMOOTH = "60x40", "3vox 1vox"


def align(fixed: Scan, moving: Scan, start: np.ndarray, *, rigid: bool, far: bool, within: Scan | None = None) -> np.ndarray:
    """Find where ``moving`` lies on ``fixed``, by normalised mutual information: no common contrast is needed.

    Parameters
    ----------
    fixed, moving : Scan
        On voxels along the world's axes (:meth:`Scan.even`).
    start : array of shape (4, 4)
        First guess, of the form of the result.
    rigid : bool
        Six parameters, else twelve.
    far : bool
        Whether the first guess may be centimetres off.
    within : Scan, optional
        Mask on the grid of ``fixed``: only there are the scans compared.

    Returns
    -------
    array of shape (4, 4)
        World coordinates (mm, right-anterior-superior) of ``moving`` to those of ``fixed``.

    References
    ----------
    Yushkevich PA et al. Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3 Tesla and
    7 Tesla T2-weighted MRI. Alzheimer's & Dementia 2016 (greedy).
    """
    with optional_packages():
        from picsl_greedy import Greedy3D

    volumes = {"fixed": _itk(fixed), "moving": _itk(moving)}
    mask = ""
    if within is not None:
        volumes["within"], mask = _itk(within), "-gm within"
    tool = Greedy3D()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        first = Path(folder) / "start.mat"
        np.savetxt(first, np.linalg.inv(start))
        how = f"-threads 1 -seed 1 -V 0 -a -dof {6 if rigid else 12} -n {_FAR if far else _NEAR} -m NMI -ia {first}"
        tool.execute(f"{how} -i fixed moving {mask} -o matrix", out=io.StringIO(), err=io.StringIO(), matrix=None, **volumes)
    return np.asarray(np.linalg.inv(np.asarray(tool["matrix"], dtype=float)))


def deform(fixed: Scan, moving: Scan, start: np.ndarray, *, same_contrast: bool) -> Deformation:
    """What is left between two brains after an affine transform: a smooth field and its inverse.

    Parameters
    ----------
    fixed, moving : Scan
        On voxels along the world's axes, zero outside the brain.
    start : array of shape (4, 4)
        World coordinates of ``moving`` to those of ``fixed``, as :func:`align` gives them.
    same_contrast : bool
        Whether both are T1-weighted: local correlation is maximised, else normalised mutual information.

    Returns
    -------
    Deformation
        On the grid of ``fixed``.
    """
    with optional_packages():
        from picsl_greedy import Greedy3D

    tool = Greedy3D()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        first = Path(folder) / "start.mat"
        np.savetxt(first, np.linalg.inv(start))
        metric = "NCC 2x2x2" if same_contrast else "NMI"
        how = f"-threads 1 -seed 1 -V 0 -m {metric} -n {_DEFORM} -s {_SMOOTH} -wp 0 -it {first}"
        volumes = {"fixed": _itk(fixed), "moving": _itk(moving)}
        nowhere = {"out": io.StringIO(), "err": io.StringIO()}
        tool.execute(f"{how} -i fixed moving -o pulled -oinv pushed", pulled=None, pushed=None, **nowhere, **volumes)
    return Deformation(fixed.space, *(_displacements(tool[name]) for name in ("pulled", "pushed")))


def _displacements(field: Any) -> np.ndarray:
    """Displacements of ITK (mm, left-posterior-superior; z, y, x first) to the world of NIfTI."""
    import SimpleITK

    values = SimpleITK.GetArrayFromImage(field).transpose(2, 1, 0, 3)
    return np.asarray(values * np.array([-1, -1, 1]), dtype=np.float32)


def _itk(scan: Scan) -> Any:
    """An image of ITK, whose world points left and to the back."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(scan.values.T.astype(np.float32)))
    x, y, z = scan.space.affine[:3, 3]
    image.SetOrigin((-float(x), -float(y), float(z)))
    image.SetSpacing(scan.space.voxel_sizes_mm)
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    return image


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let the optimiser's remarks, which it writes past Python, go nowhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nothing, number)
        yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(nothing)
