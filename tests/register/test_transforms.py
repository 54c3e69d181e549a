"""Transforms of other tools are read as they mean them: known motions come back from ITK's and FSL's conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.errors import InputError, UsageError
from causalms.register import read_transform, write_transform
from causalms.trials import Space

NATIVE = Space((60, 70, 40), np.array([[-0.9, 0, 0, 30], [0, -1.0, 0.1, 40], [0, 0.1, 3.0, -60], [0, 0, 0, 1]]))
TEMPLATE = Space((91, 109, 91), np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]))
TO_TEMPLATE = np.array([[1.1, -0.05, 0.02, 4], [0.04, 1.05, 0.2, -7], [0.01, -0.2, 1.12, 9], [0, 0, 0, 1]])


def test_itk_text_comes_back_and_moves_points_as_itk_says(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")  # in the lock; absent only where [register] is not installed
    file = tmp_path / "a.txt"
    write_transform(file, TO_TEMPLATE)
    assert np.allclose(read_transform(file, NATIVE), TO_TEMPLATE, atol=1e-12)
    # ITK's transform takes a point of the template (left, posterior, superior) to the scan.
    scan_point = np.array([10.0, 20, 30, 1])
    there = TO_TEMPLATE @ scan_point
    back = itk.ReadTransform(str(file)).TransformPoint((-there[0], -there[1], there[2]))
    assert np.allclose(back, (-10, -20, 30), atol=1e-9)


@pytest.mark.parametrize("ending", [".mat", ".h5", ".tfm"])
def test_other_files_of_itk_are_read(tmp_path: Path, ending: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    write_transform(tmp_path / "a.txt", TO_TEMPLATE)
    itk.WriteTransform(itk.ReadTransform(str(tmp_path / "a.txt")), str(tmp_path / f"b{ending}"))
    assert np.allclose(read_transform(tmp_path / f"b{ending}", NATIVE), TO_TEMPLATE, atol=1e-6)


def test_a_rotation_about_a_centre_is_read(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    transform = itk.Euler3DTransform((5.0, -3.0, 2.0), 0.1, 0.0, 0.2, (1.0, 2.0, 3.0))
    itk.WriteTransform(transform, str(tmp_path / "a.tfm"))
    pulled = np.linalg.inv(read_transform(tmp_path / "a.tfm", NATIVE))
    expected = transform.TransformPoint((-7.0, -8.0, 9.0))
    assert np.allclose((pulled @ [7, 8, 9, 1])[:3] * [-1, -1, 1], expected, atol=1e-9)


def test_fsl_counts_from_the_corners_of_both_images(tmp_path: Path) -> None:
    """Both headers point left first (negative determinant), so that FSL's millimetres are voxels times sizes."""
    to_voxel = np.linalg.inv(TEMPLATE.affine) @ TO_TEMPLATE @ NATIVE.affine
    fsl = np.diag([*TEMPLATE.voxel_sizes_mm, 1]) @ to_voxel
    if np.linalg.det(NATIVE.affine[:3, :3]) > 0:  # FSL turns the first axis of such an image
        turn = np.eye(4)
        turn[0, 0], turn[0, 3] = -1, NATIVE.shape[0] - 1
        fsl = fsl @ turn
    np.savetxt(tmp_path / "a.mat", fsl @ np.diag([*(1 / np.array(NATIVE.voxel_sizes_mm)), 1]))
    assert np.allclose(read_transform(tmp_path / "a.mat", NATIVE, TEMPLATE), TO_TEMPLATE, atol=1e-9)
    with pytest.raises(UsageError, match="needs its reference image"):
        read_transform(tmp_path / "a.mat", NATIVE)


@pytest.mark.parametrize("content", ["", "no transform", "1 2 3", "\n".join(["1 0 0 0"] * 4)])
def test_what_is_no_transform_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"a\.txt: "):
        read_transform(tmp_path / "a.txt", NATIVE, TEMPLATE)
    with pytest.raises(InputError, match="no such file"):
        read_transform(tmp_path / "b.txt", NATIVE)
