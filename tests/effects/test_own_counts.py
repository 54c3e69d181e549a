"""Observed counts against sampled draws: the test keeps its level though means and weights are estimated from few draws."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.effects.own_counts import counts_against_draws
from causalms.tables import ModelError

NAMES, DRAWS, PATIENTS = np.array(["a", "b", "c"]), 16, 240


def tables(rng: np.random.Generator, shift: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draws of skewed counts and observed counts of the same law, those of the last arm multiplied by exp(shift)."""
    arm = np.arange(PATIENTS) % 3
    mean = np.exp(rng.normal(1.3, 0.9, PATIENTS)) * np.array([1.0, 0.6, 0.3])[arm]
    drawn = rng.poisson(mean[:, None] * rng.gamma(0.5, 2.0, (PATIENTS, DRAWS)))
    seen = rng.poisson(mean * np.exp(shift * (arm == 2)) * rng.gamma(0.5, 2.0, PATIENTS))
    names = [f"p{number}" for number in range(PATIENTS)]
    people = pd.DataFrame({"participant_id": names, "arm": NAMES[arm], "net2_lesions_week48": seen})
    cell = ModelError("m", "from 9 patients", np.array([1e-6]), 0.0, 0.0).text()
    draws = people.loc[people.index.repeat(DRAWS), ["participant_id", "arm"]].assign(
        arm_randomised=np.repeat(NAMES[arm], DRAWS), visit_week=48.0, query="interventional", model_error=cell,
        draw=np.tile(np.arange(DRAWS), PATIENTS), net2_lesions=drawn.ravel(),
    )  # fmt: skip
    return draws, people


def test_draws_of_the_observed_law_contradict_at_their_level():
    """20 trials: at .02, at most 2 p-values of each kind are below with probability .993."""
    tests = [counts_against_draws(*tables(np.random.default_rng([6, number]))) for number in range(20)]
    assert sum(test.arms_p < 0.02 for test in tests) <= 2
    assert sum(test.level_p < 0.02 for test in tests) <= 2


def test_an_arm_at_four_times_its_rate_contradicts_whatever_the_order_of_rows():
    draws, people = tables(np.random.default_rng(1), shift=1.4)
    test = counts_against_draws(draws, people)
    assert test.contradicts
    again = counts_against_draws(draws.sample(frac=1, random_state=2), people.iloc[::-1])
    np.testing.assert_allclose((again.arms_p, again.level_p), (test.arms_p, test.level_p), rtol=1e-9)


def test_arms_without_expected_lesions_are_left_out():
    draws, people = tables(np.random.default_rng(3))
    test = counts_against_draws(draws.assign(net2_lesions=draws["net2_lesions"].where(draws["arm"] != "b", 0)), people)
    assert test.arms == (0, 2)
    assert np.isfinite([test.arms_p, test.level_p]).all()
    assert counts_against_draws(draws.assign(net2_lesions=0), people) is None
