"""Sites without events, or with nothing else: predictions of 0 and 1 as R has them in the limit, under every variance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse, grouped_arguments
from causalms.effects.design import BOOTSTRAPS
from causalms.effects.variance import OF_COEFFICIENTS, VARIANCES
from causalms.errors import RefusalError

ORACLES = Path(__file__).parents[1] / "oracles"
R = pd.read_csv(ORACLES / "no_events_r.csv").set_index("id")
BASE = {"arm": "trt", "reference": "placebo", "adjust": "site + age"}


@pytest.fixture(scope="module")
def epil() -> pd.DataFrame:
    """The table of no_events.R."""
    table = pd.read_csv(ORACLES / "epil_totals.csv")
    table["site"] = np.where(table["subject"] % 6 == 0, "S4", [f"S{number % 3 + 1}" for number in table["subject"]])
    table["quiet"] = table["y"].where(table["site"] != "S4", 0)
    silent = table["site"].isin(["S1", "S4"]) | ((table["site"] == "S2") & (table["trt"] == "progabide"))
    table["quieter"] = table["y"].where(~silent, 0)
    table["any"] = (table["quiet"] > 15).astype(int)
    return table.assign(most=np.where(table["site"] == "S3", 1, table["any"]))


@pytest.mark.parametrize("case", R.index)
def test_estimate_and_standard_error_are_those_of_r(epil: pd.DataFrame, case: str) -> None:
    """R stops short of infinity by about 1e-10; so far do they agree."""
    outcome, family, kind, *more = case.replace(",", "").split()
    options = {**BASE, "outcome": outcome, "working_model": family}
    if kind == "standardized":
        measure = "risk-difference" if family == "logistic" else "rate-ratio"
        options |= {"measure": measure, "interaction": "interaction" in more}
    else:
        estimator, measure = (
            ("negbin" if family == "negbin" else "conditional"),
            "odds-ratio" if family == "logistic" else "rate-ratio",
        )
        options |= {"estimator": estimator, "measure": measure, "variance": "model-r" if kind == "model" else kind.lower()}
    row = analyse(epil, **grouped_arguments(options)).results.iloc[0]
    estimate = row.estimate if "difference" in row.measure else np.log(row.estimate)
    assert estimate == pytest.approx(R.estimate[case], abs=1e-9)
    assert row.se == pytest.approx(R.se[case], rel=1e-8)


@pytest.mark.parametrize("interaction", [False, True])
@pytest.mark.parametrize("family", ["poisson", "negbin"])
@pytest.mark.parametrize("variance", [*VARIANCES, *BOOTSTRAPS])
def test_every_variance_is_finite_and_near_the_others(epil: pd.DataFrame, variance: str, family: str, interaction: bool) -> None:
    options = {**BASE, "outcome": "quiet", "variance": variance, "working_model": family, "interaction": interaction}
    row = analyse(epil, **grouped_arguments({**options, "replicates": 300})).results.iloc[0]
    influence = analyse(epil, **grouped_arguments({**options, "variance": "influence"})).results.iloc[0]
    assert row.estimate == pytest.approx(influence.estimate, rel=1e-10)
    if variance.startswith("model") and family == "poisson":
        assert 0 < row.se < influence.se  # counts are overdispersed, which the Poisson model does not know
    else:
        assert row.se == pytest.approx(influence.se, rel=0.4)


@pytest.mark.parametrize("variance", OF_COEFFICIENTS)
def test_every_variance_of_the_negative_binomial_coefficient_is_finite(epil: pd.DataFrame, variance: str) -> None:
    options = {**BASE, "outcome": "quiet", "estimator": "negbin", "variance": variance}
    row = analyse(epil, **grouped_arguments(options)).results.iloc[0]
    assert row.se == pytest.approx(R.se["quiet negbin model"], rel=0.25)


@pytest.mark.parametrize("test", ["score", "permutation"])
def test_small_sample_tests_pass_over_the_site(epil: pd.DataFrame, test: str) -> None:
    row = analyse(epil, **grouped_arguments({**BASE, "outcome": "quiet", "test": test, "replicates": 400})).results.iloc[0]
    assert 0.2 < row.p_value <= 1  # R's Wald test: 0.86


@pytest.mark.parametrize(
    ("outcome", "options", "notes"),
    [
        ("quiet", {}, ["covariate site: level S4 has no event; its prediction is 0 (9 patients)"]),
        ("quieter", {}, ["level S1 has no event", "level S4 has no event"]),
        ("quieter", {"interaction": True}, ["level S1 has no event", "level S2 in arm progabide has no event"]),
        (
            "most",
            {"measure": "risk-difference"},
            ["level S3 has an event in every patient; its prediction is 1", "level S4 has no"],
        ),
    ],
)
def test_the_level_is_named_in_a_note(epil: pd.DataFrame, outcome: str, options: dict, notes: list[str]) -> None:
    analysis = analyse(epil, **grouped_arguments({**BASE, "outcome": outcome, **options}))
    for note in notes:
        assert any(note in said for said in analysis.notes), analysis.notes


def test_the_reference_level_may_be_the_one_without_events(epil: pd.DataFrame) -> None:
    renamed = epil.assign(site=epil["site"].replace({"S4": "A"}))
    first = analyse(epil, **grouped_arguments({**BASE, "outcome": "quiet"})).results.iloc[0]
    second = analyse(renamed, **grouped_arguments({**BASE, "outcome": "quiet"})).results.iloc[0]
    assert second.estimate == pytest.approx(first.estimate, rel=1e-10)
    assert second.se == pytest.approx(first.se, rel=1e-10)


def test_bootstrap_replicates_without_events_in_a_site_are_kept(epil: pd.DataFrame) -> None:
    """S4 has its events in one patient, whom a third of the replicates do not draw."""
    one = epil.assign(quiet=np.where((epil["site"] == "S4") & (epil["subject"] > 6), 0, epil["y"]))
    for family in ("poisson", "negbin"):
        options = {**BASE, "outcome": "quiet", "working_model": family, "variance": "bootstrap", "replicates": 500}
        analysis = analyse(one, **grouped_arguments(options))
        assert not any("replicates without a finite fit" in note for note in analysis.notes)


def test_a_covariate_that_separates_everybody_is_still_refused(epil: pd.DataFrame) -> None:
    order = (epil["subject"] * 7) % 60
    table = epil.assign(order=order, any=(order > 28).astype(int))
    with pytest.raises(RefusalError, match="separate patients with an event"):
        analyse(table, **grouped_arguments({**BASE, "adjust": "order", "outcome": "any", "measure": "risk-difference"}))
