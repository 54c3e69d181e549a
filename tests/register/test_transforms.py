"""Transforms of other tools are read as they mean them: known motions come back from ITK's and FSL's conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.errors import InputError, UsageError
from causalms.register import read_transform, write_transform
from causalms.register.transforms import read_transforms
from causalms.trials import Space, mni_space, template_anatomy
from causalms.trials.nifti import write_displacements

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
    with pytest.raises(UsageError, match=r"of FSL they need its reference image.*greedy or c3d"):
        read_transform(tmp_path / "a.mat", NATIVE)


@pytest.mark.parametrize("content", ["", "no transform", "1 2 3", "\n".join(["1 0 0 0"] * 4)])
def test_what_is_no_transform_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"a\.txt: "):
        read_transform(tmp_path / "a.txt", NATIVE, TEMPLATE)
    with pytest.raises(InputError, match="no such file"):
        read_transform(tmp_path / "b.txt", NATIVE)


GRID = mni_space("4mm")
WORLD = GRID.world(np.indices(GRID.shape).reshape(3, -1).T)
#: Displacements of up to 4 mm over 90 mm.
BEND = 4 * np.sin(2 * np.pi * WORLD[:, [1, 2, 0]] / 180).reshape(*GRID.shape, 3)
INSIDE = template_anatomy(GRID).brain.ravel()


@pytest.mark.parametrize("composite", [False, True])
def test_a_deformation_of_ants_and_its_affine_lead_where_itk_leads(tmp_path: Path, composite: bool) -> None:
    """A point x of the template lies at inverse(affine) (x + bend(x)) of the scan; tolerance: a field of 4 mm read on 3 mm."""
    itk = pytest.importorskip("SimpleITK")
    files = [tmp_path / "a_1Warp.nii.gz", tmp_path / "a_0GenericAffine.txt"]
    write_displacements(files[0], BEND, GRID)
    write_transform(files[1], TO_TEMPLATE)
    if composite:
        chain = itk.CompositeTransform(3)
        chain.AddTransform(itk.ReadTransform(str(files[1])))
        chain.AddTransform(itk.DisplacementFieldTransform(itk.ReadImage(str(files[0]), itk.sitkVectorFloat64)))
        files = [tmp_path / "a_Composite.h5"]
        itk.WriteTransform(chain, str(files[0]))
    matrix, follows = read_transforms(files, NATIVE)
    assert follows is not None
    bent = WORLD[INSIDE] + BEND.reshape(-1, 3)[INSIDE]
    there = (np.column_stack([bent, np.ones(len(bent))]) @ np.linalg.inv(TO_TEMPLATE).T)[:, :3]
    through = follows.into_scan(WORLD[INSIDE])
    found = (np.column_stack([through, np.ones(len(through))]) @ np.linalg.inv(matrix).T)[:, :3]
    assert np.abs(found - there).max() < 0.1
    assert np.abs(follows.into_template(through) - WORLD[INSIDE]).max() < 0.1
    with pytest.raises(InputError, match="holds a deformation; give the affine part"):
        read_transform(files[0], NATIVE)


def test_fields_that_count_otherwise_are_told_and_named_with_the_mend(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    nib = pytest.importorskip("nibabel")

    def refused(name: str, values: np.ndarray, intent: int, words: str, intent_name: str = "") -> None:
        image = nib.Nifti1Image(values.astype(np.float32), GRID.affine)
        image.header.set_intent(intent, name=intent_name, allow_unknown=True)
        nib.save(image, tmp_path / name)
        with pytest.raises(InputError, match=words):
            read_transforms([tmp_path / name], NATIVE)

    five = BEND[..., None, :]
    refused("fnirt.nii.gz", BEND, 2006, "no field of ITK .of FSL's fnirt or AFNI, say.; give 1Warp")
    refused("t1.nii.gz", BEND[..., 0], 0, "is an image, no transform")
    refused("y_t1.nii", WORLD.reshape(*GRID.shape, 1, 3), 1007, "holds positions", "Mapping")
    refused("positions.nii.gz", WORLD.reshape(*GRID.shape, 1, 3), 1007, "holds positions")
    refused("a_1InverseWarp.nii.gz", five, 1007, "does not lead from the template to the scan")
    refused("small_1Warp.nii.gz", five[:20], 1007, "does not lead from the template to the scan")
    folded = 12 * np.sin(2 * np.pi * WORLD / 60).reshape(*GRID.shape, 1, 3)
    refused("folds_1Warp.nii.gz", folded, 1007, "folds space and cannot be undone")


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("back", [False, True])
def test_freesurfer_is_read_between_worlds_and_voxels_in_both_directions(tmp_path: Path, kind: int, back: bool) -> None:
    def volume(space: Space) -> list[str]:
        axes = space.affine[:3, :3] / space.voxel_sizes_mm
        middle = space.affine @ [*(np.array(space.shape) / 2), 1]
        rows = {"valid": [1], "filename": ["a.mgz"], "volume": space.shape, "voxelsize": space.voxel_sizes_mm}
        rows |= {f"{name}ras": axes[:, k] for k, name in enumerate("xyz")} | {"cras": middle[:3]}
        return [f"{name:8s} = {' '.join(str(value) for value in values)}" for name, values in rows.items()]

    world = np.linalg.inv(TO_TEMPLATE) if back else TO_TEMPLATE
    source, target = (TEMPLATE, NATIVE) if back else (NATIVE, TEMPLATE)
    matrix = world if kind else np.linalg.inv(target.affine) @ world @ source.affine
    lines = [f"type      = {kind} # LINEAR", "nxforms   = 1", "mean      = 0 0 0", "sigma     = 1", "1 4 4"]
    lines += [" ".join(f"{value:.15g}" for value in row) for row in matrix]
    lines += ["src volume info", *volume(source), "dst volume info", *volume(target)]
    (tmp_path / "a.lta").write_text("\n".join(lines) + "\n")
    assert np.allclose(read_transform(tmp_path / "a.lta", NATIVE), TO_TEMPLATE, atol=1e-6)
    (tmp_path / "a.lta").write_text("\n".join(["type = 14", *lines[1:]]))
    with pytest.raises(InputError, match=r"write it as ITK does .lta_convert, outitk"):
        read_transform(tmp_path / "a.lta", NATIVE)
