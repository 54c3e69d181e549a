"""A report of results tables is one call: what it draws, lists and refuses, and where its files come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import docx
import pandas as pd
import pytest

from causalms.errors import InputError, UsageError
from causalms.report import write_report
from causalms.report.rows import result_rows
from causalms.tables import results_table, write_table
from tests.report.test_document import ROW, TRANSPORTED


def test_tables_given_as_files_and_as_frames_give_the_same_sections(tmp_path: Path) -> None:
    table = results_table([ROW, TRANSPORTED])
    file = write_table(table, tmp_path / "main_effects.csv")
    of_file = write_report([file], tmp_path / "file.html")
    of_frame = write_report({"main_effects.csv": table}, tmp_path / "frame.html")
    assert (
        [section.title for section in of_file._sections] == [section.title for section in of_frame._sections] == ["main effects"]
    )
    pd.testing.assert_frame_equal(of_file.results, of_frame.results)
    page = (tmp_path / "file.html").read_text(encoding="utf-8")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page
    assert hashlib.sha256(file.read_bytes()).hexdigest() not in (tmp_path / "frame.html").read_text(encoding="utf-8")


def test_several_contrasts_of_a_measure_are_drawn_and_a_single_one_is_only_listed(tmp_path: Path) -> None:
    difference = {**ROW, "measure": "rate difference", "estimate": -1.0, "lower": -1.5, "upper": -0.5}
    report = write_report({"effects": results_table([ROW, TRANSPORTED, difference])}, tmp_path / "r.html")
    kinds = [block.kind for block in report._sections[0].blocks]
    assert [kind.split()[0] for kind in kinds] == ["results", "figure"]


def test_equal_input_gives_equal_pages(tmp_path: Path) -> None:
    tables = {"effects": results_table([ROW, TRANSPORTED])}
    for name in ("a.html", "b.html"):
        write_report(tables, tmp_path / name, commands=["causalms report"])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_other_tables_and_the_title_stand_in_the_page(tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    write_report({"effects": results_table([ROW])}, out, title="A & B", tables={"Sites": pd.DataFrame({"site": ["=1+1"]})})
    page = out.read_text(encoding="utf-8")
    assert "A &amp; B" in page
    assert "Sites" in page
    assert "\\u0027=1+1" in page  # the copy as CSV marks what a spreadsheet would run


@pytest.mark.parametrize(
    ("results", "out", "error", "words"),
    [
        ({"effects": results_table([ROW])}, "r.pdf", UsageError, "a report ends in .html"),
        ({"people.csv": pd.DataFrame({"arm": ["a"]})}, "r.html", InputError, "people.csv: no columns 'analysis'"),
        ({"effects.csv": results_table([ROW]).assign(level=95)}, "r.html", InputError, "effects.csv: row 1, column 'level'"),
        (["nowhere.csv"], "r.html", InputError, "nowhere.csv: no such file"),
    ],
)
def test_what_is_no_results_table_is_refused_and_nothing_is_written(
    tmp_path: Path, results: dict[str, pd.DataFrame] | list[str], out: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        write_report(results, tmp_path / out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".pdf", ".docx"])
def test_short_version_is_two_pages_with_the_answer(tmp_path: Path, suffix: str) -> None:
    rows = [{**ROW, "arm": f"drug {k}"} for k in range(20)]
    for name in ("a", "b"):
        write_report({"effects": results_table(rows)}, tmp_path / "r.html", short=tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    if suffix == ".pdf":
        assert (tmp_path / "a.pdf").read_bytes().count(b"/Type /Page ") == 2
    else:
        document = docx.Document(str(tmp_path / "a.docx"))
        assert len(document.tables[0].rows) == 13
        assert "8 further rows stand in the long version." in [paragraph.text for paragraph in document.paragraphs]
    with pytest.raises(UsageError, match=r"ends in \.pdf or \.docx"):
        write_report({"effects": results_table(rows)}, tmp_path / "r.html", short=tmp_path / "r.txt")


def test_a_control_is_a_check_and_never_a_transported_contrast():
    row = {"analysis": "negative control: a copy of an arm", "arm": "copy of drug", "reference": "drug", "measure": "rate ratio",
           "estimate": 1.0, "randomised": False, "rung": 2}  # fmt: skip
    assert [badge.label for badge in result_rows(results_table([row]))[0].badges] == ["check", "rung 2"]


def test_rows_that_would_read_alike_say_what_differs():
    rows = [
        {**ROW, "subgroup": "all", "population": "trial A"},
        {**ROW, "subgroup": "all", "population": "trial B"},
        {**ROW, "subgroup": "all", "measure": "slope", "estimand": "slope; p against 0"},
        {**ROW, "subgroup": "all", "measure": "slope", "estimand": "slope; p against 1"},
        {**ROW, "subgroup": "all", "measure": "risk ratio"},
    ]
    said = ["all, trial A", "all, trial B", "all, p against 0", "all, p against 1", "all"]
    assert [shown.subgroup for shown in result_rows(results_table(rows))] == said
