"""The expectation as control variate: unbiased whatever it says, and as precise as a Poisson count where it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import causalms as cms
from causalms.causal import CausalModel, Running
from causalms.causal.mechanisms.diffusion import DiffusionMechanism
from causalms.errors import InputError
from causalms.generator import Generator
from causalms.generator.control_variate import controlled_mean, controlled_means, frailties
from causalms.generator.noise import frailty_from_normal
from causalms.phantom import PhantomTrial

Tiny = tuple[Generator, Path]
MEAN, SIZE = 10.0, 0.5


@pytest.mark.parametrize("expected", [6.0, 10.0, 15.0])
def test_controlled_mean_is_unbiased_even_where_the_expectation_is_wrong(expected: float) -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(4000):
        frailty = rng.gamma(SIZE, 1 / SIZE, 16)
        ratios.append(controlled_mean(rng.poisson(MEAN * frailty), frailty, expected).controlled)
    # Standard error of the mean of 4,000 estimates: at most sqrt((10 + 2 (10 - 15)^2) / 16 / 4000) = 0.031; four of them.
    assert np.mean(ratios) == pytest.approx(MEAN, abs=0.125)


def test_variance_factor_is_that_of_a_negative_binomial_over_a_poisson_count() -> None:
    rng = np.random.default_rng(2)
    frailty = rng.gamma(SIZE, 1 / SIZE, 200_000)
    controlled = controlled_mean(rng.poisson(MEAN * frailty), frailty, MEAN)
    # 1 + m / k = 21; the variance of so skewed a count is known to about 1%, its Poisson part to 1.3%.
    assert controlled.variance_factor == pytest.approx(1 + MEAN / SIZE, rel=0.07)
    assert controlled.se_controlled == pytest.approx(np.sqrt(MEAN / 200_000), rel=0.05)


def test_frailties_are_those_the_sampler_used(tiny: Tiny) -> None:
    generator = tiny[0]
    size = 0.7
    for draw, frailty in enumerate(frailties("sub-0003", np.arange(5), seed=9, size=size)):
        assert frailty == frailty_from_normal(generator.noise("sub-0003", draw, 9).frailty_normal, size)


@pytest.fixture(scope="module")
def tables(tiny: Tiny, trial: PhantomTrial) -> tuple[pd.DataFrame, pd.DataFrame]:
    model = CausalModel(DiffusionMechanism(tiny[0]))
    some, arms = ["sub-0001", "sub-0002"], ["placebo", "ocrelizumab"]
    return (
        model.do(trial, arm=arms, week=96, draws=4, seed=3, running=Running(participants=some)),
        model.do(trial, arm=arms, week=96, expected=True, running=Running(participants=some)),
    )


def test_draws_table_gives_a_controlled_mean_a_patient_and_arm(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    draws, expected = tables
    controlled = controlled_means(draws, expected, seed=3).set_index(["participant_id", "arm"])
    assert len(controlled) == 4
    for key, part in draws.groupby(["participant_id", "arm"]):
        law = expected.set_index(["participant_id", "arm"]).loc[key]
        frailty = frailties(key[0], np.arange(4), 3, 1 / law["dispersion"])
        by_hand = (part["net2_lesions"] - law["expected_net2_lesions"] * (frailty - 1)).mean()
        assert controlled.loc[key, "plain"] == part["net2_lesions"].mean()
        assert controlled.loc[key, "controlled"] == pytest.approx(by_hand)


def test_tables_that_do_not_belong_together_are_refused(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    draws, expected = tables
    with pytest.raises(InputError, match="no row for participant sub-0002, arm placebo, week 96; ask the same query"):
        controlled_means(draws, expected[expected["participant_id"] == "sub-0001"], seed=3)
    with pytest.raises(InputError, match="other than interventional rows"):
        controlled_means(draws.assign(query="counterfactual"), expected, seed=3)
    with pytest.raises(InputError, match="1 draws; a Monte-Carlo error needs at least 2"):
        controlled_mean(np.array([3]), np.array([1.0]), 2.0)
    with pytest.raises(InputError, match="one frailty a draw"):
        controlled_mean(np.array([3, 4]), np.array([1.0]), 2.0)


@pytest.mark.slow
def test_sampled_counts_of_the_shipped_model_agree_with_its_expectation() -> None:
    """Two patients under the arms of highest and lowest rate, 6 draws each, with the known frailty taken out."""
    model = cms.CausalModel.load("reference")
    trial = cms.simulate_trial("lifelike", patients=4, seed=21)
    some = Running(participants=["sub-0001", "sub-0002"])
    query = {"arm": ["placebo", "interferon-beta-1a-sc"], "week": 96, "running": some}
    controlled = controlled_means(model.do(trial, draws=6, seed=5, **query), model.do(trial, expected=True, **query), seed=5)
    error = np.sqrt(
        (controlled.groupby("participant_id")["se_controlled"].sum() ** 2).sum()
    )  # a patient's arms share their noise
    assert abs((controlled["controlled"] - controlled["expected_net2_lesions"]).sum()) < 3 * error
    assert error < 0.15 * controlled["expected_net2_lesions"].sum()  # plain means of 6 draws would leave about 60%
