"""Tied predictions, repeated patients and other input that does not look like the examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.benefit import (
    Benefit,
    Comparison,
    Inference,
    benefit,
    benefit_curves,
    benefit_groups,
    choose_treatment,
    cross_fit,
    policy_value,
    ranking,
    who_benefits,
)
from causalms.benefit.heterogeneity import slice_truth
from causalms.benefit.redraws import Redraws, TrialLaw
from causalms.errors import InputError, UsageError

SETTINGS = Comparison(outcome="y", drug="d", reference="p")


def two_valued(seed: int, order: str, patients: int = 400) -> Benefit:
    """Predicted benefit has two values; severity, which it does not know, moves the true one."""
    rng = np.random.default_rng(seed)
    group, severity = rng.integers(2, size=patients), np.round(16 * rng.gamma(1, 3, patients)) / 16 + 1 / 16
    placed = {"drawn": np.arange(patients), "severest first": np.argsort(-severity), "mildest first": np.argsort(severity)}[order]
    group, severity = group[placed], severity[placed]
    predictions = pd.DataFrame({"participant_id": range(patients), "under_reference": 1 + 2 * group + severity})
    predictions["under_drug"] = 0.5 + severity
    arm = rng.permutation(np.arange(patients) % 2)
    lesions = rng.poisson(np.where(arm, predictions["under_drug"], 2 * predictions["under_reference"]))
    people = pd.DataFrame({"participant_id": range(patients), "arm": np.array(["p", "d"])[arm], "y": lesions})
    return benefit(people, predictions, SETTINGS)


@pytest.mark.parametrize("order", ["drawn", "severest first", "mildest first"])
def test_the_order_of_the_file_says_nothing_of_tied_patients(order: str) -> None:
    # Score 2.5 or 0.5; true benefit 2 (1 + 2 g + s) - (0.5 + s), half the patients each; Qini = (top - low) / 8.
    held, trials = 0, 40
    for seed in range(trials):
        row = ranking(two_valued(seed, order), inference=Inference(redraws=199)).set_index("measure").loc["Qini"]
        held += row["lower"] <= 4 / 8 <= row["upper"]
        assert abs((row["lower"] + row["upper"]) / 2 - row["estimate"]) < 0.25 * (row["upper"] - row["lower"])
    assert held >= stats.binom.ppf(0.0005, trials, 0.95)


def test_tied_cuts_take_as_many_of_the_law_as_of_the_trial() -> None:
    # The trial drew three of four patients at the top; a cut at two of them holds 2/3 of the top patients of the law.
    score, law = np.array([[2.0, 2, 2, 1]]), np.array([2.0, 2, 1, 1])
    again = Redraws(score, score, score, law, np.array([6.0, 6, 1, 1]), np.zeros(4))
    truths = slice_truth(again, [(0, 2), (0, 4), (2, 4)])[0]
    np.testing.assert_allclose(truths, [[6.0, 3.5, (2 / 3 * 6 + 2 * 1) / (2 / 3 + 2)]])


def test_groups_where_most_patients_stand_at_the_top() -> None:
    rng = np.random.default_rng(4)
    before, score = np.full(200, 3.0), np.repeat([2.0, 1.0], [160, 40])
    data = Benefit(score, before + rng.normal(size=200), before - score, np.arange(200), "d", "p", "made")
    table = benefit_groups(data, 4, inference=Inference(redraws=0))
    assert table["n"].tolist() == [40, 160, 200]
    assert table["predicted"].tolist() == [1.0, 2.0, 1.0]


def test_bands_without_redraws_have_the_influence_of_a_mean() -> None:
    rng = np.random.default_rng(5)
    score = rng.normal(size=500)
    data = Benefit(score, 100 + rng.normal(size=500), np.zeros(500), np.arange(500), "d", "p", "made")
    table = benefit_curves(data, shares=(1.0, 0.5), inference=Inference(redraws=0))
    # Correlation of the means of all and of a half of independent values is sqrt(1/2), although all values are near 100.
    noise = rng.multivariate_normal([0, 0], [[1, 0.5**0.5], [0.5**0.5, 1]], 200_000)
    half = (table["ad_band_upper"] - table["ad"]) / table["ad_se"]
    assert half.max() == pytest.approx(np.quantile(np.abs(noise).max(axis=1), 0.95), abs=0.12)


def people(patients: int = 120, seed: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    before = np.exp(rng.normal(1, 0.5, patients))
    table = pd.DataFrame({"participant_id": [f"{i:03d}" for i in range(patients)], "arm": ["p", "d"] * (patients // 2)})
    table["age"] = rng.uniform(20, 60, patients)
    table["y"] = rng.poisson(np.where(table["arm"] == "d", 0.4, 1.0) * before)
    return table, table[["participant_id"]].assign(under_reference=before, under_drug=0.4 * before)


def test_participants_may_have_the_same_names_in_two_trials() -> None:
    rows, predictions = people()
    both = pd.concat([rows.assign(trial=name) for name in ("A", "B")], ignore_index=True)
    draws = pd.concat(
        predictions[["participant_id"]].assign(
            trial=name, arm=arm, arm_randomised="p", visit_week=96.0, query="interventional", query_id="q",
            expected_net2_lesions=predictions[column],
        )
        for name in ("A", "B")
        for arm, column in (("p", "under_reference"), ("d", "under_drug"))
    )  # fmt: skip
    results = who_benefits(both, outcome="y", reference="p", draws=draws, inference=Inference(redraws=0))
    assert results["population"].nunique() == 2


@pytest.mark.parametrize("side", ["people", "predictions"])
def test_patients_with_several_rows_are_refused(side: str) -> None:
    rows, predictions = people()
    rows, predictions = (
        (pd.concat([rows, rows.iloc[:1]]), predictions)
        if side == "people"
        else (rows, pd.concat([predictions, predictions.iloc[:1]]))
    )
    with pytest.raises(InputError, match="has several rows; give one row"):
        benefit(rows, predictions, SETTINGS)
    with pytest.raises(InputError, match="has several rows; give one row"):
        choose_treatment(rows, predictions.rename(columns={"under_reference": "p", "under_drug": "d"}), outcome="y")


def test_a_choice_needs_every_prediction_and_known_arms() -> None:
    rows, predictions = people()
    predictions = predictions.rename(columns={"under_reference": "p", "under_drug": "d"})
    with pytest.raises(UsageError, match="penalty of 'D', which was not randomised here"):
        choose_treatment(rows, predictions, outcome="y", penalty={"D": 1.0})
    predictions.loc[3, "d"] = np.nan
    with pytest.raises(InputError, match="that of participant 003 is no finite number"):
        choose_treatment(rows, predictions, outcome="y")


def test_tied_patients_draw_lots_for_a_capped_arm() -> None:
    rows, predictions = people(400)
    alike = predictions[["participant_id"]].assign(p=2.0, d=1.0)
    ordered = rows.sort_values("y", ascending=False).reset_index(drop=True)
    given = (
        choose_treatment(ordered, alike, outcome="y", capped="d", cap=0.5, inference=Inference(redraws=0)).assigned["arm"] == "d"
    )
    assert given.mean() == 0.5
    assert given.iloc[:200].mean() == pytest.approx(0.5, abs=0.12)  # three binomial errors: not those at the top of the file


def test_an_outlying_covariate_is_named() -> None:
    rows, _ = people()
    rows["y"] = np.random.default_rng(7).poisson(np.exp(3 - rows["age"] / 20))
    rows.loc[5, "age"] = -4000.0
    rows.loc[5, "y"] = 0
    with pytest.raises(InputError, match="covariates of participant 005 lie so far outside"):
        cross_fit(rows, SETTINGS, "age")


def test_a_word_among_numbers_and_a_negative_count_are_named() -> None:
    rows, _ = people()
    words = rows.assign(age=rows["age"].astype(str))
    words.loc[3, "age"] = "forty"
    with pytest.raises(InputError, match="age of participant 003 is 'forty', no number; correct it"):
        cross_fit(words, SETTINGS, "age")
    sites = rows.assign(site=np.resize(["01", "02", "A3"], len(rows)))
    assert len(cross_fit(sites, SETTINGS, "age + C(site)")) == len(rows)
    rows.loc[4, "y"] = -2
    with pytest.raises(InputError, match="y of participant 004 is -2; counts are not negative: correct it"):
        cross_fit(rows, SETTINGS, "age")


def test_covariates_may_not_name_the_outcome() -> None:
    with pytest.raises(UsageError, match="'y' is the outcome, no baseline covariate"):
        cross_fit(people()[0], SETTINGS, "age + log1p(y)")


def test_covariates_may_not_hold_the_arm_or_a_copy_of_it_or_of_the_outcome() -> None:
    rows = people()[0]
    rows = rows.assign(code=np.where(rows["arm"] == "d", "x", "z"), worse=np.exp(rows["y"]))
    for covariates, words in (
        ("age + arm", "is the randomised arm"),
        ("code", "is a recoded arm"),
        ("worse", "copy of the outcome"),
    ):
        with pytest.raises((InputError, UsageError), match=words):
            cross_fit(rows, SETTINGS, covariates)


def test_integer_arms_are_arms() -> None:
    rows, predictions = people()
    coded = rows.assign(arm=(rows["arm"] == "d").astype(int))
    benefits = benefit(coded, predictions, Comparison(outcome="y", drug=1, reference=0))
    assert benefits.spared.tolist() == benefit(rows, predictions, SETTINGS).spared.tolist()


@pytest.mark.parametrize(("options", "words"), [({"redraws": 9}, "9 redraws for 0.95 intervals"), ({"level": 95}, "level 95")])
def test_a_level_that_cannot_be_had_is_refused(options: dict[str, int], words: str) -> None:
    data = benefit(*people(), SETTINGS)
    for judge in (ranking, policy_value):
        with pytest.raises(UsageError, match=words):
            judge(data, inference=Inference(**options))


def test_a_law_beyond_all_counts_is_none() -> None:
    rows, predictions = people()
    predictions.loc[0, "under_reference"] = 1e25
    assert benefit(rows, predictions, SETTINGS).law is None
    assert TrialLaw(np.ones((2, 2)), np.array([0, 1]), 0.0).trials(1, np.random.default_rng(0))[2].shape == (1, 2)
