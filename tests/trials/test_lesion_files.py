"""Lesion masks as LST-AI, SAMSEG and nnU-Net name and number them, and what lies in a patient's folder and is not read."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from causalms.errors import InputError, UsageError
from causalms.trials import check_trial, load_trial, resample_trial
from causalms.trials.lesion_files import LesionFiles

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
LESION = np.zeros((6, 6, 6), dtype=np.uint8)
LESION[1, 1, 1], LESION[4, 4, 3:5] = 1, 2


def volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.MGHImage(values, affine) if path.suffix == ".mgz" else nib.Nifti1Image(values, affine)
    if path.suffix != ".mgz":
        image.set_sform(affine, 4)
    nib.save(image, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "study"
    for name in ("sub-01", "sub-02"):
        volume(root / name / "ses-1" / "anat" / f"{name}_ses-1_FLAIR.nii.gz", np.ones((6, 6, 6), dtype=np.float32))
        (root / name / "ses-2" / "anat").mkdir(parents=True)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\nsub-02\t41\n")
    return root


def lst(place: Path, session: str = "ses-1") -> None:
    for name in ("sub-01", "sub-02"):
        own = place / name / session
        volume(own / "space-flair_seg-lst.nii.gz", (LESION > 1).astype(np.uint8))
        volume(own / "space-mni_seg-lst.nii.gz", (LESION > 0).astype(np.uint8))
        volume(own / "space-mni_desc-annotated_seg-lst.nii.gz", LESION)
        volume(own / "space-mni_FLAIR.nii.gz", np.ones((6, 6, 6), dtype=np.float32))


def samseg(place: Path) -> None:
    labels = np.where(LESION > 0, 99, np.where(np.arange(6)[:, None, None] < 3, 2, 41)).astype(np.int32)
    labels[0, 0, 0] = 3
    for name in ("sub-01", "sub-02"):
        volume(place / name / "seg.mgz", labels)
        volume(place / name / "posteriors" / "Lesions.mgz", np.full((6, 6, 6), 0.3, dtype=np.float32))


def nnunet(place: Path) -> None:
    for name in ("01", "02"):
        volume(place / f"case_{name}.nii.gz", np.where(LESION > 0, 2, 1).astype(np.uint8))
    (place / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "brain": 1, "MS lesion": 2}}))


def nnunet_of_regions(place: Path) -> None:
    nnunet(place)
    (place / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "brain": [1, 2], "lesion": [2]}}))


@pytest.mark.parametrize("tool", [lst, samseg, nnunet, nnunet_of_regions])
def test_lesion_masks_of_a_tool_are_read_from_its_folder_as_it_left_them(folder, tmp_path, tool):
    tool(tmp_path / "masks")
    trial = load_trial(folder, baseline="1", lesions=tmp_path / "masks")
    np.testing.assert_array_equal(trial.mask("sub-02", "T2"), LESION > 0)
    assert trial.participants["t2_lesions"].tolist() == [2, 2]
    assert any(
        f"T2 lesion masks are read from {tmp_path / 'masks'}" in note and "of 2 participants" in note for note in trial.notes
    )


def test_a_pattern_names_the_mask_and_the_session_is_the_baseline(folder, tmp_path):
    lst(tmp_path / "lst", "ses-1")
    lst(tmp_path / "lst", "ses-2")
    pattern = f"{tmp_path}/lst/{{participant}}/{{session}}/space-flair_seg-lst.nii.gz"
    trial = load_trial(folder, baseline="1", lesions=pattern)
    np.testing.assert_array_equal(trial.mask("sub-01", "T2"), LESION > 1)
    assert LesionFiles(str(tmp_path / "lst")).file("sub-01", "ses-2").parent.name == "ses-2"
    assert LesionFiles(str(tmp_path / "lst")).file("sub-01", "ses-3") is None


def test_who_has_no_lesion_mask_is_named_by_load_and_check(folder, tmp_path):
    lst(tmp_path / "lst")
    for file in (tmp_path / "lst" / "sub-02").rglob("*.nii.gz"):
        file.unlink()
    assert f"no lesion mask in {tmp_path / 'lst'}: sub-02" in load_trial(folder, baseline="1", lesions=tmp_path / "lst").notes
    assert any("sub-02: no lesion mask in" in str(problem) for problem in check_trial(folder, "1", tmp_path / "lst"))


def test_a_folder_without_anybody_a_pattern_without_names_and_two_that_fit_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no lesion mask of sub-01, sub-02; files or folders there must bear"):
        load_trial(folder, baseline="1", lesions=tmp_path / "empty")
    volume(tmp_path / "chances" / "sub-02_probseg.nii.gz", LESION)
    with pytest.raises(
        InputError, match=r"no lesion mask of sub-01, sub-02 \(sub-02_probseg.nii.gz is none by its name\); files"
    ):
        load_trial(folder, baseline="1", lesions=tmp_path / "chances")
    with pytest.raises(UsageError, match=r"`lesions=lst/\*.nii`: no such folder, and no pattern"):
        LesionFiles("lst/*.nii")
    for name in ("sub-01_lesions_a", "sub-01_lesions_b"):
        volume(tmp_path / "two" / f"{name}.nii.gz", LESION)
    words = r"a.nii.gz: fits the lesion mask of sub-01, and so does .*b.nii.gz; name one with `lesions=.*{participant}"
    with pytest.raises(InputError, match=words):
        LesionFiles(str(tmp_path / "two")).file("sub-01", None)
    volume(tmp_path / "two" / "sub-02_lesions.nii.gz", (LESION > 0).astype(np.uint8))
    problems = [str(problem) for problem in check_trial(folder, "1", tmp_path / "two")]
    assert not any("no lesion mask" in problem for problem in problems)  # there are two, which is said


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((6, 6, 6), 0.3, dtype=np.float32), "holds probabilities (0.3), no lesion mask"),
        (
            (np.arange(216).reshape(6, 6, 6) % 50).astype(np.int16),
            "holds the labels 0, 1, 2, 3, 4, 5, and nothing says",
        ),  # numbered: not FreeSurfer's
        (LESION, "holds the labels 0, 1, 2, and nothing says which are lesions"),
    ],
)
def test_what_is_no_mask_of_lesions_is_refused(folder, tmp_path, values, words):
    for name in ("sub-01", "sub-02"):
        volume(tmp_path / "masks" / f"{name}.nii.gz", values)
    with pytest.raises(InputError) as refusal:
        load_trial(folder, baseline="1", lesions=tmp_path / "masks")
    assert words in str(refusal.value)


def test_nothing_in_a_patients_folder_is_passed_over_in_silence(folder):
    own, ones = folder / "sub-01" / "ses-1", np.ones((6, 6, 6), dtype=np.float32)
    volume(own / "anat" / "sub-01_ses-1_run-1_T1w.nii.gz", ones)
    volume(own / "anat" / "sub-01_ses-1_run-2_T1w.nii.gz", ones)
    volume(own / "anat" / "sub-01_ses-1_label-lesion_mask.nii.gz", LESION)
    volume(own / "dwi" / "sub-01_ses-1_dwi.nii.gz", ones)
    volume(folder / "derivatives" / "lst" / "sub-01" / "space-mni_seg-lst.nii.gz", LESION)
    notes = "\n".join(load_trial(folder, baseline="1").notes)
    assert "run-2 of T1w (run-1 is read) of 1 participant" in notes
    assert "no image or mask that the model knows: label-lesion_mask of 1 participant" in notes
    assert "dwi in dwi of 1 participant" in notes
    assert f"derivatives/lst (if it holds lesion masks: `lesions={folder}/derivatives/lst`)" in notes


def test_patients_on_grids_of_their_own_are_each_resampled_from_theirs(folder):
    half = np.diag([2.0, 2.0, 2.0, 1.0])
    half[:3, 3] = -1.0
    volume(folder / "sub-02" / "ses-1" / "anat" / "sub-02_ses-1_FLAIR.nii.gz", np.ones((12, 12, 12), dtype=np.float32), half)
    trial = load_trial(folder, baseline="1")
    assert "participants lie on 2 grids, each is read on its own; 1 on 6x6x6 voxels of 4x4x4 mm" in "\n".join(trial.notes)
    assert trial.image("sub-02", "FLAIR").shape == (12, 12, 12) == trial.space_of("sub-02").shape
    on_grid = resample_trial(trial, trial.space)
    np.testing.assert_array_equal(on_grid.image("sub-01", "FLAIR"), np.ones((6, 6, 6)))
    np.testing.assert_allclose(on_grid.image("sub-02", "FLAIR")[2:4, 2:4, 2:4], 1.0, atol=1e-3)
    assert not [problem for problem in check_trial(folder, "1") if "onto one grid" in str(problem)]


def test_a_header_in_centimetres_is_named(folder):
    small = np.diag([0.4, 0.4, 0.4, 1.0])
    volume(folder / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_FLAIR.nii.gz", np.ones((6, 6, 6), dtype=np.float32), small)
    trial = load_trial(folder, ["sub-01"], baseline="1")
    with pytest.raises(Exception, match="as large as a head if their header is in centimetres; write the affine in millimetres"):
        resample_trial(trial, load_trial(folder, ["sub-02"], baseline="1").space)


@pytest.mark.parametrize("name", ["space-MNI152_label-lesion_mask", "label-lesions_dseg"])
def test_a_mask_of_another_name_where_masks_stand_comes_with_the_option_that_reads_it(folder: Path, name: str) -> None:
    for person in ("sub-01", "sub-02"):
        volume(
            folder / "derivatives/lesions" / person / "ses-1" / "anat" / f"{person}_ses-1_{name}.nii.gz",
            (LESION > 0) * np.uint8(1),
        )
    option = folder / "derivatives" / "lesions"
    assert f"T2 lesion masks that are not named label-L_desc-T2_mask are read with `lesions={option}`" in load_trial(folder).notes
    trial = load_trial(folder, lesions=str(option))
    assert np.array_equal(trial.mask("sub-01", "T2"), LESION > 0)
    assert not any("not named" in note for note in trial.notes)
