"""The table for a paper: equal input gives equal bytes, and a tie is rounded as SAS rounds it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from causalms.effects import Analysis, analyse, write_publication
from causalms.effects.publication import publication_table
from tests.conftest import Run


def _analysis(arm: str = "drug") -> Analysis:
    # 8 patients an arm and 1 event in one of them: a rate of 0.125
    table = pd.DataFrame({"y": [1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 1, 0, 0, 0], "arm": [arm] * 8 + ["placebo"] * 8})
    return analyse(table, outcome="y", reference="placebo")


@pytest.mark.parametrize("suffix", [".docx", ".html", ".tex", ".csv", ".rtf"])
def test_equal_input_gives_equal_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = (write_publication(_analysis(), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second


def test_rich_text_escapes_its_own_signs_and_letters_beyond_ascii(tmp_path: Path) -> None:
    text = write_publication(_analysis("d{r}ug \\ β"), tmp_path / "a.rtf").read_text(encoding="ascii")
    assert text.startswith("{\\rtf1\\ansi")
    assert "d\\{r\\}ug \\\\ \\u946?\\cell" in text
    assert text.count("\\row") == 3


def test_no_time_stands_in_a_word_document(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_publication(_analysis(), tmp_path / "a.docx")) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
        core = archive.read("docProps/core.xml").decode()
    assert core.count("2013-12-23T23:15:00Z") == core.count("T23:15:00Z")  # python-docx's template, never the day of writing


def test_word_document_opens_and_holds_the_table(tmp_path: Path) -> None:
    from docx import Document

    grid = Document(str(write_publication(_analysis(), tmp_path / "a.docx"))).tables[0]
    assert [cell.text for cell in grid.rows[0].cells] == list(publication_table(_analysis()).columns)


def test_an_arm_that_is_a_formula_is_not_run_by_a_spreadsheet(tmp_path: Path) -> None:
    arm = "=HYPERLINK(A1)"
    written = pd.read_csv(write_publication(_analysis(arm), tmp_path / "a.csv"), dtype=str)
    assert written["arm"].tolist() == ["placebo", f"'{arm}"]


def test_results_of_an_arm_that_is_a_formula_are_read_back_unchanged(tmp_path: Path, run: Run) -> None:
    arm = "@drug"
    table = pd.DataFrame({"participant_id": [f"p{i}" for i in range(16)], "arm": [arm, "placebo"] * 8, "y": [1, 2, 0, 1] * 4})
    table.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out.csv"
    assert run("effects", tmp_path / "t.csv", "--outcome", "y", "--reference", "placebo", "--out", out).code == 0
    assert "'@drug" in out.read_text()
    page = tmp_path / "r.html"
    assert run("report", page, out).code == 0
    assert "@drug against placebo" in page.read_text(encoding="utf-8")
