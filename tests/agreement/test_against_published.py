"""Simulated against published effects: how a population is weighted, what is judged, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.agreement import agree_published, match_baseline
from causalms.errors import RefusalError
from tests.conftest import NO_MODEL_ERROR


def test_weighting_reaches_the_published_means_and_changes_least() -> None:
    rng = np.random.default_rng(1)
    people = pd.DataFrame({"participant_id": range(300), "age": rng.normal(37, 9, 300), "sex": rng.choice(["F", "M"], 300)})
    targets = pd.DataFrame({"column": ["age", "sex"], "value": ["", "F"], "mean": [41.0, 0.74]})
    matching = match_baseline(people, targets)
    np.testing.assert_allclose(matching.balance["after"], [41.0, 0.74], atol=1e-8)
    assert matching.weights.mean() == pytest.approx(1, abs=1e-9)
    # Entropy balancing: log weights are linear in the covariates.
    X = np.column_stack([np.ones(300), people["age"], people["sex"] == "F"]).astype(float)
    logs = np.log(matching.weights.to_numpy())
    residual = logs - X @ np.linalg.lstsq(X, logs, rcond=None)[0]
    assert np.abs(residual).max() < 1e-8
    assert matching.effective_size < 300


def test_a_population_out_of_reach_is_refused() -> None:
    people = pd.DataFrame({"participant_id": range(20), "age": np.linspace(20, 40, 20)})
    with pytest.raises(RefusalError, match="cannot be weighted to age 60"):
        match_baseline(people, pd.DataFrame({"column": ["age"], "value": [""], "mean": [60.0]}))


def made(week: float = 96.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulated patients whose rate ratio under dimethyl fumarate rises with age: 0.1 at 30, 0.3 at 50."""
    rng = np.random.default_rng(2)
    people = pd.DataFrame({"participant_id": range(400), "age": rng.uniform(24, 50, 400), "sex": rng.choice(["F", "M"], 400)})
    keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": week, "query": "interventional", "query_id": "q"}
    keys["model_error"] = NO_MODEL_ERROR
    ratio = 0.1 + 0.01 * (people["age"] - 30)
    tables = [
        people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=10 * share, activity_probability=0.6)
        for arm, share in (("placebo", 1.0), ("dimethyl-fumarate", ratio))
    ]
    return people, pd.concat(tables, ignore_index=True)


def test_simulated_effect_is_that_of_the_published_population() -> None:
    people, draws = made()
    table = agree_published(draws, people).table.set_index(["trial", "measure"])
    # DEFINE's verified mean age is 38.5, so the weighted effect is 0.1 + 0.01 x 8.5.
    assert table.loc[("DEFINE", "rate ratio"), "simulated_estimate"] == pytest.approx(0.185, abs=1e-6)
    unmatched = agree_published(draws, people, matched=False).table.set_index(["trial", "measure"])
    assert unmatched.loc[("DEFINE", "rate ratio"), "simulated_estimate"] == pytest.approx(
        0.1 + 0.01 * (people["age"].mean() - 30), abs=1e-6
    )


def test_agreement_is_judged_only_where_an_interval_was_published() -> None:
    people, draws = made()
    table = agree_published(draws, people).table.set_index(["trial", "measure"])
    assert np.isnan(table.loc[("DEFINE", "rate ratio"), "lower"])
    judged = table.loc[("DEFINE", "risk ratio")]
    expected = np.log(judged["simulated_estimate"] / judged["randomised_estimate"])
    assert judged["standardised_difference"] == pytest.approx(expected / judged["se"])
    assert judged["p_value"] == pytest.approx(2 * stats.norm.sf(abs(expected) / judged["se"]))


def test_published_comparison_is_transported_not_randomised() -> None:
    people, draws = made()
    results = agree_published(draws, people).results
    assert not results.loc[results["analysis"] != "agreement: published effect", "randomised"].any()
    assert results["variance"].str.contains("http").any()


def test_an_arm_that_no_publication_at_hand_is_about_is_named() -> None:
    people, draws = made()
    other = draws[draws["arm"] == "placebo"].assign(arm="fingolimod")
    agreement = agree_published(pd.concat([draws, other]), people)
    assert len(agreement.table) == len(agree_published(draws, people).table)
    assert agreement.refused[0].startswith("fingolimod: no published contrast at hand, only of placebo, laquinimod")
    with pytest.raises(RefusalError, match=r"^fingolimod: no published contrast at hand"):
        agree_published(pd.concat([draws[draws["arm"] == "placebo"], other]), people)


def test_a_visit_far_from_the_published_one_is_no_comparison() -> None:
    people, draws = made(week=48.0)
    with pytest.raises(RefusalError, match="no published contrast"):
        agree_published(draws, people)


def test_weights_that_rest_on_few_patients_are_refused() -> None:
    people = pd.DataFrame({"participant_id": range(200), "age": [*np.linspace(20, 25, 198), 60.0, 61.0], "sex": ["F", "M"] * 100})
    keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": 96.0, "query": "interventional", "query_id": "q"}
    draws = pd.concat(
        people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=mean, activity_probability=0.5)
        for arm, mean in (("placebo", 10.0), ("dimethyl-fumarate", 2.0))
    )
    with pytest.raises(RefusalError, match=r"leaves an effective number of \d"):
        agree_published(draws, people)
