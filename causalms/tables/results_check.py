"""The check of a results table that was read: every cell is what its column says, every interval lies around its estimate."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.tables.results import CONTRAST_MEASURES, NUMBERS, RESULTS_COLUMNS, RUNGS, TEXT, is_ratio

_TRUE, _FALSE = ("true", "True", "TRUE", "1", "1.0"), ("false", "False", "FALSE", "0", "0.0")
_SES = ("se", "se_patient", "se_generator", "se_monte_carlo")
#: Columns that name a statistic; two rows that agree in all of them are one statistic twice.
_NAMES = (*RESULTS_COLUMNS[:9], "level", "rung")
#: Words by which a row says why it has no estimate.
_REASONS = ("not estimable", "not estimated", "no estimate", "no event", "no interval", "not checked", "not tested")
#: Room for rounding where an interval is compared with its estimate, relative to the estimate.
_ROUNDING = 1e-9


class _Fault(NamedTuple):
    """A cell that is not as it must be: its row (from 0), its column, and what was found and expected."""

    row: int
    column: str
    sentence: str


def check_results(table: pd.DataFrame, source: str = "results") -> pd.DataFrame:
    """Refuse a results table with a cell that cannot be, and return it with the types of its columns.

    ``randomised`` is true, false, 1 or 0 (also True and TRUE), never guessed from another word; numbers are finite; ``level``
    lies between 0 and 1, ``p_value`` from 0 to 1; standard errors and numbers of patients are not negative, and the latter whole;
    ``rung`` is 2 or 3; a ratio lies above 0 (0 itself only without a standard error, as where an arm has no event); an interval
    has both its ends and its level, in order and around the estimate. The bounds of a percentile bootstrap alone may miss the
    estimate, which is then said in ``variance``. A row without an estimate is a test with a p-value, or says why in
    ``estimand``, ``estimator`` or ``variance`` ("not estimable: ..."). No statistic stands twice.

    Parameters
    ----------
    table : DataFrame
        With every column of a results table.
    source : str
        What to call the table in an error message (a file name).

    Returns
    -------
    DataFrame
        The same rows; numbers are floats, ``randomised`` is bool.

    Raises
    ------
    InputError
        Naming the first cell at fault with its row (the first row of data is row 1) and column.

    Examples
    --------
    >>> from causalms.tables import ResultRow, results_table
    >>> row = ResultRow(analysis="primary", arm="drug", reference="placebo", measure="rate ratio", estimate=0.5, randomised=True)
    >>> check_results(results_table([row]).assign(randomised="no"), "effects.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: effects.csv: row 1, column 'randomised': found 'no', expected true or false; correct it
    """
    checked, faults = _typed(table)
    if not faults:
        faults = [*_texts(checked), *_ranges(checked)]
    if not faults:
        faults = [*_intervals(checked), *_missing_estimates(checked), *_repeated(checked)]
    if faults:
        first = min(faults, key=lambda fault: (fault.row, RESULTS_COLUMNS.index(fault.column)))
        cells = {(fault.row, fault.column) for fault in faults}
        more = f" ({len(cells) - 1} more cell{'s are' if len(cells) > 2 else ' is'} wrong)" if len(cells) > 1 else ""
        raise InputError(f"{source}: row {first.row + 1}, column {first.column!r}: {first.sentence}{more}")
    return checked


def _typed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[_Fault]]:
    """The table with the types of its columns, and the cells that do not have them."""
    faults: list[_Fault] = []
    columns: dict[str, pd.Series] = {}
    for name in RESULTS_COLUMNS:
        values = table[name].astype(object).where(table[name].notna(), None)
        if name in TEXT or name == "package_version":
            columns[name] = pd.Series(
                [None if value is None else str(value) for value in values], index=table.index, dtype=object
            )
            continue
        read = _truth if name == "randomised" else _number
        cells = [read(value) for value in values]
        expected = "true or false" if name == "randomised" else "a number"
        for row, (value, cell) in enumerate(zip(values, cells, strict=True)):
            if cell is None:
                faults.append(_Fault(row, name, f"found {_shown(value)}, expected {expected}; correct it"))
        kind = bool if name == "randomised" and None not in cells else float
        columns[name] = pd.Series([np.nan if cell is None else cell for cell in cells], index=table.index, dtype=kind)
    return table.assign(**columns), faults


def _truth(value: object) -> bool | None:
    """A truth value, or None for any other word."""
    return str(value) in _TRUE if str(value) in (*_TRUE, *_FALSE) else None


def _number(value: object) -> float | None:
    """A number, missing as NaN; None for a word, a percent or a truth value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return np.nan
    if isinstance(value, bool | np.bool_):
        return None
    text = str(value).strip()
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _shown(value: object) -> str:
    return "an empty cell" if value is None or str(value).strip() == "" else repr(value)


def _faults(rows: pd.Series, column: str, values: pd.Series, expected: str) -> Iterator[_Fault]:
    """A fault for each of these rows, with the value found and what was expected."""
    for row in np.flatnonzero(rows.to_numpy(dtype=bool)):
        yield _Fault(int(row), column, f"found {_written(values.iloc[row])}, expected {expected}; correct it")


def _written(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return "an empty cell"
    return repr(value) if isinstance(value, str) else f"{value:.15g}"


def _texts(table: pd.DataFrame) -> Iterator[_Fault]:
    """Rows without an analysis or a measure, measures spelt almost as a known one, arms compared with themselves."""
    for name in ("analysis", "measure"):
        empty = table[name].isna() | (table[name].str.strip() == "")
        yield from _faults(empty, name, table[name].where(~empty), "its name")
    for row, measure in enumerate(table["measure"].fillna("")):
        near = _near_measure(measure)
        if near is not None:
            yield _Fault(row, "measure", f"no measure {measure!r}; did you mean {near!r}?")
    same = table["arm"].notna() & (table["arm"] == table["reference"])
    yield from _faults(same, "reference", table["reference"], "another arm than the one compared")


def _near_measure(measure: str) -> str | None:
    """The known contrast measure that a measure is a misspelling of, or None."""
    if measure in CONTRAST_MEASURES:
        return None
    plain = " ".join(measure.lower().replace("-", " ").replace("_", " ").split())
    near = difflib.get_close_matches(plain, CONTRAST_MEASURES, 1, cutoff=0.86)
    return near[0] if near else None


def _ranges(table: pd.DataFrame) -> Iterator[_Fault]:
    """Numbers outside what their column can hold."""
    for name in NUMBERS:
        infinite = np.isinf(table[name])
        if name in ("lower", "upper"):  # the open side of an interval
            infinite &= np.sign(table[name]) != (-1 if name == "lower" else 1)
        yield from _faults(infinite, name, table[name], "a finite number")
    level, p_value = table["level"], table["p_value"]
    yield from _faults((level <= 0) | (level >= 1), "level", level, "a level between 0 and 1, such as 0.95")
    yield from _faults((p_value < 0) | (p_value > 1), "p_value", p_value, "a probability from 0 to 1")
    for name in _SES:
        yield from _faults(table[name] < 0, name, table[name], "a standard error of 0 or more")
    for name in ("n", "n_reference"):
        fraction = table[name].notna() & ((table[name] < 0) | (table[name] % 1 != 0))
        yield from _faults(fraction, name, table[name], "a whole number of patients")
    rung = table["rung"]
    yield from _faults(rung.notna() & ~rung.isin(RUNGS), "rung", rung, "2 (effect of an intervention) or 3 (counterfactual)")
    ratios = table["measure"].map(is_ratio).astype(bool)
    for name in ("estimate", "lower", "upper"):
        yield from _faults(ratios & (table[name] < 0), name, table[name], "a ratio above 0")
    zero = ratios & (table["estimate"] == 0) & (table["se"].notna() | (table["lower"] > 0))
    yield from _faults(zero, "estimate", table["estimate"], "a ratio above 0 (its logarithm has the standard error)")
    yield from _faults(ratios & (table["upper"] == 0), "upper", table["upper"], "a ratio above 0")


def _intervals(table: pd.DataFrame) -> Iterator[_Fault]:
    """Intervals with one end, without a level, upside down or beside their estimate."""
    lower, upper, estimate = table["lower"], table["upper"], table["estimate"]
    for name, other in (("lower", upper), ("upper", lower)):
        yield from _faults(table[name].isna() & other.notna(), name, table[name], "both ends of the interval")
    yield from _faults(
        lower.notna() & upper.notna() & table["level"].isna(), "level", table["level"], "the level of the interval"
    )
    for row in np.flatnonzero((lower > upper).to_numpy()):
        ends = f"lower {lower.iloc[row]:.15g} lies above upper {upper.iloc[row]:.15g}"
        yield _Fault(int(row), "lower", f"{ends}; correct the interval")
    room = _ROUNDING * estimate.abs().clip(lower=1e-6)
    percentile = table["variance"].fillna("").str.contains("percentile")
    outside = ~percentile & (lower <= upper) & ((estimate < lower - room) | (estimate > upper + room))
    for row in np.flatnonzero(outside.to_numpy()):
        interval = f"{lower.iloc[row]:.15g} to {upper.iloc[row]:.15g}"
        sentence = f"estimate {estimate.iloc[row]:.15g} lies outside its interval {interval}; correct one of them"
        yield _Fault(int(row), "estimate", sentence)


def _missing_estimates(table: pd.DataFrame) -> Iterator[_Fault]:
    """Rows without an estimate that are no test and do not say why."""
    absent = table["estimate"].isna()
    words = table[["estimand", "estimator", "variance"]].fillna("").agg(" ".join, axis=1).str.lower()
    excused = words.map(lambda text: any(reason in text for reason in _REASONS))
    is_test = table["p_value"].notna() & ~table["measure"].isin(CONTRAST_MEASURES)
    has_more = table[["se", "lower", "upper"]].notna().any(axis=1)
    wrong = absent & (has_more | ~(excused | is_test))
    yield from _faults(wrong, "estimate", table["estimate"], "a number, or the reason in column variance ('not estimable: ...')")


def _repeated(table: pd.DataFrame) -> Iterator[_Fault]:
    """Rows of a statistic that stands above already."""
    names = table[list(_NAMES)].astype(object).fillna("")
    first: dict[tuple[object, ...], int] = {}
    for row, key in enumerate(names.itertuples(index=False, name=None)):
        if key in first:
            yield _Fault(row, "analysis", f"the same statistic as in row {first[key] + 1}; keep one of the two rows")
        first.setdefault(key, row)
