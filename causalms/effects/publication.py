"""Effects as a table for a paper or a report: HTML, LaTeX, CSV, DOCX or RTF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from causalms.effects.observed import Analysis
from causalms.effects.printing import interval, number
from causalms.errors import UsageError, optional_packages
from causalms.files import whole_file, without_times
from causalms.tables import p_value_text, percent_in_full, write_table

SUFFIXES = (".html", ".tex", ".csv", ".docx", ".rtf")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "<": "$<$",
}


def publication_table(analysis: Analysis, p_adjusted: Sequence[float] | None = None) -> pd.DataFrame:
    """One row an arm, the reference first: n, events, exposure, rate, contrast, interval, p; all as text.

    Parameters
    ----------
    analysis : Analysis
    p_adjusted : sequence of float, optional
        Adjusted p-values of the contrasts, for a column of their own.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.observed import analyse
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> publication_table(analyse(table, outcome="relapses", reference="placebo")).iloc[1].tolist()
    ['drug', '3', '3', '1 (0.02408 to 41.52)', '0.3333 (0.0144 to 7.714)', '0.3384']
    """
    if analysis.others:
        start, tables = 0, []
        for part in analysis.parts:
            share = None if p_adjusted is None else p_adjusted[start : start + len(part.reported)]
            tables.append(publication_table(part, share).assign(population=part.estimands[0].population))
            start += len(part.reported)
        return pd.concat(tables, ignore_index=True)
    measure, level = analysis.settings.measure, f"{percent_in_full(analysis.settings.level)} CI"
    total = "total" if measure.kind == "mean" else "events"
    rows = []
    crude = analysis.arms.to_dict("records")
    for position, index in enumerate((0, *analysis.reported)):
        arm = crude[index]
        value = arm["crude"] if np.isnan(arm["estimate"]) else arm["estimate"]
        row = {"arm": str(arm["arm"]), "n": str(arm["n"]), total: number(arm["events"])}
        if analysis.data.has_exposure:
            row["exposure"] = number(arm["exposure"])
        bounds = "" if np.isnan(arm["lower"]) else f" ({interval(arm['lower'], arm['upper'])})"
        row[f"{measure.kind} ({level})"] = number(value) + bounds
        row[f"{measure.name} ({level})"], row["p"] = "reference", ""
        if index:
            contrast = analysis.contrasts[index - 1]
            row[f"{measure.name} ({level})"] = f"{number(contrast.estimate)} ({interval(contrast.lower, contrast.upper)})"
            row["p"] = p_value_text(contrast.p_value)
        if p_adjusted is not None:
            row["adjusted p"] = p_value_text(p_adjusted[position - 1]) if index else ""
        rows.append(row)
    return pd.DataFrame(rows)


def footnotes(analysis: Analysis) -> list[str]:
    """What must stand below the table: estimand, estimator, variance, notes."""
    first = analysis.estimands[0]
    populations = "; ".join(dict.fromkeys(part.estimands[0].population for part in analysis.parts))
    notes = dict.fromkeys(note for part in analysis.parts for note in part.notes)
    return [
        f"Population: {populations}. Endpoint: {first.variable}. Intercurrent events: {first.intercurrent_events}.",
        f"Summary measure: {first.summary}. Estimator: {analysis.estimator_name}. Variance: {analysis.covariance.name}.",
        *(f"Note: {note}." for note in notes),
    ]


def write_publication(analysis: Analysis, path: str | os.PathLike[str], p_adjusted: Sequence[float] | None = None) -> Path:
    """Write the table with its footnotes by the suffix of ``path``: .html, .tex, .csv (without footnotes), .docx or .rtf.

    Raises
    ------
    UsageError
        Any other suffix.
    InputError
        The file cannot be written; nothing is left behind.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: a publication table is written as {', '.join(SUFFIXES)}; choose one of these suffixes")
    table, notes = publication_table(analysis, p_adjusted), footnotes(analysis)
    if file.suffix == ".csv":
        return write_table(table, file)
    with whole_file(file) as beside:
        if file.suffix == ".docx":
            _docx(table, notes, beside)
        else:
            text = {".html": _html, ".tex": _latex, ".rtf": _rtf}[file.suffix](table, notes)
            beside.write_text(text, encoding="utf-8")
    return file


def _html(table: pd.DataFrame, notes: list[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in table.to_numpy())
    foot = "".join(f"<p>{escape(note)}</p>\n" for note in notes)
    style = (
        "body{font-family:serif}table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}"
        "th{border-bottom:1px solid}td,th{padding:.2em .8em;text-align:left}p{font-size:.85em;margin:.3em 0}"
    )
    meta = f'<meta charset="utf-8"><title>Treatment effects</title><style>{style}</style>'
    grid = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<!doctype html>\n<html lang="en"><head>{meta}</head>\n<body>{grid}\n{foot}</body></html>\n'


def _latex(table: pd.DataFrame, notes: list[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escaped(cell) for cell in cells) + r" \\"

    rows = "\n".join(line([str(cell) for cell in row]) for row in table.to_numpy())
    foot = "\n".join(rf"\footnotesize {_escaped(note)}\par" for note in notes)
    head = f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}\n\\hline\n{line(list(table.columns))}\n\\hline"
    return f"{head}\n{rows}\n\\hline\n\\end{{tabular}}\n\n{foot}\n"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in str(text))


def _rtf(table: pd.DataFrame, notes: list[str]) -> str:
    """A landscape page: lines above and below the head and below the table, footnotes in smaller type."""
    width = 12_960 // len(table.columns)  # twentieths of a point: 11 inches less margins of an inch

    def line(cells: Sequence[str], borders: str) -> str:
        ends = "".join(f"{borders}\\cellx{width * place}" for place in range(1, len(cells) + 1))
        return f"\\trowd\\trgaph70{ends}\n" + "".join(f"\\pard\\intbl {_rtf_text(cell)}\\cell" for cell in cells) + "\\row"

    above, below = "\\clbrdrt\\brdrs\\brdrw10", "\\clbrdrb\\brdrs\\brdrw10"
    rows = [[str(cell) for cell in row] for row in table.to_numpy()]
    lines = [line(list(table.columns), above + below), *(line(row, "") for row in rows[:-1]), line(rows[-1], below)]
    foot = [f"\\pard\\fs16 {_rtf_text(note)}\\par" for note in notes]
    paper = "\\landscape\\paperw15840\\paperh12240\\margl1440\\margr1440"
    head = f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0 Times New Roman;}}}}{paper}\\f0\\fs18"
    return "\n".join([head, *lines, *foot, "}"]) + "\n"


def _rtf_text(text: str) -> str:
    """Text with RTF's own signs escaped and others than ASCII as their UTF-16 units."""
    escaped = []
    for character in text:
        if character in "\\{}":
            escaped.append(f"\\{character}")
        elif ord(character) < 128:
            escaped.append(character)
        else:
            units = character.encode("utf-16-le")
            numbers = (int.from_bytes(units[at : at + 2], "little", signed=True) for at in range(0, len(units), 2))
            escaped += [f"\\u{number}?" for number in numbers]
    return "".join(escaped)


def _docx(table: pd.DataFrame, notes: list[str], path: Path) -> None:
    with optional_packages():
        from docx import Document

    document = Document()
    grid = document.add_table(rows=1, cols=len(table.columns))
    grid.style = "Light List"
    for cell, name in zip(grid.rows[0].cells, table.columns, strict=True):
        cell.text = name
    for row in table.to_numpy():
        for cell, value in zip(grid.add_row().cells, row, strict=True):
            cell.text = value
    for note in notes:
        document.add_paragraph(note)
    document.core_properties.author = "causalms"
    document.core_properties.title = "Treatment effects"
    document.save(str(path))
    without_times(path)
