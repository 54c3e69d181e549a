"""Numbers that are shown are rounded half away from zero, as the ROUND function of SAS does it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import causalms
from causalms.effects import number
from causalms.report.rows import estimate_and_interval, p_value
from causalms.report.rows import number as report_number
from causalms.tables import fixed, p_value_text, percentage, significant


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        (0.125, 2, "0.13"),
        (-0.125, 2, "-0.13"),
        (2.5, 0, "3"),
        (-2.5, 0, "-3"),
        (0.5, 0, "1"),
        (1.5, 0, "2"),
        (1.005, 2, "1.01"),
        (2.675, 2, "2.68"),
        (0.285, 2, "0.29"),
        (1.2345, 3, "1.235"),
        (12.5, 0, "13"),
        (1.0049999, 2, "1.00"),
        (0.1 + 0.2, 1, "0.3"),
        (3 * 0.335, 2, "1.01"),
        (123456789.0049, 2, "123456789.00"),
        (123456789.005, 2, "123456789.01"),
        (1e15 + 0.5, 0, "1000000000000001"),
        (0.999999, 3, "1.000"),
        (-0.0001, 2, "0.00"),
        (0.0, 2, "0.00"),
        (5e-324, 3, "0.000"),
        (1e22, 1, "10000000000000000000000.0"),
        (float("inf"), 2, "inf"),
        (float("nan"), 2, "nan"),
    ],
)
def test_half_goes_away_from_zero(value: float, decimals: int, shown: str) -> None:
    assert fixed(value, decimals) == shown


@pytest.mark.parametrize(("below", "shown"), [(1e-10, "2"), (1e-11, "2"), (1e-12, "3"), (1e-13, "3"), (0.0, "3")])
def test_nearness_to_halfway_is_that_of_sas(below: float, shown: str) -> None:
    # SAS 9.4, ROUNDZ function, example 1: ROUND(2.5 - 10**(-i)) is 2 for i up to 11 and 3 from 12 on.
    assert fixed(2.5 - below, 0) == shown


def test_agrees_with_python_away_from_ties() -> None:
    for value in np.random.default_rng(1).normal(0, 100, 2000):
        assert fixed(value, 3) == f"{value:.3f}"
        assert significant(value, 4) == f"{value:.4g}"


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(0.12345, 4, "0.1235"), (1234.5, 4, "1235"), (99.995, 4, "100"), (12345000.0, 4, "1.235e+07"), (0.0, 3, "0"), (2.5, 1, "3")],
)
def test_significant_digits_are_rounded_alike(value: float, digits: int, shown: str) -> None:
    assert significant(value, digits) == shown


def test_every_room_writes_a_tie_alike() -> None:
    assert number(0.12345) == "0.1235"
    assert number(float("inf")) == "inf"
    assert report_number(0.125, 2) == "0.13"
    assert report_number(-1234567.125, 2) == "−1,234,567.13"
    assert estimate_and_interval(0.1235, 0.0625, 0.3125) == ("0.124", "0.063 to 0.313")
    assert percentage(0.125) == "13%"
    assert (p_value_text(0.00125, 3), p_value(0.0345), p_value_text(0.03125)) == ("0.001", "0.035", "0.0313")


ROOMS = ("effects", "subgroups", "report", "agreement", "calibration", "benefit", "causal", "cli")


def _formats(tree: ast.AST) -> list[str]:
    """The format specifications of every f-string that fix a number of digits (12 and more tell values apart: names)."""
    values = [node for node in ast.walk(tree) if isinstance(node, ast.FormattedValue) and node.format_spec is not None]
    specs = [ast.unparse(value.format_spec).strip("f'\"") for value in values if value.format_spec is not None]
    return [spec for spec in specs if re.search(r"\.\d[fge%]$", spec)]


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_that_prints_results_rounds_by_itself(room: str) -> None:
    own = {
        str(file): formats
        for file in Path(causalms.__file__).parent.joinpath(room).rglob("*.py")
        if (formats := _formats(ast.parse(file.read_text(encoding="utf-8"))))
    }
    assert own == {}
