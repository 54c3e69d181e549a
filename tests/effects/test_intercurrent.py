"""Strategies for intercurrent events: each has the rate that its words say, and prints its five attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import (
    STRATEGY_NAMES,
    Design,
    IntercurrentEvents,
    VisitImputation,
    Visits,
    analyse_visits,
    impute_visits,
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
