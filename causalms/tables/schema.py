"""The three tables that rooms hand to each other, and their schemas.

``participants`` has one row a patient, ``draws`` one row a patient x arm x visit x draw, ``results`` one row a statistic (its
check: :mod:`causalms.tables.results_check`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.tables.cells import plain_numbers, refuse_lookalikes, refuse_words_among_numbers, shown
from causalms.tables.keys import names_of
from causalms.tables.results import RESULTS_COLUMNS
from causalms.tables.results_check import check_results

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

#: The regions a lesion can be counted in, in the order of their labels 1-4 on an anatomy map.
REGIONS = ("periventricular", "juxtacortical", "deep_white_matter", "infratentorial")

PARTICIPANTS_COLUMNS = (
    "participant_id",
    "trial",
    "site",
    "arm",
    "age",
    "sex",
    "edss",
    "disease_duration",
    "relapses_prior_year",
    "gd_lesions",
    "t2_lesions",
    "t2_volume_ml",
    "exposure_years",
)

DRAWS_KEYS = ("participant_id", "trial", "arm", "arm_randomised", "visit_week", "query", "query_id")
DRAWS_OUTCOMES = ("net2_lesions", "net2_volume_ml", *(f"net2_lesions_{region}" for region in REGIONS))
EXPECTED_OUTCOMES = ("expected_net2_lesions", "expected_net2_volume_ml", "activity_probability", "dispersion")

_OUTCOME = re.compile(r"(net2_lesions|net2_volume_ml)_week\d+")
_NOT_GIVEN = "not given"
_DRAWS_DEFAULTS = {"trial": _NOT_GIVEN, "arm_randomised": _NOT_GIVEN, "query": "interventional", "query_id": _NOT_GIVEN}
#: Columns that a table may lack, and what :func:`validate` fills in.
_DEFAULTS: dict[str, dict[str, str | None]] = {
    "participants": {
        **dict.fromkeys(name for name in PARTICIPANTS_COLUMNS if name not in ("participant_id", "arm")),
        "trial": _NOT_GIVEN,
    },
    "draws": {**_DRAWS_DEFAULTS},
    "expected": {**_DRAWS_DEFAULTS},
}

#: Largest value of each column that a living patient can have; smallest is 0 (exposure: an hour).
LARGEST_VALUES = {
    "age": 120.0,
    "edss": 10.0,
    "disease_duration": 100.0,
    "relapses_prior_year": 50.0,
    "gd_lesions": 500.0,
    "t2_lesions": 2000.0,
    "t2_volume_ml": 500.0,
    "exposure_years": 60.0,
}
#: No brain holds so many lesions, and no table of their counts so wide a range.
LARGEST_COUNT = 100_000.0
_SMALLEST_EXPOSURE_YEARS = 1e-4


def net2_column(week: int, outcome: str = "net2_lesions") -> str:
    """Name of the participants column that holds an observed outcome at a visit.

    Outcomes are cumulative from baseline: lesions new or enlarging at ``week`` against week 0.

    Examples
    --------
    >>> net2_column(48)
    'net2_lesions_week48'
    """
    return f"{outcome}_week{week}"


@lru_cache(maxsize=4)
def schema(name: str) -> DataFrameSchema:
    """The checked schema of a table.

    Parameters
    ----------
    name : {"participants", "draws", "expected"}
        A results table has no such schema: :func:`validate` checks it cell by cell.

    Returns
    -------
    pandera.pandas.DataFrameSchema

    Examples
    --------
    >>> sorted(schema("expected").columns)[:2]
    ['activity_probability', 'arm']
    """
    import pandera.pandas as pa

    at_least_zero = pa.Check.ge(0, error="0 or more")
    whole = pa.Check(lambda s: s % 1 == 0, error="a whole number", ignore_na=True)
    halves = pa.Check(lambda s: s % 0.5 == 0, error="a step of 0.5", ignore_na=True)
    text = pa.Column(str, coerce=True)

    def alive(column: str, least: float = 0) -> Any:
        return pa.Check.in_range(least, LARGEST_VALUES[column], error=f"{least:g} to {LARGEST_VALUES[column]:g}")

    no_more = pa.Check.less_than_or_equal_to(LARGEST_COUNT, error=f"at most {LARGEST_COUNT:,.0f}")

    def number(*checks: Any, nullable: bool = True, required: bool = True) -> Any:
        return pa.Column(float, list(checks), coerce=True, nullable=nullable, required=required)

    keys = {key: text for key in DRAWS_KEYS if key != "visit_week"}
    keys["query"] = pa.Column(
        str,
        pa.Check.isin(["observed", "interventional", "counterfactual"], error="observed, interventional or counterfactual"),
        coerce=True,
    )
    keys["visit_week"] = number(at_least_zero, nullable=False)
    tables = {
        "participants": {
            "participant_id": pa.Column(str, coerce=True, unique=True),
            "trial": text,
            "site": pa.Column(str, coerce=True, nullable=True),
            "arm": pa.Column(str, coerce=True, nullable=True),
            "age": number(alive("age")),
            "sex": pa.Column(str, pa.Check.isin(["F", "M"], error="F or M"), coerce=True, nullable=True),
            "edss": number(alive("edss"), halves),
            "disease_duration": number(alive("disease_duration")),
            **{name: number(alive(name), whole) for name in ("relapses_prior_year", "gd_lesions", "t2_lesions")},
            "t2_volume_ml": number(alive("t2_volume_ml")),
            "exposure_years": number(alive("exposure_years", _SMALLEST_EXPOSURE_YEARS)),
        },
        "draws": {
            **keys,
            "draw": number(at_least_zero, whole, nullable=False),
            "net2_lesions": number(at_least_zero, whole, no_more, nullable=False),
            "net2_volume_ml": number(at_least_zero, nullable=False, required=False),
            **{name: number(at_least_zero, whole, no_more, required=False) for name in DRAWS_OUTCOMES[2:]},
        },
        "expected": {
            **keys,
            "expected_net2_lesions": number(at_least_zero, no_more, nullable=False),
            "expected_net2_volume_ml": number(at_least_zero, nullable=False, required=False),
            "activity_probability": number(pa.Check.in_range(0, 1, error="0 to 1"), nullable=False),
            "dispersion": number(at_least_zero, nullable=False),
        },
    }
    if name not in tables:
        raise UsageError(f"no table is called {name!r}; known are {', '.join(tables)}")
    return pa.DataFrameSchema(tables[name], name=name, strict=False)


def validate(table: pd.DataFrame, name: str, source: str = "table") -> pd.DataFrame:
    """Check a table against its schema and return it with the schema's types.

    Needed are participant_id and arm of participants; participant_id, arm, visit_week and the outcome (draw and net2_lesions, or
    expected_net2_lesions, activity_probability and dispersion) of draws; every column of results.  What else is missing is
    filled: trial, arm_randomised and query_id with "not given", query with "interventional", covariates with missing values.

    Parameters
    ----------
    table : DataFrame
    name : {"participants", "draws", "expected", "results"}
    source : str
        What to call the table in an error message (a file name).

    Raises
    ------
    InputError
        Naming all missing columns, or the first column and row that fail and what was expected.

    Examples
    --------
    >>> import pandas as pd
    >>> validate(pd.DataFrame({"participant": ["a"]}), "participants", "trial.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: trial.csv: no columns 'participant_id', 'arm'; add them (columns found: participant)
    """
    from pandera.errors import SchemaErrors

    if name == "results":
        _refuse_missing_columns(table, list(RESULTS_COLUMNS), source)
        return check_results(table, source)
    checked, defaults = schema(name), _DEFAULTS.get(name, {})
    _refuse_missing_columns(
        table, [key for key, column in checked.columns.items() if column.required and key not in defaults], source
    )
    absent = {key: value for key, value in defaults.items() if key not in table}
    if absent:
        table = table.assign(**{key: pd.Series(value, index=table.index, dtype=object) for key, value in absent.items()})
    table = named_in_full(table, [key for key, column in checked.columns.items() if str(column.dtype).startswith("str")])
    for column in checked.columns:
        if column in table and checked.columns[column].dtype is not None and str(checked.columns[column].dtype) == "float64":
            refuse_words_among_numbers(table[column], source)
    for column in ("arm", "trial", "site"):
        if column in table and column in checked.columns:
            refuse_lookalikes(table[column].unique(), f"{column}s", source)
    if name == "participants":
        table = _observed_outcomes(table, source)
    try:
        typed: pd.DataFrame = checked.validate(table, lazy=True)
    except SchemaErrors as failure:
        case = failure.failure_cases.iloc[0]
        row = "" if pd.isna(case["index"]) else f", row {int(case['index']) + 1}"
        at = f"{source}: column {case['column']!r}{row}"
        if case["check"] == "not_nullable":
            raise InputError(f"{at}: is empty, expected a value; fill it in or leave the row out") from None
        expected = "a number" if str(case["check"]).startswith("coerce_dtype('float") else case["check"]
        raise InputError(f"{at}: found {shown(case['failure_case'])}, expected {expected}; correct it") from None
    return typed


def _observed_outcomes(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with its observed outcomes as numbers; the first that is no count, or no volume, is named."""
    outcomes = {}
    for name in [name for name in table.columns if _OUTCOME.fullmatch(str(name))]:
        refuse_words_among_numbers(table[name], source)
        values = plain_numbers(table[name])
        whole = str(name).startswith("net2_lesions")
        broken = whole & ((np.floor(values) != values) | (values > LARGEST_COUNT))
        wrong = table[name].notna().to_numpy() & (~np.isfinite(values) | (values < 0) | broken)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            expected = f"a whole number of lesions, at most {LARGEST_COUNT:,.0f}" if whole else "a volume in mL, 0 or more"
            at = f"{source}: column {str(name)!r}, row {row + 1}"
            raise InputError(f"{at}: found {shown(table[name].iloc[row])}, expected {expected}; correct it")
        if table[name].dtype.kind not in "iuf":
            outcomes[name] = pd.Series(values, index=table.index)
    return table.assign(**outcomes) if outcomes else table


def named_in_full(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Numbers in columns of names as text, in full: arm 1.0, a float for a missing cell elsewhere, is called '1'.

    Examples
    --------
    >>> named_in_full(pd.DataFrame({"site": [1000001.0, None]}), ["site"])["site"].tolist()
    ['1000001', None]
    """
    numeric = [name for name in columns if name in table and table[name].dtype.kind in "iuf"]
    return table.assign(**{name: names_of(table[name]) for name in numeric})


def _refuse_missing_columns(table: pd.DataFrame, needed: list[str], source: str) -> None:
    missing = [name for name in needed if name not in table]
    if missing:
        named, them = ", ".join(map(repr, missing)), "it" if len(missing) == 1 else "them"
        present = ", ".join(map(str, table.columns[:20]))
        raise InputError(f"{source}: no column{'s' * (len(missing) > 1)} {named}; add {them} (columns found: {present})")
