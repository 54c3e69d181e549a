"""Leaving a trial out: the simulator cannot look, and what it cannot know is absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import leave_one_trial_out, predictable_contrasts
from causalms.errors import RefusalError, UsageError

RATIO = {"placebo": 1.0, "laquinimod": 0.8, "dimethyl-fumarate": 0.2}


def trials(seed: int = 1, per_arm: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for trial, arms in (
        ("A", ("placebo", "laquinimod")),
        ("B", ("placebo", "laquinimod")),
        ("C", ("placebo", "dimethyl-fumarate")),
    ):
        arm = np.repeat(arms, per_arm)
        mean = 4 * np.array([RATIO[name] for name in arm])
        parts.append(
            pd.DataFrame({"trial": trial, "arm": arm, "net2_lesions_week48": rng.negative_binomial(0.6, 0.6 / (0.6 + mean))})
        )
    people = pd.concat(parts, ignore_index=True)
    return people.assign(participant_id=np.arange(len(people)))


def arm_means(training: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """The mean of each arm of the training trials, for every patient."""
    means = training.groupby("arm")["net2_lesions_week48"].mean()
    tables = [held_out.assign(arm_randomised=held_out["arm"], arm=arm, expected_net2_lesions=mean) for arm, mean in means.items()]
    return pd.concat(tables).assign(visit_week=48.0, query="interventional", query_id="q")


def test_prediction_of_a_held_out_trial_is_made_of_the_others() -> None:
    people = trials()
    table = leave_one_trial_out(people, arm_means).table.set_index("trial")
    others = people[people["trial"] != "A"].groupby("arm")["net2_lesions_week48"].mean()
    assert table.loc["A", "simulated_estimate"] == pytest.approx(others["laquinimod"] / others["placebo"], rel=1e-9)
    # Dimethyl fumarate is in trial C alone: held out, nothing tells its effect.
    assert list(table.index) == ["A", "B"]


def test_the_simulator_never_sees_the_outcomes_of_the_held_out_trial() -> None:
    seen: list[pd.DataFrame] = []

    def spy(training: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
        seen.append(held_out)
        assert not set(training["trial"]) & set(held_out["trial"])
        return arm_means(training, held_out)

    leave_one_trial_out(trials(), spy)
    assert not any(name.startswith("net2_") for table in seen for name in table)


def test_one_trial_cannot_be_left_out() -> None:
    people = trials()
    with pytest.raises(RefusalError, match="one trial only"):
        leave_one_trial_out(people[people["trial"] == "A"], arm_means)


def test_any_drug_can_be_held_out_with_a_reference() -> None:
    names = {"placebo": "teriflunomide", "laquinimod": "fingolimod"}
    people = trials()
    people = people[people["trial"] != "C"].assign(arm=lambda table: table["arm"].map(names))
    with pytest.raises(
        RefusalError, match=r"^trial A: arms teriflunomide, fingolimod; name the one to compare with as `reference`$"
    ):
        predictable_contrasts(people)
    assert predictable_contrasts(people, "teriflunomide")["predictable"].all()
    table = leave_one_trial_out(people, arm_means, reference="teriflunomide").table
    assert table["label"].tolist() == ["A: fingolimod against teriflunomide", "B: fingolimod against teriflunomide"]


def test_a_trial_that_the_others_cannot_teach_is_named() -> None:
    agreement = leave_one_trial_out(trials(), arm_means)
    assert agreement.refused == ("C: dimethyl-fumarate against placebo: no other trial gave dimethyl-fumarate",)


def test_what_no_other_trial_gave_cannot_be_predicted() -> None:
    people = pd.DataFrame({"participant_id": range(6), "trial": list("AABBCC")})
    people["arm"] = ["placebo", "laquinimod", "placebo", "laquinimod", "placebo", "ocrelizumab"]
    known = predictable_contrasts(people).set_index("trial")
    assert known["predictable"].to_dict() == {"A": True, "B": True, "C": False}
    assert known.loc["C", "why"] == "no other trial gave ocrelizumab"
    with pytest.raises(UsageError, match="unknown trial 'D'"):
        leave_one_trial_out(people, lambda training, held_out: held_out, trials=["D"])
