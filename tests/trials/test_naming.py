"""What file names of a BIDS folder say: read, passed over and said, or refused; never ignored in silence."""

from pathlib import Path

import pytest

from causalms.errors import InputError
from causalms.trials.naming import choose, meant, unread


def there(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"sub-1_{name}.nii.gz").touch()
    return folder


def chosen(folder: Path, wanted: str) -> str | None:
    path = choose(folder, f"sub-1_{wanted}.nii.gz")
    return None if path is None else path.name.removeprefix("sub-1_").removesuffix(".nii.gz")


@pytest.mark.parametrize(
    "name",
    ["FLAIR", "space-MNI152NLin6Asym_desc-preproc_FLAIR", "acq-3D_FLAIR", "run-02_FLAIR", "desc-brain_FLAIR", "rec-norm_FLAIR"],
)
def test_an_image_is_known_by_any_of_its_bids_names(tmp_path, name):
    assert chosen(there(tmp_path, name), "FLAIR") == name


@pytest.mark.parametrize("agent", ["gadolinium", "Gd", "gad", "GAD", "gadobutrol", "contrast"])
def test_gadolinium_is_known_by_any_contrast_agent_and_never_taken_for_the_plain_t1(tmp_path, agent):
    there(tmp_path, f"ce-{agent}_T1w", "T1w")
    assert chosen(tmp_path, "ce-gadolinium_T1w") == f"ce-{agent}_T1w"
    assert chosen(tmp_path, "T1w") == "T1w"


@pytest.mark.parametrize(
    "name", ["space-T1w_FLAIR", "desc-lesions_FLAIR", "echo-1_FLAIR", "part-phase_FLAIR", "T2w", "label-L_FLAIR"]
)
def test_another_image_is_not_taken_and_is_named(tmp_path, name):
    assert chosen(there(tmp_path, name), "FLAIR") is None
    assert unread([f"sub-1_{name}.nii.gz"], ["sub-1_FLAIR.nii.gz"]) == ([], [f"sub-1_{name}.nii.gz"])


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("run-2_FLAIR", "run-1_FLAIR", "run-10_FLAIR"), "run-1_FLAIR"),
        (("FLAIR", "run-2_FLAIR"), "FLAIR"),
        (("acq-2D_FLAIR", "desc-preproc_FLAIR"), "desc-preproc_FLAIR"),
        (("FLAIR", "space-MNI152NLin6Asym_desc-preproc_FLAIR"), "space-MNI152NLin6Asym_desc-preproc_FLAIR"),
    ],
)
def test_of_several_files_the_best_is_taken(tmp_path, names, best):
    assert chosen(there(tmp_path, *names), "FLAIR") == best


def test_two_acquisitions_that_tell_nothing_are_refused_by_name(tmp_path):
    there(tmp_path, "acq-2D_FLAIR", "acq-3D_FLAIR")
    with pytest.raises(InputError, match=r"sub-1_acq-2D_FLAIR.nii.gz and sub-1_acq-3D_FLAIR.nii.gz both fit"):
        chosen(tmp_path, "FLAIR")


def test_masks_are_known_in_mni_space_and_by_their_own_label_only(tmp_path):
    there(tmp_path, "space-MNI152NLin6Asym_label-L_desc-T2_mask", "label-L_desc-Gd_mask", "desc-brain_mask")
    assert chosen(tmp_path, "label-L_desc-T2_mask") == "space-MNI152NLin6Asym_label-L_desc-T2_mask"
    assert chosen(tmp_path, "desc-brain_mask") == "desc-brain_mask"


@pytest.mark.parametrize("name", ["acq-gd_T1w", "acq-MPRAGEpostGd_T1w", "acq-postcontrast_T1w", "rec-Gad_T1w", "acq-post_T1w"])
def test_an_acquisition_after_gadolinium_is_never_the_plain_t1(tmp_path, name):
    there(tmp_path, name, "acq-MPRAGE_T1w")
    assert chosen(tmp_path, "T1w") == "acq-MPRAGE_T1w"
    assert chosen(tmp_path, "ce-gadolinium_T1w") == name


@pytest.mark.parametrize("name", ["acq-precontrast_T1w", "acq-noncontrast_T1w", "acq-space_T1w", "ce-none_acq-post_T1w"])
def test_an_acquisition_without_gadolinium_is_the_plain_t1(tmp_path, name):
    assert chosen(there(tmp_path, name), "T1w") == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flair", "did you mean FLAIR?"),
        ("T2FLAIR", "did you mean FLAIR?"),
        ("t1", "did you mean T1w?"),
        ("T1c", "did you mean ce-gadolinium_T1w?"),
        ("desc-gd_T1w", "did you mean ce-gadolinium_T1w?"),
        ("desc-defaced_FLAIR", "desc-defaced is not known: did you mean desc-preproc?"),
        ("space-T1w_FLAIR", "space-T1w is not MNI152"),
        ("PDw", ""),
    ],
)
def test_what_a_name_that_is_not_read_was_meant_to_be_is_said(name, words):
    assert meant(f"sub-1_{name}.nii.gz") == words
