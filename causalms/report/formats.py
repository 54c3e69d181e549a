"""How numbers are written for a reader: few digits, the same number of decimals within one interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from causalms.tables import fixed, p_value_text, percent_in_full

#: Written where a number is absent, so that an empty cell is never read as zero.
ABSENT = "–"


def decimals_for(*values: float) -> int:
    """Decimals that give the largest of the values three significant digits (at most six decimals).

    Examples
    --------
    >>> decimals_for(0.523, 0.41, 0.66), decimals_for(12.3), decimals_for(0.00321), decimals_for(0.0)
    (3, 1, 5, 2)
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(max(sizes)))))


def number(value: object, decimals: int | None = None) -> str:
    """Write one number; a missing one as a dash, a whole one without decimals.

    Examples
    --------
    >>> number(0.52312), number(1234.0), number(float("nan")), number(2.0, 2)
    ('0.523', '1,234', '–', '2.00')
    """
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ABSENT
    x = float(value)  # type: ignore[arg-type]
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if decimals is None:
        decimals = 0 if x == round(x) and abs(x) < 1e15 else decimals_for(x)
    text = fixed(x, decimals, thousands=True)
    return f"−{text[1:]}" if text.startswith("-") else text


def estimate_and_interval(estimate: float, lower: float, upper: float) -> tuple[str, str]:
    """Write an estimate and its interval with the same decimals; the interval is empty where both limits are missing.

    Examples
    --------
    >>> estimate_and_interval(0.5231, 0.4118, 0.6644)
    ('0.523', '0.412 to 0.664')
    >>> estimate_and_interval(-0.2, -0.31, float("nan"))
    ('−0.200', '−0.310 to –')
    """
    decimals = decimals_for(estimate) if math.isfinite(estimate) and estimate != 0 else decimals_for(lower, upper)
    if pd.isna(lower) and pd.isna(upper):
        return number(estimate, None if estimate == round(estimate, 0) else decimals), ""
    return number(estimate, decimals), f"{number(lower, decimals)} to {number(upper, decimals)}"


def p_value(value: object) -> str:
    """Write a p-value to three decimals, small ones as ``<0.001``.

    Examples
    --------
    >>> p_value(0.03412), p_value(0.00002), p_value(None)
    ('0.034', '<0.001', '–')
    """
    return p_value_text(math.nan if value is None else float(value), 3, ABSENT)  # type: ignore[arg-type]


def percent(level: object) -> str:
    """Write a confidence level, ``0.95`` as ``95%``; a missing one as nothing.

    Examples
    --------
    >>> percent(0.95), percent(0.995), percent(None)
    ('95%', '99.5%', '')
    """
    if level is None or pd.isna(level):  # type: ignore[call-overload]
        return ""
    return percent_in_full(float(level))  # type: ignore[arg-type]


def text(value: object, absent: str = "") -> str:
    """A text cell of a table, with missing values as ``absent``.

    Examples
    --------
    >>> text(None), text(float("nan"), "all"), text("placebo")
    ('', 'all', 'placebo')
    """
    return absent if value is None or pd.isna(value) or str(value) == "" else str(value)  # type: ignore[call-overload]


def each_row(table: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples, whose entries are whatever the columns hold.

    Examples
    --------
    >>> [row.a for row in each_row(pd.DataFrame({"a": [1, 2]}))]
    [1, 2]
    """
    return iter(table.itertuples(index=False))
