"""A trial written as a BIDS folder reads back as it was, and every problem of a folder is named with its mend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError, RefusalError
from causalms.phantom import PhantomTrial, simulate_trial, write_simulated_trial
from causalms.trials import Space, check_trial, load_trial, mni_space, resample_back, resample_trial, template_anatomy
from causalms.trials.folder import FolderSource
from causalms.trials.layout import Layout

OPEN_MS = pytest.mark.skipif("CAUSALMS_OPEN_MS" not in os.environ, reason="CAUSALMS_OPEN_MS does not name the real scans")


@pytest.fixture(scope="module")
def simulated() -> PhantomTrial:
    return simulate_trial("lifelike", patients=14, seed=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bids") / "trial"
    write_simulated_trial(out, "lifelike", patients=14, seed=5)
    return out


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "trial"
    shutil.copytree(written, copy)
    return copy


def _image(folder: Path, name: str = "sub-0001", suffix: str = "FLAIR") -> Path:
    return folder / name / "ses-w00" / "anat" / f"{name}_ses-w00_{suffix}.nii.gz"


def _mask(folder: Path, kind: str, week: int = 0, name: str = "sub-0001") -> Path:
    stem = "desc-brain" if kind == "brain" else f"label-L_desc-{kind}"
    return folder / "derivatives" / "lesions" / name / f"ses-w{week:02d}" / "anat" / f"{name}_ses-w{week:02d}_{stem}_mask.nii.gz"


def _says(folder: Path, *words: str) -> None:
    lines = [str(problem) for problem in check_trial(folder)]
    assert any(all(word in line for word in words) for line in lines), lines


def test_folder_reads_back_as_it_was_simulated(written: Path, simulated: PhantomTrial) -> None:
    trial = load_trial(written)
    assert trial.weeks == simulated.weeks
    assert trial.space.same_as(simulated.space)
    columns = [name for name in simulated.participants if name in trial.participants]
    pd.testing.assert_frame_equal(trial.participants[columns], simulated.participants[columns], check_dtype=False, rtol=1e-6)
    for name in trial.participants["participant_id"][:3]:
        for kind, week in (("brain", 0), ("T2", 0), ("Gd", 0), ("NET2", 24)):
            one, other = trial.mask(name, kind, week), simulated.mask(name, kind, week)
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)
        one, other = trial.image(name, "T1w"), simulated.image(name, "T1w")
        if one is not None and other is not None:
            assert np.abs(one - other).max() <= np.ptp(other) / 4095  # one grey level of the file


def test_folder_in_order_has_no_problem(written: Path) -> None:
    usual = ("has one patient", "no FLAIR image")  # a phantom has small arms, and scans are missing as in a real trial
    problems = [str(problem) for problem in check_trial(written) if not any(words in str(problem) for words in usual)]
    assert problems == []


def test_folder_is_valid_bids(written: Path) -> None:
    tool = Path(sys.executable).parent / "bids-validator-deno"
    ran = subprocess.run([tool, "--format", "json", written], capture_output=True, text=True, check=False, timeout=300)
    issues = json.loads(ran.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") == "error"] == []


def test_every_problem_is_listed_at_once(folder: Path) -> None:
    _image(folder).write_bytes(b"not a gzip")
    _mask(folder, "T2", name="sub-0002").unlink()
    broken = nib.load(_mask(folder, "brain", name="sub-0003"))
    values = np.asarray(broken.dataobj).copy()
    values[0, 0, 0] = 2
    nib.save(nib.Nifti1Image(values, broken.affine), _mask(folder, "brain", name="sub-0003"))
    empty = nib.load(_mask(folder, "T2", name="sub-0004"))
    nib.save(nib.Nifti1Image(np.zeros(empty.shape, np.uint8), empty.affine), _mask(folder, "T2", name="sub-0004"))
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    table.loc[4, "arm"] = "aspirin"
    table.loc[5, "age"] = -3
    table = pd.concat([table, table.iloc[[0]]])
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    flat = nib.load(_image(folder, "sub-0006"))
    nib.save(nib.Nifti1Image(np.full(flat.shape, 7, np.int16), flat.affine), _image(folder, "sub-0006"))
    _image(folder, "sub-0007").write_bytes(b"")
    _says(folder, "sub-0001_ses-w00_FLAIR.nii.gz", "gzip")
    _says(folder, "sub-0006_ses-w00_FLAIR.nii.gz: is the same in every voxel of the brain", "export it again")
    _says(folder, "sub-0007_ses-w00_FLAIR.nii.gz: the file is empty", "copy or export it again")
    _says(folder, "sub-0003", "a mask holds only 0 and 1, found also 2")
    _says(folder, "sub-0004", "the mask is empty")
    _says(folder, "arm 'aspirin' has one patient", "correct it if it is misspelt")
    _says(folder, "row 6, column 'age'", "-3")
    _says(folder, "stands twice", "keep one row a participant")


def test_masks_that_cannot_be_lesions_two_that_fit_and_another_table_are_told_once(folder: Path) -> None:
    mask = nib.load(_mask(folder, "T2"))
    nib.save(nib.Nifti1Image(1 - np.asarray(mask.dataobj), mask.affine), _mask(folder, "T2"))
    _says(folder, "sub-0001_ses-w00_label-L_desc-T2_mask.nii.gz: lesions cover", "save lesions as 1 and all else as 0")
    with pytest.raises(InputError, match=r"lesions cover \d{4} mL \(limit 500\)"):
        load_trial(folder).mask("sub-0001", "T2")
    flair = _image(folder)
    for name in ("acq-2D_FLAIR", "acq-3D_FLAIR"):
        shutil.copy(flair, flair.with_name(flair.name.replace("FLAIR", name)))
    flair.unlink()
    about = [str(problem) for problem in check_trial(folder) if "sub-0001" in str(problem) and "FLAIR" in str(problem)]
    assert [("both fit" in problem) for problem in about] == [True]
    (folder / "participants.tsv").rename(folder / "participants.csv")
    _says(folder, "participants.tsv: no such file", "save participants.csv with tabs between its columns under that name")


def test_a_patient_without_a_baseline_image_is_told_what_lies_there(folder: Path) -> None:
    anat = _image(folder).parent
    for file in anat.iterdir():
        file.unlink() if "FLAIR" not in file.name else file.rename(anat / file.name.replace("FLAIR", "flair"))
    _says(folder, "sub-0001", "no baseline image; not read: flair (did you mean FLAIR?)")
    shutil.rmtree(folder / "sub-0001" / "ses-w00")
    shutil.rmtree(folder / "derivatives" / "lesions" / "sub-0001" / "ses-w00")
    _says(folder, "sub-0001", "there are sessions w24, w48, w96, later visits by their names; if one is baseline, `baseline=w24`")


def test_an_unclear_baseline_does_not_hide_what_is_wrong_with_other_participants(folder: Path) -> None:
    shutil.copytree(folder / "sub-0002" / "ses-w00", folder / "sub-0002" / "ses-baseline")
    _image(folder).write_bytes(b"not a gzip")
    _says(folder, "sub-0002", "unclear which is baseline")
    _says(folder, "sub-0001_ses-w00_FLAIR.nii.gz", "gzip")


def test_grids_that_differ_are_named_both(folder: Path) -> None:
    path = _image(folder, suffix="T2w")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-1], image.affine), path)
    _says(folder, "sub-0001", "40x48x40", "39x48x40", "onto one grid")
    with pytest.raises(InputError, match=r"39x48x40.*onto one grid"):
        load_trial(folder).image("sub-0001", "T2w")


def test_what_is_kept_of_a_patient_is_of_one_baseline(tmp_path: Path) -> None:
    for session in ("ses-a", "ses-b"):
        place = tmp_path / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.nii.gz"
        place.parent.mkdir(parents=True)
        place.touch()
    sources = [FolderSource(Layout(tmp_path, {"sub-1": session})) for session in ("ses-a", "ses-a", "ses-b")]
    one, same, other = (source.stamp("sub-1") for source in sources)
    assert one == same != other


def test_not_a_number_in_an_image_is_refused(folder: Path) -> None:
    path = _image(folder)
    image = nib.load(path)
    values = image.get_fdata(dtype=np.float32)
    values[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), path)
    _says(folder, "1 voxels are not finite")


def test_resampling_keeps_lesions_and_says_so(simulated: PhantomTrial) -> None:
    coarse = simulated.space
    fine = Space((80, 96, 80), coarse.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    there = resample_trial(simulated, fine)
    assert any("resampled from 40x48x40" in note for note in there.notes)
    mask = simulated.mask("sub-0001", "T2")
    assert mask is not None
    back = resample_back(mask, coarse, fine)
    assert back.sum() == pytest.approx(8 * mask.sum(), rel=0.05)
    elsewhere = Space(coarse.shape, coarse.affine + np.array([[0, 0, 0, 400.0]] + [[0] * 4] * 3))
    with pytest.raises(RefusalError, match="register them to MNI152 first"):
        resample_trial(simulated, elsewhere)


def test_every_brain_voxel_of_the_template_has_a_region() -> None:
    anatomy = template_anatomy(mni_space("4mm"))
    assert ((anatomy.regions > 0) == anatomy.brain).all()
    assert set(np.unique(anatomy.regions)) == {0, 1, 2, 3, 4}
    z = mni_space("4mm").world(np.argwhere(anatomy.regions == 4))[:, 2]
    assert z.max() < 0  # the cerebellum and brainstem lie below the commissures


@OPEN_MS
def test_real_patient_loads_as_it_is_and_derives_its_lesions() -> None:
    trial = load_trial(os.environ["CAUSALMS_OPEN_MS"], ["sub-cs07"])
    assert trial.space.shape == (182, 218, 182)
    assert trial.image("sub-cs07", "FLAIR") is not None
    assert trial.participants["t2_lesions"].iloc[0] > 0
    assert any("no column trial, site, arm" in note for note in trial.notes)


@OPEN_MS
def test_real_patient_on_several_grids_is_refused_by_name() -> None:
    trial = load_trial(os.environ["CAUSALMS_OPEN_MS"], ["sub-lg01"])
    with pytest.raises(InputError, match=r"sub-lg01_ses-01_T1w.*320x320x39.*406x448x36.*onto one grid"):
        trial.image("sub-lg01", "T2w")
