"""Diagnostics: quiet for a right model, loud for each way of being wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalms.causal import CausalModel, Noise, Outcome, value
from causalms.causal.diagnostics import THRESHOLDS, Threshold, act_on, diagnose, to_results
from causalms.causal.evidence import TableTrial
from causalms.causal.mechanisms.negative_binomial import NegativeBinomialMechanism
from causalms.causal.query import Query
from causalms.errors import RefusalError

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


def check(mechanism, table, arm="ocrelizumab", coupling="monotone", rho=None, patients=150):
    query = Query((value(arm),), (48.0,), coupling=coupling, rho=rho, evidence_week=48.0)
    verdicts = diagnose(mechanism, TableTrial(table), query, list(table["participant_id"]), patients)
    return verdicts.set_index("diagnostic")


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_the_true_model_passes_every_diagnostic(truth, big_table, coupling):
    verdicts = check(truth, big_table, coupling=coupling)
    assert verdicts["verdict"].drop("composition of masks").eq("ok").all()
    assert verdicts.loc["composition", "value"] < 1e-12
    assert verdicts.loc["invariance", "value"] == 0.0
    assert verdicts.loc["overlap", "value"] == 1.0


def test_a_model_of_wrong_level_is_not_effective(truth, big_table):
    wrong = dataclasses.replace(truth, log_rates=(1.6, 0.8, 1.6))
    assert check(wrong, big_table).loc["effectiveness", "verdict"] in ("warning", "refusal")


def test_a_model_of_wrong_law_has_noise_that_is_not_normal(truth, big_table):
    wrong = dataclasses.replace(truth, log_rates=tuple(b + 1.5 for b in truth.log_rates), dispersion=0.3)
    verdicts = check(wrong, big_table, patients=300)
    assert verdicts.loc["noise", "verdict"] == "refusal"
    assert verdicts.loc["marginal", "verdict"] in ("warning", "refusal")


def test_an_abduction_that_does_not_lead_back_is_refused(truth, big_table):
    class Sloppy(NegativeBinomialMechanism):
        def abduct(self, subject, arm, week, outcome, draw, seed, method="stochastic"):
            return self.noise(subject, draw, seed)

    settings = {f.name: getattr(truth, f.name) for f in dataclasses.fields(truth)}
    verdicts = check(Sloppy(**settings), big_table, patients=60)
    assert verdicts.loc["composition", "verdict"] == "refusal"
    assert verdicts.loc["reversibility", "value"] > 0.75
    with pytest.raises(RefusalError, match="fail the diagnostic 'composition'"):
        act_on(verdicts.reset_index())
    with pytest.raises(RefusalError, match="calibrate it or ask for do"):
        CausalModel(Sloppy(**settings)).counterfactual(big_table.head(60), "ocrelizumab", particles=2)


def test_a_mechanism_that_reads_the_arm_into_its_noise_is_caught(truth, big_table):
    class Peeking(NegativeBinomialMechanism):
        calls = 0

        def noise(self, subject, draw, seed):
            type(self).calls += 1
            own = super().noise(subject, draw, seed)
            return Noise({k: v + 0.1 * (type(self).calls % 7) for k, v in own.normals.items()})

    settings = {f.name: getattr(truth, f.name) for f in dataclasses.fields(truth)}
    assert check(Peeking(**settings), big_table, patients=20).loc["invariance", "verdict"] == "refusal"


def test_reverse_trips_of_redrawn_worlds_are_not_judged(truth, big_table):
    verdicts = check(truth, big_table, coupling="independent", patients=40)
    assert verdicts.loc["reversibility", "verdict"] == "not checked"


def test_an_arm_of_another_trial_has_no_overlap_and_no_effectiveness(truth, big_table):
    apart = big_table.assign(trial=np.where(big_table["arm"] == "ocrelizumab", "B", "A"))
    placebo = apart[apart["arm"] == "placebo"]
    query = Query((value("ocrelizumab"),), (48.0,), evidence_week=48.0)
    verdicts = diagnose(truth, TableTrial(apart), query, list(placebo["participant_id"]), 30).set_index("diagnostic")
    assert verdicts.loc["overlap", "value"] == 0.0
    assert verdicts.loc["overlap", "verdict"] == "warning"
    assert verdicts.loc["effectiveness", "verdict"] == "not checked"
    with pytest.warns(UserWarning, match="overlap under ocrelizumab"):
        act_on(verdicts.reset_index())


def test_thresholds_judge_both_sides_and_missing_values():
    above, below = Threshold(1.0, 2.0, "above", ""), Threshold(0.01, 0.001, "below", "")
    assert [above.judge(v) for v in (0.5, 1.5, 2.5, np.nan)] == ["ok", "warning", "refusal", "not checked"]
    assert [below.judge(v) for v in (0.5, 0.005, 0.0005)] == ["ok", "warning", "refusal"]


def test_diagnostics_are_rows_of_results(truth, table):
    verdicts = check(truth, table, patients=10).reset_index()
    rows = to_results(verdicts)
    assert rows["measure"].tolist() == list(THRESHOLDS)
    assert (rows["analysis"] == "diagnostics").all()
    assert (rows["rung"] == 3).all()


def test_diagnostics_travel_with_the_twins(truth, table):
    twins = CausalModel(truth).counterfactual(table, "ocrelizumab", particles=2)
    assert {row["diagnostic"] for row in twins.attrs["diagnostics"]} == set(THRESHOLDS)


def test_twins_that_cling_to_the_fact_persist(truth, big_table):
    """Abducted noise that remembers the count: twins keep all factual lesions, composition is exact all the same."""

    class Clinging(NegativeBinomialMechanism):
        def abduct(self, subject, arm, week, outcome, draw, seed, method="stochastic"):
            noise = super().abduct(subject, arm, week, outcome, draw, seed, method)
            return Noise({**noise.normals, "count": np.full(1, 40.0 + outcome.lesions)})

        def push(self, subject, arm, week, noise):
            kept = float(noise.normals.get("count", np.zeros(1))[0]) - 40.0
            return Outcome(kept, 0.1 * kept) if kept >= 0 else super().push(subject, arm, week, noise)

    settings = {f.name: getattr(truth, f.name) for f in dataclasses.fields(truth)}
    right, clinging = (check(model, big_table, patients=60) for model in (truth, Clinging(**settings)))
    assert right.loc["persistence", "verdict"] == "ok"
    assert right.loc["persistence", "lower"] < 1 < right.loc["persistence", "upper"]
    assert clinging.loc["persistence", "value"] > 3
    assert clinging.loc["persistence", "verdict"] == "warning"


def test_reversibility_of_a_right_model_lies_where_frailty_alone_puts_it(truth, big_table):
    row = check(truth, big_table, patients=60).loc["reversibility"]
    assert row["reference_lower"] < row["reference"] < row["reference_upper"] < 1
    assert row["value"] < row["reference_upper"]  # it shares the Poisson part too, so it may lie below
    assert row["lower"] < row["value"] < row["upper"]
    assert row["particles"] == 4
