"""Rank tests against coin (tests/oracles/ranks.R), and the kinds of permutation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Design, Method, analyse
from causalms.effects.data import trial_data
from causalms.effects.ranks import rank_test
from causalms.effects.tests import permutation_test
from causalms.errors import UsageError

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "ranks_r.csv").set_index("id")


def quine() -> pd.DataFrame:
    table = pd.read_csv(ORACLES / "quine.csv")
    return table.assign(log_days=np.log(table["Days"] + 0.5) + (np.arange(1, len(table) + 1) * (7 % 13)) / 1000)


@pytest.mark.parametrize("case", TRUTH.index)
def test_statistic_and_p_are_those_of_coin(case: str) -> None:
    """Shift and limits to 2e-3: coin finds them as roots of a step function, between the differences that are the steps."""
    outcome, test = case.split(" ", 1)
    design = Design(strata="Age") if test == "van elteren" else Design()
    data = trial_data(quine(), outcome=outcome, arm="Sex", reference="F", kind="number", design=design)
    ours, truth = rank_test(data, 1), TRUTH.loc[case]
    assert -ours.statistic == pytest.approx(truth["z"], rel=1e-9)  # coin counts F against M
    assert ours.p_value == pytest.approx(truth["p_value"], rel=1e-9)
    if test == "wilcoxon":
        assert [-ours.shift, -ours.upper, -ours.lower] == pytest.approx(truth[["shift", "lower", "upper"]], abs=2e-3)


def test_the_stratified_shift_is_where_the_stratified_test_changes_sign() -> None:
    table = quine()
    options = {"outcome": "log_days", "arm": "Sex", "reference": "F", "kind": "number", "design": Design(strata="Age")}

    def statistic(shift: float) -> float:
        moved = table.assign(log_days=table["log_days"] - np.where(table["Sex"] == "M", shift, 0))
        return rank_test(trial_data(moved, **options), 1).statistic

    test = rank_test(trial_data(table, **options), 1)
    assert statistic(test.shift - 1e-6) >= 0 >= statistic(test.shift + 1e-6)
    assert statistic(test.lower - 1e-6) > 1.95 > statistic(test.lower + 1e-6) - 0.05
    assert statistic(test.upper + 1e-6) < -1.95 < statistic(test.upper - 1e-6) + 0.05


def test_the_row_names_the_rank_test_and_a_note_gives_the_shift() -> None:
    analysis = analyse(
        quine(), outcome="Days", arm="Sex", reference="F", design=Design(strata="Age"), method=Method(test="wilcoxon")
    )
    assert analysis.results["variance"][0].endswith("p: van Elteren test within 4 strata")
    assert analysis.results["p_value"][0] == pytest.approx(TRUTH.loc["Days van elteren", "p_value"], rel=1e-9)
    assert any("Hodges-Lehmann shift, M vs F" in note for note in analysis.notes)


@pytest.mark.parametrize("kind", ["permutation", "permutation-plain"])
def test_permutation_p_is_the_share_of_all_relabellings(kind: str) -> None:
    """Four against four: 70 relabellings; the Monte-Carlo error of 9,999 of them is below .003."""
    from itertools import combinations

    y = np.array([6.0, 2, 4, 7, 1, 2, 0, 3])
    table = pd.DataFrame({"y": y, "arm": list("aaaabbbb")})
    data = trial_data(table, outcome="y", arm="arm", reference="a")
    p_value = permutation_test(data, "poisson", 1, seed=1, kind=kind)[1]

    def statistic(treated: tuple[int, ...]) -> float:
        own = np.isin(np.arange(8), treated)
        spread = np.sqrt(y[own].var(ddof=1) / 4 + y[~own].var(ddof=1) / 4) if kind == "permutation" else 1.0
        return abs(y[own].mean() - y[~own].mean()) / spread

    seen = statistic((4, 5, 6, 7))
    exact = np.mean([statistic(chosen) >= seen - 1e-9 for chosen in combinations(range(8), 4)])
    assert p_value == pytest.approx(exact, abs=0.01)


def test_residuals_from_the_prognostic_column_are_permuted_without_a_model() -> None:
    """A perfect forecast leaves the effect alone; a forecast that is the outcome's own arm mean would be refused as its copy."""
    rng = np.random.default_rng(2)
    score = np.exp(rng.normal(1, 1, 80))
    arm = np.tile(["placebo", "drug"], 40)
    table = pd.DataFrame({"y": rng.poisson(score + np.where(arm == "drug", 1.2, 0)), "arm": arm, "score": score})
    options = {"outcome": "y", "reference": "placebo"}
    plain = analyse(table, **options, method=Method(test="permutation", replicates=999)).results["p_value"][0]
    method = Method(test="permutation-prognostic", prognostic=["score"], replicates=999)
    analysis = analyse(table, **options, method=method)
    assert analysis.results["p_value"][0] < plain / 2
    assert "prognostic expectation" in analysis.results["variance"][0]


@pytest.mark.parametrize(
    ("method", "adjust"),
    [(Method(test="wilcoxon"), "Age"), (Method(test="permutation-prognostic"), None)],
    ids=["ranks with covariates", "no prognostic column"],
)
def test_tests_without_what_they_need_are_refused(method: Method, adjust: str | None) -> None:
    with pytest.raises(UsageError, match="`test="):
        analyse(quine(), outcome="Days", arm="Sex", reference="F", adjust=adjust, method=method)
