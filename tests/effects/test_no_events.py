"""An arm without events: ratio 0, bounds and p-values against closed forms and R."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.effects import analyse, grouped_arguments

ORACLES = Path(__file__).parents[1] / "oracles"
BASE = {"outcome": "y", "reference": "placebo"}


@pytest.fixture
def silent() -> pd.DataFrame:
    """Thirty patients an arm; counts of placebo, none of the drug."""
    y = np.random.default_rng(4).negative_binomial(1, 1 / 4, 30)
    return pd.DataFrame(
        {
            "y": [*y, *[0] * 30],
            "arm": ["placebo"] * 30 + ["drug"] * 30,
            "x": np.random.default_rng(5).permutation(np.linspace(-1, 1, 60)),
        }
    )


@pytest.mark.parametrize("truth", pd.read_csv(ORACLES / "no_counts_r.csv").to_dict("records"), ids=["many", "few"])
def test_profile_likelihood_and_exact_bound_match_r(silent: pd.DataFrame, truth: dict[str, object]) -> None:
    y = [*map(int, str(truth["counts"]).split()), *[0] * 30]
    analysis = analyse(silent.assign(y=y), **grouped_arguments(BASE))
    row = analysis.results.iloc[0]
    assert row.upper == pytest.approx(truth["upper"], rel=1e-6)
    assert row.p_value == pytest.approx(truth["p"], rel=1e-5)
    assert any(f"the exact conditional upper bound would be {truth['exact']:.4g}" in note for note in analysis.notes)


def test_poisson_profile_is_its_closed_form(silent: pd.DataFrame) -> None:
    row = analyse(silent, **grouped_arguments({**BASE, "estimator": "conditional"})).results.iloc[0]
    total = silent["y"].sum()
    # 2 (l(-inf) - l(r)) = 2 T log(1 + r) for arms of equal size
    assert row.estimate == row.lower == 0
    assert np.isnan(row.se)
    assert row.upper == pytest.approx(np.expm1(stats.chi2.ppf(0.95, 1) / (2 * total)), rel=1e-6)
    assert row.p_value == pytest.approx(stats.chi2.sf(2 * total * np.log(2), 1), rel=1e-6)


@pytest.mark.parametrize("estimator", ["standardized", "unadjusted", "negbin"])
def test_the_bound_holds_overdispersion(silent: pd.DataFrame, estimator: str) -> None:
    row = analyse(silent, **grouped_arguments({**BASE, "estimator": estimator})).results.iloc[0]
    poisson = np.expm1(stats.chi2.ppf(0.95, 1) / (2 * silent["y"].sum()))
    assert row.estimate == 0
    assert poisson < row.upper < 0.5
    assert 0 < row.p_value < 1e-4
    assert "profile likelihood (negative-binomial)" in row.variance


@pytest.mark.parametrize("test", ["score", "permutation"])
def test_score_and_permutation_give_the_p_value(silent: pd.DataFrame, test: str) -> None:
    row = analyse(silent, **grouped_arguments({**BASE, "test": test, "replicates": 999})).results.iloc[0]
    assert 0 < row.p_value < 0.01


def test_the_exact_conditional_bound_is_said(silent: pd.DataFrame) -> None:
    notes = " ".join(analyse(silent, **grouped_arguments(BASE)).notes)
    share = stats.binomtest(0, int(silent["y"].sum())).proportion_ci(0.95, "exact").high
    assert f"{share / (1 - share):.4g}" in notes


def test_the_other_arms_are_analysed_as_without_the_silent_one(silent: pd.DataFrame) -> None:
    other = silent.assign(arm=silent["arm"].replace("drug", "other"), y=silent["y"] + 1)
    three = pd.concat([silent, other[other["arm"] == "other"]], ignore_index=True)
    rows = analyse(three, **grouped_arguments(BASE)).results.set_index("arm")
    alone = analyse(three[three["arm"] != "drug"], **grouped_arguments(BASE)).results.set_index("arm")
    assert rows.loc["other", "estimate"] == pytest.approx(alone.loc["other", "estimate"], rel=1e-12)
    assert rows.loc["other", "se"] == pytest.approx(alone.loc["other", "se"], rel=1e-12)
    assert rows.loc["drug", "estimate"] == 0


def test_covariates_enter_the_profile(silent: pd.DataFrame) -> None:
    row = analyse(silent, **grouped_arguments({**BASE, "adjust": "x"})).results.iloc[0]
    assert row.estimate == 0
    assert 0 < row.upper < 1


@pytest.mark.parametrize("estimator", ["standardized", "unadjusted"])
def test_a_risk_difference_without_events_is_newcombes(estimator: str) -> None:
    """Newcombe's hybrid of Wilson's limits, 0 of 10 against 5 of 10, by hand."""
    table = pd.DataFrame({"y": [1] * 5 + [0] * 5 + [0] * 10, "arm": ["placebo"] * 10 + ["drug"] * 10})
    options = {**BASE, "measure": "risk-difference", "estimator": estimator}
    row = analyse(table, **grouped_arguments(options)).results.iloc[0]
    low, high = stats.binomtest(5, 10).proportion_ci(0.95, "wilson")
    top = stats.binomtest(0, 10).proportion_ci(0.95, "wilson").high
    assert row.estimate == -0.5
    assert row.lower == pytest.approx(-0.5 - (high - 0.5))
    assert row.upper == pytest.approx(-0.5 + np.hypot(top, 0.5 - low))
    assert row.p_value == pytest.approx(stats.fisher_exact([[5, 0], [5, 10]]).pvalue)
    assert np.isnan(row.se)


def test_a_rate_difference_without_events_has_the_likelihood_bound_of_the_silent_arm(silent: pd.DataFrame) -> None:
    options = {**BASE, "measure": "rate-difference"}
    analysis = analyse(silent, **grouped_arguments(options))
    row = analysis.results.iloc[0]
    seen = silent.loc[silent["arm"] == "placebo", "y"]
    se = seen.std(ddof=1) / np.sqrt(30) / seen.mean()
    assert row.estimate == pytest.approx(-seen.mean())
    assert row.lower == pytest.approx(row.estimate - seen.mean() * np.expm1(1.959964 * se), rel=1e-6)
    poisson = stats.chi2.ppf(0.95, 1) / 2 / 30  # the bound of 30 patients without overdispersion
    assert row.upper > row.estimate + np.hypot(poisson, -seen.mean() * np.expm1(-1.959964 * se))
    assert row.p_value == analyse(silent, **grouped_arguments(BASE)).results.iloc[0].p_value
    assert "MOVER" in row.variance
    assert analysis.notes[-1].startswith("the smallest arm") or "no event in 'drug'" in " ".join(analysis.notes)


def test_a_silent_reference_has_a_difference_of_the_same_size(silent: pd.DataFrame) -> None:
    options = {**BASE, "measure": "rate-difference"}
    one = analyse(silent, **grouped_arguments(options)).results.iloc[0]
    other = analyse(silent, **grouped_arguments({**options, "reference": "drug"})).results.iloc[0]
    assert [other.estimate, other.lower, other.upper] == pytest.approx([-one.estimate, -one.upper, -one.lower])
    assert other.p_value == pytest.approx(one.p_value, rel=1e-9)


def test_intervals_of_a_difference_with_a_silent_arm_cover_its_rate() -> None:
    """Trials whose treated arm is silent by a low rate of 0.02 a patient: the difference is covered at its level."""
    rng, held, trials = np.random.default_rng(8), 0, 0
    while trials < 50:
        placebo, drug = rng.negative_binomial(1, 1 / 3, 40), rng.poisson(0.02, 40)
        if drug.any():
            continue
        table = pd.DataFrame({"y": [*placebo, *drug], "arm": ["placebo"] * 40 + ["drug"] * 40})
        row = analyse(table, **grouped_arguments({**BASE, "measure": "rate-difference"})).results.iloc[0]
        held += row.lower <= 0.02 - 2 <= row.upper
        trials += 1
    assert held >= 0.86 * trials  # standard error of a share of 50 near 0.95: 0.031, three of them


@pytest.mark.parametrize("truth", pd.read_csv(ORACLES / "no_risk_r.csv").to_dict("records"), ids=str)
def test_ratios_of_risks_and_odds_without_events_are_those_of_r(truth: dict[str, float]) -> None:
    """Profile-likelihood bounds, likelihood-ratio p, and the exact bound and p of fisher.test (tests/oracles/no_risk.R)."""
    events, size, treated = (int(truth[name]) for name in ("events", "size", "treated"))
    y = [1] * events + [0] * (size - events + treated)
    table = pd.DataFrame({"y": y, "arm": ["placebo"] * size + ["drug"] * treated})
    for measure in ("risk-ratio", "odds-ratio"):
        analysis = analyse(table, **grouped_arguments({**BASE, "measure": measure}))
        row = analysis.results.iloc[0]
        assert (row.estimate, row.lower) == (0, 0)
        assert row.upper == pytest.approx(truth[measure.replace("-", "_")], rel=1e-7)
        assert row.p_value == pytest.approx(truth["p_value"], rel=1e-8)
        note = next(note for note in analysis.notes if "exact conditional" in note)
        assert f"odds ratio {truth['exact_odds_ratio']:.4g} (Fisher's exact p {truth['fisher']:.2g})" in note
