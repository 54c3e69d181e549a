"""The check of what ``causalms query`` writes beside its twins, when a report reads it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.tables import plain_numbers

_VERDICTS = ("ok", "warning", "refusal", "not checked")
#: Room for rounding where an estimate is compared with its bounds.
_ROUNDING = 1e-9
#: Numbers of either table, and the values that they can have.
_RANGES = {
    "rho": (-1, 1),
    "p_value": (0, 1),
    "se_monte_carlo": (0, np.inf),
    "n": (0, np.inf),
    "value": (-np.inf, np.inf),
    "estimate": (-np.inf, np.inf),
    "lower_bound": (-np.inf, np.inf),
    "upper_bound": (-np.inf, np.inf),
}


def checked_bounds(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Refuse a table of bounds (OUT.bounds.csv) with a cell that cannot be, and return it with numbers as numbers.

    ``rho`` lies from -1 to 1, the estimate between its bounds (within five Monte-Carlo errors), probabilities from 0 to
    1, and no point of a curve stands twice.

    Parameters
    ----------
    table : DataFrame
        ``rho``, ``measure``, ``arm``, ``reference``, ``estimate``, ``lower_bound``, ``upper_bound``; by choice
        ``se_monte_carlo``, ``n``.
    source : str
        Name of the table in messages.

    Raises
    ------
    InputError
        Naming row and column.

    Examples
    --------
    >>> rows = pd.DataFrame({"rho": [0.5], "measure": "benefit", "arm": "a", "reference": "b", "estimate": [0.9],
    ...                      "lower_bound": [0.1], "upper_bound": [0.8]})
    >>> checked_bounds(rows, "q.bounds.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: q.bounds.csv: row 1, column 'estimate': 0.9 lies outside its bounds 0.1 to 0.8; correct it
    """
    rows = _numbers(table, source, required=("rho", "estimate", "lower_bound", "upper_bound"))
    for name in ("estimate", "lower_bound", "upper_bound"):
        share = rows["measure"].isin(["benefit", "harm", "activity harm"])
        _refuse(
            share & ~rows[name].between(-_ROUNDING, 1 + _ROUNDING),
            rows[name],
            source,
            "lies outside 0 to 1, as no probability does",
        )
    room = _ROUNDING + 5 * (rows["se_monte_carlo"].fillna(0.0) if "se_monte_carlo" in rows else 0.0)  # an estimate is sampled
    outside = ~rows["estimate"].between(rows["lower_bound"] - room, rows["upper_bound"] + room)
    if outside.any():
        row = rows[outside].iloc[0]
        bounds = f"{row['lower_bound']:.15g} to {row['upper_bound']:.15g}"
        _refuse(outside, rows["estimate"], source, f"lies outside its bounds {bounds}")
    _refuse(
        rows.duplicated(["arm", "reference", "measure", "rho"]),
        rows["rho"],
        source,
        "stands twice for one measure and pair of arms",
    )
    return rows


def checked_diagnostics(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Refuse a table of diagnostics (OUT.diagnostics.csv) with a cell that cannot be, and return it with numbers as numbers.

    A verdict is ok, warning, refusal or not checked, and stands once a diagnostic and arm; a p-value lies from 0 to 1.

    Parameters
    ----------
    table : DataFrame
        As :func:`causalms.causal.diagnostics_table` gives it: rows with a verdict, then points without one.
    source : str
        Name of the table in messages.

    Raises
    ------
    InputError
        Naming row and column.

    Examples
    --------
    >>> rows = pd.DataFrame({"diagnostic": ["composition"], "arm": "a", "value": [0.1], "verdict": "fine", "series": None})
    >>> checked_diagnostics(rows, "d.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: d.csv: row 1, column 'verdict': fine is none of ok, warning, refusal, not checked; correct it
    """
    rows = _numbers(table, source)
    judged = rows["verdict"].notna()
    _refuse(judged & ~rows["verdict"].isin(_VERDICTS), rows["verdict"], source, f"is none of {', '.join(_VERDICTS)}")
    again = judged & rows[judged].duplicated(["diagnostic", "arm"]).reindex(rows.index, fill_value=False)
    _refuse(again, rows["diagnostic"], source, "has two verdicts for one arm")
    return rows


def _numbers(table: pd.DataFrame, source: str, required: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table with its numbers as numbers, each in the range of its column."""
    present = [name for name in _RANGES if name in table]
    rows = table.reset_index(drop=True)
    for name in present:
        values = pd.Series(plain_numbers(rows[name]), index=rows.index, name=name)
        wrong = values.isna() & rows[name].notna()
        _refuse(wrong, rows[name], source, "is no number")
        _refuse(values.isna() & (name in required), rows[name], source, "is missing")
        low, high = _RANGES[name]
        infinite = np.isinf(values.to_numpy(dtype=float))
        _refuse(values.notna() & (~values.between(low, high) | infinite), rows[name], source, f"lies outside {low} to {high}")
        if name == "n":
            _refuse(values.notna() & (values != values.round()), rows[name], source, "is no whole number")
        rows[name] = values
    return rows


def _refuse(rows: pd.Series, values: pd.Series, source: str, fault: str) -> None:
    if rows.any():
        row = int(np.flatnonzero(rows.to_numpy(dtype=bool))[0])
        raise InputError(f"{source}: row {row + 1}, column {str(values.name)!r}: {values.iloc[row]} {fault}; correct it")
