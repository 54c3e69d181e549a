"""Scores of couplings and bounds by stratum, each on a case of known value."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.causal import CausalModel, Twin
from causalms.errors import InputError, UsageError
from causalms.stats import DrawsLaw, score
from studies.known_truth.couplings import (
    bounds_by_stratum,
    compare_couplings,
    law_bounds,
    rank_coverage,
    true_joint_probabilities,
)
from studies.known_truth.twins import crps
from tests.studies.conftest import thinned_world

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def world(truth, make_participants):
    """80 patients whose lesions are thinned along one path by known rates."""
    return thinned_world(truth, make_participants(80, 21), ARMS, 321)


def test_fair_crps_does_not_depend_on_the_number_of_particles_and_crps_does():
    rng = np.random.default_rng(0)
    few, many = rng.poisson(3.0, (4000, 3)), rng.poisson(3.0, (400, 400))
    of_few, of_many = (score("crps", DrawsLaw(draws), np.full(len(draws), 4)).mean() for draws in (few, many))
    assert abs(of_few - of_many) < 0.04  # standard error of 4,000 scores of about 0.8
    assert np.mean([crps(x, 4.0) for x in few]) - of_many > 0.2


@pytest.mark.parametrize("particles", [1, 3, 19])
def test_rank_coverage_of_a_right_law_is_nominal_for_any_number_of_particles(particles):
    rng = np.random.default_rng(1)
    draws = rng.negative_binomial(0.5, 0.2, (6000, particles + 1)).astype(float)
    covered = [rank_coverage(d[1:], d[0], 0.9) for d in draws]
    assert np.mean(covered) == pytest.approx(0.9, abs=4 * np.std(covered) / np.sqrt(len(covered)) + 1e-9)


def test_rank_coverage_of_a_narrow_law_is_too_low():
    rng = np.random.default_rng(2)
    covered = [rank_coverage(rng.poisson(3.0, 9), y) for y in rng.negative_binomial(0.5, 0.5 / 3.5, 500)]
    assert np.mean(covered) < 0.75


def test_the_right_coupling_closes_the_gap_and_covers(truth, world):
    table, known = world
    model = CausalModel(truth)
    twins = {
        c: model.counterfactual(table, ARMS, coupling=c, particles=8, twin=Twin(checked_patients=0))
        for c in ("independent", "ancestral")
    }
    compared = compare_couplings(twins, known, size=0.5, particles=100, resamples=200).set_index("coupling")
    assert compared.loc["independent", "gap_closed"] == 0.0
    assert compared.loc["exact", "gap_closed"] == 1.0
    right = compared.loc["ancestral"]
    assert abs(right["gap_closed"] - 1) < 4 * right["gap_closed_se"] + 0.02
    assert abs(right["coverage"] - 0.9) < 4 * right["coverage_se"]
    assert (compared["worlds"] == 160).all()


def test_the_gap_needs_a_redraw_of_the_same_patients(truth, world):
    table, known = world
    twins = CausalModel(truth).counterfactual(table, ARMS, particles=2, twin=Twin(checked_patients=0))
    with pytest.raises(UsageError, match="measured from 'independent'"):
        compare_couplings({"monotone": twins}, known, 0.5)
    fewer = twins[twins["participant_id"] != table["participant_id"].iloc[0]]
    with pytest.raises(InputError, match="do not hold the same patients"):
        compare_couplings({"independent": twins, "monotone": fewer}, known, 0.5, particles=10)


def test_true_joint_probabilities_are_those_of_simulated_thinning():
    rng, size = np.random.default_rng(3), 0.5
    frailty = rng.gamma(size, 1 / size, 200_000)
    zero = rng.poisson(frailty * 3.0)
    one = rng.binomial(zero, 1 / 3)
    benefit, harm, onset = true_joint_probabilities([3.0], [1.0], size)[:, 0]
    assert (one < zero).mean() == pytest.approx(benefit, abs=0.005)
    assert harm == onset == 0.0
    _, harm, onset = true_joint_probabilities([1.0], [3.0], size)[:, 0]
    assert (one < zero).mean() == pytest.approx(harm, abs=0.005)
    assert ((one == 0) & (zero > 0)).mean() == pytest.approx(onset, abs=0.005)


def test_bounds_from_true_marginals_contain_the_truth_in_every_stratum(truth, world):
    table, known = world
    expected = CausalModel(truth).do(table, ARMS, expected=True)
    doubled = expected.assign(expected_net2_lesions=2 * expected["expected_net2_lesions"])
    strata = {"all": list(table["participant_id"]), "Gd": list(table.query("gd_lesions > 0")["participant_id"])}
    bounds = bounds_by_stratum([expected, expected, doubled], known, 0.5, strata, "ocrelizumab", "placebo", 48.0)
    assert (bounds["truth"] >= bounds["lower_true"] - 1e-9).all()
    assert (bounds["truth"] <= bounds["upper_true"] + 1e-9).all()
    assert bounds["lower"].to_numpy() == pytest.approx(bounds["lower_true"].to_numpy(), abs=1e-9)  # the model is the truth
    assert (bounds.set_index("measure").loc["benefit", "upper_se"] > 0).all()


def test_bounds_of_a_patient_with_no_lesions_expected():
    bounds = law_bounds([0.0], [0.0], [0.5], [0.5])[0]
    assert bounds.tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
