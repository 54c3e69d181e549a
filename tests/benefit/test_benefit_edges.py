"""Who benefits at its edges: ties, constant predictions, tiny trials, arms without events; and what its errors rest on."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from causalms.benefit import (
    Comparison,
    Inference,
    benefit,
    benefit_curves,
    benefit_groups,
    best_linear_predictor,
    cross_fit,
    policy_value,
    ranking,
    who_benefits,
)
from causalms.benefit.heterogeneity import areas
from causalms.benefit.policy import benefit_at
from causalms.benefit.statistics import capped_policy, rank_areas, regression
from causalms.errors import InputError, RefusalError, UsageError

SETTINGS = Comparison(outcome="lesions", drug="drug", reference="placebo")


def trial(seed: int, patients: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    before = np.exp(rng.normal(0.8, 0.6, patients))
    people = pd.DataFrame({"participant_id": np.arange(patients), "arm": rng.permutation(["placebo", "drug"] * (patients // 2))})
    people["age"] = 40 - 8 * np.log(before)
    people["lesions"] = rng.negative_binomial(1, 1 / (1 + np.where(people["arm"] == "drug", 0.4, 1.0) * before))
    return people, people[["participant_id"]].assign(under_reference=before, under_drug=0.4 * before)


def test_a_prediction_that_is_alike_for_everybody_ranks_nobody() -> None:
    people, predictions = trial(1)
    data = benefit(people, predictions.assign(under_reference=2.0, under_drug=1.0), SETTINGS)
    for judge in (ranking, best_linear_predictor, benefit_groups):
        with pytest.raises(RefusalError, match="same predicted benefit"):
            judge(data)
    # The curve is one point, all patients; a cap treats the asked share at random, so nothing is gained over chance.
    assert benefit_curves(data)["share"].tolist() == [1.0]
    gain = policy_value(data, caps=(0.3,)).iloc[3]
    assert (gain["estimate"], gain["lower"], gain["upper"]) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_tied_patients_count_as_if_ordered_at_random() -> None:
    rng = np.random.default_rng(2)
    score, spared = np.round(rng.normal(size=40), 0), rng.normal(size=40)
    orders = [areas(score + rng.uniform(0, 1e-6, 40), spared) for _ in range(4000)]
    np.testing.assert_allclose(areas(score, spared), np.mean(orders, axis=0), atol=4 * np.std(orders, axis=0).max() / 4000**0.5)


def test_standard_errors_of_rankings_are_those_of_resampled_patients() -> None:
    rng = np.random.default_rng(3)
    score = rng.normal(size=600)
    spared = 1 + score + rng.gamma(2, 1, 600)
    order = np.argsort(-score)
    ses = rank_areas(spared[order])[1]
    again = []
    for _ in range(600):
        rows = np.sort(rng.integers(600, size=600))
        again.append(rank_areas(spared[order][rows])[0])
    # 600 resamples know a standard deviation to 2.9%; 4 of these are 12%.
    np.testing.assert_allclose(ses, np.std(again, axis=0, ddof=1), rtol=0.12)


def test_regression_is_least_squares_with_hc3() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(4)
    score = rng.normal(size=80)
    spared = 1 + 0.5 * score + rng.normal(size=80) * (1 + score**2)
    fitted = sm.OLS(spared, sm.add_constant(score)).fit(cov_type="HC3")
    values, ses = regression(score, spared)
    assert values[2] == pytest.approx(fitted.params[1], rel=1e-10)
    assert ses[2] == pytest.approx(fitted.bse[1], rel=1e-10)


def test_a_cap_that_moves_with_the_sample_is_in_the_error_of_the_value() -> None:
    rng = np.random.default_rng(5)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        score = np.sort(rng.normal(size=500))[::-1]
        return score, 3 + 2 * score + rng.normal(size=500)  # benefit; nothing happens under the drug

    policies = [capped_policy(spared, np.zeros(500), 150) for _, spared in (sample() for _ in range(500))]
    spread = np.std([values for values, _ in policies], axis=0, ddof=1)
    # 500 trials know a standard deviation to 3.2%; 4 of these are 13%.  Without the threshold the error is 30% too large.
    np.testing.assert_allclose(np.mean([ses for _, ses in policies], axis=0), spread, rtol=0.13)


def test_benefit_at_a_threshold_is_that_of_the_patients_around_it() -> None:
    score = np.arange(100.0)
    assert benefit_at(score, 2 * score, 50.0) == pytest.approx(99.0)


def test_predictions_off_by_a_constant_cost_no_precision() -> None:
    people, predictions = trial(6)
    exact = benefit(people, predictions, SETTINGS)
    shifted = benefit(
        people,
        predictions.assign(under_reference=predictions["under_reference"] + 9, under_drug=predictions["under_drug"] - 3),
        SETTINGS,
    )
    np.testing.assert_allclose(shifted.spared, exact.spared, rtol=1e-9)


def test_an_arm_without_any_lesion_has_numbers_but_no_ratio() -> None:
    people, predictions = trial(7)
    people.loc[people["arm"] == "drug", "lesions"] = 0
    data = benefit(people, predictions, SETTINGS)
    assert data.law is None  # no count can be drawn from a mean of zero: t quantiles
    curve = benefit_curves(data, shares=(1.0, 0.5))
    blind = benefit(people, predictions.assign(under_reference=0.0, under_drug=0.0), SETTINGS)
    assert blind.spared.mean() == pytest.approx(people.loc[people["arm"] == "placebo", "lesions"].mean(), rel=1e-9)
    assert curve["ad"].iloc[0] == pytest.approx(data.spared.mean(), rel=1e-9)
    assert ranking(data)["estimate"].notna().all()
    assert curve["ar"].iloc[0] != curve["ar"].iloc[0] or curve["ar"].iloc[0] < 0.2  # no positive mean, or hardly one


def test_two_patients_an_arm_have_numbers_and_one_is_refused() -> None:
    people, predictions = trial(8)
    drug, placebo = (people[people["arm"] == arm] for arm in ("drug", "placebo"))
    few = pd.concat([drug.iloc[:2], placebo.iloc[:2]])
    data = benefit(few, predictions, SETTINGS)
    assert np.isfinite(ranking(data)["estimate"]).all()
    with pytest.raises(UsageError, match="4 groups of 4 patients"):
        benefit_groups(data)
    with pytest.raises(UsageError, match="5 folds for 4 patients"):
        cross_fit(few, SETTINGS, "age")
    with pytest.raises(RefusalError, match="both need two"):
        benefit(few.iloc[1:], predictions, SETTINGS)


def test_missing_predictions_and_columns_are_named() -> None:
    people, predictions = trial(9)
    with pytest.raises(InputError, match="participant 7 is no finite number"):
        benefit(people, predictions.assign(under_drug=predictions["under_drug"].where(predictions.index != 7)), SETTINGS)
    with pytest.raises(UsageError, match="`covariates`: 'weight': no column 'weight'"):
        cross_fit(people, SETTINGS, "weight")
    with pytest.raises(InputError, match="no column 'relapses' among the patients"):
        who_benefits(people, outcome="relapses", reference="placebo", covariates="age")
    with pytest.raises(RefusalError, match="no trial randomised 'aspirin'"):
        who_benefits(people, outcome="lesions", reference="aspirin", covariates="age")


def test_every_trial_is_judged_by_itself() -> None:
    people, _ = trial(10, 400)
    people["trial"] = np.where(people.index < 200, "A", "B")
    both = who_benefits(people, outcome="lesions", reference="placebo", covariates="age", inference=Inference(redraws=49))
    alone = who_benefits(
        people.iloc[:200], outcome="lesions", reference="placebo", covariates="age", inference=Inference(redraws=49)
    )
    mine = both[both["population"].str.contains("of A")].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone)
    assert both["randomised"].all()


def test_same_seed_same_intervals() -> None:
    people, predictions = trial(11)
    first, second = (ranking(benefit(people, predictions, SETTINGS), inference=Inference(redraws=99, seed=3)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_arms_that_look_alike_and_outcomes_that_are_no_counts_are_refused() -> None:
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(40)], "arm": ["a", "b"] * 20, "age": range(40), "y": 2.0})
    with pytest.raises(InputError, match=r"benefit: y of participant p3 is .*1.5.*, no count"):
        who_benefits(people.assign(y=people["y"].where(people.index != 3, 1.5)), outcome="y", reference="a", covariates="age")
    arms = people["arm"].where(people.index != 3, "b\u200b")
    with pytest.raises(InputError, match=r"benefit: .*arms"):
        who_benefits(people.assign(arm=arms), outcome="y", reference="a", covariates="age")


@pytest.mark.parametrize("value", ["0x1F", "=1+1", "many"])
def test_an_outcome_that_is_no_number_is_named_by_patient(value: str) -> None:
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(40)], "arm": ["a", "b"] * 20, "age": range(40)})
    people["y"] = [value, *["2"] * 39]
    with pytest.raises(InputError, match=rf"benefit: y of participant p0 is '{re.escape(value)}', no number; correct it"):
        who_benefits(people, outcome="y", reference="a", covariates="age")
