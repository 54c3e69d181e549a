"""Published numbers: which may be a target, what they say, and how a population is weighted to theirs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.agreement import agree_published, compare_arms, correlate, match_baseline, published_contrasts, published_numbers
from causalms.errors import RefusalError, UsageError


def contrast(trial: str, measure: str, week: float = 96) -> pd.Series:
    table = published_contrasts()
    return table[(table["trial"] == trial) & (table["measure"] == measure) & (table["week"] == week)].iloc[0]


@pytest.mark.parametrize(
    ("trial", "week", "ratio"),
    [
        ("OPERA I", 96, 0.23),
        ("OPERA II", 96, 0.17),
        ("DEFINE", 96, 0.15),
        ("DEFINE", 24, 0.20),
        ("CONFIRM", 96, 0.29),
        ("BRAVO", 104, 0.835),
        ("ALLEGRO", 104, 0.704),
    ],
)
def test_verified_rate_ratios_are_read_as_published(trial: str, week: float, ratio: float) -> None:
    row = contrast(trial, "rate-ratio", week)
    assert row["estimate"] == pytest.approx(ratio, abs=1e-9)
    assert row["target"]


def test_unverified_numbers_are_never_targets_and_never_displace_verified_ones() -> None:
    numbers = published_numbers()
    unverified = set(numbers.loc[numbers["verified"] == "no", "source_title"])
    table = published_contrasts()
    assert not (table["target"] & table["source_title"].isin(unverified)).any()
    # An interval of OPERA I's rate ratio (0.17 to 0.30) is in the table, but unverified: it must not be used.
    assert np.isnan(contrast("OPERA I", "rate-ratio")["se"])


def test_outcomes_of_another_definition_are_left_out() -> None:
    # PRISMS and EVIDENCE count active lesions a scan, TEMSO combined unique lesions: other outcomes, other ratios.
    assert not set(published_contrasts()["trial"]) & {"PRISMS", "EVIDENCE", "TEMSO", "REFLEX", "DEFINE+CONFIRM"}


def test_only_the_six_arms_at_their_dose_are_compared() -> None:
    table = published_contrasts()
    six = {"placebo", "laquinimod", "interferon-beta-1a-im", "interferon-beta-1a-sc", "dimethyl-fumarate", "ocrelizumab"}
    assert set(table["arm"]) | set(table["reference"]) <= six
    # DEFINE's 240 mg three times a day reduced counts by 74%: another dose, another drug regimen.
    assert not np.isclose(table["estimate"], 0.26).any()


def test_risk_ratio_of_define_follows_from_the_label() -> None:
    row = contrast("DEFINE", "risk-ratio")
    assert row["estimate"] == pytest.approx(0.55 / 0.73, rel=1e-12)
    assert row["se"] == pytest.approx(np.sqrt(0.45 / (0.55 * 152) + 0.27 / (0.73 * 165)), rel=1e-12)


def test_weighting_reaches_the_published_means_and_changes_least() -> None:
    rng = np.random.default_rng(1)
    people = pd.DataFrame({"participant_id": range(300), "age": rng.normal(37, 9, 300), "sex": rng.choice(["F", "M"], 300)})
    targets = pd.DataFrame({"column": ["age", "sex"], "value": ["", "F"], "mean": [41.0, 0.74]})
    found = match_baseline(people, targets)
    np.testing.assert_allclose(found.balance["after"], [41.0, 0.74], atol=1e-8)
    assert found.weights.mean() == pytest.approx(1, abs=1e-9)
    # Entropy balancing: log weights are linear in the covariates.
    X = np.column_stack([np.ones(300), people["age"], people["sex"] == "F"]).astype(float)
    logs = np.log(found.weights.to_numpy())
    residual = logs - X @ np.linalg.lstsq(X, logs, rcond=None)[0]
    assert np.abs(residual).max() < 1e-8
    assert found.effective_size < 300


def test_a_population_out_of_reach_is_refused() -> None:
    people = pd.DataFrame({"participant_id": range(20), "age": np.linspace(20, 40, 20)})
    with pytest.raises(RefusalError, match="cannot be weighted to age 60"):
        match_baseline(people, pd.DataFrame({"column": ["age"], "value": [""], "mean": [60.0]}))


def made(week: float = 96.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulated patients whose rate ratio under dimethyl fumarate rises with age: 0.1 at 30, 0.3 at 50."""
    rng = np.random.default_rng(2)
    people = pd.DataFrame({"participant_id": range(400), "age": rng.uniform(24, 50, 400), "sex": rng.choice(["F", "M"], 400)})
    keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": week, "query": "interventional", "query_id": "q"}
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


def test_correlation_needs_three_contrasts() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4], "simulated_estimate": [0.25, 0.35]})
    with pytest.raises(RefusalError, match="fewer than three"):
        correlate(table)


def test_distance_of_count_distributions_holds_its_level_and_finds_bias() -> None:
    def trial(seed: int, factor: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        rng = np.random.default_rng(seed)
        mean = np.exp(rng.normal(0.5, 1, 40))
        draws = pd.DataFrame({"participant_id": np.repeat(np.arange(40), 8), "draw": np.tile(np.arange(8), 40)})
        draws["net2_lesions"] = rng.negative_binomial(0.5, 0.5 / (0.5 + mean[draws["participant_id"]] * factor))
        keys = {"trial": "T", "arm": "placebo", "arm_randomised": "placebo", "visit_week": 48.0}
        people = pd.DataFrame({"participant_id": range(40), "trial": "T", "arm": "placebo"})
        people["net2_lesions_week48"] = rng.negative_binomial(0.5, 0.5 / (0.5 + mean))
        return draws.assign(**keys, query="interventional", query_id="q"), people

    # 200 trials at 5%: the 0.0005 and 0.9995 quantiles of a binomial are 2 and 21.
    rejected = sum(compare_arms(*trial(seed, 1.0), repetitions=99)["p_value"].iloc[0] <= 0.05 for seed in range(200))
    assert 2 <= rejected <= 21
    assert compare_arms(*trial(1, 4.0))["p_value"].iloc[0] < 0.01
    with pytest.raises(UsageError, match="expected table"):
        compare_arms(trial(1, 1.0)[0].drop(columns="draw"), trial(1, 1.0)[1])
