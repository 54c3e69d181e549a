"""Rung 2 summaries: effects by hand, errors apart, policies, and what common noise saves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, Query, policy, value
from causalms.causal.population import common_noise_factor, paired_worlds, patient_effects, policy_values
from causalms.effects import analyse_draws
from causalms.errors import InputError, RefusalError, UsageError

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


def effect(table, measure="mean-difference"):
    """Ocrelizumab against placebo, one row."""
    worlds = table[table["arm"].isin(["placebo", "ocrelizumab"])]
    return analyse_draws(worlds, reference="placebo", measure=measure, outcome="net2_lesions").iloc[0]


@pytest.fixture(scope="module")
def draws(truth, table):
    return CausalModel(truth).do(table, arm=ARMS, draws=200)


@pytest.fixture(scope="module")
def expected(truth, table):
    return CausalModel(truth).do(table, arm=ARMS, expected=True)


def test_population_difference_and_ratio_are_means_over_patients(draws):
    means = draws.groupby("arm")["net2_lesions"].mean()
    difference = effect(draws)
    ratio = effect(draws, "mean-ratio")
    assert difference["estimate"] == pytest.approx(means["ocrelizumab"] - means["placebo"])
    assert ratio["estimate"] == pytest.approx(means["ocrelizumab"] / means["placebo"])
    assert np.isnan(ratio["lower"])  # the parameters were given, so nothing says how far they may be wrong
    assert ratio["rung"] == 2
    assert ratio["analysis"].startswith("simulated")


def test_patient_error_does_not_shrink_with_draws_and_monte_carlo_error_does(truth, table):
    model = CausalModel(truth)
    few, many = (effect(model.do(table, ARMS, draws=d)) for d in (20, 80))
    assert many["se_monte_carlo"] == pytest.approx(few["se_monte_carlo"] / 2, rel=0.35)
    closed = effect(model.do(table, ARMS, expected=True))
    assert closed["se_monte_carlo"] == 0
    assert many["se_patient"] == pytest.approx(closed["se_patient"], rel=0.25)
    assert many["estimate"] == pytest.approx(closed["estimate"], abs=4 * many["se_monte_carlo"])


def test_monte_carlo_error_is_the_scatter_over_seeds(truth, table):
    model, few = CausalModel(truth), table.head(20)
    runs = [effect(model.do(few, ARMS, draws=10, seed=s)) for s in range(24)]
    scatter = np.std([r["estimate"] for r in runs], ddof=1)
    claimed = np.sqrt(np.mean([r["se_monte_carlo"] ** 2 for r in runs]))
    assert scatter == pytest.approx(claimed, rel=0.4)  # relative error of a scatter over 24 seeds: 1/sqrt(48) = 14%, heavy tails


def test_patient_effects_cover_the_true_ones(draws, expected):
    effects = patient_effects(draws, "ocrelizumab", "placebo").set_index("participant_id")
    true = patient_effects(expected, "ocrelizumab", "placebo").set_index("participant_id")
    z = (effects["difference"] - true["difference"]) / effects["se_monte_carlo"]
    assert (z.abs() < 1.96).mean() > 0.85  # 60 patients, nominal .95, skewed counts: binomial error .03
    assert np.abs(true["ratio"] - np.exp(-1.8)).max() < 1e-9
    assert (true["se_monte_carlo"] == 0).all()


def test_activity_is_a_risk(draws, expected):
    sampled = effect(draws, "risk-difference")
    closed = effect(expected, "risk-difference")
    assert sampled["measure"] == closed["measure"] == "risk difference"
    assert sampled["estimate"] == pytest.approx(closed["estimate"], abs=4 * sampled["se_monte_carlo"])


def test_policy_value_lies_between_its_arms_and_the_difference_is_paired(truth, table):
    rule = policy("escalate", [("gd_lesions > 0", "ocrelizumab")], "dimethyl-fumarate")
    answer = CausalModel(truth).do(table, ["dimethyl-fumarate", "ocrelizumab", rule], draws=100)
    values = policy_values(answer, ["dimethyl-fumarate", "escalate", "ocrelizumab"]).set_index("world")
    assert values.loc["ocrelizumab", "value"] < values.loc["escalate", "value"] < values.loc["dimethyl-fumarate", "value"]
    difference = values.loc["escalate", "value"] - values.loc["dimethyl-fumarate", "value"]
    assert values.loc["escalate", "difference"] == pytest.approx(difference)
    apart = np.hypot(values.loc["escalate", "se_monte_carlo"], values.loc["dimethyl-fumarate", "se_monte_carlo"])
    assert values.loc["escalate", "se_difference_monte_carlo"] < apart
    treated = table["gd_lesions"] > 0
    closed = CausalModel(truth).do(table, ["dimethyl-fumarate", "ocrelizumab"], expected=True)
    by_arm = closed.pivot(index="participant_id", columns="arm", values="expected_net2_lesions").loc[table["participant_id"]]
    true = np.where(treated, by_arm["ocrelizumab"], by_arm["dimethyl-fumarate"]).mean()
    assert values.loc["escalate", "value"] == pytest.approx(true, abs=4 * values.loc["escalate", "se_monte_carlo"])


def test_common_noise_reaches_most_of_its_ceiling(draws):
    strong = common_noise_factor(draws, "ocrelizumab", "placebo")
    assert strong.ceiling < 3  # placebo holds nearly all of the variance, so little can be saved
    assert strong.share > 0.5


def test_common_noise_saves_at_least_three_times_for_similar_arms(truth, table):
    import dataclasses

    close = CausalModel(dataclasses.replace(truth, log_rates=(1.6, 1.4, -0.2)))
    factor = common_noise_factor(close.do(table, ARMS[:2], draws=200), "dimethyl-fumarate", "placebo")
    assert factor.factor >= 3
    assert factor.share >= 0.5


def test_independent_worlds_save_nothing(truth, table):
    answer = CausalModel(truth).ask(table, Query(tuple(map(value, ARMS[:2])), (48.0,), 200, coupling="independent"))
    assert common_noise_factor(answer, "dimethyl-fumarate", "placebo").factor == pytest.approx(1.0, abs=0.25)


def test_what_is_missing_is_named(draws, expected):
    with pytest.raises(InputError, match="no world 'laquinimod' at this visit; it has placebo"):
        paired_worlds(draws, "laquinimod", "placebo")
    with pytest.raises(UsageError, match="weeks 48, 96; choose one with `week`"):
        paired_worlds(pd.concat([draws, draws.assign(visit_week=96.0)]), "ocrelizumab", "placebo")
    with pytest.raises(InputError, match="do not hold the same patients and draws"):
        paired_worlds(draws[(draws["arm"] == "placebo") | (draws["draw"] < 9)], "ocrelizumab", "placebo")
    with pytest.raises(InputError, match="some patients lack draws that others have"):
        paired_worlds(draws.iloc[1:], "ocrelizumab", "placebo")
    with pytest.raises(InputError, match="outcome 'edss' is unknown"):
        paired_worlds(draws, "ocrelizumab", "placebo", outcome="edss")
    with pytest.raises(RefusalError, match="at least 8 draws"):
        common_noise_factor(expected, "ocrelizumab", "placebo")
    same = draws[draws["arm"] == "placebo"]
    with pytest.raises(RefusalError, match="equal draw by draw"):
        common_noise_factor(pd.concat([same, same.assign(arm="twin")]), "twin", "placebo")
    nothing = draws.assign(net2_lesions=0.0)
    with pytest.raises(RefusalError, match="no ratio can be formed; ask for a difference"):
        effect(nothing, "mean-ratio")


def test_error_of_the_variance_factor_is_its_scatter_over_trials(truth, table):
    """Jackknife over patients against the scatter of the factor over disjoint groups of patients."""
    ratios = []
    for first in range(0, 60, 12):
        some = table.iloc[first : first + 12]
        draws = CausalModel(truth).do(some, ["dimethyl-fumarate", "placebo"], draws=40, seed=first)
        ratios.append(common_noise_factor(draws, "dimethyl-fumarate", "placebo"))
    scatter, claimed = np.std([f.factor for f in ratios], ddof=1), np.mean([f.factor_se for f in ratios])
    assert 0.25 < scatter / claimed < 3  # a scatter of 5 groups has a relative error of 35%, and the jackknife's is as large
    assert all(f.share_se < 0.2 for f in ratios)


def test_the_error_of_a_variance_factor_needs_three_patients(truth, table):
    draws = CausalModel(truth).do(table.head(2), ["dimethyl-fumarate", "placebo"], draws=20)
    assert np.isnan(common_noise_factor(draws, "dimethyl-fumarate", "placebo").factor_se)
