"""Transforms of ANTs, ITK, FSL and FreeSurfer, read as a matrix and what follows it, and written as ITK reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from causalms.errors import InputError, UsageError, optional_packages
from causalms.trials import Deformation, Space, mni_space, template_anatomy

#: World coordinates of NIfTI (right, anterior) to those of ITK (left, posterior) and back.
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_ITK = np.diag(_FLIP)[:3]
_LINEAR_MM = 1e-3
#: NIfTI's intent of a vector in each voxel; values whose median is longer are positions; share of the brain a field may lack.
_VECTOR, _POSITIONS_MM, _OUTSIDE = 1007, 40.0, 0.05
_ITERATIONS, _CLOSE_MM = 20, 0.02


def read_transform(path: Path, native: Space, template: Space | None = None) -> np.ndarray:
    """World coordinates of a scan to those of the template, from the file of another tool.

    Parameters
    ----------
    path : Path
        ANTs or ITK (.mat, .txt, .tfm, .h5), as ``antsRegistration`` writes it with the template as the fixed image; FreeSurfer
        (.lta) from the scan to the template or back; or the sixteen numbers of FSL (``flirt -omat``), with the template as its
        reference.
    native : Space
        Grid of the image that was registered.
    template : Space, optional
        Grid of FSL's reference image; needed for a matrix of FSL, which counts from the corners of both images.

    Returns
    -------
    array of shape (4, 4)

    Raises
    ------
    InputError
        If the file is none of these, or holds a deformation.
    UsageError
        If it is FSL's and the reference is not given.
    """
    matrix, deformation = read_transforms([path], native, template)
    if deformation is not None:
        raise InputError(f"{path}: holds a deformation; give the affine part of it (0GenericAffine.mat)")
    return matrix


def read_transforms(paths: Sequence[Path], native: Space, template: Space | None = None) -> tuple[np.ndarray, Deformation | None]:
    """One transform, or a chain in the order of ``antsApplyTransforms -t`` (the deformation first, then the affine).

    Beside the files of :func:`read_transform` this reads displacement fields of ITK and ANTs (1Warp.nii.gz) and composites (.h5).

    Returns
    -------
    matrix : array of shape (4, 4)
        World coordinates of the scan to those of the template: the affine transform nearest to the chain in the brain.
    deformation : Deformation or None
        What follows it, on voxels of 3 mm.

    Raises
    ------
    InputError
        If a file is of none of these kinds, or a deformation cannot be undone.
    UsageError
        If a matrix is FSL's and its reference is not given.
    """
    parts = [_read(path, native, template) for path in paths]
    matrices = [part for part in parts if isinstance(part, np.ndarray)]
    if len(matrices) == len(parts):
        return np.asarray(reduce(np.matmul, matrices)), None
    return _split(" ".join(path.name for path in paths), parts)


def _read(path: Path, native: Space, template: Space | None) -> Any:
    """A matrix, or what ITK made of the file where it is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    if path.name.endswith((".nii", ".nii.gz")):
        return _field(path)
    if path.suffix == ".lta":
        return _of_freesurfer(path, native)
    matrix = _sixteen_numbers(path)
    if matrix is None:
        return _of_itk(path)
    if template is None:
        raise UsageError(
            f"{path}: sixteen numbers; of FSL they need its reference image: name it with `xfm_reference`; of greedy or c3d "
            "write them as ITK does (c3d_affine_tool FILE -oitk FILE.txt)"
        )
    scaled = [_fsl_corner(space) @ np.linalg.inv(space.affine) for space in (native, template)]
    return np.asarray(np.linalg.inv(scaled[1]) @ matrix @ scaled[0])


def write_transform(path: Path, to_template: np.ndarray) -> None:
    """Write a matrix as a text file of ITK: ``antsApplyTransforms -t`` brings the scan to the template with it.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_transform(file, np.eye(4))
    >>> file.read_text().splitlines()[2]
    'Transform: AffineTransform_double_3_3'
    """
    pulled = _FLIP @ np.linalg.inv(to_template) @ _FLIP
    numbers = " ".join(f"{value:.17g}" for value in (*pulled[:3, :3].ravel(), *pulled[:3, 3]))
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {numbers}",
        "FixedParameters: 0 0 0",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sixteen_numbers(path: Path) -> np.ndarray | None:
    try:
        words = path.read_text(encoding="ascii").split()
        numbers = np.array([float(word) for word in words])
    except (UnicodeDecodeError, ValueError):
        return None
    if numbers.size != 16:
        return None
    matrix = numbers.reshape(4, 4)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9 or not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise InputError(f"{path}: its sixteen numbers are no transform (last row 0 0 0 1, invertible); write it again")
    return matrix


def _of_itk(path: Path) -> Any:
    with optional_packages():
        import SimpleITK

    try:
        transform = SimpleITK.ReadTransform(str(path))
        points = np.vstack([np.zeros(3), 100 * np.eye(3), _brain_points()[::97] * _TO_ITK])
        images = np.array([transform.TransformPoint([float(value) for value in point]) for point in points])
    except RuntimeError as error:
        raise InputError(
            f"{path}: is no transform that is read (ANTs or ITK .mat, .txt, .tfm, .h5, 1Warp.nii.gz; FreeSurfer .lta; sixteen "
            "numbers of FSL); write it as ITK does"
        ) from error
    pulled = np.eye(4)
    pulled[:3, :3], pulled[:3, 3] = (images[1:4] - images[0]).T / 100, images[0]
    if np.abs(points @ pulled[:3, :3].T + pulled[:3, 3] - images).max() > _LINEAR_MM:
        return transform
    return np.asarray(_FLIP @ np.linalg.inv(pulled) @ _FLIP)


def _field(path: Path) -> Any:
    """The displacements of ITK in a file; fields that count otherwise are told by shape, intent and size of their values."""
    with optional_packages():
        import nibabel
        import SimpleITK

    try:
        header = nibabel.load(path).header
        shape, intent = header.get_data_shape(), int(header["intent_code"])
        name = bytes(header["intent_name"]).rstrip(b"\0").decode("ascii", "replace")
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorFloat64) if len(shape) == 5 else None
    except (RuntimeError, OSError, KeyError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: is no displacement field that can be read; copy or write it again") from error
    if image is None or shape[3:] != (1, 3) or intent != _VECTOR:
        kind = "an image, no transform" if len(shape) == 3 else "no field of ITK (of FSL's fnirt or AFNI, say)"
        raise InputError(
            f"{path}: is {kind}; give 1Warp.nii.gz of ANTs, or convert it (wb_command -convert-warpfield -from-fnirt FILE SCAN "
            "-to-itk OUT.nii.gz)"
        )
    values = SimpleITK.GetArrayFromImage(image)
    if name in ("Mapping", "NREG_TRANS") or np.median(np.linalg.norm(values[::4, ::4, ::4], axis=-1)) > _POSITIONS_MM:
        raise InputError(f"{path}: holds positions (SPM, NiftyReg), not displacements; give ANTs' 1Warp.nii.gz, or `deformable`")
    to_voxel = np.linalg.inv(nibabel.load(path).affine)
    at = _brain_points() @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    if "InverseWarp" in path.name or ((at < -1) | (at > shape[:3])).any(axis=1).mean() > _OUTSIDE:
        raise InputError(f"{path}: does not lead from the template to the scan, as 1Warp.nii.gz with the template fixed does")
    return SimpleITK.DisplacementFieldTransform(image)


def _split(name: str, parts: Sequence[Any]) -> tuple[np.ndarray, Deformation]:
    """A chain as the affine transform nearest to it in the brain and the deformation that is left."""
    import SimpleITK

    chain = SimpleITK.CompositeTransform(3)
    for part in reversed(parts):  # ITK applies the last first
        if isinstance(part, np.ndarray):
            pulled = _FLIP @ np.linalg.inv(part) @ _FLIP
            part = SimpleITK.AffineTransform(pulled[:3, :3].ravel().tolist(), pulled[:3, 3].tolist())
        chain.AddTransform(part)
    space = mni_space("3mm")
    origin, sizes = (space.affine[:3, 3] * _TO_ITK).tolist(), space.voxel_sizes_mm
    field = SimpleITK.TransformToDisplacementField(
        chain, SimpleITK.sitkVectorFloat64, space.shape, origin, sizes, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    )
    world = space.world(np.indices(space.shape).reshape(3, -1).T)
    there = world + (SimpleITK.GetArrayFromImage(field).transpose(2, 1, 0, 3) * _TO_ITK).reshape(-1, 3)
    brain = template_anatomy(space).brain
    inside = brain.ravel()
    known = np.column_stack([world, np.ones(len(world))])
    pulled = np.vstack([np.linalg.lstsq(known[inside], there[inside], rcond=None)[0].T, [0, 0, 0, 1]])
    to_template = np.linalg.inv(pulled)
    left = np.column_stack([there, np.ones(len(there))]) @ to_template[:3].T - world
    forth = Deformation(space, left.reshape(*space.shape, 3), np.zeros((*space.shape, 3)))
    back = world.copy()
    for _ in range(_ITERATIONS):
        step = forth.into_scan(back) - world
        back -= step
        if np.abs(step)[inside].max() < _CLOSE_MM:
            break
    found = Deformation(space, forth.from_template, (back - world).reshape(*space.shape, 3))
    if np.abs(forth.into_scan(back) - world)[inside].max() > 1 or found.least_volume_ratio(brain) <= 0:
        raise InputError(f"{name}: the deformation folds space and cannot be undone; make it smoother, or give the affine alone")
    return to_template, found


def _brain_points() -> np.ndarray:
    """World coordinates of the template's brain on voxels of 4 mm."""
    space = mni_space("4mm")
    return space.world(np.argwhere(template_anatomy(space).brain))


def _of_freesurfer(path: Path, native: Space) -> np.ndarray:
    """A linear transform of FreeSurfer between the worlds (type 1) or voxels (type 0) of two images, in either direction."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    try:
        kind = int(next(line.partition("=")[2] for line in lines if line.startswith("type")))
        first = lines.index("1 4 4") + 1
        matrix = np.array([line.split() for line in lines[first : first + 4]], dtype=float)
        source, target = (_volume(lines[lines.index(f"{which} volume info") :]) for which in ("src", "dst"))
        if kind not in (0, 1) or matrix.shape != (4, 4):
            raise ValueError(f"type {kind}")
        world = matrix if kind else target.affine @ matrix @ np.linalg.inv(source.affine)
        return np.asarray(np.linalg.inv(world) if target.same_as(native) and not source.same_as(native) else world)
    except (ValueError, StopIteration, UsageError, np.linalg.LinAlgError) as error:
        raise InputError(
            f"{path}: is no linear transform of FreeSurfer between two worlds or voxels ({error}); write it as ITK does "
            "(lta_convert, outitk FILE.txt)"
        ) from error


def _volume(lines: Sequence[str]) -> Space:
    """The grid of an image as a transform of FreeSurfer describes it."""
    words = {name.strip(): value.split() for name, _, value in (line.partition("=") for line in lines[:9])}
    shape = np.array(words["volume"], dtype=int)
    axes = np.array([words[f"{axis}ras"] for axis in "xyz"], dtype=float).T * np.array(words["voxelsize"], dtype=float)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, np.array(words["cras"], dtype=float) - axes @ (shape / 2)
    return Space(tuple(int(n) for n in shape), affine)  # type: ignore[arg-type]


def _fsl_corner(space: Space) -> np.ndarray:
    """Voxel index to FSL's millimetres, counted from a corner; the first axis from the right where it points right."""
    matrix = np.diag([*space.voxel_sizes_mm, 1.0])
    if np.linalg.det(space.affine[:3, :3]) > 0:
        matrix[0] = [-space.voxel_sizes_mm[0], 0, 0, (space.shape[0] - 1) * space.voxel_sizes_mm[0]]
    return matrix
