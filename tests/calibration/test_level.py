"""Bands and tests hold their level when the forecasts are true, and find forecasts that are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from causalms.calibration import Pairs, assess, calibration_test, coverage_table, pit_curve, pit_histogram, reliability, rootogram
from causalms.stats import CountLaw, DrawsLaw, NegativeBinomialLaw

TRIALS = 150
#: Rejections of 150 true-null trials at 5%: 0.0005 and 0.9995 quantiles of a binomial, so that a right test fails once in 1,000.
ALLOWED = range(1, 19)


def _laws(
    seed: int, bias: float = 1.0, widen: float = 1.0, patients: int = 60, draws: int | None = None
) -> tuple[CountLaw, np.ndarray]:
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.normal(0.4, 1.0, patients))
    truth = NegativeBinomialLaw(mean, np.full(patients, 0.5))
    law = NegativeBinomialLaw(mean * bias, np.full(patients, 0.5 / widen))
    y = truth.sample(rng, 1)[:, 0]
    return (law if draws is None else DrawsLaw(law.sample(rng, draws))), y


CHECKS: dict[str, Callable[[CountLaw, np.ndarray, int], float]] = {
    "pit histogram": lambda law, y, seed: pit_histogram(law, y, repetitions=99, seed=seed).p_value,
    "pit curve": lambda law, y, seed: pit_curve(law, y, repetitions=99, seed=seed).p_value,
    "rootogram": lambda law, y, seed: rootogram(law, y, largest=8, repetitions=99, seed=seed).p_value,
    "crps": lambda law, y, seed: calibration_test(law, y, "crps", repetitions=99, seed=seed).p_value,
    "log": lambda law, y, seed: calibration_test(law, y, "log", repetitions=99, seed=seed).p_value,
    "dawid-sebastiani": lambda law, y, seed: calibration_test(law, y, "dawid-sebastiani", repetitions=99, seed=seed).p_value,
    "brier": lambda law, y, seed: calibration_test(law, y, "brier", repetitions=99, seed=seed).p_value,
}


@pytest.mark.parametrize("draws", [None, 9], ids=["formula", "nine draws"])
@pytest.mark.parametrize("check", CHECKS)
def test_type_one_error_is_nominal(check: str, draws: int | None) -> None:
    rejected = sum(CHECKS[check](*_laws(seed, draws=draws), seed + 10_000) <= 0.05 for seed in range(TRIALS))
    assert rejected in ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 20], ids=["formula", "twenty draws"])
def test_reliability_band_holds_the_whole_curve_at_its_level(draws: int | None) -> None:
    outside = 0
    for seed in range(TRIALS):
        table = reliability(*_laws(seed, draws=draws), points=21, repetitions=99, seed=seed + 10_000).table
        outside += bool(((table["frequency"] < table["lower"] - 1e-9) | (table["frequency"] > table["upper"] + 1e-9)).any())
    assert outside in ALLOWED


@pytest.mark.parametrize("draws", [None, 64], ids=["formula", "draws"])
def test_coverage_is_judged_by_the_content_of_whole_counts(draws: int | None) -> None:
    # The p-value is that of a discrete statistic with half its own mass: close to nominal, checked for no excess.
    rejected = sum(coverage_table(*_laws(seed, draws=draws), levels=(0.9,))["p_value"].iloc[0] <= 0.05 for seed in range(TRIALS))
    assert rejected < ALLOWED.stop


@pytest.mark.parametrize("draws", [None, 64], ids=["formula", "draws"])
@pytest.mark.parametrize("broken", [{"bias": 2.0}, {"bias": 0.5}])
def test_a_biased_forecaster_is_found(broken: dict[str, float], draws: int | None) -> None:
    law, y = _laws(3, patients=400, draws=draws, **broken)
    assert pit_histogram(law, y, repetitions=199).p_value <= 0.02
    assert calibration_test(law, y, "crps", repetitions=199).p_value <= 0.02
    assert reliability(law, y, repetitions=199).p_miscalibration <= 0.05


def test_a_forecaster_with_too_narrow_laws_is_found() -> None:
    law, y = _laws(4, widen=0.2, patients=400)
    pit = pit_histogram(law, y, repetitions=199)
    assert pit.p_value <= 0.02
    assert pit.table["density"].iloc[-1] > 1.2  # the cup of a law that is too narrow
    assert coverage_table(law, y)["p_value"].max() < 0.01


@pytest.mark.slow
def test_assess_judges_few_draws_at_their_level() -> None:
    # Nine draws blur the probability of activity: a judgement that took their share for the law would reject four times in ten.
    rejected = 0
    for seed in range(60):
        law, y = _laws(seed, patients=50, draws=9)
        pairs = Pairs(pd.DataFrame({"arm": "a", "observed": y}), law, law.activity, 48)
        assessed = assess(pairs, repetitions=19, seed=seed).results.set_index("measure")
        rejected += assessed.loc["miscalibration of activity (Brier)", "p_value"] <= 0.05
    # 0.9995 quantile of a binomial of 60 trials at 5%.
    assert rejected <= 10
