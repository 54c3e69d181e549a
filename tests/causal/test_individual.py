"""Rung 3 summaries: every number inside its bounds, exactness where the coupling is known, and the sweep over rho."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, MechanismBase, Outcome, Running, Twin
from causalms.causal.bounds import Law, benefit_bounds
from causalms.causal.individual import _with_mean, benefit_and_harm, individual_effects, patient_laws, rung_three_results
from causalms.causal.sweep import rho_sweep
from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import ResultRow

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def model(truth):
    return CausalModel(truth)


@pytest.fixture(scope="module")
def marginals(model, table):
    return model.do(table, ARMS, expected=True)


@pytest.fixture(scope="module")
def twins(model, table):
    return model.counterfactual(table, ARMS, particles=80, twin=Twin(checked_patients=0))


@pytest.mark.parametrize("coupling", ["monotone", "ancestral", "independent"])
def test_every_individual_number_lies_inside_its_bounds(model, table, marginals, coupling):
    twins = model.counterfactual(table, ARMS, particles=60, coupling=coupling, twin=Twin(checked_patients=0))
    effects = individual_effects(twins, marginals)
    assert len(effects) == 60 * 2
    for name in ("benefit", "harm", "active", "lesions"):
        # four standard errors of a share of 60 particles at the bound itself; a mean that is nearly zero knows too little of
        # its own scatter, so that of a share is added
        slack = 4 * (effects[f"{name}_se_monte_carlo"] * (name == "lesions") + 0.5 / np.sqrt(60))
        assert (effects[name] >= effects[f"{name}_lower"] - slack).all(), name
        assert (effects[name] <= effects[f"{name}_upper"] + slack).all(), name


def test_monotone_twins_under_a_better_arm_never_have_more_lesions(twins, marginals):
    effects = individual_effects(twins, marginals)
    from_placebo = effects[(effects["arm_randomised"] == "placebo") & (effects["arm"] == "ocrelizumab")]
    assert len(from_placebo) > 10
    assert (from_placebo["harm"] == 0).all()


def test_twin_of_a_quiet_placebo_patient_is_quiet(twins, marginals):
    effects = individual_effects(twins, marginals)
    quiet = effects[(effects["arm_randomised"] == "placebo") & (effects["factual"] == 0)]
    assert len(quiet) > 3
    assert (quiet["lesions"] == 0).all()
    assert (quiet["active_lower"] == 0).all()


def test_results_carry_the_coupling_the_bounds_and_rung_three(twins, marginals):
    rows = benefit_and_harm(twins, marginals, "ocrelizumab", "placebo", "monotone")
    assert (rows["rung"] == 3).all()
    assert not rows["randomised"].any()
    assert rows["analysis"].str.startswith("simulated").all()
    by_measure = rows.set_index("measure")
    for name in ("probability of benefit", "probability of harm", "probability of activity under the arm only"):
        low, high = (by_measure.loc[f"{name}, sharp {side} bound"] for side in ("lower", "upper"))
        assert "coupling monotone (an assumption)" in by_measure.loc[name, "estimator"]
        assert low["estimate"] <= high["estimate"]
        assert np.isnan(low["se"])  # a bound is no estimate with an interval
        assert np.isnan(high["lower"])
        assert np.isnan(
            by_measure.loc[name, ["se", "lower", "upper"]].to_numpy(float)
        ).all()  # the model error of rung 3 is unknown
        slack = (
            3 * np.hypot(by_measure.loc[name, "se_patient"], by_measure.loc[name, "se_monte_carlo"]) + 1e-9
        )  # facts are a sample
        assert low["estimate"] - slack <= by_measure.loc[name, "estimate"] <= high["estimate"] + slack


def test_a_bound_that_is_zero_in_every_patient_says_so():
    plain = ResultRow(analysis="simulated counterfactual", measure="probability of harm", variance="patients", randomised=False)
    zero = _with_mean(plain, np.zeros(5), np.zeros(5), 2e-16)
    assert (zero.estimate, zero.lower, zero.upper, zero.se, zero.se_generator) == (0, 0, 0, 0, 0)
    assert zero.variance == "patients; 0 in every patient"
    assert _with_mean(plain, np.zeros(5), np.zeros(5), 0.002).upper > 0.003
    assert _with_mean(plain, np.array([0.0, 0.1]), np.zeros(2), 0.0).variance == "patients"


def test_bounds_average_each_patients_own(twins, marginals):
    rows = benefit_and_harm(twins, marginals, "ocrelizumab", "placebo", "monotone").set_index("measure")
    own = twins.loc[twins["arm_randomised"] == "placebo", "participant_id"].unique()
    table = marginals.set_index(["participant_id", "arm"])
    laws = [
        [Law.negative_binomial(*table.loc[(p, a), ["expected_net2_lesions", "dispersion"]]) for a in ("placebo", "ocrelizumab")]
        for p in own
    ]
    by_hand = [benefit_bounds(*pair) for pair in laws]
    assert rows.loc["probability of benefit, sharp lower bound", "estimate"] == pytest.approx(np.mean([b.lower for b in by_hand]))
    assert rows.loc["probability of benefit, sharp upper bound", "estimate"] == pytest.approx(np.mean([b.upper for b in by_hand]))


def test_volumes_have_bounds_from_draws(model, table, twins):
    do = model.do(table, ARMS, draws=150, seed=5)
    effects = individual_effects(twins, do, outcome="net2_volume_ml")
    quiet = effects["factual"] == 0
    assert np.isinf(effects.loc[~quiet, "lesions_upper"]).all()  # a volume is continuous: seeing it bounds nothing
    slack = 4 * effects["lesions_se_monte_carlo"] + 0.2  # bounds from 150 draws carry sampling error of their own
    assert (effects["lesions"] <= effects["lesions_upper"] + slack)[quiet].all()
    assert np.isfinite(effects.loc[quiet, "lesions_upper"]).all()


def test_laws_from_draws_and_from_expectations_agree(model, table, marginals):
    closed = patient_laws(marginals, 48.0)
    two = Running(participants=list(table["participant_id"].head(2)))
    sampled = patient_laws(model.do(table, ARMS, draws=2000, running=two), 48.0)
    for key in sampled:
        assert float(sampled[key].at_most(0.0)) == pytest.approx(float(closed[key].at_most(0.0)), abs=4 * 0.5 / np.sqrt(2000))


def test_rung_three_results_of_a_run_hold_bounds_and_diagnostics(model, table):
    twins = model.counterfactual(table, "ocrelizumab", particles=16)
    rows = rung_three_results(model, table, twins)
    assert set(rows["analysis"]) == {"simulated counterfactual", "diagnostics"}
    assert {"composition", "marginal", "overlap"} <= set(rows["measure"])
    assert rows.loc[rows["analysis"] == "simulated counterfactual", "reference"].unique().tolist() == [
        "dimethyl-fumarate",
        "placebo",
    ]


def test_the_sweep_stays_inside_its_bounds_and_reaches_the_ends(model, table):
    sweep = rho_sweep(model, table, ("ocrelizumab", "placebo"), rhos=(0.0, 0.5, 1.0), draws=150)
    slack = 4 * sweep["se_monte_carlo"]
    assert (sweep["estimate"] >= sweep["lower_bound"] - slack - 1e-9).all()
    assert (sweep["estimate"] <= sweep["upper_bound"] + slack).all()
    harm = sweep[sweep["measure"] == "harm"].set_index("rho")
    assert harm.loc[1.0, "estimate"] == 0.0  # shared noise gives the lower bound of harm: an assumption, not a finding
    assert harm.loc[0.0, "estimate"] > 0.05
    assert harm["estimate"].is_monotonic_decreasing


def test_the_sweep_at_rho_zero_is_independence_by_hand(model, table, marginals):
    sweep = rho_sweep(model, table, ("ocrelizumab", "placebo"), rhos=(0.0,), draws=400).set_index("measure")
    p = marginals.pivot(index="participant_id", columns="arm", values="activity_probability")
    by_hand = (p["ocrelizumab"] * (1 - p["placebo"])).mean()
    row = sweep.loc["activity harm"]
    assert row["estimate"] == pytest.approx(by_hand, abs=4 * row["se_monte_carlo"])


def test_a_mechanism_without_expectations_gets_bounds_from_draws(table):
    class Quiet(MechanismBase):
        name, arms = "quiet", ("placebo", "ocrelizumab")

        def push(self, subject, arm, week, noise):
            return Outcome(float(noise.normals["u"][0] > (0.0 if arm == "placebo" else 1.0)), 0.0)

    sweep = rho_sweep(CausalModel(Quiet()), table.head(10), ("ocrelizumab", "placebo"), rhos=(0.0, 1.0), draws=200).set_index(
        ["rho", "measure"]
    )
    assert sweep.loc[(0.0, "activity harm"), "estimate"] == pytest.approx(0.1587 * 0.5, abs=0.03)
    assert sweep.loc[(1.0, "activity harm"), "estimate"] == 0.0


def test_what_is_missing_is_named(model, table, twins, marginals):
    with pytest.raises(UsageError, match="no rows of week 96; its weeks are 48"):
        individual_effects(twins, marginals, week=96)
    with pytest.raises(InputError, match="no interventional rows at week 48"):
        individual_effects(twins, marginals.assign(visit_week=96.0))
    with pytest.raises(InputError, match="law of counts only"):
        individual_effects(twins, marginals, outcome="net2_volume_ml")
    with pytest.raises(InputError, match="the marginals lack participant"):
        individual_effects(twins, marginals[marginals["arm"] != "placebo"])
    own = twins[(twins["query"] == "observed") | (twins["arm"] == twins["arm_randomised"])]
    with pytest.raises(InputError, match="no world other than the factual one"):
        individual_effects(own, marginals)
    with pytest.raises(RefusalError, match="nobody randomised to 'laquinimod' has a twin"):
        benefit_and_harm(pd.DataFrame(twins), marginals, "placebo", "laquinimod", "monotone")
    with pytest.raises(RefusalError, match="name two arms"):
        rho_sweep(model, table, ("placebo", "placebo"))
