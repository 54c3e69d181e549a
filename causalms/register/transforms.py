"""Linear transforms of ANTs, ITK and FSL, read as one matrix, and written as ITK reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causalms.errors import InputError, UsageError, optional_packages
from causalms.trials import Space

#: World coordinates of NIfTI (right, anterior) to those of ITK (left, posterior) and back.
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_LINEAR_MM = 1e-3


def read_transform(path: Path, native: Space, template: Space | None = None) -> np.ndarray:
    """World coordinates of a scan to those of the template, from the file of another tool.

    Parameters
    ----------
    path : Path
        ANTs or ITK (.mat, .txt, .tfm, .h5), as ``antsRegistration`` writes it with the template as the fixed image; or the
        sixteen numbers of FSL (``flirt -omat``), with the template as its reference.
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
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    matrix = _sixteen_numbers(path)
    if matrix is None:
        return _of_itk(path)
    if template is None:
        raise UsageError(f"{path}: is a matrix of FSL, which needs its reference image; name it with `xfm_reference`")
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


def _of_itk(path: Path) -> np.ndarray:
    with optional_packages():
        import SimpleITK

    try:
        transform = SimpleITK.ReadTransform(str(path))
        points = np.vstack([np.zeros(3), 100 * np.eye(3), [[70.0, 70, 70]]])
        images = np.array([transform.TransformPoint([float(value) for value in point]) for point in points])
    except RuntimeError as error:
        raise InputError(
            f"{path}: is no transform that is read (ANTs or ITK .mat, .txt, .tfm, .h5; sixteen numbers of FSL); write it again"
        ) from error
    pulled = np.eye(4)
    pulled[:3, :3], pulled[:3, 3] = (images[1:4] - images[0]).T / 100, images[0]
    if np.abs(pulled[:3, :3] @ points[4] + pulled[:3, 3] - images[4]).max() > _LINEAR_MM:
        raise InputError(f"{path}: holds a deformation; give the affine part of it (0GenericAffine.mat)")
    return np.asarray(_FLIP @ np.linalg.inv(pulled) @ _FLIP)


def _fsl_corner(space: Space) -> np.ndarray:
    """Voxel index to FSL's millimetres, counted from a corner; the first axis from the right where it points right."""
    matrix = np.diag([*space.voxel_sizes_mm, 1.0])
    if np.linalg.det(space.affine[:3, :3]) > 0:
        matrix[0] = [-space.voxel_sizes_mm[0], 0, 0, (space.shape[0] - 1) * space.voxel_sizes_mm[0]]
    return matrix
