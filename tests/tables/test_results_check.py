"""A results table that was read is refused where a cell cannot be, with its row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.tables import is_ratio, results_table, validate
from tests.conftest import Run, refused

ROW: dict[str, Any] = {
    "analysis": "observed lesions",
    "population": "all patients of A",
    "subgroup": "all",
    "arm": "drug",
    "reference": "placebo",
    "measure": "rate ratio",
    "estimand": "rate ratio of lesions a year",
    "estimator": "unadjusted",
    "variance": "influence function",
    "estimate": 0.63,
    "se": 0.1,
    "lower": 0.5,
    "upper": 0.8,
    "level": 0.95,
    "p_value": 0.01,
    "n": 60.0,
    "n_reference": 58.0,
    "se_patient": 0.1,
    "randomised": True,
    "rung": 2,
}
OTHER = {**ROW, "arm": "other"}


def _table(**cells: Any) -> pd.DataFrame:
    """Two rows, the second with these cells."""
    table = results_table([ROW, OTHER]).astype(object)
    for column, value in cells.items():
        table.loc[1, column] = value
    return table


def _file(folder: Path, table: pd.DataFrame) -> Path:
    table.to_csv(folder / "effects.csv", index=False)
    return folder / "effects.csv"


DAMAGED = [
    *(({"randomised": word}, "randomised", f"found {word!r}, expected true or false")
      for word in ("no", "yes", "maybe", "false ", "F", "N", "0.5", "randomised")),
    ({"randomised": None}, "randomised", "found an empty cell"),
    ({"randomised": 2}, "randomised", "expected true or false"),
    ({"lower": 9.0}, "lower", "lower 9 lies above upper 0.8"),
    ({"lower": 0.7}, "estimate", "estimate 0.63 lies outside its interval 0.7 to 0.8"),
    ({"upper": 0.6}, "estimate", "estimate 0.63 lies outside its interval 0.5 to 0.6"),
    ({"lower": None}, "lower", "found an empty cell, expected both ends of the interval"),
    ({"upper": None}, "upper", "found an empty cell, expected both ends of the interval"),
    ({"upper": "-inf"}, "upper", "expected a finite number"),
    ({"lower": "inf"}, "lower", "expected a finite number"),
    ({"level": 95}, "level", "found 95, expected a level between 0 and 1"),
    ({"level": 0}, "level", "found 0"),
    ({"level": 1}, "level", "found 1"),
    ({"level": "95%"}, "level", "found '95%', expected a number"),
    ({"level": None}, "level", "found an empty cell, expected the level of the interval"),
    ({"p_value": 7.0}, "p_value", "found 7, expected a probability from 0 to 1"),
    ({"p_value": -0.01}, "p_value", "found -0.01"),
    ({"p_value": "<0.001"}, "p_value", "found '<0.001', expected a number"),
    ({"p_value": "inf"}, "p_value", "found inf"),
    *(({name: -1.0}, name, "found -1, expected a standard error of 0 or more")
      for name in ("se", "se_patient", "se_generator", "se_monte_carlo")),
    ({"se": "inf"}, "se", "found inf, expected a finite number"),
    ({"estimate": -3.0, "lower": None, "upper": None}, "estimate", "found -3, expected a ratio above 0"),
    ({"estimate": -3.0}, "estimate", "found -3, expected a ratio above 0"),
    ({"lower": -0.1}, "lower", "found -0.1, expected a ratio above 0"),
    ({"estimate": 0.0, "lower": 0.0}, "estimate", "found 0, expected a ratio above 0"),
    ({"estimate": "inf", "upper": "inf"}, "estimate", "found inf, expected a finite number"),
    ({"estimate": "63%"}, "estimate", "found '63%', expected a number"),
    ({"estimate": "0,63"}, "estimate", "found '0,63', expected a number"),
    ({"estimate": "0_63"}, "estimate", "found '0_63', expected a number"),
    ({"estimate": "٠.٦٣"}, "estimate", "expected a number"),
    ({"estimate": True}, "estimate", "expected a number"),
    ({"estimate": None}, "estimate", "found an empty cell, expected a number, or the reason in column variance"),
    ({"estimate": None, "se": None, "lower": None, "upper": None}, "estimate", "or the reason in column variance"),
    ({"n": 12.5}, "n", "found 12.5, expected a whole number of patients"),
    ({"n": -1}, "n", "found -1"),
    ({"n_reference": 0.5}, "n_reference", "found 0.5"),
    ({"rung": 7}, "rung", "found 7, expected 2"),
    ({"rung": 2.5}, "rung", "found 2.5"),
    ({"measure": "rate ration"}, "measure", "no measure 'rate ration'; did you mean 'rate ratio'?"),
    ({"measure": "rate-ratio"}, "measure", "did you mean 'rate ratio'?"),
    ({"measure": "Risk Difference"}, "measure", "did you mean 'risk difference'?"),
    ({"measure": None}, "measure", "found an empty cell, expected its name"),
    ({"analysis": "  "}, "analysis", "found an empty cell, expected its name"),
    ({"reference": "other"}, "reference", "found 'other', expected another arm"),
    ({"arm": "drug"}, "analysis", "the same statistic as in row 1; keep one of the two rows"),
    ({"arm": "drug", "estimate": 0.6, "n": 61}, "analysis", "the same statistic as in row 1"),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "column", "words"), DAMAGED)
def test_damaged_cell_is_named_by_the_report(tmp_path: Path, run: Run, cells: dict[str, Any], column: str, words: str) -> None:
    file = _file(tmp_path, _table(**cells))
    ended = run("report", tmp_path / "report.html", file)
    refused(ended, 1, f"{file}: row 2, column {column!r}: ", words)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("cells", "column", "words"), DAMAGED)
def test_damaged_cell_of_a_frame_is_named_too(cells: dict[str, Any], column: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        validate(_table(**cells), "results", "frame")
    assert str(refusal.value).startswith(f"frame: row 2, column {column!r}: ")


@pytest.mark.parametrize(
    "cells",
    [
        {},
        {"randomised": "TRUE"},
        {"randomised": "0"},
        {"p_value": 0.0},
        {"p_value": 5e-324},
        {"se": 0.0},
        {"n": 0},
        {"rung": None},
        {"package_version": None},
        {"level": None, "lower": None, "upper": None},
        {"estimate": 0.0, "se": None, "lower": 0.0, "variance": "exact: no event in the arm"},
        {"upper": "inf"},
        {"estimate": 0.5},
        {"estimate": 0.9, "variance": "percentile bootstrap of patients"},
        {"measure": "interaction of rate ratio", "estimate": None, "se": None, "lower": None, "upper": None},
        {"estimate": None, "se": None, "lower": None, "upper": None, "p_value": None, "estimand": "not estimable: one patient"},
        {"measure": "risk difference", "estimate": -0.3, "lower": -0.5, "upper": -0.1},
        {"measure": "correlation of rate ratios", "estimate": -0.3, "lower": -0.8, "upper": 0.4},
        {"measure": "observed / predicted mean count"},
    ],
)
def test_what_can_be_is_read(tmp_path: Path, run: Run, cells: dict[str, Any]) -> None:
    ended = run("report", tmp_path / "report.html", _file(tmp_path, _table(**cells)))
    assert ended.code == 0, ended.error


def test_every_wrong_cell_is_counted_and_the_first_is_named() -> None:
    table = results_table([ROW, OTHER]).astype(object)
    table["randomised"] = "no"
    with pytest.raises(InputError, match=r"t: row 1, column 'randomised': .* \(1 more cell is wrong\)"):
        validate(table, "results", "t")


def test_rows_are_counted_by_place_not_by_index() -> None:
    table = results_table([ROW, OTHER])
    table.index = pd.Index([7, 7])
    with pytest.raises(InputError, match="t: row 2, column 'se'"):
        validate(table.assign(se=[0.1, -1.0]), "results", "t")


def test_false_in_text_stays_false() -> None:
    table = _table(randomised="False")
    assert validate(table, "results", "t")["randomised"].tolist() == [True, False]
    assert validate(table, "results", "t")["randomised"].dtype == np.bool_


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("rate ratio", True),
        ("rate ratio, sharp lower bound", True),
        ("ratio of rate ratios", True),
        ("correlation of rate ratios", False),
        ("concordance of risk ratios", False),
        ("interaction of rate ratio", False),
        ("difference of risk differences", False),
    ],
)
def test_a_correlation_of_ratios_is_no_ratio(measure: str, expected: bool) -> None:
    assert is_ratio(measure) == expected
