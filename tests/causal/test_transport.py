"""Contrasts across trials: what supports them, what would erase them, and refusal without support."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import contrast, contrasts_with_reference, policy, support
from causalms.causal.transport import (
    covariate_benchmarks,
    covariate_overlap,
    overlap_weights,
    refuse_without_support,
    trial_effect_benchmark,
    unmeasured_trial_effect,
)
from causalms.errors import InputError, RefusalError, UsageError


@pytest.fixture
def pooled(make_participants):
    table = make_participants(900, 4, ("placebo", "interferon-beta-1a-sc", "ocrelizumab"))
    rng = np.random.default_rng(0)
    opera = np.isin(table["arm"], ["interferon-beta-1a-sc", "ocrelizumab"])
    trial = np.where(opera, np.where(rng.random(900) < 0.5, "OPERA-I", "OPERA-II"), "DEFINE")
    return table.assign(trial=trial, t2_volume_ml=rng.lognormal(1, 1, 900), edss=rng.uniform(0, 5, 900).round())


def test_a_contrast_within_a_trial_needs_no_transport(pooled):
    supported = support(pooled, "ocrelizumab", "interferon-beta-1a-sc")
    assert supported.trials == ("OPERA-I", "OPERA-II")
    assert supported.words == "randomised together in OPERA-I, OPERA-II"
    assert "none beyond randomisation" in supported.assumption


def test_a_contrast_across_trials_says_its_assumption(pooled):
    supported = support(pooled, "ocrelizumab", "placebo")
    assert supported.trials == ()
    assert supported.words == "randomised together in no trial: transported"
    assert "never both" in supported.assumption
    assert "no unmeasured trial effect" in supported.assumption
    assert "laquinimod was not randomised by any trial" in support(pooled, "laquinimod", "placebo").assumption


def test_randomised_arms_overlap(pooled):
    overlap = covariate_overlap(pooled, "ocrelizumab", "interferon-beta-1a-sc").set_index("covariate")
    assert overlap["standardised_difference"].drop("propensity").abs().max() < 0.25  # 3 se of sqrt(2/300)
    assert overlap.loc["propensity", "share_in_common"] > 0.95
    assert overlap.loc["propensity", "effective_share"] > 0.95


def test_a_shift_of_one_standard_deviation_is_seen(pooled):
    older = pooled.assign(age=pooled["age"] + 8.0 * (pooled["arm"] == "ocrelizumab"))
    overlap = covariate_overlap(older, "ocrelizumab", "interferon-beta-1a-sc").set_index("covariate")
    assert overlap.loc["age", "standardised_difference"] == pytest.approx(1.0, abs=0.3)
    assert overlap.loc["propensity", "effective_share"] < 0.9


def test_arms_of_unlike_patients_are_refused(pooled):
    apart = pooled.assign(age=pooled["age"] + 100.0 * (pooled["arm"] == "ocrelizumab"))
    with pytest.raises(RefusalError, match=r"have no covariates in common .* restrict the population"):
        covariate_overlap(apart, "ocrelizumab", "placebo")


def test_e_value_of_the_published_example():
    # VanderWeele and Ding 2017: a risk ratio of 3.9 (1.8 to 8.7) has E-values 7.26 and 3.0
    effect = unmeasured_trial_effect(3.9, 1.8, 8.7)
    assert effect.e_value == pytest.approx(7.26, abs=0.005)
    assert effect.e_value_interval == pytest.approx(3.0, abs=0.005)


def test_an_interval_over_one_is_already_erased():
    effect = unmeasured_trial_effect(0.8, 0.5, 1.3, benchmark=1.2)
    assert effect.erases_interval == 1.0
    assert effect.e_value_interval == 1.0
    assert "multiply the rate by 1.25" in effect.words
    assert "on an arm they share, given covariates, is 1.20" in effect.words
    with pytest.raises(InputError, match="give positive numbers in order"):
        unmeasured_trial_effect(0.8, 0.9, 1.3)


def test_a_trial_effect_of_known_size_is_its_benchmark(pooled):
    rng = np.random.default_rng(1)
    rate = 3.0 * np.where(pooled["trial"] == "OPERA-II", 1.5, 1.0) * np.exp(0.02 * (pooled["age"] - 37))
    benchmark = trial_effect_benchmark(pooled.assign(y=rng.poisson(rate)), "y")
    assert set(benchmark["arm"]) == {"interferon-beta-1a-sc", "ocrelizumab"}
    assert ((benchmark["lower"] < 1.5) & (benchmark["upper"] > 1.5)).all()
    assert benchmark["ratio"].to_numpy() == pytest.approx(1.5, rel=0.15)
    assert trial_effect_benchmark(pooled[pooled["trial"] == "DEFINE"].assign(y=1.0), "y").empty


def test_registry_assignment_by_covariates_has_support_or_is_refused(pooled):
    overlap = refuse_without_support(pooled, ["placebo", "ocrelizumab"])
    assert (overlap["share_supported"] == 1.0).all()
    strict = pooled.assign(arm=np.where(pooled["age"] > 52, "ocrelizumab", "placebo"))
    with pytest.raises(RefusalError, match=r"'ocrelizumab': only .* could have been given it"):
        refuse_without_support(strict, ["placebo", "ocrelizumab"])
    with pytest.raises(RefusalError, match="arm 'laquinimod' has 0 patients"):
        refuse_without_support(pooled, ["laquinimod"])


@pytest.fixture
def pooled_draws(pooled, truth, make_outcomes):
    import dataclasses

    from causalms.causal import CausalModel

    mechanism = dataclasses.replace(truth, arms=("placebo", "interferon-beta-1a-sc", "ocrelizumab"))
    table = make_outcomes(pooled, mechanism, 48, 3)
    return CausalModel(mechanism), table


def test_a_transported_contrast_carries_assumption_overlap_and_sensitivity(pooled_draws):
    model, table = pooled_draws
    draws = model.do(table, ["placebo", "interferon-beta-1a-sc", "ocrelizumab"], expected=True)
    across = contrast(draws, table, "ocrelizumab", "placebo")
    assert not across.results["randomised"].any()
    assert "no trial: transported; ocrelizumab was randomised in OPERA-I, OPERA-II" in across.results["estimand"].iloc[0]
    assert across.results["measure"].tolist() == [
        "mean ratio", "E-value", "E-value of the interval", "covariate overlap, share in common",
        "covariate overlap, effective share", "mean ratio, overlap population",
    ]  # fmt: skip
    assert across.results["estimate"].iloc[3:].between(0, 1).all()
    assert across.results["estimate"].iloc[5] == pytest.approx(across.results["estimate"].iloc[0], rel=0.01)  # no modification
    ratio = across.results["estimate"].iloc[0]
    assert ratio == pytest.approx(np.exp(-1.8), rel=0.15)
    assert across.results["estimate"].iloc[1] == pytest.approx(1 / ratio + np.sqrt(1 / ratio * (1 / ratio - 1)))
    assert np.isfinite(across.sensitivity.benchmark)  # OPERA-I and OPERA-II share arms
    within = contrast(draws, table, "ocrelizumab", "interferon-beta-1a-sc")
    assert not within.results["randomised"].any()  # simulated: the badge belongs to observed data alone
    assert within.results["analysis"].str.startswith("simulated").all()
    assert "randomised together in OPERA-I, OPERA-II" in within.results["estimand"].iloc[0]
    assert within.overlap is None
    assert len(within.results) == 1


def test_do_on_a_registry_needs_support(pooled_draws):
    model, table = pooled_draws
    draws = model.do(table, ["placebo", "ocrelizumab"], draws=1, assignment="registry")
    assert [row["arm"] for row in draws.attrs["overlap"]] == ["placebo", "ocrelizumab"]
    assert (draws["arm_randomised"] == "n/a").all()
    assert {r["assignment"] for r in draws.attrs["queries"].values()} == {"registry"}
    strict = table[(table["arm"] != "ocrelizumab") | (table["age"] > 54)]
    rule = policy("old", [("age > 54", "ocrelizumab")], "placebo")
    with pytest.raises(RefusalError, match="'ocrelizumab'"):
        model.do(strict, rule, draws=1, assignment="registry")
    with pytest.raises(UsageError, match="choose randomised or registry"):
        model.do(table, "placebo", assignment="by the stars")


def test_chosen_arms_are_never_a_randomised_contrast_even_within_one_centre(pooled_draws):
    model, table = pooled_draws[0], pooled_draws[1].head(300)
    arms = ["interferon-beta-1a-sc", "ocrelizumab"]
    draws = model.do(table, arms, expected=True, assignment="registry")
    results = contrast(draws, table, *reversed(arms), assignment="registry")
    assert not results.results["randomised"].any()
    assert "hold every reason for the choice" in results.results["estimand"].iloc[0]
    assert results.overlap is not None
    assert contrast(draws, table, *reversed(arms)).support.trials == (
        "OPERA-I",
        "OPERA-II",
    )  # what the same rows would claim in a trial


def test_every_world_is_compared_with_the_reference_and_a_policy_is_never_randomised(pooled_draws):
    model, table = pooled_draws[0], pooled_draws[1].head(300)
    rule = policy("escalate", [("gd_lesions > 0", "ocrelizumab")], "interferon-beta-1a-sc")
    arms = ["interferon-beta-1a-sc", "ocrelizumab"]
    expected = model.do(table, [*arms, rule], week=[24, 48], expected=True)
    results = contrasts_with_reference(expected, table, "interferon-beta-1a-sc").set_index(["arm", "analysis"])
    assert not results["randomised"].any()
    assert results.loc["ocrelizumab", "estimand"].str.contains("randomised together in").all()
    assert results.loc["escalate", "estimand"].str.contains("not randomised by any trial").all()
    assert len(results) == 4  # two worlds at two visits, none transported
    with pytest.raises(UsageError, match="no world to compare with"):
        contrasts_with_reference(expected[expected["arm"] == "escalate"], table, "escalate")


def test_overlap_needs_covariates(pooled):
    with pytest.raises(RefusalError, match="needs patients of both"):
        covariate_overlap(pd.DataFrame(pooled)[["arm", "trial"]], "ocrelizumab", "placebo")


def test_the_overlap_population_lies_between_the_arms(pooled):
    """e(1 - e) over the chances of each arm's own choice balances the arms: (1 - e) and e up to the logistic fit."""
    older = pooled.assign(age=pooled["age"] + 8.0 * (pooled["arm"] == "ocrelizumab"))
    weights = overlap_weights(older, "ocrelizumab", "interferon-beta-1a-sc").loc[older["participant_id"]].to_numpy()
    of_arm = {arm: (older["arm"] == arm).to_numpy() for arm in ("ocrelizumab", "interferon-beta-1a-sc", "placebo")}
    drug, control = (older["age"][of_arm[arm]] for arm in ("ocrelizumab", "interferon-beta-1a-sc"))
    both = of_arm["ocrelizumab"] | of_arm["interferon-beta-1a-sc"]
    middle = np.average(older["age"][both], weights=weights[both])
    assert middle == pytest.approx((drug.mean() + control.mean()) / 2, abs=1.0)
    assert older["age"][both][weights[both] < 0.2].agg(lambda age: abs(age - middle).min()) > 8  # far ones count for little
    assert weights[of_arm["placebo"]].sum() == 0
    assert weights.sum() == pytest.approx(of_arm["ocrelizumab"].sum() + of_arm["interferon-beta-1a-sc"].sum())


def test_a_benchmark_gives_the_strength_of_a_covariate(pooled, make_outcomes, truth):
    """Enhancing lesions twice as common under ocrelizumab, and (1 + gd)^.5 times the rate."""
    rng = np.random.default_rng(1)
    gd = rng.poisson(np.where(pooled["arm"] == "ocrelizumab", 1.2, 0.4)).astype(float)
    arms = ["placebo" if arm == "interferon-beta-1a-sc" else arm for arm in pooled["arm"]]
    seen = make_outcomes(pooled.assign(gd_lesions=gd, arm=arms), truth, 48, seed=3)
    found = covariate_benchmarks(seen, "ocrelizumab", "placebo", "net2_lesions_week48").set_index("covariate")
    strongest = found.iloc[0]
    assert found.index[0] == "gd_lesions"
    assert strongest["split"] == "above 0"
    assert strongest["imbalance"] == pytest.approx((1 - np.exp(-1.2)) / (1 - np.exp(-0.4)), rel=0.25)
    assert 1.2 < strongest["outcome_ratio"] < 2.6
    product = strongest["imbalance"] * strongest["outcome_ratio"]
    assert strongest["bias"] == pytest.approx(product / (strongest["imbalance"] + strongest["outcome_ratio"] - 1))
