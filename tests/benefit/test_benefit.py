"""Who benefits: every interval against the truth of a trial whose individual effects are known by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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
)
from causalms.benefit.heterogeneity import areas
from causalms.benefit.policy import who_is_treated
from causalms.benefit.predict import predict_from_draws
from causalms.errors import InputError, RefusalError, UsageError

SIZE = 1.0
SETTINGS = Comparison(outcome="lesions", drug="drug", reference="placebo")


def truth(patients: int, rng: np.random.Generator) -> pd.DataFrame:
    """Patients with their own mean counts under both arms; the marker moves risk and the rate ratio."""
    marker = rng.uniform(0, 1, patients)
    before = np.exp(0.4 + 1.0 * marker)
    after = before * np.exp(-0.2 - 1.2 * marker)
    return pd.DataFrame({"participant_id": 1000 + np.arange(patients), "marker": marker, "before": before, "after": after})


def trial(seed: int, patients: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A randomised trial, and predictions that rank patients well but overstate the effect."""
    rng = np.random.default_rng(seed)
    people = truth(patients, rng)
    people["arm"] = rng.permutation(np.repeat(["placebo", "drug"], patients // 2))
    mean = np.where(people["arm"] == "drug", people["after"], people["before"])
    people["lesions"] = rng.negative_binomial(SIZE, SIZE / (SIZE + mean))
    predictions = people[["participant_id"]].assign(under_reference=1.3 * people["before"], under_drug=people["after"])
    return people, predictions


@pytest.fixture(scope="module")
def population() -> pd.DataFrame:
    """So many patients that their averages are the truth."""
    people = truth(400_000, np.random.default_rng(0))
    return people.assign(score=1.3 * people["before"] - people["after"], spared=people["before"] - people["after"])


@pytest.mark.slow
def test_every_interval_of_benefit_holds_the_truth_at_its_level(population: pd.DataFrame) -> None:
    ranked = population.sort_values("score", ascending=False)
    autoc, qini = areas(ranked["score"].to_numpy(), ranked["spared"].to_numpy())
    slope = float(np.cov(population["score"], population["spared"])[0, 1] / population["score"].var())
    treated = population["score"] > population["score"].quantile(0.7)
    value = float(np.where(treated, population["after"], population["before"]).mean())
    gain = float(((treated - treated.mean()) * population["spared"]).mean())
    held = dict.fromkeys(("AUTOC", "Qini", "ATE", "slope", "AD", "AD band", "AR", "GATES", "value", "gain"), 0)
    trials = 24  # 400 in studies/benefit_coverage.py
    for seed in range(trials):
        data = benefit(*trial(seed), SETTINGS)
        lines = ranking(data, inference=Inference(redraws=99, seed=seed))
        for name, target in (("AUTOC", autoc), ("Qini", qini)):
            line = lines[lines["measure"] == name].iloc[0]
            held[name] += line["lower"] <= target <= line["upper"]
        blp = best_linear_predictor(data).iloc[[0, 2]]
        for (_, line), name, target in zip(blp.iterrows(), ("ATE", "slope"), (population["spared"].mean(), slope), strict=True):
            held[name] += line["lower"] <= target <= line["upper"]
        curve = benefit_curves(data, shares=(1.0, 0.6, 0.3), inference=Inference(seed=seed))
        inside = [population[population["score"] >= threshold] for threshold in curve["threshold"]]
        ad = np.array([part["spared"].mean() for part in inside])
        ar = np.array([part["after"].mean() / part["before"].mean() for part in inside])
        held["AD"] += bool(curve["ad_lower"].iloc[2] <= ad[2] <= curve["ad_upper"].iloc[2])
        held["AR"] += bool(curve["ar_lower"].iloc[2] <= ar[2] <= curve["ar_upper"].iloc[2])
        held["AD band"] += bool(((curve["ad_band_lower"] <= ad) & (ad <= curve["ad_band_upper"])).all())
        top = benefit_groups(data, 4).iloc[3]
        cut = np.quantile(data.score, 0.75)
        held["GATES"] += top["lower"] <= population.loc[population["score"] > cut, "spared"].mean() <= top["upper"]
        policy = policy_value(data, caps=(0.3,))
        held["value"] += policy.iloc[2]["lower"] <= value <= policy.iloc[2]["upper"]
        held["gain"] += policy.iloc[3]["lower"] <= gain <= policy.iloc[3]["upper"]
    # 95% of the trials: the 0.0005 quantile of a binomial; an interval may be wider than it need be, not narrower.
    low = int(stats.binom.ppf(0.0005, trials, 0.95))
    assert {name: count for name, count in held.items() if count < low} == {}


def test_rankings_of_no_knowledge_are_zero_and_hold_their_level() -> None:
    # 60 trials at 5%, two-sided: 0.9995 quantile of a binomial 10.
    rejected = {"AUTOC": 0, "slope": 0}
    for seed in range(60):
        people, predictions = trial(seed, 200)
        rng = np.random.default_rng(seed + 1000)
        noise = predictions.assign(under_reference=3 + rng.normal(0, 0.5, len(predictions)), under_drug=1.0)
        data = benefit(people, noise, SETTINGS)
        rejected["AUTOC"] += ranking(data, inference=Inference(redraws=99, seed=seed)).iloc[0]["p_value"] <= 0.05
        rejected["slope"] += best_linear_predictor(data).iloc[2]["p_value"] <= 0.05
    assert max(rejected.values()) <= 10
    assert min(rejected.values()) >= 1  # a test that never rejects: probability 0.046 each


def test_autoc_and_qini_of_a_hand_made_ranking() -> None:
    # Benefits 4, 2, 0 in the order of the score: TOC at 1/3, 2/3, 1 is 4 - 2, 3 - 2, 2 - 2.
    np.testing.assert_allclose(areas(np.array([3.0, 2.0, 1.0]), np.array([4.0, 2.0, 0.0])), [1.0, (2 / 3 + 2 / 3) / 3])
    # Tied scores rank nothing.
    np.testing.assert_allclose(areas(np.ones(3), np.array([4.0, 2.0, 0.0])), [0.0, 0.0], atol=1e-15)


def test_pseudo_outcomes_average_to_the_arm_means_whatever_the_prediction() -> None:
    people, predictions = trial(1)
    blind = benefit(people, predictions.assign(under_reference=0.0, under_drug=0.0), SETTINGS)
    assert blind.under_drug.mean() == pytest.approx(people.loc[people["arm"] == "drug", "lesions"].mean(), rel=1e-12)
    assert blind.under_reference.mean() == pytest.approx(people.loc[people["arm"] == "placebo", "lesions"].mean(), rel=1e-12)


def test_cross_fitting_shows_a_patient_nothing_of_his_outcome_but_the_level_of_the_trial() -> None:
    people, _ = trial(2, 100)
    predictions = cross_fit(people, SETTINGS, "marker", seed=1)
    changed = people.copy()
    changed.loc[7, "lesions"] += 50
    again = cross_fit(changed, SETTINGS, "marker", seed=1)
    arm = "under_drug" if people.loc[7, "arm"] == "drug" else "under_reference"
    factor = again[arm] / predictions[arm]
    same_fold = predictions["fold"] == predictions.loc[7, "fold"]
    # Within his fold all predictions change by one factor, which ranks nobody; the others' models have changed.
    assert factor[same_fold].std() == pytest.approx(0, abs=1e-9)
    assert factor[~same_fold].std() > 1e-3


def test_cross_fitted_predictions_of_all_folds_have_one_level() -> None:
    people, _ = trial(5, 200)
    outside = people.assign(participant_id=-1 - people["participant_id"])
    everybody = pd.concat([outside] * 5)  # each patient of the trial once by the model of each fold
    everybody = everybody.sort_values("participant_id", kind="stable").assign(participant_id=np.arange(1000))
    predictions = cross_fit(people, SETTINGS, "marker", seed=1, outside=everybody).iloc[200:]
    levels = predictions.groupby("fold")[["under_reference", "under_drug"]].mean()
    np.testing.assert_allclose(levels / levels.mean(), 1.0, rtol=1e-9)


def test_predictions_from_draws_are_the_patients_means() -> None:
    rows = [(p, arm, d, p + d + (arm == "placebo")) for p in range(4) for arm in ("placebo", "drug") for d in range(3)]
    draws = pd.DataFrame(rows, columns=["participant_id", "arm", "draw", "net2_lesions"])
    draws = draws.assign(trial="T", arm_randomised="drug", visit_week=48.0, query="interventional", query_id="q")
    predictions = predict_from_draws(draws, drug="drug", reference="placebo").sort_values("participant_id")
    assert predictions["under_reference"].tolist() == [2, 3, 4, 5]
    assert predictions["under_drug"].tolist() == [1, 2, 3, 4]


def test_a_cap_treats_the_most_promising_and_never_the_unpromising() -> None:
    people, predictions = trial(3)
    data = benefit(people, predictions, SETTINGS)
    chosen = who_is_treated(data, cap=0.25)
    assert chosen.mean() == pytest.approx(0.25)
    assert data.score[chosen > 0].min() >= data.score[chosen == 0].max()
    assert who_is_treated(data, cap=1.0, least_benefit=1e9).sum() == 0
    with pytest.raises(UsageError, match=r"cap 1\.5"):
        who_is_treated(data, cap=1.5)


def test_mixed_trials_and_missing_predictions_are_refused() -> None:
    people, predictions = trial(4)
    with pytest.raises(RefusalError, match="trials A, B are mixed"):
        benefit(people.assign(trial=np.where(people.index % 2, "A", "B")), predictions, SETTINGS)
    with pytest.raises(InputError, match="has no prediction"):
        benefit(people, predictions.iloc[1:], SETTINGS)
    with pytest.raises(RefusalError, match="same predicted benefit"):
        best_linear_predictor(benefit(people, predictions.assign(under_reference=2.0, under_drug=1.0), SETTINGS))
