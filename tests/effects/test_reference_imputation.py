"""Visits after drop-out imputed under named assumptions: known truth, order of the assumptions, tipping point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Design, VisitImputation, Visits, analyse, impute_visits, tipping_point
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import fit_model, fit_shared_frailty
from tests.conftest import NO_MODEL_ERROR, Run

ORACLES = Path(__file__).parents[1] / "oracles"
ESTIMANDS = ("missing-at-random", "copy-increments", "copy-reference", "jump-to-reference")


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    """Two arms of 800 patients, four visits, true ratio 0.4, half of the drug's patients gone after the second visit."""
    rng = np.random.default_rng(11)
    n = 1600
    table = pd.DataFrame({"participant_id": np.repeat(np.arange(n), 4), "visit_week": np.tile([12.0, 24, 36, 48], n)})
    drug = table["participant_id"] % 2 == 1
    frailty = np.repeat(rng.gamma(2.0, 0.5, n), 4)
    table["full"] = rng.poisson(2 * np.where(drug, 0.4, 1.0) * frailty)
    gone = np.repeat(rng.uniform(size=n) < 0.5, 4) & (table["visit_week"] > 24) & drug
    return table.assign(arm=np.where(drug, "drug", "placebo"), y=table["full"].where(~gone))


def _ratio(trial: pd.DataFrame, assumption: str, imputations: int = 10, seed: int = 0) -> pd.Series:
    method = VisitImputation(assumption=assumption, imputations=imputations, seed=seed)
    return impute_visits(trial, outcome="y", reference="placebo", method=method).iloc[0]


def test_dispersion_and_ratio_of_the_frailty_model_are_those_of_the_negative_binomial_of_totals(trial: pd.DataFrame) -> None:
    """With the same exposure for everybody the likelihood splits into that of the totals and a multinomial."""
    arm = (trial["arm"] == "drug").to_numpy(float)
    X = np.column_stack([np.ones(len(arm)), arm])
    fit = fit_shared_frailty(X, trial["full"].to_numpy(float), np.ones(len(arm)), trial["participant_id"].to_numpy())
    totals = fit_model("negbin", X[::4], trial.groupby("participant_id")["full"].sum().to_numpy(float), np.full(1600, 4.0))
    np.testing.assert_allclose(fit.parameters, [*totals.coefficients, np.log(totals.alpha)], rtol=1e-6)


def test_each_assumption_has_the_ratio_that_its_words_say(trial: pd.DataFrame) -> None:
    """At random: 0.4. Jump to reference: a quarter of the drug's time at the rate of the reference, (0.75 x 0.4 + 0.25) = 0.55.
    Increments of a flat reference change nothing. Copy reference shrinks towards the own counts: between the two.
    """
    rows = {name: _ratio(trial, name) for name in ESTIMANDS}
    ratios = {name: row["estimate"] for name, row in rows.items()}
    three_errors = 3 * rows["missing-at-random"]["se"]
    assert abs(np.log(ratios["missing-at-random"] / 0.4)) < three_errors
    assert abs(np.log(ratios["copy-increments"] / 0.4)) < three_errors
    assert abs(np.log(ratios["jump-to-reference"] / 0.55)) < three_errors
    assert ratios["missing-at-random"] < ratios["copy-reference"] < ratios["jump-to-reference"]
    assert all(
        "intercurrent events" in row["estimand"] and name.replace("-", " ") in row["estimator"] for name, row in rows.items()
    )


def test_at_random_is_wider_than_the_analysis_of_everybody_and_agrees_with_it(trial: pd.DataFrame) -> None:
    totals = trial.groupby("participant_id").agg(full=("full", "sum"), arm=("arm", "first")).reset_index()
    whole = analyse(totals, outcome="full", reference="placebo").results.iloc[0]
    imputed = _ratio(trial, "missing-at-random")
    assert abs(np.log(imputed["estimate"] / whole["estimate"])) < 3 * imputed["se"]
    assert imputed["se"] > whole["se"]


def test_larger_delta_moves_the_ratio_up_until_it_tips(trial: pd.DataFrame) -> None:
    few = trial[trial["participant_id"] < 120].reset_index(drop=True)
    chosen = VisitImputation(imputations=5)
    table = tipping_point(lambda method: impute_visits(few, outcome="y", reference="placebo", method=method), chosen, (1, 2, 3))
    assert table["estimate"].is_monotonic_increasing
    assert table["p_value"].iloc[0] < 0.05 < table["p_value"].max()


def test_same_seed_gives_the_same_numbers(trial: pd.DataFrame) -> None:
    few = trial[trial["participant_id"] < 60].reset_index(drop=True)
    once, again = (_ratio(few, "jump-to-reference", 2, seed=4) for _ in range(2))
    assert once["estimate"] == again["estimate"]
    assert once["estimate"] != _ratio(few, "jump-to-reference", 2, seed=5)["estimate"]


def simulated(trial: pd.DataFrame, weeks: tuple[float, ...], factor: float = 1.0) -> pd.DataFrame:
    """Expected counts from baseline under both arms, twelve weeks apart at 2 and 0.8."""
    people = trial.drop_duplicates("participant_id")
    parts = [
        pd.DataFrame({"participant_id": people["participant_id"].astype(str), "arm_randomised": people["arm"], "arm": arm,
                      "visit_week": week, "expected_net2_lesions": factor * rate * week / 12})
        for arm, rate in (("placebo", 2.0), ("drug", 0.8)) for week in weeks
    ]  # fmt: skip
    keys = {"trial": "t", "query": "interventional", "query_id": "q", "model_error": NO_MODEL_ERROR}
    return pd.concat(parts, ignore_index=True).assign(**keys)


def test_generators_draws_give_what_each_assumption_says_whatever_their_level(trial: pd.DataFrame) -> None:
    """As by regression; a factor 3 on all that the generator expects is estimated away."""
    ratios = {}
    for name in ESTIMANDS:
        method = VisitImputation(assumption=name, imputations=5, draws=simulated(trial, (12.0, 24.0, 36.0, 48.0), 3.0))
        row = impute_visits(trial, outcome="y", reference="placebo", method=method).iloc[0]
        ratios[name] = row["estimate"]
        assert "imputed" in row["estimator"]
        assert "from the generator's draws, a factor an arm" in row["estimator"]
        assert row["estimate"] == pytest.approx(_ratio(trial, name)["estimate"], rel=0.05)
    assert ratios["missing-at-random"] < ratios["copy-reference"] < ratios["jump-to-reference"]


def test_what_cannot_be_imputed_is_refused(trial: pd.DataFrame) -> None:
    few = trial[trial["participant_id"] < 40].reset_index(drop=True)
    with pytest.raises(RefusalError, match="lacks no visit"):
        impute_visits(few, outcome="full", reference="placebo")
    with pytest.raises(UsageError, match="expected one of missing-at-random"):
        impute_visits(few, outcome="y", reference="placebo", method=VisitImputation(assumption="copy"))
    with pytest.raises(UsageError, match="give their weeks"):
        impute_visits(few.assign(visit="week " + few["visit_week"].astype(str)), outcome="y", reference="placebo",
                      visits=Visits(visit="visit"))  # fmt: skip
    with pytest.raises(InputError, match="lacks the arm or a covariate"):
        impute_visits(few.assign(age=np.where(few["participant_id"] == 3, np.nan, 40.0 + few["participant_id"])),
                      outcome="y", reference="placebo", adjust="age", design=Design(missing_covariates="drop"))  # fmt: skip
    with pytest.raises(InputError, match="no week 36; query every scheduled visit"):
        impute_visits(few, outcome="y", reference="placebo", method=VisitImputation(draws=simulated(few, (12.0, 24.0, 48.0))))
    with pytest.raises(RefusalError, match="'drug' has no event"):
        impute_visits(few.assign(y=few["y"].where((few["arm"] != "drug") | (few["visit_week"] > 12), 0)), outcome="y",
                      reference="placebo")  # fmt: skip


def test_the_command_line_prints_the_tipping_point_and_draws_it(run: Run, tmp_path: Path) -> None:
    words = [ORACLES / "epil_visits.csv", "--outcome", "y", "--visit", "weeks", "--patient", "subject", "--arm", "trt"]
    words += ["--reference", "placebo", "--impute", "jump-to-reference", "--imputations", 2]
    ended = run("visits", *words, "--delta", 1, "--delta", 3, "--figure", tmp_path / "t.png", "--out", tmp_path / "r.csv")
    assert ended.code == 0, ended.error
    assert "progabide by delta: 1: " in ended.printed
    assert "jump to reference: the reference's rate from drop-out on" in ended.printed
    assert (tmp_path / "t.png").is_file()
    assert len(pd.read_csv(tmp_path / "r.csv")) == 2
    assert run("visits", *words, "--by-visit").code == 2
