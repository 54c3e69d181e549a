"""Recalibration on a trial of one's own: what moves, what stays, coverage of the rate ratio, and the gate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.causal import CausalModel, recalibrate, recalibrated
from causalms.effects import estimate
from causalms.errors import InputError, UsageError
from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


def wrong(truth, **changes):
    return CausalModel(dataclasses.replace(truth, **changes))


@pytest.fixture(scope="module")
def big_table(big_table):
    return big_table.head(150)


def true_ratio(truth, table):
    means = CausalModel(truth).do(table, arm=ARMS, expected=True).groupby("arm")["expected_net2_lesions"].mean()
    return means["ocrelizumab"] / means["placebo"]


def ratio_row(table):
    return estimate(table, measure="rate-ratio", reference="placebo").results.set_index("arm").loc["ocrelizumab"]


def test_a_right_model_is_left_as_it_is(truth, big_table):
    expected = CausalModel(truth).do(big_table, arm=ARMS, expected=True)
    moved, recalibration = recalibrated(CausalModel(truth), big_table, expected)
    factor = np.log(moved["expected_net2_lesions"] / expected["expected_net2_lesions"]).groupby(expected["arm"]).mean()
    assert factor.abs().max() < 0.8  # 50 patients an arm: standard error of a log mean .2 to .3
    assert recalibration.update.error.patients == 150
    record = next(iter(moved.attrs["queries"].values()))["recalibration"]
    assert record["patients"] == 150
    assert set(record["arms"]) == set(ARMS)


def test_a_wrong_arm_effect_is_mended_and_its_interval_holds_the_truth(truth, big_table):
    """Ocrelizumab believed no better than dimethyl fumarate: the model says .45, the trial shows .17."""
    model = wrong(truth, log_rates=(1.6, 0.8, 0.8))
    moved, _ = recalibrated(model, big_table, model.do(big_table, arm=ARMS, expected=True))
    row = ratio_row(moved)
    assert row["lower"] < true_ratio(truth, big_table) < row["upper"] < 0.6
    assert row["se_generator"] > 0.1


class Known(CausalModel):
    """A model with a stored error model, learned from patients that are simulated from its own law."""

    def __init__(self, mechanism, stored: ErrorModel) -> None:
        super().__init__(_Mechanism(**{f.name: getattr(mechanism, f.name) for f in dataclasses.fields(mechanism)}))
        object.__setattr__(self.mechanism, "stored", stored)


def _mechanism_class():
    from causalms.causal import NegativeBinomialMechanism

    class Stored(NegativeBinomialMechanism):
        stored: ErrorModel | None = None

        @property
        def error_model(self):
            return self.stored

        def error_columns(self, row):
            return np.array([float(row["age"])])

    return Stored


_Mechanism = _mechanism_class()


@pytest.fixture(scope="module")
def known(truth, big_table):
    rng = np.random.default_rng(3)
    expected = CausalModel(truth).do(big_table, arm=ARMS, expected=True)
    wide = expected.pivot(index="participant_id", columns="arm", values="expected_net2_lesions").loc[big_table["participant_id"]]
    log_expected = np.log(wide[list(truth.arms)].to_numpy()) + np.log(truth.weeks[1] / 48)
    arm, size = rng.integers(0, 3, len(wide)), 1 / truth.dispersion
    counts = rng.poisson(rng.gamma(size, 1 / size, len(arm)) * np.exp(log_expected[np.arange(len(arm)), arm]))
    data = HeldOutCounts(counts.astype(float), arm, log_expected, big_table[["age"]].to_numpy(float), np.full(3, size), arm * 0)
    stored = fit_error_model(data, truth.arms, ("age",)).about_zero()
    return Known(truth, dataclasses.replace(stored, volume_sd=np.full(3, 0.1)))


def test_a_trial_like_those_it_learned_from_keeps_the_stored_error_model(known, table):
    moved, recalibration = recalibrated(known, table, known.do(table, arm=ARMS, expected=True))
    assert not recalibration.update.dropped
    assert recalibration.words.startswith("own counts do not contradict the checkpoint (arm effects p = ")
    stored = known.mechanism.error_model
    assert recalibration.update.error.words == f"from 60 own patients and {stored.patients:,} held-out patients"
    assert ratio_row(moved)["se_generator"] < 0.35  # 60 patients alone give .5


def test_a_harmful_arm_contradicts_the_stored_error_model(known, truth, big_table, make_outcomes):
    people = big_table.drop(columns=["net2_lesions_week48", "net2_volume_ml_week48"])
    harmful = make_outcomes(people, dataclasses.replace(truth, log_rates=(1.6, 0.8, 2.2)), 48, seed=4)
    moved, recalibration = recalibrated(known, harmful, known.do(harmful, arm=ARMS, expected=True))
    assert recalibration.update.dropped
    assert "own counts contradict the checkpoint (p = " in recalibration.words
    row = ratio_row(moved)
    assert row["lower"] < np.exp(2.2 - 1.6) < row["upper"]
    assert "from 150 own patients" in row["variance"]


def test_activity_follows_from_the_moved_law(truth, big_table):
    model = wrong(truth, log_rates=(1.4, 1.0, 0.3))
    moved, _ = recalibrated(model, big_table, model.do(big_table, arm=ARMS, expected=True))
    row = moved.iloc[-1]
    law = stats.nbinom(1 / row["dispersion"], 1 / (1 + row["dispersion"] * row["expected_net2_lesions"]))
    assert row["activity_probability"] == pytest.approx(law.sf(0))


def test_rows_may_come_in_any_order(truth, table):
    model = CausalModel(truth)
    expected = model.do(table, arm=ARMS, expected=True)
    shuffled = table.sample(frac=1, random_state=1)
    first = recalibrated(model, table, expected)[0]
    second = recalibrated(model, shuffled, expected)[0]
    pd.testing.assert_frame_equal(first.drop(columns="model_error"), second.drop(columns="model_error"), rtol=1e-9)


def test_what_recalibration_needs_is_named(truth, table):
    model = CausalModel(truth)
    with pytest.raises(InputError, match="no column 'net2_lesions_week96'"):
        recalibrate(model, table, week=96)
    with pytest.raises(InputError, match="5 patients on known arms"):
        recalibrate(model, table.head(5))
    with pytest.raises(UsageError, match="ask do\\(\\) with expected=True"):
        recalibrated(model, table, model.do(table, arm=ARMS, draws=2))
    expected = model.do(table, arm=ARMS, expected=True)
    with pytest.raises(InputError, match="world 'aspirin' is no arm of the model"):
        recalibrated(model, table, expected.assign(arm="aspirin"))
