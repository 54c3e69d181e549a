"""Agreement of simulated with randomised effects: intervals, the three agreements, equivalence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree
from causalms.effects import analyse, grouped_arguments
from causalms.errors import RefusalError, UsageError
from tests.conftest import NO_MODEL_ERROR

SIZE = 0.5


def made(
    seed: int, per_arm: int, simulated: float = 0.4, true: float = 0.4, draws: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A randomised trial with rate ratio ``true`` and a simulator whose rate ratio is ``simulated``."""
    rng = np.random.default_rng(seed)
    n = 2 * per_arm
    arm = np.tile(["placebo", "dimethyl-fumarate"], per_arm)
    base = np.exp(rng.normal(0.7, 0.7, n))
    mean = base * np.where(arm == "placebo", 1.0, true)
    people = pd.DataFrame({"participant_id": np.arange(n), "trial": "T", "arm": arm})
    people["net2_lesions_week48"] = rng.negative_binomial(SIZE, SIZE / (SIZE + mean))
    keys = {"trial": "T", "arm_randomised": arm, "visit_week": 48.0, "query": "interventional", "query_id": "q"}
    keys["model_error"] = NO_MODEL_ERROR
    rows = []
    for name, share in (("placebo", 1.0), ("dimethyl-fumarate", simulated)):
        one = people[["participant_id"]].assign(**keys, arm=name)
        if draws is None:
            rows.append(one.assign(expected_net2_lesions=base * share))
            continue
        counts = rng.negative_binomial(SIZE, (SIZE / (SIZE + base * share))[:, None], (n, draws))
        many = one.loc[one.index.repeat(draws)].reset_index(drop=True)
        rows.append(many.assign(draw=np.tile(np.arange(draws), n), net2_lesions=counts.ravel()))
    return people, pd.concat(rows, ignore_index=True)


def test_ratio_of_rate_ratios_is_simulated_over_randomised() -> None:
    people, draws = made(1, 60)
    line = agree(draws, people).table.iloc[0]
    seen = analyse(
        people,
        **grouped_arguments(
            {"outcome": "net2_lesions_week48", "reference": "placebo", "estimator": "unadjusted", "variance": "leave-one-out-t"}
        ),
    ).results.iloc[0]
    assert line["randomised_estimate"] == pytest.approx(seen["estimate"], rel=1e-12)
    assert line["simulated_estimate"] == pytest.approx(0.4, rel=1e-9)
    assert line["ratio"] == pytest.approx(0.4 / seen["estimate"], rel=1e-9)
    # A simulator without heterogeneity of effect adds nothing to the randomised error.
    assert line["se"] == pytest.approx(seen["se"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 8], ids=["expected", "eight draws"])
def test_interval_of_the_ratio_holds_its_level_when_the_simulator_is_right(draws: int | None) -> None:
    # 80 trials at 95%: 0.9995 quantile of a binomial 11 misses; no miss at all has probability 0.017.
    missed = 0
    for seed in range(80):
        people, table = made(seed, 100, draws=draws)
        line = agree(table, people).table.iloc[0]
        missed += not line["lower"] <= 1 <= line["upper"]
    assert 1 <= missed <= 11


@pytest.mark.slow
def test_equivalence_is_claimed_in_at_most_one_of_twenty_trials_at_the_margin() -> None:
    # The simulator is off by exactly the margin of 2, so every claim is false; 30 trials, 0.9995 quantile of a binomial: 7.
    claimed = sum(agree(*reversed(made(seed, 150, simulated=0.8)), margin=2.0).table["equivalent"].iloc[0] for seed in range(30))
    assert claimed <= 7


def test_the_three_agreements_tell_a_right_from_a_wrong_simulator() -> None:
    people, right = made(3, 400)
    _, wrong = made(3, 400, simulated=1.3)
    good, bad = agree(right, people).table.iloc[0], agree(wrong, people).table.iloc[0]
    names = ["significance_agreement", "estimate_agreement", "difference_agreement"]
    assert good[names].all()
    assert not bad[names].any()
    assert agree(right, people, margin=2.0).table["equivalent"].iloc[0]
    assert not agree(wrong, people, margin=2.0).table["equivalent"].iloc[0]


def test_a_small_trial_agrees_easily_and_shows_that_it_could_not_have_told() -> None:
    people, wrong = made(5, 12, simulated=0.8)
    line = agree(wrong, people).table.iloc[0]
    assert line["difference_agreement"]
    assert line["smallest_detectable"] > 2
    assert not line["equivalent"]


def test_every_randomised_contrast_is_labelled_and_only_those() -> None:
    people, draws = made(6, 30)
    extra = draws[draws["arm"] == "placebo"].assign(arm="ocrelizumab")
    agreement = agree(pd.concat([draws, extra]), people)
    assert agreement.table["arm"].tolist() == ["dimethyl-fumarate"]
    observed = agreement.results["analysis"] == "agreement: randomised effect"
    assert agreement.results["randomised"].tolist() == observed.tolist()
    assert set(agreement.results["rung"]) == {2}


def test_a_simulated_effect_is_never_called_randomised_and_says_where_both_arms_were() -> None:
    results = agree(*reversed(made(6, 30))).results.set_index("analysis")
    assert not results.loc["agreement: simulated effect", "randomised"]
    assert "randomised together in T" in results.loc["agreement: simulated effect", "estimator"]
    assert results.loc["agreement: randomised effect", "population"] == "all randomised patients of T observed at week 48"


def other_drugs(trial: str = "T", arms: tuple[str, str] = ("teriflunomide", "fingolimod")) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trial of :func:`made` with drugs that the published data do not know."""
    people, draws = made(4, 60)
    names = {"placebo": arms[0], "dimethyl-fumarate": arms[1]}
    people = people.assign(arm=people["arm"].map(names), trial=trial)
    return people, draws.assign(arm=draws["arm"].map(names), arm_randomised=draws["arm_randomised"].map(names), trial=trial)


def test_any_drug_is_compared_with_the_reference_that_is_named() -> None:
    people, draws = other_drugs()
    known, of_known = made(4, 60)
    line = agree(draws, people, reference="teriflunomide").table.iloc[0]
    assert line["label"] == "T: fingolimod against teriflunomide"
    assert line["ratio"] == pytest.approx(agree(of_known, known).table["ratio"].iloc[0], rel=1e-12)
    other_way = agree(draws, people, reference="fingolimod").table.iloc[0]
    assert other_way["randomised_estimate"] == pytest.approx(1 / line["randomised_estimate"], rel=1e-9)


def test_a_trial_of_unpublished_drugs_needs_a_reference_and_other_trials_are_still_judged() -> None:
    people, draws = other_drugs()
    asked_for = "trial T: arms teriflunomide, fingolimod; name the one to compare with as `reference`"
    with pytest.raises(RefusalError, match=rf"^{asked_for}$"):
        agree(draws, people)
    known, of_known = made(4, 60)
    known, of_known = (table.assign(trial="S", participant_id=table["participant_id"] + 1000) for table in (known, of_known))
    agreement = agree(pd.concat([draws, of_known]), pd.concat([people, known]))
    assert agreement.table["trial"].tolist() == ["S"]
    assert agreement.refused == (asked_for,)
    assert f"not compared: {asked_for}" in repr(agreement)


def test_arms_stand_in_the_order_in_which_they_are_met_after_the_reference() -> None:
    people, draws = made(6, 30)
    people.loc[people.index % 6 == 1, "arm"] = "ocrelizumab"
    third = draws[draws["arm"] == "placebo"].assign(arm="ocrelizumab")
    draws = pd.concat([draws, third])
    draws["arm_randomised"] = draws["participant_id"].map(people["arm"])
    assert agree(draws, people.iloc[::-1]).table["arm"].tolist() == ["dimethyl-fumarate", "ocrelizumab"]
    assert agree(draws, people).table["arm"].tolist() == ["ocrelizumab", "dimethyl-fumarate"]
    assert agree(draws, people, reference="ocrelizumab").table["reference"].unique().tolist() == ["ocrelizumab"]


def test_several_weeks_and_none_named_is_one_error_that_lists_them() -> None:
    people, draws = made(6, 30)
    with pytest.raises(UsageError, match=r"^draws: weeks 24, 48; choose one with `week`$"):
        agree(pd.concat([draws, draws.assign(visit_week=24.0)]), people)


def test_a_printed_agreement_says_what_the_command_line_says() -> None:
    agreement = agree(*reversed(made(3, 60)))
    lines = repr(agreement).splitlines()
    assert lines[0] == "T: dimethyl-fumarate against placebo: rate ratio at week 48, 120 patients"
    assert "equivalent within 1.25" in lines[3]
    assert "<details>" in agreement._repr_html_()


def test_a_misspelt_argument_is_answered_with_the_near_name() -> None:
    people, draws = made(6, 30)
    with pytest.raises(UsageError, match="agree has no argument 'referense'; did you mean 'reference'"):
        agree(draws, people, referense="placebo")  # type: ignore[call-arg]


def test_activity_is_compared_as_a_risk_difference() -> None:
    people, draws = made(7, 60, draws=16)
    line = agree(draws, people, measure="risk-difference", margin=0.2).table.iloc[0]
    active = people["net2_lesions_week48"] > 0
    placebo = people["arm"] == "placebo"
    assert line["randomised_estimate"] == pytest.approx(active[~placebo].mean() - active[placebo].mean(), abs=1e-12)
    assert line["ratio"] == pytest.approx(line["simulated_estimate"] - line["randomised_estimate"], abs=1e-12)


def test_what_cannot_agree_is_refused_by_name() -> None:
    people, draws = made(8, 10)
    with pytest.raises(RefusalError, match="no trial randomised two arms"):
        agree(draws[draws["arm"] == "placebo"], people)
    with pytest.raises(RefusalError, match="rung 2"):
        agree(draws.assign(query="counterfactual"), people)
    with pytest.raises(UsageError, match=r"`margin`: found 0\.8, expected a ratio above 1"):
        agree(draws, people, margin=0.8)


def test_agreement_is_not_judged_where_the_models_own_error_is_unknown() -> None:
    people, draws = made(1, 60)
    agreement = agree(draws.drop(columns="model_error"), people)
    row = agreement.table.iloc[0]
    assert np.isfinite(row["ratio"])
    assert np.isnan([row["lower"], row["p_value"], row["equivalent"], row["simulated_lower"]]).all()
    assert "model error unknown: no interval, and agreement is not judged" in repr(agreement)
    assert not agreement.results["measure"].str.startswith("equivalence").any()


def test_an_arm_without_events_is_named_and_the_other_contrasts_are_judged() -> None:
    people, draws = made(3, 40)
    third = people[people["arm"] == "placebo"].head(20).assign(arm="laquinimod", net2_lesions_week48=0)
    third["participant_id"] += 1000
    more = draws[draws["participant_id"].isin(third["participant_id"] - 1000)]
    more = more.assign(participant_id=more["participant_id"] + 1000, arm_randomised="laquinimod")
    every = pd.concat([draws, more], ignore_index=True)
    every = pd.concat([every, every[every["arm"] == "placebo"].assign(arm="laquinimod")], ignore_index=True)
    agreement = agree(every, pd.concat([people, third], ignore_index=True), reference="placebo")
    assert list(agreement.table["arm"]) == ["dimethyl-fumarate"]
    assert agreement.table["randomised_estimate"].iloc[0] == agree(draws, people).table["randomised_estimate"].iloc[0]
    assert any("arm 'laquinimod' has no event" in refused for refused in agreement.refused)
