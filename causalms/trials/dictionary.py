"""What every column of a participants table means, with units: the content of ``participants.json``."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

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
