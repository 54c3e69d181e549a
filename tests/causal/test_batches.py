"""Draws of several patients in one batch, as on a GPU: the numbers of one by one, and who cannot be used stays alone."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest

from causalms.causal import CausalModel, NegativeBinomialMechanism, Running
from causalms.errors import InputError

ARMS = ["placebo", "ocrelizumab"]


@dataclass(frozen=True)
class InBatches(NegativeBinomialMechanism):
    """The counts, asked for eight at a time."""

    @property
    def at_once(self):
        return 8

    def prepare(self, trial, participant_id):
        if participant_id == "sub-0004":
            raise InputError("sub-0004: no scan")
        return super().prepare(trial, participant_id)


@pytest.fixture
def both(truth):
    fields = {name: getattr(truth, name) for name in truth.__dataclass_fields__}
    return CausalModel(truth), CausalModel(InBatches(**fields))


@pytest.fixture
def people(table):
    return table[table["participant_id"].isin([f"sub-{number:04d}" for number in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)])]


def asked(model, people, **given):
    return model.do(people, ARMS, 48, draws=given.pop("draws", 3), **given)


@pytest.mark.parametrize("draws", [1, 3, 11])
def test_draws_of_several_patients_are_those_of_one_by_one(both, people, draws):
    one_by_one, batches = (asked(model, people, draws=draws) for model in both)
    pd.testing.assert_frame_equal(one_by_one, batches)


def test_a_fact_is_abducted_as_alone(both, people):
    tables = [model.counterfactual(people, "ocrelizumab", 48, particles=4) for model in both]
    pd.testing.assert_frame_equal(*tables)


def test_whom_nobody_can_read_is_skipped_and_the_others_answered(both, table):
    people = table.iloc[:9]
    with pytest.raises(InputError, match="sub-0004: no scan"):
        asked(both[1], people)
    answered = asked(both[1], people, running=Running(skip_bad=True))
    assert [one["participant_id"] for one in answered.attrs["skipped"]] == ["sub-0004"]
    alone = asked(both[0], people[people["participant_id"] != "sub-0004"])
    pd.testing.assert_frame_equal(answered.drop(columns="query_id"), alone.drop(columns="query_id"))


def test_finished_patients_are_kept_and_not_asked_again(both, people, tmp_path, monkeypatch):
    running = Running(parts=tmp_path)
    first = asked(both[1], people, running=running)
    next(tmp_path.rglob("sub-0003*.parquet")).unlink()
    seen = []
    monkeypatch.setattr(
        InBatches, "prepare", lambda self, trial, name: seen.append(name) or NegativeBinomialMechanism.prepare(self, trial, name)
    )
    pd.testing.assert_frame_equal(first, asked(both[1], people, running=running))
    assert seen == ["sub-0003"]


def test_workers_get_groups_of_patients(both, people):
    pd.testing.assert_frame_equal(asked(both[0], people), asked(both[1], people, running=Running(2)))
