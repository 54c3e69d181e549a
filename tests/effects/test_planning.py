"""Planning: digits of Zhu and Lakkis's formula in R; margins and drop-out against simulated trials; schedules of scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import NULL_VARIANCES, Planning, Schedule, prospective_power, sample_size, scan_schedules
from causalms.errors import RefusalError, UsageError

TRUTH = pd.read_csv(Path(__file__).parents[1] / "oracles" / "sample_size_r.csv")


@pytest.mark.parametrize("null_variance", NULL_VARIANCES)
def test_sizes_of_the_settings_of_zhu_and_lakkis_are_those_of_r(null_variance: str) -> None:
    for row in TRUTH.to_dict("records"):
        plan = {name: row[name] for name in ("rate", "ratio", "dispersion", "allocation")}
        planning = Planning(null_variance=null_variance)
        assert sample_size(power=0.8, exposure_years=row["years"], planning=planning, **plan)[0] == row[null_variance]


def test_power_with_t_laws_is_that_of_r() -> None:
    for row in TRUTH.to_dict("records"):
        plan = {name: row[name] for name in ("rate", "ratio", "dispersion", "allocation")}
        power = prospective_power(30, exposure_years=row["years"], planning=Planning(small_sample=True), **plan)
        assert power == pytest.approx(row["power_t30"], abs=1e-8)


@pytest.mark.parametrize(
    ("ratio", "margin", "dropout", "allocation"), [(0.5, 1.0, 0.0, 1.0), (0.5, 1.0, 0.3, 2.0), (0.8, 1.25, 0.2, 1.0)]
)
def test_planned_power_is_that_of_simulated_trials_within_two_points(
    ratio: float, margin: float, dropout: float, allocation: float
) -> None:
    """4,000 trials, Monte-Carlo error 0.6 points: two points and three of them."""
    planning = Planning(margin=margin, dropout=dropout)
    plan = {"rate": 3.0, "ratio": ratio, "dispersion": 1.0, "exposure_years": 2.0, "allocation": allocation}
    sizes = sample_size(power=0.8, planning=planning, **plan)
    rng, log_rates, variances = np.random.default_rng(2), [], []
    for n, rate in zip(sizes, (3.0, 3.0 * ratio), strict=True):
        leaves = rng.exponential(2.0 / max(-np.log1p(-dropout), 1e-12), (4000, n))
        t = np.minimum(leaves, 2.0)
        y = rng.poisson(rate * t * rng.gamma(1.0, 1.0, t.shape))
        total, time = y.sum(axis=1, keepdims=True), t.sum(axis=1, keepdims=True)
        log_rates.append(np.log(total / time)[:, 0])
        variances.append(((y - t * total / time) ** 2).sum(axis=1) / total[:, 0] ** 2 * n / (n - 1))
    z = (log_rates[1] - log_rates[0] - np.log(margin)) / np.sqrt(variances[0] + variances[1])
    assert (z < -1.959964).mean() == pytest.approx(prospective_power(sizes[0], planning=planning, **plan), abs=0.02 + 3 * 0.0063)


def test_schedules_cost_what_the_budget_has_and_the_best_is_first() -> None:
    schedule = Schedule(budget=5e5, cost_patient=3000, cost_scan=900)
    table = scan_schedules(schedule, rate=3, ratio=0.6, dispersion=1, planning=Planning(dropout=0.2))
    assert table["power"].is_monotonic_decreasing
    assert (table["patients"] * (3000 + 900 * table["scans"]) <= 5e5).all()
    one_end, two = (table[table["weeks"] == weeks].iloc[0] for weeks in ("96", "48, 96"))
    assert two["scans"] > one_end["scans"]
    assert two["patients"] < one_end["patients"]


def test_plans_that_cannot_be_are_refused() -> None:
    common = {"rate": 3, "dispersion": 2}
    with pytest.raises(RefusalError, match=r"cannot be told from a margin of 1\.25"):
        sample_size(ratio=1.25, planning=Planning(margin=1.25), **common)
    with pytest.raises(RefusalError, match="lies above the margin"):
        sample_size(ratio=1.5, planning=Planning(margin=1.25), **common)
    with pytest.raises(UsageError, match="`dropout`: found 1"):
        sample_size(ratio=0.5, planning=Planning(dropout=1), **common)
    with pytest.raises(RefusalError, match="patients an arm would be needed"):
        sample_size(ratio=0.9999, **common)
