"""Text that a spreadsheet would run: marked with an apostrophe in written tables, and read without it.

A cell of text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break is a formula for a spreadsheet, also in a .csv.
Such cells and such column names get an apostrophe before them, which spreadsheets hide or show as text; what already begins
with apostrophes before one of these signs gets one more, so that reading takes off exactly what writing added. Numbers stay as
they are, and so do a number with its interval in parentheses and a dash alone: they are no formula.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_HARMLESS = re.compile(rf"{_NUMBER}(?: \({_NUMBER} to {_NUMBER}\))?|-")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"''*[=+\-@\t\r\n]")


def marked(text: object) -> object:
    """A cell as it is written: an apostrophe stands before text that a spreadsheet would run.

    Examples
    --------
    >>> marked("=HYPERLINK(A1)"), marked("-0.3"), marked("-2+3"), marked("-0.39 (-0.5 to -0.3)"), marked("'=1"), marked(-1)
    ("'=HYPERLINK(A1)", '-0.3', "'-2+3", '-0.39 (-0.5 to -0.3)', "''=1", -1)
    """
    if isinstance(text, str) and _FORMULA.match(text) and not _HARMLESS.fullmatch(text):
        return f"'{text}"
    return text


def unmarked(text: object) -> object:
    """A cell as it was before :func:`marked`.

    Examples
    --------
    >>> unmarked("'=HYPERLINK(A1)"), unmarked("''=1"), unmarked("'quoted'"), unmarked("O'Neill")
    ('=HYPERLINK(A1)', "'=1", "'quoted'", "O'Neill")
    """
    return text[1:] if isinstance(text, str) and _MARKED.match(text) else text


def mark_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose text, in cells and column names, a spreadsheet does not run."""
    return _each_text(table, marked)


def unmark_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it was before :func:`mark_formulas`."""
    return _each_text(table, unmarked)


def quoting(table: pd.DataFrame) -> Literal[0, 2]:
    """How a written table quotes its text: where it must, and everywhere if a carriage return would else end a row."""
    texts = [pd.Series(table.columns, dtype=object), *(table.iloc[:, place] for place in range(table.shape[1]))]
    returns = any(
        values.map(lambda value: isinstance(value, str) and "\r" in value).any() for values in texts if _is_text(values)
    )
    return 2 if returns else 0  # csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL


def _is_text(values: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values))


def _each_text(table: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    columns = [change(name) for name in table.columns]
    changed: dict[int, Any] = {}
    for place, (_, values) in enumerate(table.items()):
        if isinstance(values.dtype, pd.CategoricalDtype):
            categories = [change(value) for value in values.cat.categories]
            if categories != list(values.cat.categories):
                changed[place] = values.cat.rename_categories(categories)
        elif _is_text(values):
            cells = values.map(change)
            if not cells.equals(values):
                changed[place] = cells
    if not changed and columns == list(table.columns):
        return table
    made = table.copy()
    for place, cells in changed.items():
        made.isetitem(place, cells)
    made.columns = pd.Index(columns)
    return made
