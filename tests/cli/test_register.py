"""The verb register: a folder in scanner coordinates becomes one that forecast reads, with the way home."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import Run, refused

MOVED = np.array([[1, 0, 0, 6], [0, 0.985, -0.174, 25], [0, 0.174, 0.985, -20], [0, 0, 0, 1]])


@pytest.fixture
def moved_study(simulated: Path, tmp_path: Path) -> tuple[Path, str]:
    """One simulated patient's T1w and baseline masks with a header in scanner coordinates."""
    name = next(f.name for f in sorted(simulated.glob("sub-*")) if list(f.rglob("*_T1w.nii.gz")))
    study = tmp_path / "raw"
    for base in ("", "derivatives/lesions"):
        shutil.copytree(simulated / base / name / "ses-w00", study / base / name / "ses-w00")
    for table in ("participants.tsv", "participants.json", "dataset_description.json"):
        shutil.copy(simulated / table, study / table)
    described = json.loads((study / "dataset_description.json").read_text()) | {"Authors": ["A. Author"]}
    (study / "dataset_description.json").write_text(json.dumps(described))
    for file in study.rglob("*.nii.gz"):
        if file.name.endswith(("FLAIR.nii.gz", "T2w.nii.gz", "gadolinium_T1w.nii.gz")):
            file.unlink()
            continue
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), MOVED @ image.affine), file)
    return study, name


def test_a_scan_elsewhere_is_registered_and_forecast_at_home(run: Run, moved_study: tuple[Path, str], tmp_path: Path) -> None:
    study, name = moved_study
    refused(run("forecast", study, "--participant", name, "--out", tmp_path / "no", "--draws", 0), 1, "causalms register")
    np.savetxt(tmp_path / "flirt.mat", np.eye(4))
    refused(run("register", study, tmp_path / "no", "--participant", name, "--xfm", tmp_path / "flirt.mat"), 2, "--xfm-reference")
    ended = run("register", study, tmp_path / "registered", "--participant", name)
    assert ended.code == 0, ended.printed
    assert "1 patient registered" in ended.printed
    page = (tmp_path / "registered/quality.html").read_text()
    assert name in page
    assert "data:image/png" in page
    _is_valid_bids(tmp_path / "registered", study, name)
    home = json.loads(next((tmp_path / "registered").rglob("*_from-orig_*_xfm.json")).read_text())
    assert np.allclose(home["NativeAffine"], nib.load(next((study / name).rglob("*_T1w.nii.gz"))).affine, atol=1e-4)
    assert not (tmp_path / "registered.parts").exists()
    ended = run("forecast", tmp_path / "registered", "--out", tmp_path / "out", "--arm", "placebo", "--draws", 0)
    assert ended.code == 0, ended.printed
    own = nib.load(next((tmp_path / "out").rglob("*space-orig*_probseg.nii.gz")))
    brain = nib.load(next((study / "derivatives/lesions").rglob("*_desc-brain_mask.nii.gz")))
    assert np.allclose(own.affine, brain.affine, atol=1e-4)
    risk = own.get_fdata()
    assert risk[np.asarray(brain.dataobj) > 0].sum() > 0.98 * risk.sum()


def _is_valid_bids(folder: Path, study: Path, name: str) -> None:
    sidecar = json.loads(next((folder / name).rglob("*_T1w.json")).read_text())
    (source,) = sidecar["Sources"]
    assert (study / source.removeprefix("bids:raw:")).is_file()
    assert sidecar["SpatialReference"] == "MNI152NLin2009aSym"
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if validator.exists():
        done = subprocess.run([validator, folder, "--json"], capture_output=True, text=True)
        assert json.loads(done.stdout)["issues"]["issues"] == []
