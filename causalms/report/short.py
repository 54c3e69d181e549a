"""The short version of a report: two pages, as PDF (matplotlib) or DOCX (extra ``publish``)."""

from __future__ import annotations

import io
import os
import textwrap
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalms import __version__
from causalms.errors import UsageError, optional_packages
from causalms.files import whole_file, without_times
from causalms.report.methods import assumptions, methods_paragraphs, opening_sentences
from causalms.report.rows import ResultRow, each_row, is_effect, result_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".docx")
#: Rows of the table and lines of the figure; what is more stands in the long version.
ROWS = 12
_HEAD = ("Contrast", "Measure", "Estimate (interval)", "p", "Patients", "Standing")
_WIDTHS = (34, 16, 30, 9, 11, 26)  # characters of a column
#: Where the text of a page ends, as a share of its height.
_FOOT = 0.05
#: Characters of methods that a Word document's second page has room for, below its figure and what is assumed.
_MOST_CHARACTERS = 1300


@dataclass(frozen=True)
class Short:
    """What the two pages hold."""

    title: str
    opening: list[str]
    rows: list[list[str]]
    left_out: int
    figure: Figure | None
    methods: list[str]
    assumed: list[str]
    checks: str


def short_version(title: str, results: pd.DataFrame, checks: str = "") -> Short:
    """The answer, its table, one figure, and what is assumed.

    Parameters
    ----------
    title : str
    results : DataFrame
        Results tables, one below the other.
    checks : str
        How many acceptance checks were met, in words.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> row = {"analysis": "primary", "arm": "drug", "reference": "placebo", "measure": "rate ratio", "estimate": 0.5,
    ...        "lower": 0.4, "upper": 0.625, "level": 0.95, "randomised": True, "rung": 2}
    >>> short_version("Drug", results_table([row])).rows
    [['drug against placebo', 'rate ratio', '0.500 (0.400 to 0.625)', '–', '–', 'randomised, rung 2']]
    """
    from causalms.report import figures

    are_effects = pd.Series([is_effect(row) and not pd.isna(row.estimate) for row in each_row(results)], results.index, bool)
    contrasts = results[are_effects]
    shown = contrasts.head(ROWS)
    drawn = shown[shown["lower"].notna()]
    drawn = drawn[drawn["measure"] == drawn["measure"].iloc[0]] if len(drawn) else drawn
    return Short(
        title,
        opening_sentences(results),
        [_cells(row) for row in result_rows(shown)],
        len(results) - len(shown),
        figures.effect_forest(drawn) if len(drawn) > 1 else None,
        methods_paragraphs(results) if len(results) else [],
        assumptions(results) if len(results) else [],
        checks,
    )


def write_short(short: Short, path: str | os.PathLike[str], date: str) -> Path:
    """Write two pages by the suffix of ``path``.

    Raises
    ------
    UsageError
        If it is neither .pdf nor .docx.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: the short version is written as {' or '.join(SUFFIXES)}; choose one of these suffixes")
    byline = f"causalms {__version__} · {date} · Not for clinical use"
    with whole_file(file) as beside:
        (_pdf if file.suffix == ".pdf" else _docx)(short, byline, beside)
    return file


def _cells(row: ResultRow) -> list[str]:
    interval = f" ({row.interval})" if row.interval else ""
    contrast = row.contrast + (f", {row.subgroup}" if row.subgroup else "")
    labels = [badge.label for badge in row.badges]
    standing = ", ".join([*labels, *([row.model_error.partition(" (")[0]] if row.model_error else [])])
    return [contrast, row.measure, row.estimate + interval, row.p_value, row.n, standing]


def _closing(short: Short) -> list[str]:
    """The lines below the figure."""
    more = f"{short.left_out} further rows stand in the long version." if short.left_out else ""
    return [line for line in (short.checks, more) if line]


def _pdf(short: Short, byline: str, path: Path) -> None:
    """Two A4 pages of text in columns of a fixed number of characters; the picture keeps its shape."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure as Page

    with rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans"}), PdfPages(path, metadata=_metadata(short.title)) as pages:
        first, second = _Writer(Page(figsize=(8.27, 11.69))), _Writer(Page(figsize=(8.27, 11.69)))
        first.paragraph(short.title, 16, bold=True)
        first.paragraph(byline, 8)
        for sentence in short.opening:
            first.paragraph(sentence, 10)
        first.table([list(_HEAD), *short.rows])
        for line in _closing(short):
            first.paragraph(line, 8)
        if short.figure is not None:
            page = first if first.y - _FOOT > 0.25 else second
            page.picture(short.figure, min(0.45, page.y - _FOOT))
        for heading, words in (("What is assumed", short.assumed), ("Methods", short.methods)):
            second.paragraph(heading, 11, bold=True)
            for paragraph in words:
                second.paragraph(paragraph, 8)
        second.paragraph(byline, 8)
        for page in (first, second):
            pages.savefig(page.page)


def _metadata(title: str) -> dict[str, Any]:
    return {"Title": title, "Author": "causalms", "Subject": "Short version; not for clinical use", "CreationDate": None}


class _Writer:
    """Text from the top of a page down; what does not fit ends with a pointer to the long version."""

    def __init__(self, page: Figure) -> None:
        self.page, self.y = page, 0.95

    def paragraph(self, words: str, size: float, bold: bool = False) -> None:
        lines = textwrap.wrap(words, int((720 if bold else 880) / size)) or [""]
        height = size * 1.45 / 72 / 11.69
        room = int((self.y - _FOOT) / height)
        if room < 1:
            return
        if len(lines) > room:
            lines = [*lines[: room - 1], "... continued in the long version."]
        for line in lines:
            self.page.text(0.08, self.y, line, size=size, weight="bold" if bold else "normal", va="top")
            self.y -= height
        self.y -= height / 2

    def table(self, rows: list[list[str]], size: float = 6.5) -> None:
        height, starts = size * 1.4 / 72 / 11.69, [sum(_WIDTHS[:k]) / sum(_WIDTHS) for k in range(len(_WIDTHS))]
        for number, row in enumerate(rows):
            cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, _WIDTHS, strict=True)]
            for start, lines in zip(starts, cells, strict=True):
                words = "\n".join(lines)
                x = 0.08 + 0.84 * start
                self.page.text(x, self.y, words, size=size, va="top", weight="normal" if number else "bold", linespacing=1.2)
            self.y -= height * max(len(lines) for lines in cells) + height / 4
            self.page.lines.append(_rule(self.page, self.y + height / 8, 0.4 if number else 0.9))
        self.y -= height

    def picture(self, figure: Figure, tallest: float) -> None:
        from matplotlib.image import imread

        image = imread(io.BytesIO(_png(figure)))
        wide, high = 0.84, 0.84 * 8.27 / 11.69 * image.shape[0] / image.shape[1]
        if high > tallest:
            wide, high = wide * tallest / high, tallest
        axes = self.page.add_axes((0.08, self.y - high, wide, high))
        axes.imshow(image, interpolation="none", aspect="auto")
        axes.set_axis_off()
        self.y -= high + 0.02


def _rule(page: Figure, y: float, width: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([0.08, 0.92], [y, y], linewidth=width, color="0.4", transform=page.transFigure, figure=page)


def _png(figure: Figure) -> bytes:
    kept = io.BytesIO()
    figure.savefig(kept, format="png", dpi=200, metadata={"Software": None})
    return kept.getvalue()


def _first_words(paragraphs: list[str]) -> list[str]:
    """Paragraphs that the second page of a Word document has room for, and where the others stand."""
    ends = list(accumulate(map(len, paragraphs)))
    kept = sum(end <= _MOST_CHARACTERS for end in ends)
    return paragraphs if kept == len(paragraphs) else [*paragraphs[:kept], "... continued in the long version."]


def _docx(short: Short, byline: str, path: Path) -> None:
    with optional_packages():
        from docx import Document
        from docx.shared import Cm, Pt

    document = Document()
    for section in document.sections:
        section.page_width, section.page_height = Cm(21), Cm(29.7)
        section.left_margin = section.right_margin = section.top_margin = section.bottom_margin = Cm(1.8)
    document.styles["Normal"].font.name, document.styles["Normal"].font.size = "Arial", Pt(9)
    document.styles["Normal"].paragraph_format.space_after = Pt(3)
    document.add_heading(short.title, 1)
    for words in (byline, *short.opening):
        document.add_paragraph(words)
    grid = document.add_table(rows=1, cols=len(_HEAD))
    grid.style, grid.autofit = "Light List", False
    for column, width in zip(grid.columns, _WIDTHS, strict=True):
        column.width = Cm(17.4 * width / sum(_WIDTHS))
    for row in (list(_HEAD), *short.rows):
        cells = grid.rows[0].cells if row == list(_HEAD) else grid.add_row().cells
        for cell, value, column in zip(cells, row, grid.columns, strict=True):
            cell.text, cell.width = value, column.width
            cell.paragraphs[0].runs[0].font.size = Pt(7.5) if value else None
    for line in _closing(short):
        document.add_paragraph(line)
    document.add_page_break()
    if short.figure is not None:
        document.add_picture(io.BytesIO(_png(short.figure)), width=Cm(13))
    for heading, paragraphs in (("What is assumed", short.assumed), ("Methods", _first_words(short.methods))):
        document.add_heading(heading, 2)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    document.core_properties.author, document.core_properties.title = "causalms", short.title
    document.save(str(path))
    without_times(path)
