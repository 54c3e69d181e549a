"""An arm without events: ratio 0, bounds and p-values against closed forms and R."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.effects import analyse, grouped_arguments

BASE = {"outcome": "y", "reference": "placebo"}


@pytest.fixture
def silent() -> pd.DataFrame:
    """Thirty patients an arm; counts of placebo, none of the drug."""
    y = np.random.default_rng(4).negative_binomial(1, 1 / 4, 30)
    return pd.DataFrame({"y": [*y, *[0] * 30], "arm": ["placebo"] * 30 + ["drug"] * 30, "x": np.linspace(-1, 1, 60)})


def test_profile_likelihood_matches_mass(silent: pd.DataFrame) -> None:
    # R 4, MASS: 2 * (logLik(glm.nb(y ~ 1, placebo)) - logLik(glm.nb(y ~ 1 + offset(b * drug)))), solved by uniroot
    y = [5, 2, 0, 6, 8, 1, 0, 5, 0, 2, 0, 2, 3, 0, 2, 15, 0, 5, 4, 0, 1, 1, 2, 3, 7, 0, 1, 4, 10, 1]
    row = analyse(silent.assign(y=[*y, *[0] * 30]), **grouped_arguments(BASE)).results.iloc[0]
    assert row.upper == pytest.approx(0.02303516, rel=1e-6)
    assert row.p_value == pytest.approx(1.249035e-11, rel=1e-5)


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
