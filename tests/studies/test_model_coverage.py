"""Simulated trials out of a known population: what is redrawn, and a coverage that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.causal import CausalModel
from causalms.errors import UsageError
from studies.known_truth.model_coverage import rate_ratio_coverage, redrawn_trial

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def population(truth, big_table):
    people = big_table.head(240)
    expected = CausalModel(truth).do(people, ARMS, expected=True)
    known = expected.rename(columns={"expected_net2_lesions": "true_rate"})[["participant_id", "arm", "visit_week", "true_rate"]]
    return people, expected, known


def test_a_redrawn_trial_keeps_trials_and_allocation_and_follows_the_true_rates(population):
    people, expected, known = population
    rates = known.pivot(index="participant_id", columns="arm", values="true_rate").loc[people["participant_id"]]
    split = people.assign(trial=np.where(np.arange(240) < 120, "A", "B"))
    split.loc[split["trial"] == "B", "arm"] = "placebo"
    redrawn = [redrawn_trial(split, expected, rates, 0.5, 48, np.random.default_rng(k)) for k in range(60)]
    own, seen = redrawn[0]
    assert len(own) == len(seen) == 240
    assert (own["arm"] == own["arm_randomised"]).all()
    assert own["arm"].iloc[120:].eq("placebo").all()  # nobody of trial B is given what B does not give
    counts = np.array([s["net2_lesions_week48"].mean() for _, s in redrawn])
    means = np.array([o["expected_net2_lesions"].mean() for o, _ in redrawn])
    error = (counts - means).std(ddof=1) / np.sqrt(60)
    assert abs((counts - means).mean()) < 4 * error


def test_the_interval_of_a_right_model_covers_the_true_ratio(population):
    people, expected, known = population
    coverage = rate_ratio_coverage(
        people, expected, known, 0.5, 48, [("dimethyl-fumarate", "placebo")], trials=30, members=60
    ).iloc[0]
    assert coverage["true_ratio"] == pytest.approx(np.exp(-0.8))
    assert coverage["shipped_ratio"] == pytest.approx(coverage["true_ratio"])
    assert coverage["randomised"]
    assert coverage["coverage"] > 0.8  # 30 trials at 0.95: fewer than 24 covered has probability 2e-4
    assert 0.6 < coverage["scatter"] / coverage["se_generator"] < 1.5  # relative error of a scatter over 30 trials: 13%


def test_the_interval_moves_a_wrong_model_to_the_truth(population):
    people, expected, known = population
    wrong = expected.assign(
        expected_net2_lesions=expected["expected_net2_lesions"] * np.where(expected["arm"] == "placebo", 1.0, 2.0)
    )
    coverage = rate_ratio_coverage(people, wrong, known, 0.5, 48, [("dimethyl-fumarate", "placebo")], trials=20, members=60).iloc[
        0
    ]
    assert coverage["shipped_ratio"] == pytest.approx(2 * np.exp(-0.8))
    assert abs(np.log(coverage["ratio"] / coverage["true_ratio"])) < 4 * coverage["scatter"] / np.sqrt(20) + 0.1
    with pytest.raises(UsageError, match="coverage needs at least 2"):
        rate_ratio_coverage(people, wrong, known, 0.5, 48, [("dimethyl-fumarate", "placebo")], trials=1)
