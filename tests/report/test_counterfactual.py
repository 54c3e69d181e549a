"""A report refuses a table of bounds or diagnostics with a cell that cannot be, by row and column."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.report import write_report
from causalms.report.figures.counterfactual import checked_bounds, checked_diagnostics

BOUNDS = pd.DataFrame(
    {
        "rho": [0.0, 1.0],
        "measure": "benefit",
        "arm": "a",
        "reference": "b",
        "estimate": [0.3, 0.4],
        "se_monte_carlo": 0.001,
        "lower_bound": 0.1,
        "upper_bound": 0.5,
        "n": [40, 40],
    }
)
DIAGNOSTICS = pd.DataFrame(
    {
        "diagnostic": ["composition", "invariance"],
        "arm": "a",
        "value": [0.1, 0.0],
        "p_value": [0.4, None],
        "n": [40, 40],
        "verdict": ["ok", "warning"],
        "words": "words",
        "series": None,
    }
)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("rho", 1.5, "column 'rho': 1.5 lies outside -1 to 1"),
        ("rho", "half", "column 'rho': half is no number"),
        ("rho", 0.0, "column 'rho': 0.0 stands twice"),
        ("estimate", 0.6, "column 'estimate': 0.6 lies outside its bounds 0.1 to 0.5"),
        ("estimate", None, "column 'estimate': None is missing"),
        ("upper_bound", 1.2, "column 'upper_bound': 1.2 lies outside 0 to 1, as no probability does"),
        ("lower_bound", 0.45, "column 'estimate': 0.4 lies outside its bounds 0.45 to 0.5"),
        ("n", 39.5, "column 'n': 39.5 is no whole number"),
        ("se_monte_carlo", -0.1, "column 'se_monte_carlo': -0.1 lies outside 0 to inf"),
    ],
)
def test_a_bound_that_cannot_be_is_refused(column: str, value: object, fault: str) -> None:
    table = BOUNDS.astype({column: object})
    table.loc[1, column] = value
    with pytest.raises(InputError, match=rf"q.csv: row 2, {fault}"):
        checked_bounds(table, "q.csv")


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("verdict", "fine", "column 'verdict': fine is none of ok, warning, refusal, not checked"),
        ("p_value", 1.2, "column 'p_value': 1.2 lies outside 0 to 1"),
        ("value", "0,1", "column 'value': 0,1 is no number"),
        ("diagnostic", "composition", "column 'diagnostic': composition has two verdicts for one arm"),
    ],
)
def test_a_diagnostic_that_cannot_be_is_refused(column: str, value: object, fault: str) -> None:
    table = DIAGNOSTICS.astype({column: object})
    table.loc[1, column] = value
    with pytest.raises(InputError, match=rf"q.csv: row 2, {fault}"):
        checked_diagnostics(table, "q.csv")


def test_right_tables_pass_and_numbers_read_as_text_are_numbers() -> None:
    assert checked_bounds(BOUNDS.astype(str), "q.csv")["estimate"].tolist() == [0.3, 0.4]
    assert checked_diagnostics(DIAGNOSTICS, "q.csv")["verdict"].tolist() == ["ok", "warning"]


def test_a_report_of_a_wrong_table_is_not_written(tmp_path: Path) -> None:
    BOUNDS.assign(estimate=0.9).to_csv(tmp_path / "q.bounds.csv", index=False)
    with pytest.raises(InputError, match=r"q\.bounds\.csv: row 1, column 'estimate': 0.9 lies outside its bounds"):
        write_report([tmp_path / "q.bounds.csv"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
