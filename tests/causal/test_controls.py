"""Negative controls come out null where nothing is wrong, and not where something is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, Expected, MechanismBase, negative_controls
from causalms.errors import InputError, UsageError


@dataclass(frozen=True)
class ScannedTrial:
    """A trial whose scans hold one number a patient."""

    participants: pd.DataFrame
    source: object = field(repr=False)
    name: str = "scanned"

    def image(self, participant_id, modality):
        return self.source.image(participant_id, modality)


class Scans:
    def __init__(self, values):
        self.values = values

    def image(self, participant_id, modality):
        return self.values[participant_id]


class ReadsTheScan(MechanismBase):
    """Expected count = exp(number of the scan), under every arm."""

    name, arms = "reads-the-scan", ("placebo", "dimethyl-fumarate", "ocrelizumab")
    capabilities = frozenset({"push", "expect", "mask"})

    def prepare(self, trial, participant_id):
        return replace(super().prepare(trial, participant_id), encoding=trial.image(participant_id, "FLAIR"))

    def expect(self, subject, arm, week):
        mean = float(np.exp(subject.encoding))
        return Expected(mean, mean, 0.5, 0.5)


class ReadsTheArm(ReadsTheScan):
    """Looks at the arm that the table says was given."""

    capabilities = frozenset({"push", "expect"})

    def prepare(self, trial, participant_id):
        subject = MechanismBase.prepare(self, trial, participant_id)
        return replace(subject, encoding=float(subject.arm_randomised == "placebo"))


def verdicts(results: pd.DataFrame, control: str) -> list[str]:
    rows = results[results["analysis"].str.contains(control)]
    return rows["estimand"].str.rpartition(": ")[2].str.partition(" (")[0].tolist()


@pytest.fixture(scope="module")
def honest(table, truth):
    return negative_controls(CausalModel(truth), table, "placebo", scrambles=2)


def test_all_controls_of_an_honest_trial_are_null(honest):
    assert honest["analysis"].nunique() == 3  # no scans are read, and there is no other trial to learn from
    assert not honest["estimand"].str.contains("NOT NULL").any()
    assert set(verdicts(honest, "copy")) == {"null"}


def test_an_outcome_before_treatment_that_follows_the_arm_is_found(table, truth):
    leaked = table.assign(gd_lesions=np.where(table["arm"] == "ocrelizumab", 1.0, 5.0) + (np.arange(len(table)) % 2))
    assert "NOT NULL" in verdicts(negative_controls(CausalModel(truth), leaked, "placebo", scrambles=1), "before treatment")


def test_a_model_that_looks_at_the_arm_given_is_found(table):
    found = negative_controls(CausalModel(ReadsTheArm()), table, "placebo", scrambles=1)
    changed = found[found["measure"] == "largest change"].iloc[0]
    assert changed["estimate"] == pytest.approx(np.e - 1)
    assert changed["estimand"].endswith("NOT NULL")


def test_scans_of_others_add_nothing_and_their_own_do(big_table):
    people = big_table.head(90)
    values = dict(zip(people["participant_id"], np.log1p(people["net2_lesions_week48"]) + 0.1, strict=True))
    found = negative_controls(CausalModel(ReadsTheScan()), ScannedTrial(people, Scans(values)), "placebo", scrambles=1)
    assert verdicts(found, "scans of other patients") == ["null"]
    assert verdicts(found, "their own scans") == ["must not be null"]
    assert found.loc[found["analysis"].str.contains("their own"), "lower"].iloc[0] > 1.2


def test_a_null_says_what_it_would_have_found(honest):
    row = honest[honest["analysis"].str.contains("before") & honest["p_value"].notna()].iloc[0]
    assert f"finds a ratio of {np.exp(2.8 * row['se']):.2f} with power 80%" in row["estimand"]


def test_controls_refuse_what_they_cannot_ask(table, truth):
    with pytest.raises(UsageError, match="`scanned`: found 3, expected at least 20"):
        negative_controls(CausalModel(truth), table, "placebo", scanned=3)
    with pytest.raises(UsageError, match="`scrambles`: found 0"):
        negative_controls(CausalModel(truth), table, "placebo", scrambles=0)
    with pytest.raises(InputError, match="no column 'net2_lesions_week24'; name a week"):
        negative_controls(CausalModel(truth), table, "placebo", week=24)
    with pytest.raises(InputError, match="10 patients on arms of the model were seen then; at least 20"):
        negative_controls(CausalModel(truth), table.head(10), "placebo")


def test_the_command_prints_how_many_are_null(run, table, tmp_path):
    table.to_csv(tmp_path / "people.csv", index=False)
    ended = run(
        "controls", tmp_path / "people.csv", "--model", "counts", "--reference", "placebo", "--scrambles", "1",
        "--out", tmp_path / "controls.csv",
    )  # fmt: skip
    assert ended.code == 0, ended.error
    assert "negative controls are null" in ended.printed
    assert len(pd.read_csv(tmp_path / "controls.csv")) >= 10


def test_small_arms_that_reject_in_fewer_deals_than_they_may_are_null():
    """At 13 patients an arm the test at 5% rejects in fewer deals: that is no sign of an effect."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({
        "participant_id": [f"p{k}" for k in range(52)], "trial": "T", "arm": ["a", "b", "c", "d"] * 13,
        "age": rng.normal(38, 8, 52), "net2_lesions_week48": rng.poisson(3 * rng.gamma(0.5, 2, 52)),
    })  # fmt: skip
    rows = negative_controls(CausalModel.fit_counts(table, 48, {"age": "linear"}), table, "a", 48, 20)
    share = rows[rows["measure"] == "share of tests that reject at 5%"].iloc[0]
    assert share["estimate"] <= 0.05
    assert "NOT NULL" not in share["estimand"]
