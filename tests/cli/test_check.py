"""Everything wrong in a trial folder is named at once, with its place, its mend and its rank."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from causalms.trials import check_trial
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


def _people(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the participants table of a folder as text."""
    file = folder / "participants.tsv"
    change(pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)).to_csv(file, sep="\t", index=False)


def _cell(column: str, row: int, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[row - 1, column] = value
        return table

    return change


def _scans(folder: Path, participant: str, suffix: str) -> list[Path]:
    return list((folder / participant).rglob(f"*_{suffix}.nii.gz"))


def _without(folder: Path, participant: str, suffix: str) -> None:
    for file in _scans(folder, participant, suffix):
        file.unlink()


ERRORS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a value outside life": (lambda f: _people(f, _cell("age", 2, "564")), "participants.tsv: row 2, column 'age': found 564"),
    "a word among numbers": (lambda f: _people(f, _cell("edss", 3, "high")), "participants.tsv: row 3, column 'edss': "),
    "an unknown sex": (lambda f: _people(f, _cell("sex", 1, "X")), "participants.tsv: row 1, column 'sex': found 'X'"),
    "no id": (lambda f: _people(f, _cell("participant_id", 4, "n/a")), "row 4, column 'participant_id': empty; fill it in"),
    "an id twice": (
        lambda f: _people(f, _cell("participant_id", 4, "0001")),
        "row 4, column 'participant_id': participant '0001' stands twice (also in row 1)",
    ),
    "arms spelt two ways": (
        lambda f: _people(f, lambda t: t.assign(arm=["placebo", "Placebo", "placebo", "placebo "])),
        "column 'arm': arms 'placebo' and 'Placebo' differ only in case",
    ),
    "a count that is none": (
        lambda f: _people(f, _cell("net2_lesions_week96", 2, "1.5")),
        "row 2, column 'net2_lesions_week96': found 1.5, expected a whole number",
    ),
    "no folder": (
        lambda f: [shutil.rmtree(place) for place in (f / "sub-0002", f / "derivatives" / "lesions" / "sub-0002")],
        "participants.tsv: participant sub-0002 (row 2) has no folder",
    ),
    "an empty file": (lambda f: _scans(f, "sub-0001", "FLAIR")[0].write_bytes(b""), FLAIR),
}  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_named_with_its_place_and_ends_with_exit_1(run: Run, folder: Path, kind: str) -> None:
    damage, words = ERRORS[kind]
    damage(folder)
    ended = run("check", folder)
    refused(ended, 1, "listed above")
    assert [line for line in ended.printed.splitlines() if line.startswith("error: ") and words in line], ended.printed


WARNINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an arm of one patient": (
        lambda f: _people(f, lambda t: t.assign(arm=["placebo", "placebo", "placebo", "drug"])),
        "row 4, column 'arm': arm 'drug' has one patient",
    ),
    "no FLAIR": (lambda f: _without(f, "sub-0001", "FLAIR"), "sub-0001: no FLAIR image"),
    "a near column": (
        lambda f: _people(f, lambda t: t.rename(columns={"edss": "eds"})),
        "column 'eds' is not read; did you mean 'edss'?",
    ),
    "a near outcome": (
        lambda f: _people(f, lambda t: t.rename(columns={"net2_lesions_week96": "net2_lesion_week96"})),
        "column 'net2_lesion_week96' is not read; did you mean 'net2_lesions_week96'?",
    ),
    "a folder without row": (lambda f: (f / "sub-stray").mkdir(), "sub-stray has no row in participants.tsv"),
    "a session without week": (lambda f: (f / "sub-0001" / "ses-later").mkdir(), "ses-later: names no week"),
    "a week of the table alone": (
        lambda f: _people(f, lambda t: t.rename(columns={"net2_lesions_week96": "net2_lesions_week95"})),
        "column 'net2_lesions_week95' is of week 95, the follow-up sessions are of week",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WARNINGS)
def test_a_warning_is_named_and_the_trial_is_still_summed_up(run: Run, folder: Path, kind: str) -> None:
    _people(folder, lambda table: table.assign(arm="placebo"))
    damage, words = WARNINGS[kind]
    damage(folder)
    ended = run("check", folder)
    assert ended.code == 0, ended.error
    assert [line for line in ended.printed.splitlines() if line.startswith("warning: ") and words in line], ended.printed
    assert "no error, " in ended.printed.splitlines()[-1]


def test_everything_is_named_at_once_errors_first(run: Run, folder: Path) -> None:
    for change in (_cell("age", 1, "564"), _cell("age", 3, "-2"), _cell("edss", 2, "15"), _cell("arm", 1, "drg")):
        _people(folder, change)
    (folder / "sub-stray").mkdir()
    ended = run("check", folder)
    lines = [line for line in ended.printed.splitlines() if line]
    ranks = [line.partition(":")[0] for line in lines]
    assert ranks == sorted(ranks)  # error before warning
    for words in ("row 1, column 'age'", "row 3, column 'age'", "row 2, column 'edss'", "arm 'drg' has one patient", "sub-stray"):
        assert [line for line in lines if words in line], lines
    errors, warnings = ranks.count("error"), ranks.count("warning")
    refused(ended, 1, f"{errors} errors and {warnings} warnings, listed above")


def test_python_gives_the_same_problems(run: Run, folder: Path) -> None:
    _people(folder, _cell("age", 1, "564"))
    problems = check_trial(folder)
    assert [str(problem) for problem in problems] == run("check", folder).printed.splitlines()
    assert {problem.rank for problem in problems} <= {"error", "warning"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        problems[0].rank = "warning"  # type: ignore[misc]
