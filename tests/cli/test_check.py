"""Damaged images are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import Run, files_in, refused


@pytest.fixture
def folder(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "trial"))


FLAIR = "sub-0001_ses-w00_FLAIR.nii.gz"


def test_corrupt_image_is_named(run: Run, folder: Path) -> None:
    image = folder / "sub-0001" / "ses-w00" / "anat" / FLAIR
    image.write_bytes(image.read_bytes()[:1000])
    ended = run("check", folder)
    refused(ended, 1, str(folder), "listed above")
    assert [line for line in ended.printed.splitlines() if FLAIR in line]


def test_images_that_disagree_are_named(run: Run, folder: Path) -> None:
    image = folder / "sub-0001" / "ses-w00" / "anat" / FLAIR
    whole = nib.load(image)
    nib.save(nib.Nifti1Image(np.asanyarray(whole.dataobj)[:-2], whole.affine), image)
    ended = run("check", folder)
    refused(ended, 1, "listed above")
    assert [line for line in ended.printed.splitlines() if "sub-0001" in line and "grid" in line]


def test_corrupt_mask_is_refused_by_lesions(run: Run, folder: Path, tmp_path: Path) -> None:
    mask = next(folder.rglob("*desc-T2_mask.nii.gz"))
    mask.write_bytes(b"not an image")
    refused(run("lesions", mask, "--out", tmp_path / "lesions.csv"), 1, mask.name)
    assert files_in(tmp_path) == ["trial", *(f"trial/{name}" for name in files_in(folder))]
