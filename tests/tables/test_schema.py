"""What the three tables need, what they may lack, and how a missing column is named."""

from __future__ import annotations

import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.tables import PARTICIPANTS_COLUMNS, validate

DRAWS = pd.DataFrame({"participant_id": ["a", "a"], "arm": ["x", "y"], "visit_week": 48, "draw": 0, "net2_lesions": [3, 1]})


def test_participants_need_an_id_and_an_arm_only():
    people = validate(pd.DataFrame({"participant_id": ["a", "b"], "arm": ["x", "y"]}), "participants")
    assert set(PARTICIPANTS_COLUMNS) <= set(people.columns)
    assert set(people["trial"]) == {"not given"}
    assert people[["site", "age", "sex", "exposure_years"]].isna().all(axis=None)


def test_draws_of_any_simulator_need_no_volume_and_no_record_of_a_query():
    draws = validate(DRAWS, "draws")
    assert set(draws["query"]) == {"interventional"}
    assert set(draws["arm_randomised"]) == set(draws["query_id"]) == {"not given"}
    assert "net2_volume_ml" not in draws


@pytest.mark.parametrize(
    ("table", "name", "missing"),
    [
        (pd.DataFrame({"age": [30]}), "participants", "no columns 'participant_id', 'arm'; add them"),
        (DRAWS.drop(columns=["arm", "net2_lesions"]), "draws", "no columns 'arm', 'net2_lesions'; add them"),
        (DRAWS.drop(columns=["draw", "net2_lesions"]), "expected",
         "no columns 'expected_net2_lesions', 'activity_probability', 'dispersion'; add them"),
    ],
)  # fmt: skip
def test_all_missing_columns_stand_in_one_error(table, name, missing):
    with pytest.raises(InputError, match=missing):
        validate(table, name, "table.csv")


def test_given_columns_are_never_overwritten():
    given = validate(DRAWS.assign(trial="T", arm_randomised="x", query="counterfactual", query_id="q"), "draws")
    assert given.iloc[0][["trial", "arm_randomised", "query", "query_id"]].tolist() == ["T", "x", "counterfactual", "q"]
