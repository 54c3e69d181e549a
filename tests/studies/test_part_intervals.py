"""Intervals of the parts of a Brier score hold the truth about as often as they say, and always their estimate."""

from __future__ import annotations

import pytest

from studies.part_intervals import FORECASTS, coverage


@pytest.mark.parametrize("name", list(FORECASTS))
def test_parts_are_held_as_often_as_said_and_by_percentiles_rarely(name: str) -> None:
    miscalibration, discrimination, _ = coverage(name, patients=60, repetitions=50, resamples=39, seed=2)
    assert float(str(miscalibration["held"])) >= 0.84  # 0.001 quantile of 50 trials at 95%
    assert float(str(discrimination["held"])) >= 0.8  # 39 resamples make intervals shorter: 0.001 quantile at 93%
    assert float(str(miscalibration["held_by_percentiles"])) < 0.5
    assert miscalibration["around_estimate"] == discrimination["around_estimate"] == 1
