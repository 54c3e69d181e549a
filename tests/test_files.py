"""Files are whole or not there; what a dead run left is swept by the next, what a living one writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from causalms import files
from causalms.errors import InputError
from causalms.files import sweep, whole_file, whole_folder
from tests.conftest import files_in

WRITES = """
import sys, time
from causalms.files import whole_file, whole_folder
made = {"file": whole_file, "folder": whole_folder}[sys.argv[1]]
with made(sys.argv[2]) as beside:
    (beside if sys.argv[1] == "file" else beside / "part").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def _writing(kind: str, place: Path) -> subprocess.Popen[str]:
    """A process that is in the midst of writing."""
    process = subprocess.Popen([sys.executable, "-c", WRITES, kind, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_swept_by_the_next_and_a_living_run_is_left_alone(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_swept", set())
    killed, living = _writing(kind, tmp_path / "a"), _writing(kind, tmp_path / "b")
    try:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".writing-*"))) == 2
        with whole_file(tmp_path / "c") as beside:
            beside.write_text("whole")
        (left,) = tmp_path.glob(".writing-*")
        assert files_in(left)[0] == "b"
    finally:
        living.kill()
        living.wait()
    sweep(tmp_path)
    assert files_in(tmp_path) == ["c"]


def test_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.csv") as beside:
        beside.write_text(str(1 / len(beside.read_bytes())))
    assert (tmp_path / "a.csv").read_text() == "before"
    assert files_in(tmp_path) == ["a.csv"]


def test_full_disk_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"a\.csv: cannot be written \(No space left on device\)"),
        whole_file(tmp_path / "a.csv"),
    ):
        raise OSError(28, os.strerror(28))
    assert files_in(tmp_path) == []


def test_permissions_of_a_new_file_are_the_users_and_of_an_old_one_its_own(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch(0o640)
    old.chmod(0o640)
    for place in (old, new):
        with whole_file(place) as beside:
            beside.unlink()  # as writers do that replace the file
            beside.touch(0o600)
    (tmp_path / "plain").touch()
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_through_a_link_fills_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "far")
    with whole_folder(tmp_path / "link") as beside:
        (beside / "x").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert files_in(tmp_path / "far") == ["x"]


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_a_missing_folder_is_made_and_goes_again_where_the_writing_fails(kind: Any, tmp_path: Path) -> None:
    place = tmp_path / "new" / "deep" / "out"
    with pytest.raises(RuntimeError), kind(place):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with kind(place) as beside:
        (beside / "a" if beside.is_dir() else beside).write_text("done")
    assert place.exists()
