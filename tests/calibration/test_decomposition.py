"""Scores taken apart: the parts add up, true forecasts have nothing to mend, one law for all tells nobody apart."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.calibration import decomposition
from causalms.calibration.decomposition import DECOMPOSED, cells_of, less_chance
from causalms.errors import UsageError
from causalms.stats import CountLaw, DrawsLaw, NegativeBinomialLaw, score


def patients(n: int, seed: int = 1) -> tuple[NegativeBinomialLaw, np.ndarray]:
    rng = np.random.default_rng(seed)
    law = NegativeBinomialLaw(np.exp(rng.normal(0.4, 1.0, n)), np.full(n, 0.5))
    return law, law.sample(rng, 1)[:, 0]


def forecast(kind: str, law: NegativeBinomialLaw) -> CountLaw:
    if kind == "zero-inflated":
        return NegativeBinomialLaw(law.mean, np.full(law.n, 0.8), np.full(law.n, 0.1))
    if kind == "draws":
        return DrawsLaw(law.sample(np.random.default_rng(9), 40))
    return law


@pytest.mark.parametrize("name", DECOMPOSED)
@pytest.mark.parametrize("kind", ["formula", "zero-inflated", "draws"])
def test_parts_add_up_to_the_mean_score_exactly(name: str, kind: str) -> None:
    law, y = patients(80)
    forecast_law = forecast(kind, law)
    parts = decomposition(forecast_law, y, name, repetitions=9)
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(parts.score, abs=1e-12)
    assert parts.score == pytest.approx(score(name, forecast_law, y).mean(), abs=1e-12)


@pytest.mark.parametrize("name", ["log", "brier"])
def test_the_yes_no_forecasts_sum_to_the_score_they_stand_for(name: str) -> None:
    # Recalibrating a forecast whose probabilities are all distinct and already isotonic leaves the score alone: two patients.
    law = NegativeBinomialLaw([0.2, 5.0], [0.8, 0.8])
    cells = cells_of(name, law, [0, 1])
    assert cells.n == 2
    assert len(cells.event) == {"log": 3, "brier": 2}[name]
    assert cells.event.sum() == {"log": 2, "brier": 1}[name]


@pytest.mark.parametrize(("name", "largest"), [("crps", 0.02), ("log", 0.03), ("brier", 0.01)])
def test_a_true_forecast_of_many_patients_has_nothing_to_mend(name: str, largest: float) -> None:
    # Isotonic regression fits itself at rate n^(-2/3): about 0.02 of a CRPS of 1.7 at 1,500 patients, nothing in the limit.
    law, y = patients(1500)
    parts = decomposition(law, y, name, repetitions=9)
    assert 0 <= parts.miscalibration < largest
    assert parts.p_value > 0.05
    assert parts.discrimination > 5 * parts.miscalibration


@pytest.mark.parametrize("name", DECOMPOSED)
def test_a_climatological_forecast_tells_nobody_apart(name: str) -> None:
    _, y = patients(200)
    everyone = NegativeBinomialLaw(np.full(200, 1.5 * y.mean()), np.full(200, 0.6))
    parts = decomposition(everyone, y, name, repetitions=9)
    assert parts.discrimination == pytest.approx(0, abs=1e-12)
    assert parts.score == pytest.approx(parts.miscalibration + parts.uncertainty, abs=1e-12)


def test_uncertainty_of_the_crps_is_half_the_mean_difference_of_the_outcomes() -> None:
    law, y = patients(60)
    half = np.abs(y[:, None] - y[None, :]).mean() / 2
    assert decomposition(law, y, "crps", repetitions=9).uncertainty == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("name", DECOMPOSED)
@pytest.mark.parametrize("draws", [None, 40], ids=["formula", "draws"])
def test_a_biased_forecast_has_something_to_mend(name: str, draws: int | None) -> None:
    law, y = patients(400)
    biased = NegativeBinomialLaw(3 * law.mean, np.full(law.n, 3.0))
    forecast_law: CountLaw = biased if draws is None else DrawsLaw(biased.sample(np.random.default_rng(2), draws))
    parts = decomposition(forecast_law, y, name, repetitions=49)
    assert parts.p_value <= 0.02
    assert parts.miscalibration > parts.expected_miscalibration


def test_few_true_draws_are_not_called_miscalibrated() -> None:
    # 0.9995 quantile of rejections in 60 trials at 5%.
    rejected = 0
    for seed in range(60):
        law, y = patients(50, seed)
        drawn_law = DrawsLaw(law.sample(np.random.default_rng(1000 + seed), 9))
        rejected += decomposition(drawn_law, y, "brier", repetitions=39, seed=seed).p_value <= 0.05
    assert rejected <= 10


def test_intervals_hold_the_parts_less_chance_and_repeat_with_the_seed() -> None:
    law, y = patients(120)
    first, second = (decomposition(law, y, "crps", repetitions=99, seed=4) for _ in range(2))
    assert first == second
    estimates = less_chance(first.miscalibration, first.discrimination, first.expected_miscalibration)
    for name, estimate in zip(("miscalibration", "discrimination", "uncertainty"), (*estimates, first.uncertainty), strict=True):
        low, high = first.intervals[name]
        assert low <= estimate < high


def test_chance_is_taken_from_both_parts_alike_and_leaves_no_negative_miscalibration() -> None:
    for miscalibration, discrimination, chance in ((0.03, 0.05, 0.02), (0.03, 0.01, 0.04), (-0.01, 0.05, 0.02)):
        less = less_chance(miscalibration, discrimination, chance)
        assert less[0] - less[1] == pytest.approx(miscalibration - discrimination, abs=1e-15)
        assert less[0] >= min(miscalibration, 0)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_true_forecasts_may_be_without_miscalibration(name: str) -> None:
    law, y = patients(60, seed=3)
    parts = decomposition(law, y, name, repetitions=39)
    assert parts.intervals["miscalibration"][0] == 0 < parts.intervals["miscalibration"][1]


def test_an_unknown_score_has_no_parts() -> None:
    law, y = patients(10)
    with pytest.raises(UsageError, match="'dawid-sebastiani'; known are log, crps, brier"):
        decomposition(law, y, "dawid-sebastiani")
