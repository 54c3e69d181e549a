"""Columns of a participants table: what each means, with its unit, and their conversion from other units."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from causalms.errors import InputError
from causalms.tables import arm_order

_COLUMNS: dict[str, dict[str, Any]] = {
    "trial": {"Description": "Trial the patient was enrolled in"},
    "site": {"Description": "Site of the trial"},
    "arm": {"Description": "Arm as randomised"},
    "age": {"Description": "Age at baseline", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "edss": {"Description": "Expanded Disability Status Scale at baseline, 0 to 10"},
    "disease_duration": {"Description": "Time since first symptoms", "Units": "year"},
    "relapses_prior_year": {"Description": "Relapses in the year before baseline"},
    "gd_lesions": {"Description": "Gadolinium-enhancing lesions at baseline"},
    "t2_lesions": {"Description": "T2 lesions at baseline"},
    "t2_volume_ml": {"Description": "Volume of T2 lesions at baseline", "Units": "mL"},
    "exposure_years": {"Description": "Time at risk, baseline to last contact", "Units": "year"},
}
_OUTCOMES: dict[str, dict[str, Any]] = {
    "net2_lesions": {"Description": "New or enlarging T2 lesions since baseline, at week {week}"},
    "net2_volume_ml": {"Description": "Volume of new or enlarging T2 lesions since baseline, at week {week}", "Units": "mL"},
}
_OUTCOME = re.compile(r"^(net2_lesions|net2_volume_ml)_week(\d+)$")


def describe_columns(participants: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Description, units and levels of the columns that are known; ``participant_id`` needs none in BIDS.

    The levels of ``arm`` are the arms of the table.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "arm": ["mild", "strong"], "age": [40, 50]})
    >>> describe_columns(people)["arm"]["Levels"], describe_columns(people)["age"]
    ({'mild': 'mild', 'strong': 'strong'}, {'Description': 'Age at baseline', 'Units': 'year'})
    """
    described = {}
    for name in participants.columns:
        outcome = _OUTCOME.match(str(name))
        if name in _COLUMNS:
            described[name] = dict(_COLUMNS[name])
        elif outcome:
            entry = dict(_OUTCOMES[outcome.group(1)])
            entry["Description"] = entry["Description"].format(week=outcome.group(2))
            described[name] = entry
    if "arm" in described:
        described["arm"]["Levels"] = {arm: arm.replace("-", " ") for arm in arm_order(participants["arm"])}
    return described


def outcome_week(column: str) -> int | None:
    """Week of an observed-outcome column, or None if the column is none.

    Examples
    --------
    >>> outcome_week("net2_lesions_week48"), outcome_week("age")
    (48, None)
    """
    outcome = _OUTCOME.match(column)
    return int(outcome.group(2)) if outcome else None


#: Factor from a unit to that of the table (years, millilitres), by the unit's plain spelling.
_YEARS = {
    **dict.fromkeys(("year", "years", "yr", "yrs", "y", "a"), 1.0),
    **dict.fromkeys(("month", "months", "mo", "mos"), 1 / 12),
    **dict.fromkeys(("week", "weeks", "wk", "wks"), 7 / 365.25),
    **dict.fromkeys(("day", "days", "d"), 1 / 365.25),
}
_MILLILITRES = {
    **dict.fromkeys(("ml", "millilitre", "millilitres", "milliliter", "milliliters", "cc", "ccm", "cm3", "cm^3"), 1.0),
    **dict.fromkeys(("mm3", "mm^3", "ul", "µl", "microlitre", "microliter"), 1e-3),
    **dict.fromkeys(("l", "litre", "liter"), 1e3),
}
_UNITS = {"age": _YEARS, "disease_duration": _YEARS, "exposure_years": _YEARS, "t2_volume_ml": _MILLILITRES}
#: What a column is called apart from its unit.
_STEM = {"age": "age", "disease_duration": "disease_duration", "exposure_years": "exposure", "t2_volume_ml": "t2_volume"}


def in_own_units(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table with ages and durations in years and volumes in mL, and what was converted, in words.

    The unit is told by ``Units`` in ``participants.json``, or by the column's name (``age_months``, ``t2_volume_mm3``) where the
    column itself is absent.

    Raises
    ------
    InputError
        If ``participants.json`` names a unit that cannot be the column's.

    Examples
    --------
    >>> table, notes = in_own_units(pd.DataFrame({"participant_id": ["sub-1"], "age_months": [564]}), Path("nowhere"))
    >>> table["age"].tolist(), notes
    ([47.0], ["column 'age_months' is read as age: 1 month is 0.0833333 years"])
    """
    units, notes = _declared_units(root), []
    out = table.copy()
    for column, factors in _UNITS.items():
        if column in out:
            unit = units.get(column)
            if unit is None or (factor := factors.get(_plain(unit))) == 1.0:
                continue
            if factor is None:
                known = ", ".join(sorted(factors))
                raise InputError(f"{root / 'participants.json'}: column {column!r} has the unit {unit!r}; write one of {known}")
            notes.append(
                f"column {column!r} is converted: participants.json says its unit is {unit} ({factor:.6g} {_own(column)})"
            )
        else:
            named = _by_name(out, column, factors)
            if len(named) != 1:
                continue
            name, unit = named[0]
            factor = factors[unit]
            one = unit if unit in _MILLILITRES else unit.rstrip("s")
            converted = "" if factor == 1 else f": 1 {one} is {factor:.6g} {_own(column)}"
            notes.append(f"column {name!r} is read as {column}{converted}")
            out = out.rename(columns={name: column})
        numbers = pd.to_numeric(out[column], errors="coerce")
        out[column] = (numbers * factor).where(numbers.notna(), out[column])
    return out, notes


def unit_hint(column: str, values: pd.Series, most: float) -> str | None:
    """Which unit would make sense of a column whose values are mostly too large; None if none does.

    Examples
    --------
    >>> unit_hint("age", pd.Series([480, 564, 410]), 120)
    'the column looks like months: divide by 12, or call it age_months'
    """
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    if column not in _UNITS or numbers.empty or float(numbers.median()) <= most:
        return None
    units = (("months", 12.0), ("days", 365.25)) if _UNITS[column] is _YEARS else (("mm3", 1000.0),)
    for unit, factor in units:
        if float((numbers / factor).max()) <= most:
            return f"the column looks like {unit}: divide by {factor:g}, or call it {_STEM[column]}_{unit}"
    return None


def _own(column: str) -> str:
    return "years" if _UNITS[column] is _YEARS else "mL"


def _plain(unit: str) -> str:
    return unit.strip().lower().removesuffix("(s)").rstrip(".")


def _by_name(table: pd.DataFrame, column: str, factors: dict[str, float]) -> list[tuple[str, str]]:
    units = []
    for name in map(str, table.columns):
        plain = re.sub(r"[^a-z0-9µ]+", "_", name.lower()).strip("_")
        stem, _, unit = plain.rpartition("_")
        if stem == _STEM[column] and unit in factors:
            units.append((name, unit))
    return units


def _declared_units(root: Path) -> dict[str, str]:
    """Units that ``participants.json`` gives; none where it is missing or cannot be read."""
    try:
        described = json.loads((root / "participants.json").read_text(encoding="utf-8"))
        return {str(name).strip().lower(): str(entry["Units"]) for name, entry in described.items() if "Units" in entry}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
