"""Redrawn trials learn their predictions as the trial did, and intervals then hold the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.benefit import Comparison, Inference, best_linear_predictor, cross_fit, cross_fitted_benefit, policy_value, ranking
from causalms.benefit.cross_fitting import Learner, balanced_folds
from causalms.benefit.heterogeneity import areas
from causalms.errors import UsageError

SETTINGS = Comparison(outcome="lesions", drug="drug", reference="placebo")
FORMULA = "marker + noise"


def trial(seed: int, patients: int = 200) -> pd.DataFrame:
    """A marker moves the risk, nothing the rate ratio; counts have variance m + 2 m^2."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"participant_id": 1000 + np.arange(patients), "noise": rng.normal(size=patients)})
    people["marker"] = rng.normal(size=patients)
    people["before"] = np.exp(1.5 + 0.7 * people["marker"])
    people["after"] = 0.4 * people["before"]
    people["arm"] = rng.permutation(np.repeat(["placebo", "drug"], patients // 2))
    mean = np.where(people["arm"] == "drug", people["after"], people["before"])
    return people.assign(lesions=rng.negative_binomial(0.5, 0.5 / (0.5 + mean)))


def test_a_learner_predicts_what_cross_fit_predicts() -> None:
    people = trial(1)
    predictions = cross_fit(people, SETTINGS, FORMULA, seed=3)
    learner = Learner(np.column_stack([np.ones(200), people["marker"], people["noise"]]), 5)
    treated, y = (people["arm"] == "drug").to_numpy()[None], people["lesions"].to_numpy(float)[None]
    rows = np.arange(200)[None]
    learned, beyond = learner.learn(rows, treated, y, np.random.default_rng(3))  # the seed deals the same folds
    np.testing.assert_allclose(learned[0], predictions[["under_reference", "under_drug"]], rtol=1e-6)
    dealt = cross_fit(people, SETTINGS, FORMULA, seed=3, outside=people).iloc[200:]
    np.testing.assert_allclose(beyond[0], dealt[["under_reference", "under_drug"]], rtol=1e-6)


def test_folds_are_balanced_within_arms() -> None:
    treated = np.random.default_rng(0).permuted(np.tile(np.arange(50) < 20, (7, 1)), axis=1)
    fold = balanced_folds(treated, 5, np.random.default_rng(1))
    for row, own in zip(fold, treated, strict=True):
        assert np.bincount(row[own]).tolist() == [4] * 5
        assert np.bincount(row[~own]).tolist() == [6] * 5
    assert len({tuple(row) for row in fold}) == 7  # every trial deals its own


def test_a_trial_that_cannot_be_fitted_says_nothing() -> None:
    people = trial(2, 40)
    learner = Learner(np.column_stack([np.ones(40), people["marker"]]), 4)
    treated = np.tile((people["arm"] == "drug").to_numpy(), (2, 1))
    y = np.tile(people["lesions"].to_numpy(float), (2, 1))
    y[1] = 0.0
    learned, _ = learner.learn(np.tile(np.arange(40), (2, 1)), treated, y, np.random.default_rng(0))
    assert np.isfinite(learned[0]).all()
    assert not np.isfinite(learned[1]).all()


def test_trials_that_can_hardly_be_learned_from_fall_back_to_t() -> None:
    rng = np.random.default_rng(3)
    people = trial(3, 40).assign(lesions=0)
    people.loc[people.groupby("arm").head(3).index, "lesions"] = rng.poisson(3, 6) + 1  # most redrawn arms of a fold have none
    data = cross_fitted_benefit(people, SETTINGS, "marker", folds=2)
    hopeless = replace(data, law=replace(data.law, mean=data.law.mean * 1e-6))
    assert hopeless.redraws(50) is None
    assert ranking(hopeless, inference=Inference(redraws=50))["variance"].tolist() == ["influence function, t"] * 2


def test_intervals_are_wider_than_those_of_predictions_taken_as_given() -> None:
    data = cross_fitted_benefit(trial(4, 400), SETTINGS, FORMULA)
    alone = replace(data, learner=None)
    learned, given = (
        ranking(data, inference=Inference(redraws=499)).iloc[0],
        ranking(alone, inference=Inference(redraws=499)).iloc[0],
    )
    assert learned["estimate"] == given["estimate"]
    assert learned["upper"] - learned["lower"] > 1.02 * (given["upper"] - given["lower"])


def test_same_seed_same_interval_whatever_was_asked_before() -> None:
    first = cross_fitted_benefit(trial(5), SETTINGS, FORMULA)
    inference = Inference(redraws=60, seed=1)
    policy_value(first, inference=inference)
    second = cross_fitted_benefit(trial(5), SETTINGS, FORMULA)
    pd.testing.assert_frame_equal(ranking(first, inference), ranking(second, inference))


@pytest.mark.slow
def test_cross_fitted_intervals_hold_the_truth() -> None:
    held, trials = {"AUTOC": 0, "slope": 0, "benefit": 0}, 24
    people = trial(0, 8_000).assign(participant_id=lambda rows: -1 - rows["participant_id"])
    spared = (people["before"] - people["after"]).to_numpy()
    for seed in range(trials):
        sample = trial(1000 + seed)
        beyond = cross_fit(sample, SETTINGS, FORMULA, seed=seed, outside=people).iloc[200:]
        score = (beyond["under_reference"] - beyond["under_drug"]).to_numpy()
        data = cross_fitted_benefit(sample, SETTINGS, FORMULA, seed=seed)
        order = np.argsort(-score, kind="stable")
        lines = [
            ranking(data, inference=Inference(redraws=99)).iloc[0],
            *(best_linear_predictor(data, inference=Inference(redraws=99)).iloc[at] for at in (2, 0)),
        ]
        truths = [areas(score[order], spared[order])[0], np.cov(score, spared)[0, 1] / score.var(ddof=1), spared.mean()]
        for name, line, truth in zip(held, lines, truths, strict=True):
            held[name] += line["lower"] <= truth <= line["upper"]
    # The 0.001 quantile of a binomial of 95%.
    low = int(stats.binom.ppf(0.001, trials, 0.95))
    assert {name: count for name, count in held.items() if count < low} == {}


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(UsageError, match="30 folds for 40 patients"):
        cross_fitted_benefit(trial(6, 40), SETTINGS, FORMULA, folds=30)
