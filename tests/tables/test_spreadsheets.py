"""No written cell is run by a spreadsheet, and reading gives back what was written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalms.tables import read_table, write_table

RUN_BY_SPREADSHEETS = [
    '=HYPERLINK("http://x","y")',
    "=1+1",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "-drug",
    "+ placebo",
]
HARMLESS = ["-0.3", "+5", "-1e-5", "-0.39 (-0.5 to -0.3)", "-", "placebo", "O'Neill", "'quoted'", "a=b", "", "1-2"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("text", [*RUN_BY_SPREADSHEETS, "'=1", "''@x", *HARMLESS])
def test_text_comes_back_as_it_was(tmp_path: Path, suffix: str, text: str) -> None:
    table = pd.DataFrame({"participant_id": ["a", "b"], "arm": [text, "other"], "y": [-1.5, 2.0]})
    read = read_table(write_table(table, tmp_path / f"t{suffix}"))
    assert read["y"].tolist() == [-1.5, 2.0]
    assert ("" if pd.isna(read["arm"][0]) else read["arm"][0]) == text


@pytest.mark.parametrize("text", RUN_BY_SPREADSHEETS)
def test_what_a_spreadsheet_would_run_is_marked(tmp_path: Path, text: str) -> None:
    file = write_table(pd.DataFrame({"arm": [text], text: [1]}), tmp_path / "t.csv")
    raw = pd.read_csv(file, lineterminator="\n")
    assert raw["arm"][0] == f"'{text}"
    assert raw.columns[1] == f"'{text}"
    assert read_table(file).columns[1] == text


@pytest.mark.parametrize("text", [word for word in HARMLESS if word])
def test_numbers_and_words_are_not_marked(tmp_path: Path, text: str) -> None:
    file = write_table(pd.DataFrame({"arm": [text], "y": [-1]}), tmp_path / "t.csv")
    assert pd.read_csv(file, dtype=str).iloc[0].tolist() == [text, "-1"]


def test_categories_are_marked_too(tmp_path: Path) -> None:
    file = write_table(pd.DataFrame({"arm": pd.Categorical(["=1", "x", "=1"])}), tmp_path / "t.csv")
    assert pd.read_csv(file)["arm"].tolist() == ["'=1", "x", "'=1"]


def test_the_table_given_is_left_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"arm": ["=1"]})
    write_table(table, tmp_path / "t.csv")
    assert table["arm"].tolist() == ["=1"]


def test_parquet_holds_text_unchanged(tmp_path: Path) -> None:
    file = write_table(pd.DataFrame({"arm": ["=1", "'=2"]}), tmp_path / "t.parquet")
    assert read_table(file)["arm"].tolist() == ["=1", "'=2"]
