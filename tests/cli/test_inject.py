"""The verb inject: the user's own brains with known lesions, graded."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from tests.conftest import Run, refused


def test_known_lesions_are_counted_and_own_masks_are_graded(run: Run, simulated: Path, tmp_path: Path) -> None:
    first, second = sorted(path.name for path in simulated.glob("sub-*"))[:2]
    who = ("--participant", first, "--participant", second)
    ended = run("inject", simulated, tmp_path / "out", *who, "--write-scans", "--new", 8)
    assert ended.code == 0, ended.printed
    lesions = pd.read_csv(tmp_path / "out/lesions.csv")
    assert f"{len(lesions)} lesions in 2 patients" in ended.printed
    assert set(lesions["own grid"]) <= {"alone", "merged", "lost"}
    assert (tmp_path / "out/injected.png").stat().st_size > 10_000
    masks = {name: next((tmp_path / "out/derivatives").rglob(f"{name}*_mask.nii.gz")) for name in (first, second)}
    scan = nib.load(next((tmp_path / "out" / first).rglob("*_FLAIR.nii.gz"))).get_fdata()
    before = nib.load(next((simulated / first / "ses-w00").rglob("*_FLAIR.nii.gz"))).get_fdata()
    planted = np.asarray(nib.load(masks[first]).dataobj) > 0
    assert (scan[planted] - before[planted]).min() > 0.5 * before[before != 0].std()
    assert np.abs(scan - before)[before == 0].max() < 1e-3 * scan.max()
    for name, mask in masks.items():  # who finds half of it
        image = nib.load(mask)
        found = np.asarray(image.dataobj).copy()
        found[: found.shape[0] // 2] = 0
        nib.save(nib.Nifti1Image(found, image.affine), tmp_path / f"{name}.nii.gz")
    pattern = str(tmp_path / "{participant}.nii.gz")
    ended = run("inject", simulated, tmp_path / "graded", *who, "--new", 8, "--found", pattern)
    assert ended.code == 0, ended.printed
    graded = pd.read_csv(tmp_path / "graded/lesions.csv")
    pd.testing.assert_frame_equal(graded.drop(columns="your masks"), lesions)
    assert 0 < (graded["your masks"] == "lost").mean() < 1
    missing = run("inject", simulated, tmp_path / "no", *who, "--found", str(tmp_path / "no-{participant}.nii.gz"))
    refused(missing, 1, "no such mask", "--found")
