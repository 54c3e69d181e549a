"""Which forecast is held against which observation, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.calibration import assess, pair
from causalms.errors import CausalmsError, InputError, RefusalError, UsageError


def test_patients_are_judged_under_the_arm_they_were_randomised_to(trial) -> None:
    people, draws, expected = trial
    pairs = pair(expected, people)
    own = expected[expected["arm"] == expected["arm_randomised"]].set_index("participant_id")["expected_net2_lesions"]
    np.testing.assert_allclose(pairs.law.mean, own.loc[pairs.frame["participant_id"]])
    sampled = pair(draws, people)
    chosen = draws[(draws["arm"] == draws["arm_randomised"]) & (draws["participant_id"] == "sub-007")]
    row = sampled.frame.index[sampled.frame["participant_id"] == "sub-007"][0]
    np.testing.assert_array_equal(sampled.law.draws[row], np.sort(chosen["net2_lesions"]))
    assert sampled.observed[row] == people.loc[7, "net2_lesions_week48"]


def test_row_order_and_dropped_zeros_of_identifiers_do_not_matter(trial) -> None:
    people, draws, _ = trial
    shuffled = draws.sample(frac=1, random_state=1)
    plain = people.assign(participant_id=[int(name[4:]) for name in people["participant_id"]])
    first, second = pair(draws, people), pair(shuffled, plain)
    np.testing.assert_array_equal(first.law.draws, second.law.draws)
    np.testing.assert_array_equal(first.observed, second.observed)


def test_missing_counts_are_left_out_and_counted(trial) -> None:
    people, draws, _ = trial
    lost = people.assign(net2_lesions_week48=people["net2_lesions_week48"].where(people.index > 9))
    assert pair(draws, lost).left_out == 10


def test_assessment_is_the_same_for_the_same_seed_and_marks_no_contrast(trial) -> None:
    people, draws, _ = trial
    first = assess(pair(draws, people), by=("arm", "age >= 40"), repetitions=99, seed=3)
    second = assess(pair(draws, people), by=("arm", "age >= 40"), repetitions=99, seed=3)
    pd.testing.assert_frame_equal(first.results, second.results)
    assert not first.results["randomised"].any()
    groups = {"all", "arm = placebo", "arm = dimethyl-fumarate", "age >= 40", "age < 40"}
    assert set(first.results["subgroup"]) == groups == set(first.pit["subgroup"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, d: (p.drop(columns="net2_lesions_week48"), d), InputError, "no column 'net2_lesions_week48'"),
        (lambda p, d: (p.assign(net2_lesions_week48=-1), d), InputError, "row 1: found -1, expected a count"),
        (
            lambda p, d: (p.assign(net2_lesions_week48=10**18), d),
            InputError,
            "row 1: found 1000000000000000000, expected a count",
        ),
        (lambda p, d: (p.assign(net2_lesions_week48=0.5), d), InputError, "row 1: found 0.5, expected a count"),
        (lambda p, d: (pd.concat([p, p.head(1)]), d), InputError, "participant 'sub-000' has two rows"),
        (lambda p, d: (p.assign(arm="placebo"), d), InputError, "was randomised to 'dimethyl-fumarate' there and to 'placebo'"),
        (lambda p, d: (p.assign(participant_id=p.index + 9000), d), RefusalError, "none of its patients is in observed table"),
        (lambda p, d: (p, d.assign(query="counterfactual")), RefusalError, "forecasts that have not seen the outcome"),
        (lambda p, d: (p, d[d["arm"] != d["arm_randomised"]]), RefusalError, "under the arm as randomised"),
        (lambda p, d: (p, d.iloc[1:]), InputError, "give every patient the same number"),
        (lambda p, d: (p, pd.concat([d, d.assign(visit_week=96.0)])), UsageError, "weeks 48, 96; choose one with `week`"),
        (lambda p, d: (p, pd.concat([d, d.assign(query_id="r")])), UsageError, "forecasts of several queries"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(trial, change, error: type[CausalmsError], message: str) -> None:
    people, draws, _ = trial
    people, draws = change(people, draws)
    with pytest.raises(error, match=message):
        pair(draws, people)


def test_a_condition_on_unknown_columns_is_misuse(trial) -> None:
    people, draws, _ = trial
    with pytest.raises(UsageError, match="no column 'weight'"):
        pair(draws, people).groups("weight > 70")
    with pytest.raises(UsageError, match="no true or false"):
        pair(draws, people).groups("age + 1")


def test_groups_by_the_outcome_that_is_forecast_are_refused(trial) -> None:
    people, draws, _ = trial
    with pytest.raises(UsageError, match="`by`: 'net2_lesions_week48' is the outcome"):
        pair(draws, people).groups("net2_lesions_week48 > 0")
