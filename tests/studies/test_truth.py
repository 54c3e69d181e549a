"""Counterfactuals against potential outcomes that are known, because lesions are thinned by a known rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalms.causal import CausalModel, Twin
from causalms.causal.bounds import Law, activity_harm_bounds, benefit_bounds, harm_bounds
from causalms.causal.population import patient_effects
from causalms.errors import InputError
from studies.known_truth.twins import counterfactual_error, crps, exact_twins, gap_closed, interval_coverage, pehe, true_joint
from tests.studies.conftest import thinned_world

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def world(truth, make_participants):
    """Trial and truth of 120 patients: one thinning path of lesions under all arms."""
    return thinned_world(truth, make_participants(120, 11), ARMS, 123)


@pytest.fixture(scope="module")
def twins(truth, world):
    def ask(coupling, rho=None, mechanism=truth):
        return CausalModel(mechanism).counterfactual(
            world[0], ARMS, coupling=coupling, particles=40, twin=Twin(rho=rho, checked_patients=0)
        )

    return {c: ask(c) for c in ("monotone", "ancestral", "independent")} | {"rho": ask("rho", 0.5)}


def test_the_best_coupling_closes_at_least_half_of_the_gap(twins, world):
    known = world[1]
    errors = {name: counterfactual_error(t, known) for name, t in twins.items()}
    exact = counterfactual_error(exact_twins(twins["monotone"], known, size=0.5, particles=40), known)
    closed = {name: gap_closed(e, errors["independent"], exact) for name, e in errors.items()}
    assert closed["independent"] == 0.0
    assert closed["monotone"] > 0.5
    assert closed["ancestral"] > 0.9  # the rule of this truth itself, with the true rates
    assert 0.0 < closed["rho"] < closed["monotone"]


def test_the_thinning_coupling_with_true_rates_is_the_exact_answer(twins, world):
    exact = counterfactual_error(exact_twins(twins["ancestral"], world[1], size=0.5, particles=40), world[1])
    error = counterfactual_error(twins["ancestral"], world[1])
    assert error["crps"].to_numpy() == pytest.approx(exact["crps"].to_numpy(), rel=0.15)  # two particle sets of 40


def test_individual_intervals_of_the_right_law_cover(twins, world):
    coverage = interval_coverage(twins["ancestral"], world[1], level=0.9)
    # quantiles of 40 particles lose about 1/40 a side
    assert (coverage["coverage"] > coverage["expected"] - 1 / 20 - 3 * coverage["se"] - 0.01).all()
    assert (coverage["coverage"] > 0.88).all()


def test_individual_intervals_of_a_redraw_are_wider(twins, world):
    own, redrawn = (interval_coverage(twins[c], world[1]) for c in ("ancestral", "independent"))
    assert (own["width"] < redrawn["width"]).all()


def test_pehe_of_the_true_rates_is_zero_and_of_a_wrong_model_is_not(truth, world):
    table, known = world
    effects = patient_effects(CausalModel(truth).do(table, ARMS, expected=True), "ocrelizumab", "placebo")
    assert pehe(effects, known, "ocrelizumab", "placebo", 48.0) < 1e-9
    shifted = effects.assign(difference=effects["difference"] + 2.0)
    assert pehe(shifted, known, "ocrelizumab", "placebo", 48.0) == pytest.approx(2.0)


@pytest.mark.parametrize("estimated", [False, True])
def test_bounds_contain_the_truth_in_every_stratum(truth, world, estimated):
    table, known = world
    model = CausalModel.fit_counts(table, 48, dict(truth.covariates)) if estimated else CausalModel(truth)
    laws = model.do(table, ARMS, expected=True).set_index(["participant_id", "arm"])
    slack_of_fit = 0.08 if estimated else 0.0  # rates of 40 patients an arm are known to about 25%
    for stratum in ("gd_lesions > 0", "gd_lesions == 0", "age >= 40", "age < 40"):
        ids = list(table.query(stratum)["participant_id"])
        for arm in ("ocrelizumab", "dimethyl-fumarate"):
            pairs = [
                [Law.negative_binomial(*laws.loc[(p, a), ["expected_net2_lesions", "dispersion"]]) for a in ("placebo", arm)]
                for p in ids
            ]
            bounds = {"benefit": [benefit_bounds(*q) for q in pairs], "harm": [harm_bounds(*q) for q in pairs]}
            seen = true_joint(known, arm, "placebo", 48.0, ids)
            slack = 3 * 0.5 / np.sqrt(len(ids)) + slack_of_fit  # the truth is a draw for each patient
            for name, bound in bounds.items():
                low, high = np.mean([b.lower for b in bound]), np.mean([b.upper for b in bound])
                assert low - slack <= seen[name] <= high + slack, (stratum, arm, name)
            active = [[1 - float(law.at_most(0.0)) for law in q] for q in pairs]
            low, high = activity_harm_bounds(*np.array(active).T)
            assert low.mean() - slack <= seen["activity harm"] <= high.mean() + slack


def test_a_wrong_rate_ratio_costs_error(truth, world, twins):
    wrong = dataclasses.replace(truth, log_rates=(1.6, 1.6, 1.6))
    answer = CausalModel(wrong).counterfactual(world[0], ARMS, coupling="ancestral", particles=20, twin=Twin(checked_patients=0))
    right = counterfactual_error(twins["ancestral"], world[1])
    assert np.average(counterfactual_error(answer, world[1])["crps"]) > 1.5 * np.average(right["crps"])


def test_crps_is_the_integrated_squared_distance_of_distribution_functions():
    x, y = np.array([0.0, 1.0, 4.0, 4.0]), 2.0
    grid = np.arange(-1, 8, 1e-3)
    distance = ((x[:, None] <= grid).mean(0) - (grid >= y)) ** 2
    assert crps(x, y) == pytest.approx(distance.sum() * 1e-3, abs=2e-3)


def test_what_the_truth_lacks_is_named(twins, world):
    with pytest.raises(InputError, match="truth: no column 'true_rate'"):
        counterfactual_error(twins["monotone"], world[1].drop(columns="true_rate"))
    with pytest.raises(InputError, match="lacks some of these patients"):
        counterfactual_error(twins["monotone"], world[1].iloc[30:])
    with pytest.raises(InputError, match="the truth lacks participant"):
        exact_twins(twins["monotone"], world[1].iloc[30:], 0.5)


@pytest.mark.slow
def test_couplings_on_the_phantom_close_half_of_the_gap():
    import causalms as cms

    trial = cms.simulate_trial("pooled", patients=150, seed=5)
    model = CausalModel.fit_counts(trial, 48)
    bound = {
        coupling: model.counterfactual(
            trial.participants, list(trial.arms), 48, coupling, particles=40, twin=Twin(missing="skip", checked_patients=0)
        )
        for coupling in ("monotone", "ancestral", "independent")
    }
    known = trial.truth.table
    errors = {name: counterfactual_error(t, known) for name, t in bound.items()}
    exact = counterfactual_error(exact_twins(bound["monotone"], known, trial.truth.design.counts.size, 40), known)
    closed = {name: gap_closed(e, errors["independent"], exact) for name, e in errors.items()}
    assert max(closed["monotone"], closed["ancestral"]) > 0.5
