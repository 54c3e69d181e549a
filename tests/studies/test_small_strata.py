"""A fast version of studies/small_strata: blocks within small strata keep the level of the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Design, Method, analyse
from studies.small_strata import OUTCOMES, SIZES, made, p_values, rejections

REPETITIONS = 2000
PUBLISHED = Path(__file__).parents[2] / "studies" / "results" / "small_strata.csv"


@pytest.mark.parametrize("size", SIZES)
def test_the_test_keeps_its_level_in_small_strata(size: int) -> None:
    # The normal law with the variance of large strata rejects 16.6%, 9.0% and 6.3%.  Three Monte-Carlo errors are 1.5%.
    share = rejections("normal", size, REPETITIONS, seed=3, patients=80)["rejected"]
    assert share == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / REPETITIONS))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_study_judges_what_an_analysis_prints(outcome: str) -> None:
    data = made(outcome, 4, 80, 2, np.random.default_rng(5))
    for trial, expected in enumerate(p_values(data, outcome)):
        table = pd.DataFrame({"y": data.outcome[trial], "arm": np.array(data.arms)[data.arm], "stratum": data.strata[trial]})
        analysis = analyse(
            table,
            outcome="y",
            reference="placebo",
            measure=OUTCOMES[outcome],
            design=Design(strata="stratum"),
            method=Method(estimator="unadjusted", variance="influence"),
        )
        assert "t on 59 degrees of freedom" in analysis.covariance.name  # 80 patients, 20 strata, one contrast
        assert analysis.contrasts[0].p_value == pytest.approx(expected, rel=1e-9)


def test_published_levels_are_five_percent_within_monte_carlo_error() -> None:
    table = pd.read_csv(PUBLISHED)
    assert set(table["stratum_size"]) == set(SIZES)
    assert set(table["outcome"]) == set(OUTCOMES)
    normal, counts = (table[table["outcome"] == name].set_index("stratum_size") for name in ("normal", "counts"))
    assert ((normal["rejected"] - 0.05).abs() <= 3 * normal["rejected_mcse"]).all()
    # The logarithm of a mean of skewed counts is not quite normal: the level is that of simple randomisation.
    assert ((counts["rejected"] - counts["rejected"][1]).abs() <= 3 * np.sqrt(2) * counts["rejected_mcse"]).all()
    assert (counts["rejected"] < 0.065).all()
