"""Bad tables and full disks: refused in one line, with nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import EFFECTS
from tests.conftest import Run, files_in, refused

Change = Callable[[pd.DataFrame], pd.DataFrame]
BAD_TABLES: dict[str, tuple[Change, list[str], tuple[str, ...]]] = {
    "no such outcome": (lambda t: t.drop(columns="y"), [], ("t.csv", "'y'")),
    "no such arm column": (lambda t: t, ["--arm", "treatment"], ("t.csv", "'treatment'")),
    "an arm nobody has": (lambda t: t, ["--reference", "ocrelizumab"], ("t.csv", "'ocrelizumab'", "placebo, drug")),
    "a negative count": (lambda t: t.assign(y=t["y"].where(t.index != 7, -1)), [], ("t.csv", "'y'", "row 8", "-1")),
    "a fractional count": (lambda t: t.assign(y=t["y"].where(t.index != 7, 1.5)), [], ("t.csv", "'y'", "row 8", "1.5")),
    "no time at risk": (
        lambda t: t.assign(exposure_years=t["exposure_years"].where(t.index != 7, 0)),
        [],
        ("t.csv", "'exposure_years'", "row 8"),
    ),
    "no exposure column": (lambda t: t.drop(columns="exposure_years"), [], ("t.csv", "'exposure_years'")),
    "one arm only": (lambda t: t[t["arm"] == "placebo"], [], ("t.csv", "one arm only")),
    "all counts zero": (lambda t: t.assign(y=0), [], ("no patient has an event", "choose another outcome")),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_table_is_refused_in_one_line(run: Run, tmp_path: Path, table: pd.DataFrame, case: str) -> None:
    change, options, words = BAD_TABLES[case]
    change(table).to_csv(tmp_path / "t.csv", index=False)
    refused(run("effects", tmp_path / "t.csv", *EFFECTS, *options, "--out", tmp_path / "r.csv"), 1, *words)
    assert files_in(tmp_path) == ["t.csv"]


def test_outcome_without_events_is_named(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.assign(y=0).to_csv(tmp_path / "t.csv", index=False)
    refused(run("effects", tmp_path / "t.csv", *EFFECTS), 1, "t.csv", "'y'")


def test_missing_exposure_is_never_taken_as_zero(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    """Either refused in one line, or the patient is left out and the page says so."""
    table.assign(exposure_years=table["exposure_years"].where(table.index != 7)).to_csv(tmp_path / "t.csv", index=False)
    ended = run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "r.csv")
    if ended.code:
        refused(ended, 1, "exposure_years")
    else:
        results = pd.read_csv(tmp_path / "r.csv")
        assert int(results["n"].iloc[0] + results["n_reference"].iloc[0]) == 59
        assert "exposure_years" in ended.printed + ended.error


VERBS_WITH_TABLES = {
    "calibrate": ("t.csv", "--observed", "t.csv"),
    "agree": ("t.csv", "--observed", "t.csv"),
    "subgroups": ("t.csv", "--by", "age >= 40", "--outcome", "y", "--reference", "placebo"),
    "report": ("out.html", "t.csv"),
}


@pytest.mark.parametrize("verb", ["calibrate", "agree", "report"])
def test_table_of_another_kind_is_refused_naming_a_column(
    run: Run, tmp_path: Path, table: pd.DataFrame, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table.to_csv("t.csv", index=False)
    refused(run(verb, *VERBS_WITH_TABLES[verb]), 1, "t.csv", "column")
    assert files_in(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("verb", ["effects", *VERBS_WITH_TABLES])
def test_table_that_is_not_there_isrefused(run: Run, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(verb, *VERBS_WITH_TABLES.get(verb, ("t.csv", *EFFECTS)))
    assert ended.code in (1, 2)
    refused(ended, ended.code, "t.csv")
    assert files_in(tmp_path) == []


def test_damaged_table_isrefused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing of use")
    refused(run("effects", tmp_path / "t.parquet", *EFFECTS), 1, "t.parquet", "not a readable parquet table", "export it again")


def test_full_disk_leaves_nothing_half_written(
    run: Run, tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "r.csv").write_text("an older result")
    monkeypatch.setattr("causalms.files.os.replace", full)
    refused(run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "r.csv"), 1, "r.csv", "No space left on device")
    assert files_in(tmp_path) == ["r.csv", "t.csv"]
    assert (tmp_path / "r.csv").read_text() == "an older result"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the system refuse every write past 64 bytes of a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_write_that_breaks_off_leaves_nothing(
    run: Run, tmp_path: Path, table: pd.DataFrame, request: pytest.FixtureRequest, suffix: str
) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    request.getfixturevalue("small_files")
    ended = run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / f"r.{suffix}")
    refused(ended, 1, f"r.{suffix}", "cannot be written")
    assert files_in(tmp_path) == ["t.csv"]


def test_place_that_is_no_folder_isrefused(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    refused(run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "t.csv" / "r.csv"), 1, "cannot be written")
    assert files_in(tmp_path) == ["t.csv"]
