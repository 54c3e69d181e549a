"""A variance that cannot be had is refused, never zero and never made of rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse, grouped_arguments
from causalms.errors import RefusalError

BASE = {"outcome": "y", "reference": "placebo"}
Change = Callable[[pd.DataFrame], pd.DataFrame]


def nested(table: pd.DataFrame) -> pd.DataFrame:
    """Three clusters of placebo, one of the drug."""
    return table.assign(ward=np.where(table["arm"] == "drug", "d", "p" + (table["site"] % 3).astype(str)))


CONSTANT: dict[str, tuple[Change, dict[str, object]]] = {
    "the same in everybody": (lambda t: t.assign(y=1.0), {"measure": "mean-difference", "adjust": "x"}),
    "the same but for rounding": (
        lambda t: t.assign(y=0.1 + np.where(t.index % 2, 1e-16, 0.0)),
        {"measure": "mean-difference", "adjust": "x"},
    ),
    "the same in each arm": (lambda t: t.assign(y=np.where(t["arm"] == "drug", 1.0, 2.0)), {"measure": "mean-difference"}),
    "large and the same": (lambda t: t.assign(y=1e9), {"measure": "mean-ratio", "adjust": "x"}),
    "one count in everybody": (lambda t: t.assign(y=1), {}),
    "one count in everybody, coefficient": (lambda t: t.assign(y=1), {"estimator": "negbin"}),
    "one count in everybody, permutation": (lambda t: t.assign(y=1), {"test": "permutation", "replicates": 99}),
    "one count in everybody, score test": (lambda t: t.assign(y=3), {"test": "score", "adjust": "x"}),
    "told by covariates": (
        lambda t: t.assign(y=t["x"] ** 2 - t["x"] / 2),
        {"measure": "mean-difference", "adjust": "x + I(x**2)"},
    ),
}


@pytest.mark.parametrize("case", CONSTANT)
def test_an_outcome_that_does_not_vary_is_refused(trial: pd.DataFrame, case: str) -> None:
    change, options = CONSTANT[case]
    with pytest.raises(RefusalError, match="does not vary"):
        analyse(change(trial), **grouped_arguments({**BASE, **options}))


def test_a_small_but_real_variation_is_analysed(trial: pd.DataFrame) -> None:
    table = trial.assign(y=1e6 + 1e-3 * trial["x"])
    contrast = analyse(table, **grouped_arguments({**BASE, "measure": "mean-difference"})).contrasts[0]
    expected = np.sqrt((1e-6 * trial.groupby("arm")["x"].var() / 60).sum())
    assert contrast.se == pytest.approx(expected, rel=1e-3)


def test_an_arm_without_variation_is_noted(trial: pd.DataFrame) -> None:
    table = trial.assign(y=np.where(trial["arm"] == "drug", 2.0, trial["y"]))
    notes = analyse(table, **grouped_arguments({**BASE, "measure": "mean-difference"})).notes
    assert any("does not vary in arm 'drug'" in note for note in notes)


CLUSTERS: dict[str, tuple[Change, str]] = {
    "one cluster an arm": (lambda t: t.assign(ward=t["arm"]), "all patients of arm 'placebo' lie in one cluster"),
    "one cluster in an arm": (nested, "all patients of arm 'drug' lie in one cluster"),
    "one cluster": (lambda t: t.assign(ward=1), "one cluster only"),
}


@pytest.mark.parametrize("estimator", ["standardized", "unadjusted", "negbin"])
@pytest.mark.parametrize("case", CLUSTERS)
def test_one_cluster_in_an_arm_is_refused(trial: pd.DataFrame, case: str, estimator: str) -> None:
    change, words = CLUSTERS[case]
    with pytest.raises(RefusalError, match=words):
        analyse(change(trial), **grouped_arguments({**BASE, "cluster": "ward", "estimator": estimator}))


def test_strata_of_one_arm_are_named_with_their_patients(trial: pd.DataFrame) -> None:
    stratum = np.where(np.arange(120) < 4, "left", np.where(np.arange(120) > 117, "right", trial["site"].astype(str)))
    analysis = analyse(trial.assign(stratum=stratum), **grouped_arguments({**BASE, "strata": "stratum"}))
    note = next(note for note in analysis.notes if "one arm only" in note)
    assert "2 strata of stratum" in note
    assert "left, right; 6 of 120 patients" in note


def test_pairs_have_the_variance_of_their_differences(trial: pd.DataFrame) -> None:
    table = trial.sort_values("arm", kind="stable").assign(pair=np.tile(np.arange(60), 2))
    contrast = analyse(
        table, **grouped_arguments({**BASE, "measure": "mean-difference", "estimator": "unadjusted", "strata": "pair"})
    ).contrasts[0]
    wide = table.pivot_table(index="pair", columns="arm", values="y")
    from scipy import stats

    paired = stats.ttest_rel(wide["drug"], wide["placebo"])
    assert contrast.se == pytest.approx((wide["drug"] - wide["placebo"]).std() / np.sqrt(60), rel=1e-12)
    assert contrast.p_value == pytest.approx(paired.pvalue, rel=1e-10)  # Student's paired t test


def test_equal_small_strata_have_the_variance_of_a_blocked_comparison(trial: pd.DataFrame) -> None:
    table = trial.sort_values("arm", kind="stable").assign(block=np.tile(np.arange(60) // 3, 2))
    analysis = analyse(
        table, **grouped_arguments({**BASE, "measure": "mean-difference", "estimator": "unadjusted", "strata": "block"})
    )
    cells = table.groupby(["block", "arm"])["y"]
    within = cells.var().groupby("arm").mean()
    apart = cells.mean().unstack()
    between = (apart["drug"] - apart["placebo"]).var() - (within / 3).sum()
    assert analysis.contrasts[0].se ** 2 == pytest.approx((within / 60).sum() + between / 120, rel=1e-12)
    assert "t on 99 degrees of freedom" in analysis.covariance.name


def test_strata_that_leave_no_degrees_of_freedom_are_refused(trial: pd.DataFrame) -> None:
    table = trial.assign(own=np.arange(120))
    with pytest.raises(RefusalError, match="no variance is left"):
        analyse(table, **grouped_arguments({**BASE, "strata": "own"}))


@pytest.mark.parametrize(("test", "words"), [("permutation", "expected at least 99 permutations")])
def test_ninety_nine_permutations_are_enough(trial: pd.DataFrame, test: str, words: str) -> None:
    options = {**BASE, "test": test}
    assert analyse(trial, **grouped_arguments({**options, "replicates": 99})).contrasts[0].p_value * 100 % 1 == pytest.approx(
        0, abs=1e-9
    )
    with pytest.raises(Exception, match=f"found 98, {words}"):
        analyse(trial, **grouped_arguments({**options, "replicates": 98}))
