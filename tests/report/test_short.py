"""The short version: two pages in both kinds of file, whatever the report holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from causalms.report.short import Short, short_version, write_short
from causalms.tables import results_table

ROW = {"analysis": "primary", "reference": "placebo", "measure": "rate ratio", "estimate": 0.5, "lower": 0.4, "upper": 0.625,
       "level": 0.95, "randomised": True, "rung": 2}  # fmt: skip


@pytest.fixture(scope="module")
def short() -> Short:
    """Of fifty contrasts, each estimated in its own way."""
    rows = [{**ROW, "arm": f"drug {k}", "estimator": f"estimator {k} of fifty", "variance": "HC3"} for k in range(50)]
    return short_version("A title so long that it must be broken into two lines on a page of paper", results_table(rows))


def test_twelve_rows_are_shown_and_the_others_counted(short: Short) -> None:
    assert len(short.rows) == 12
    assert short.left_out == 38


def test_a_pdf_has_two_pages(short: Short, tmp_path: Path) -> None:
    content = write_short(short, tmp_path / "short.pdf", "2026-11-27").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 2


def test_a_word_document_has_a4_pages_wide_columns_for_long_words_and_no_more_methods_than_fit(
    short: Short, tmp_path: Path
) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document(str(write_short(short, tmp_path / "short.docx", "2026-11-27")))
    assert round(document.sections[0].page_width.cm, 1) == 21.0
    table = document.tables[0]
    assert len(table.rows) == 13
    assert table.columns[0].width > 3 * table.columns[3].width  # the contrast against p
    texts = [paragraph.text for paragraph in document.paragraphs]
    assert "... continued in the long version." in texts
    assert sum(map(len, texts)) < 4000


def test_without_contrasts_there_is_no_figure(tmp_path: Path) -> None:
    empty = short_version("Nothing", results_table([]))
    assert empty.figure is None
    assert write_short(empty, tmp_path / "empty.pdf", "2026-11-27").stat().st_size > 1000
