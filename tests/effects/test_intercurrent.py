"""Strategies for intercurrent events: each has the rate that its words say, and prints its five attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import (
    STRATEGY_NAMES,
    Design,
    Estimand,
    IntercurrentEvents,
    Method,
    MissingOutcomes,
    VisitImputation,
    Visits,
    analyse,
    analyse_visits,
    effects_with_missing_outcomes,
    impute_visits,
    patients_with_strategy,
    with_strategy,
)
from causalms.errors import InputError, UsageError
from tests.conftest import Run


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """Two arms of 600: true ratio 0.4 on the drug, 1 after it is stopped at week 24, by half of the drug's patients."""
    rng = np.random.default_rng(17)
    n = 1200
    table = pd.DataFrame({"participant_id": np.repeat(np.arange(n), 4), "visit_week": np.tile([12.0, 24, 36, 48], n)})
    drug = table["participant_id"] % 2 == 1
    stopped = np.repeat(rng.uniform(size=n) < 0.5, 4) & drug
    ratio = np.where(drug & ~(stopped & (table["visit_week"] > 24)), 0.4, 1.0)
    table["y"] = rng.poisson(2 * ratio * np.repeat(rng.gamma(2.0, 0.5, n), 4)).astype(float)
    table["stopped_week"] = np.where(stopped, 24.0, np.nan)
    return table.assign(arm=np.where(drug, "drug", "placebo"), why=np.where(stopped, "adverse event", None))


def _applied(trial: pd.DataFrame, strategy: str, **more: float) -> tuple[pd.DataFrame, Design]:
    events = IntercurrentEvents(strategy=strategy, time="stopped_week", event="why", **more)  # type: ignore[arg-type]
    table, words = with_strategy(trial, "y", Visits(), events, "table")
    return table, Design(intercurrent_events=words)


def test_each_strategy_has_the_ratio_that_its_words_say(trial: pd.DataFrame) -> None:
    """Policy: a quarter of the drug's time at rate 1, (0.75 x 0.4 + 0.25) = 0.55. On treatment and hypothetical: 0.4."""
    truth = {"treatment-policy": 0.55, "while-on-treatment": 0.4, "hypothetical": 0.4}
    for strategy, expected in truth.items():
        table, design = _applied(trial, strategy)
        if strategy == "hypothetical":
            few = VisitImputation(imputations=5)
            row = impute_visits(table, outcome="y", reference="placebo", design=design, method=few).iloc[0]
        else:
            row = analyse_visits(table, outcome="y", reference="placebo", design=design).results.iloc[0]
        assert abs(np.log(row["estimate"] / expected)) < 3 * row["se"], strategy
        assert f"adverse event ({int(trial['why'].notna().sum() / 4)} patients): {strategy.replace('-', ' ')}" in row["estimand"]


def test_composite_counts_visits_after_the_event_as_failures(trial: pd.DataFrame) -> None:
    table, design = _applied(trial, "composite", composite_count=10)
    after = trial["visit_week"] > trial["stopped_week"]
    assert (table.loc[after, "y"] >= 10).all()
    pd.testing.assert_series_equal(table.loc[~after, "y"], trial.loc[~after, "y"])
    assert "composite variable strategy" in design.intercurrent_events


def test_five_attributes_are_printed_under_the_names_of_m11(trial: pd.DataFrame) -> None:
    table, design = _applied(trial, "while-on-treatment")
    printed = repr(analyse_visits(table, outcome="y", reference="placebo", design=design))
    for name in ("population ", "treatment ", "endpoint ", "population-level summary ", "intercurrent events "):
        assert f"\n  {name}" in printed


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        (IntercurrentEvents(strategy="principal", time="stopped_week"), UsageError, ", ".join(STRATEGY_NAMES)),
        (IntercurrentEvents(strategy="composite", time="stopped_week"), UsageError, "`composite_count`"),
        (IntercurrentEvents(time="nothing"), InputError, "no column 'nothing'"),
        (IntercurrentEvents(time="early"), InputError, "'early', row 1: found -1"),
    ],
)
def test_contradictions_are_refused(trial: pd.DataFrame, events: IntercurrentEvents, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        with_strategy(trial.assign(early=-1.0), "y", Visits(), events, "table")


def test_the_command_line_takes_a_strategy(run: Run, tmp_path: Path, trial: pd.DataFrame) -> None:
    trial[trial["participant_id"] < 200].to_csv(tmp_path / "v.csv", index=False)
    words = [tmp_path / "v.csv", "--outcome", "y", "--reference", "placebo", "--event-time", "stopped_week", "--event", "why"]
    ended = run("visits", *words, "--strategy", "while-on-treatment")
    assert ended.code == 0, ended.error
    assert "while on treatment strategy, counts until the event" in ended.printed
    assert run("visits", *words, "--strategy", "hypothetical").code == 2
    assert run("visits", *words[:5], "--strategy", "composite").code == 2


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """1,200 patients of two years: ratio 0.4 on the drug, 1 after half of its patients stop it at half a year."""
    rng = np.random.default_rng(23)
    n = 1200
    drug, frailty = np.arange(n) % 2 == 1, rng.gamma(2.0, 0.5, n)
    stopped = (rng.uniform(size=n) < 0.5) & drug
    before = rng.poisson(2 * np.where(drug, 0.4, 1.0) * frailty * np.where(stopped, 0.5, 2.0)).astype(float)
    after = rng.poisson(np.where(stopped, 2 * 1.5 * frailty, 0.0))
    table = pd.DataFrame({"arm": np.where(drug, "drug", "placebo"), "y": before + after, "before": before, "years": 2.0})
    table["x"], table["when"] = frailty, np.where(stopped, 0.5, np.nan)
    table["why"] = np.where(stopped, np.where(rng.uniform(size=n) < 0.3, "rescue", "stopped"), None)
    day = pd.Timestamp("2024-01-01")
    table["start"], table["date"] = "2024-01-01", [str((day + pd.Timedelta(days=183)).date()) if s else None for s in stopped]
    return table


def test_one_row_a_patient_has_the_rate_that_each_strategy_says(patients: pd.DataFrame) -> None:
    """Policy: (0.5 x 0.4 + 1.5) / 2 of those who stop, half of the drug: (0.85 + 0.4) / 2 = 0.625. Until the event: 0.4."""
    cases = {
        "treatment-policy": (0.625, IntercurrentEvents(time="when", event="why")),
        "while-on-treatment": (0.4, IntercurrentEvents(strategy="while-on-treatment", time="when", until="before")),
        "by dates": (0.4, IntercurrentEvents(strategy="while-on-treatment", time="date", since="start", until="before")),
        "hypothetical": (0.4, IntercurrentEvents(strategy="hypothetical", event="why")),
    }
    for name, (truth, events) in cases.items():
        table, words = patients_with_strategy(patients, "y", "years", events, "table")
        of = {"outcome": "y", "reference": "placebo", "exposure": "years", "design": Design(intercurrent_events=words)}
        if name == "hypothetical":
            weights = MissingOutcomes(strategy="ipw", missing_given="x")
            row = effects_with_missing_outcomes(table, **of, adjust="x", method=Method(missing=weights)).iloc[0]
        else:
            row = analyse(table, **of).results.iloc[0]
        assert abs(np.log(row["estimate"] / truth)) < 3 * row["se"], name
        assert f"{words}" in row["estimand"]
        assert Estimand.of_row(row.to_dict()).intercurrent_events == words
    counted, _ = patients_with_strategy(
        patients, "y", "years", IntercurrentEvents(strategy="composite", event="why", only="rescue", composite_count=20), "table"
    )
    rescued = patients["why"] == "rescue"
    assert (counted.loc[rescued, "y"] >= 20).all()
    pd.testing.assert_series_equal(counted.loc[~rescued, "y"], patients.loc[~rescued, "y"])
    late, _ = patients_with_strategy(
        patients.assign(years=0.4), "y", "years", IntercurrentEvents(strategy="hypothetical", time="when"), "table"
    )
    assert late["y"].notna().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--strategy", "hypothetical"], "say how they are had with --missing"),
        (["--strategy", "while-on-treatment"], "--until"),
        (["--strategy", "rescue=hypothetical", "--strategy", "composite"], "one strategy for all events, or EVENT=STRATEGY"),
        (["--strategy", "principal"], "found 'principal', expected one of treatment-policy"),
    ],
)
def test_effects_takes_strategies_and_refuses_halves(
    run: Run, tmp_path: Path, patients: pd.DataFrame, options: list[str], words: str
) -> None:
    patients.head(200).to_csv(tmp_path / "p.csv", index=False)
    base = [tmp_path / "p.csv", "--outcome", "y", "--reference", "placebo", "--exposure", "years", "--event", "why"]
    refused = run("effects", *base, *options)
    assert refused.code == 2
    assert words in refused.error
    both = ["--event-time", "when", "--strategy", "rescue=hypothetical", "--strategy", "stopped=treatment-policy"]
    ended = run("effects", *base, *both, "--missing", "ipw", "--missing-given", "x")
    assert ended.code == 0, ended.error
    assert "hypothetical strategy, as if it had not happened" in ended.printed
    assert "treatment policy strategy, outcomes used whatever happened" in ended.printed
    assert "\n  population-level summary  marginal rate ratio" in ended.printed
