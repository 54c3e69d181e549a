"""Every verb: help with an example, misuse in one line, and what start-up loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from causalms.cli.main import VERBS
from tests.conftest import Run, files_in, refused


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_ends_with_an_example(run: Run, verb: str) -> None:
    ended = run(verb, "--help")
    assert (ended.code, ended.error) == (0, "")
    assert f"causalms {verb}" in ended.printed.split("Example", 1)[1]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_and_the_command_alone_name_every_verb(run: Run, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.code == 0
    assert all(verb in ended.printed for verb in VERBS)


@pytest.mark.parametrize("arguments", [["effcts"], ["effects", "t.csv", "--refrence", "a"], ["effects", "t.csv"], ["forecast"]])
def test_misuse_is_one_line_and_exit_code_two(run: Run, arguments: list[str]) -> None:
    refused(run(*arguments), 2, "--help")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("simulate", ["t"]), ("query", ["t", "--out", "q.csv"]), ("train", ["t", "--out", "m.safetensors"]), ("demo", [])],
)
def test_no_workers_is_misuse(run: Run, verb: str, arguments: list[str]) -> None:
    refused(run(verb, "--workers", "0", *arguments), 2, "'--workers': 0 is not in the range")


@pytest.mark.parametrize("verb", ["check", "lesions", "train", "query"])
def test_folder_that_is_not_there_is_named(run: Run, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "check": [],
        "lesions": ["--out", "l.csv"],
        "train": ["--out", "m.safetensors"],
        "query": ["--do", "placebo", "--out", "q.csv"],
    }
    refused(run(verb, "nowhere", *options[verb]), 1, "nowhere")
    assert files_in(tmp_path) == []


def _python(code: str, *arguments: object) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_import_takes_less_than_a_second_and_loads_nothing_heavy() -> None:
    code = (
        "import time, sys; start = time.process_time(); import causalms; took = time.process_time() - start;"
        "print(took, *sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    # processor time, because other work on the machine is not the package's
    seconds, *heavy = _python(code).split()
    assert float(seconds) < 1
    assert heavy == []


def test_the_shell_completes_verbs(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    for name, value in (("_CAUSALMS_COMPLETE", "bash_complete"), ("COMP_WORDS", "causalms cal"), ("COMP_CWORD", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["causalms"])
    assert "calibrate" in run().printed
