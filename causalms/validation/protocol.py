"""The protocol of a validation as HTML or DOCX."""

from __future__ import annotations

from html import escape
from pathlib import Path

from causalms.errors import UsageError, optional_packages
from causalms.files import whole_file, without_times
from causalms.tables import fixed
from causalms.validation.checks import Validation

SUFFIXES = (".html", ".docx")
_HEADS = ("id", "requirement", "test", "expected", "found", "result")
_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;font-size:.8em}.failed{background:#fdd}"
    "td,th{border:1px solid #999;padding:.2em .5em;text-align:left;vertical-align:top;max-width:28em;overflow-wrap:anywhere}"
)


def _rows(validation: Validation) -> list[tuple[str, ...]]:
    return [
        (check.id, check.requirement, check.test, check.expected, check.found, "passed" if check.passed else "FAILED")
        for check in validation.checks
    ]


def _lines(validation: Validation) -> list[str]:
    passed = len(validation.checks) - len(validation.failed)
    return [
        f"{passed} of {len(validation.checks)} checks passed",
        f"machine: {validation.machine}",
        f"run: {validation.started} UTC, {fixed(validation.seconds, 0)} seconds",
        "signature: ______________________    date: ______________",
    ]


def write_protocol(validation: Validation, path: str | Path) -> Path:
    """Write requirement, test, expectation, finding and result of every check.

    Parameters
    ----------
    validation : Validation
    path : path-like
        .html or .docx.

    Raises
    ------
    UsageError
        Any other suffix.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: a protocol is written as .html or .docx; choose one of these suffixes")
    with whole_file(file) as beside:
        if file.suffix == ".html":
            beside.write_text(_html(validation), encoding="utf-8")
        else:
            _docx(validation, beside)
    return file


def _html(validation: Validation) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    body = "\n".join(
        f"<tr class='{row[-1].lower()}'>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in _rows(validation)
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in _lines(validation))
    meta = f'<meta charset="utf-8"><title>Validation of causalms</title><style>{_STYLE}</style>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    title = "<h1>Validation of causalms</h1>"
    return f'<!doctype html>\n<html lang="en"><head>{meta}</head><body>{title}{lines}\n{table}</body></html>\n'


def _docx(validation: Validation, path: Path) -> None:
    with optional_packages():
        from docx import Document

    document = Document()
    document.add_heading("Validation of causalms", level=1)
    for line in _lines(validation):
        document.add_paragraph(line)
    rows = _rows(validation)
    grid = document.add_table(rows=len(rows) + 1, cols=len(_HEADS))
    grid.style = "Light List"
    cells = grid._cells  # the property walks the whole table for every cell otherwise
    for place, text in enumerate((*_HEADS, *(cell for row in rows for cell in row))):
        cells[place].text = text
    document.core_properties.author = "causalms"
    document.core_properties.title = "Validation"
    document.save(str(path))
    without_times(path)
