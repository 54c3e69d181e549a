"""Agreement of simulated with randomised effects: intervals, the three agreements, equivalence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree
from causalms.effects import analyse
from causalms.errors import RefusalError, UsageError

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
        people, outcome="net2_lesions_week48", reference="placebo", estimator="unadjusted", variance="leave-one-out-t"
    ).results.iloc[0]
    assert line["randomised_estimate"] == pytest.approx(seen["estimate"], rel=1e-12)
    assert line["simulated_estimate"] == pytest.approx(0.4, rel=1e-9)
    assert line["ratio"] == pytest.approx(0.4 / seen["estimate"], rel=1e-9)
    # A simulator without heterogeneity of effect adds nothing to the randomised error.
    assert line["se"] == pytest.approx(seen["se"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 8], ids=["expected", "eight draws"])
def test_interval_of_the_ratio_holds_its_level_when_the_simulator_is_right(draws: int | None) -> None:
    # 200 trials at 95%: the 0.0005 and 0.9995 quantiles of a binomial leave 2 to 21 misses.
    missed = 0
    for seed in range(200):
        people, table = made(seed, 100, draws=draws)
        line = agree(table, people).table.iloc[0]
        missed += not line["lower"] <= 1 <= line["upper"]
    assert 2 <= missed <= 21


@pytest.mark.slow
def test_equivalence_is_claimed_in_at_most_one_of_twenty_trials_at_the_margin() -> None:
    # The simulator is off by exactly the margin of 2, so every claim is false; 120 trials, 0.9995 quantile of a binomial: 15.
    claimed = sum(agree(*reversed(made(seed, 150, simulated=0.8)), margin=2.0).table["equivalent"].iloc[0] for seed in range(120))
    assert claimed <= 15


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
    found = agree(pd.concat([draws, extra]), people)
    assert found.table["arm"].tolist() == ["dimethyl-fumarate"]
    assert found.results["randomised"].all()
    assert set(found.results["rung"]) == {2}


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
    with pytest.raises(UsageError, match=r"margin 0\.8"):
        agree(draws, people, margin=0.8)
