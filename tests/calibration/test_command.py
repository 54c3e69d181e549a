"""causalms calibrate: what it writes, and that bad input leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalms.cli import main
from causalms.tables import RESULTS_COLUMNS, write_table


@pytest.fixture
def files(trial, tmp_path: Path) -> Path:
    people, draws, expected = trial
    write_table(people, tmp_path / "trial" / "participants.tsv")
    write_table(draws, tmp_path / "draws.parquet")
    write_table(expected, tmp_path / "expected.parquet")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("draws", ["draws.parquet", "expected.parquet"])
def test_results_and_figure_tables_are_written(files: Path, draws: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, tables = files / "out.csv", files / "tables"
    options = ["--observed", files / "trial", "--by", "arm", "--repetitions", 99, "--out", out, "--tables", tables]
    assert run("calibrate", files / draws, *options) == 0
    assert "200 patients at week 48" in capsys.readouterr().out
    results = pd.read_csv(out)
    assert list(results.columns) == list(RESULTS_COLUMNS)
    assert set(results["subgroup"]) == {"all", "arm = placebo", "arm = dimethyl-fumarate"}
    assert {path.name for path in tables.iterdir()} == {"pit.csv", "reliability.csv", "rootogram.csv", "coverage.csv"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--week", 96], 1, "no week 96; weeks found: 48"),
        (["--by", "weight"], 2, "is no column, no condition"),
        (["--level", 1.5], 2, "level 1.5"),
        (["--repetitions", 0], 2, "0 repetitions"),
        (["--out", "results.docx"], 2, "written as .csv, .tsv or .parquet"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    files: Path,
    options: list[object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    assert run("calibrate", files / "draws.parquet", "--observed", files / "trial", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(files.rglob("*")) == before
