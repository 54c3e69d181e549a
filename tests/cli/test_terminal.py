"""Output reaches any terminal, and a reader that leaves ends a run quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.terminal import plain

ARMS = ("plac\u2013ebo", "M\u00fcl\u00d7ler \u4e2d")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    file = tmp_path_factory.mktemp("terminal") / "t.csv"
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(40)], "arm": np.resize(ARMS, 40), "y": rng.poisson(2, 40)})
    people.to_csv(file, index=False, encoding="utf-8")
    return file


def _command(table: Path, reference: str = ARMS[0]) -> list[str]:
    return [sys.executable, "-m", "causalms", "effects", str(table), "--outcome", "y", "--reference", reference]


def _environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **changes}


TERMINALS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "utf-8"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("terminal", TERMINALS)
def test_no_terminal_stops_the_output(table: Path, terminal: dict[str, str]) -> None:
    # A C locale decodes the option itself, so the reference is left to its place in the table there.
    command = (
        [*_command(table), "--out", str(table.with_name("out.csv"))]
        if "LANG" not in terminal
        else [*_command(table)[:4], "--help"]
    )
    ended = subprocess.run(command, capture_output=True, env=_environment(**terminal), check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""
    assert ended.stdout.count(b"\n") > 5


@pytest.mark.parametrize("terminal", TERMINALS)
def test_an_error_is_one_line_on_every_terminal(table: Path, terminal: dict[str, str]) -> None:
    ended = subprocess.run(_command(table, "nobody"), capture_output=True, env=_environment(**terminal), check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: ")
    assert ended.stderr.count(b"\n") == 1
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "plac-ebo 0.4 - 0.6 M\\xfcl\\u4e2d"), ("cp1252", "plac\u2013ebo 0.4 - 0.6 M\u00fcl\\u4e2d"), ("utf-8", None)],
)
def test_signs_are_spelt_plainly_and_letters_keep_their_number(encoding: str, shown: str | None) -> None:
    text = "plac\u2013ebo 0.4 \u2212 0.6 M\u00fcl\u4e2d"
    assert plain(text, encoding) == (text if shown is None else shown)


@pytest.mark.parametrize("arguments", [("effects",), ("--help",)])
def test_a_reader_that_leaves_ends_the_run_without_a_word(table: Path, arguments: tuple[str, ...]) -> None:
    command = _command(table) if arguments == ("effects",) else [sys.executable, "-m", "causalms", *arguments]
    read, write = os.pipe()
    os.close(read)  # nobody reads, as after `| true`
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=_environment(), check=False)
    os.close(write)
    assert ended.stderr == b""
    assert ended.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_one_line(table: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(_command(table), stdout=full, stderr=subprocess.PIPE, env=_environment(), check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: ")
    assert ended.stderr.count(b"\n") == 1
