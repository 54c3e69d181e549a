"""Subgroup effects, interaction tests and their levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.effects import Method, analyse
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import adjusted_p_values
from causalms.subgroups import forest, interaction_test, simulated_forest

SIZE = 0.5  # negative-binomial size of lesion counts: variance = mean + 2 mean^2


def made(seed: int, per_cell: int, modification: float = 1.0, groups: int = 2) -> pd.DataFrame:
    """A trial with ``per_cell`` patients an arm and group; the rate ratio 0.4 is multiplied by ``modification`` a group."""
    rng = np.random.default_rng(seed)
    arm = np.repeat(["placebo", "drug"], per_cell * groups)
    group = np.tile(np.arange(groups), 2 * per_cell)
    mean = 2 * np.exp(0.5 * group) * np.where(arm == "drug", 0.4 * modification**group, 1.0)
    lesions = rng.negative_binomial(SIZE, SIZE / (SIZE + mean))
    return pd.DataFrame({"participant_id": np.arange(len(arm)), "arm": arm, "group": group, "lesions": lesions})


def test_each_subgroup_is_a_trial_of_its_own() -> None:
    people = made(1, 60)
    rows = forest(people, ["group"], outcome="lesions", reference="placebo").table.set_index("subgroup")
    for group in (0, 1):
        part = people[people["group"] == group]
        alone = analyse(part, outcome="lesions", reference="placebo", method=Method(variance="leave-one-out-t")).results.iloc[0]
        line = rows.loc[f"group = {group}"]
        assert line["estimate"] == pytest.approx(alone["estimate"], rel=1e-12)
        assert line["se"] == pytest.approx(alone["se"], rel=1e-12)
        assert line["events"] == part.loc[part["arm"] == "drug", "lesions"].sum()
        assert line["events_reference"] == part.loc[part["arm"] == "placebo", "lesions"].sum()


def test_ratio_of_rate_ratios_and_its_p_value_agree() -> None:
    results = forest(made(2, 60, 2.0), ["group"], outcome="lesions", reference="placebo").results
    by = results.set_index(["analysis", "subgroup"])["estimate"]
    row = results[results["analysis"] == "observed interaction"].iloc[0]
    expected = by["observed effect by subgroup", "group = 0"] / by["observed effect by subgroup", "group = 1"]
    assert row["estimate"] == pytest.approx(expected, rel=1e-12)
    assert (row["p_value"] < 0.05) == (not row["lower"] < 1 < row["upper"])
    assert row["measure"] == "ratio of rate ratios"


def test_interaction_of_two_groups_is_the_welch_test_of_their_difference() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 7), rng.normal(0.4, 3, 12)
    ses = np.array([a.std(ddof=1) / np.sqrt(7), b.std(ddof=1) / np.sqrt(12)])
    ours = interaction_test(np.array([a.mean(), b.mean()]), ses, np.array([6.0, 11.0]))
    assert ours.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10)


def test_interaction_of_three_groups_is_the_welch_anova() -> None:
    from statsmodels.stats.oneway import anova_oneway

    rng = np.random.default_rng(4)
    samples = [rng.normal(0, 1, 6), rng.normal(0.5, 2, 9), rng.normal(1, 1, 14)]
    means = np.array([sample.mean() for sample in samples])
    ses = np.array([sample.std(ddof=1) / np.sqrt(len(sample)) for sample in samples])
    ours = interaction_test(means, ses, np.array([len(sample) - 1.0 for sample in samples]))
    assert ours.p_value == pytest.approx(anova_oneway(samples, use_var="unequal", welch_correction=True).pvalue, rel=1e-10)


def test_holm_matches_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(5).uniform(0, 0.2, 9)
    np.testing.assert_allclose(adjusted_p_values(p), multipletests(p, method="holm")[1], rtol=1e-12)


def interaction_p(people: pd.DataFrame) -> float:
    """The interaction test of a forest by its parts: each subgroup's contrast, then Welch."""
    analyses = [
        analyse(part, outcome="lesions", reference="placebo", method=Method(variance="leave-one-out-t"))
        for _, part in people.groupby("group")
    ]
    effects = np.log([one.contrasts[0].estimate for one in analyses])
    ses = np.array([one.contrasts[0].se for one in analyses])
    return interaction_test(effects, ses, np.array([one.covariance.degrees_of_freedom for one in analyses])).p_value


def test_interaction_p_of_a_forest_is_made_of_its_subgroups() -> None:
    people = made(1, 50, groups=3)
    table = forest(people, ["group"], outcome="lesions", reference="placebo").table
    assert table["interaction_p"].iloc[-1] == pytest.approx(interaction_p(people), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 3])
def test_interaction_test_holds_its_level_without_interaction(groups: int) -> None:
    # 160 trials at 5%: the 0.0005 and 0.9995 quantiles of a binomial are 1 and 18.
    rejected = sum(interaction_p(made(seed, 50, groups=groups)) <= 0.05 for seed in range(160))
    assert 1 <= rejected <= 18


def test_a_true_interaction_is_found() -> None:
    table = forest(made(6, 400, 3.0), ["group"], outcome="lesions", reference="placebo").table
    assert table["interaction_p"].iloc[-1] < 0.01


def test_a_subgroup_without_events_says_so_instead_of_vanishing() -> None:
    people = made(7, 30)
    people.loc[(people["group"] == 1) & (people["arm"] == "drug"), "lesions"] = 0
    table = forest(people, ["group"], outcome="lesions", reference="placebo").table.set_index("subgroup")
    assert np.isnan(table.loc["group = 1", "estimate"])
    assert "no event" in table.loc["group = 1", "note"]
    assert table.loc["group = 0", "note"] == ""


def test_an_arm_is_compared_within_the_trials_that_randomised_it() -> None:
    people = made(11, 60).assign(trial="A")
    # Trial B has the same reference arm, but patients of a hundredfold risk, and another drug.
    other = made(12, 60).assign(trial="B")
    other["lesions"] *= 100
    other["participant_id"] += len(people)
    other["arm"] = other["arm"].replace({"drug": "second"})
    pooled = forest(pd.concat([people, other], ignore_index=True), ["group"], outcome="lesions", reference="placebo").table
    alone = forest(people, ["group"], outcome="lesions", reference="placebo").table
    mine = pooled[pooled["arm"] == "drug"]
    np.testing.assert_allclose(mine["estimate"], alone["estimate"], rtol=1e-12)
    assert mine["randomised"].all()


def test_all_patients_of_two_trials_are_analysed_as_effects_does() -> None:
    # Trial A has placebo and drug, trial B drug and other: only A randomised drug against placebo.
    rng, size = np.random.default_rng(3), 400
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(2 * size)], "trial": ["A"] * size + ["B"] * size})
    even = np.arange(2 * size) % 2 == 0
    people["arm"] = np.where(people["trial"] == "A", np.where(even, "placebo", "drug"), np.where(even, "drug", "other"))
    people["older"] = rng.normal(0, 8, 2 * size) > 0
    people["y"] = rng.poisson(np.where(people["arm"] == "placebo", 3, 1.2) * np.where(people["trial"] == "B", 2.0, 1.0))
    expected = analyse(people, outcome="y", reference="placebo", method=Method(variance="leave-one-out-t")).results.set_index(
        "arm"
    )
    table = forest(people, ["older"], outcome="y", reference="placebo").table
    whole = table[table["subgroup"] == "all"].set_index("arm")
    same = ["estimate", "se", "lower", "upper", "p_value", "n", "n_reference", "population", "randomised", "variance"]
    pd.testing.assert_frame_equal(whole[same], expected[same])
    assert not whole.loc["other", "randomised"]
    assert whole.loc["drug", "events"] == people.loc[(people["arm"] == "drug") & (people["trial"] == "A"), "y"].sum()


def test_a_misspelt_argument_is_named_with_the_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'measure'"):
        forest(made(1, 20), ["group"], outcome="lesions", reference="placebo", mesure="rate-ratio")


def test_a_forest_prints_the_page_of_the_command_line() -> None:
    whole = forest(made(1, 60), ["group"], outcome="lesions", reference="placebo")
    lines = repr(whole).splitlines()
    assert lines[0] == "observed: drug against placebo, rate ratio (95% interval)"
    assert [line.split()[0] for line in lines[1:]] == ["subgroup", "all", "group", "group"]
    assert "<table" in whole._repr_html_()


def test_a_factor_that_divides_nobody_is_refused() -> None:
    with pytest.raises(RefusalError, match="all patients are in one group"):
        forest(made(8, 20), ["group >= 0"], outcome="lesions", reference="placebo")


def expected_table(people: pd.DataFrame, effect: pd.Series) -> pd.DataFrame:
    """Expected outcomes of every patient under both arms; ``effect`` is the patient's rate ratio."""
    base = 2 * np.exp(0.5 * people["group"])
    keys = {"trial": "T", "arm_randomised": people["arm"], "visit_week": 48.0, "query": "interventional", "query_id": "q"}
    rows = [
        people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=base * share)
        for arm, share in (("placebo", 1.0), ("drug", effect))
    ]
    return pd.concat(rows, ignore_index=True)


def test_simulated_subgroup_effects_are_those_that_were_put_in() -> None:
    people = made(9, 40)
    draws = expected_table(people, 0.4 * 1.5 ** people["group"])
    table = simulated_forest(draws, people, ["group"], reference="placebo").table.set_index("subgroup")
    assert table.loc["group = 0", "estimate"] == pytest.approx(0.4, rel=1e-9)
    assert table.loc["group = 1", "estimate"] == pytest.approx(0.6, rel=1e-9)
    assert set(table["source"]) == {"simulated"}
    assert table["estimator"].str.contains("randomised together in T").all()
    assert not table["randomised"].any()


def test_draws_of_strangers_are_refused() -> None:
    people = made(10, 10)
    draws = expected_table(people, pd.Series(0.4, index=people.index))
    with pytest.raises(InputError, match="no participant 10, of whom there are draws"):
        simulated_forest(draws, people.iloc[:5], ["group"], reference="placebo")


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        ("arm", "`by`: 'arm' is the randomised arm, no baseline covariate; leave it out$"),
        ("arm == 'b'", "'arm' is the randomised arm"),
        ("lesions > 0", "`by`: 'lesions' is the outcome"),
        ("age > 40 and lesions < 3", "'lesions' is the outcome"),
        ("quantiles(lesions, 2)", "'lesions' is the outcome"),
        ("treated", "`by`: 'treated' is a recoded arm"),
        ("not treated > 0", "is a recoded arm"),
    ],
)
def test_subgroups_by_the_arm_or_the_outcome_are_refused(factor: str, words: str) -> None:
    rng = np.random.default_rng(5)
    people = pd.DataFrame({"arm": ["a", "b"] * 60, "age": rng.uniform(20, 60, 120), "lesions": rng.poisson(2, 120)})
    people["treated"] = (people["arm"] == "b") * 1
    with pytest.raises((UsageError, InputError), match=words):
        forest(people, [factor], outcome="lesions", reference="a")


def test_simulated_subgroups_by_the_observed_outcome_are_refused() -> None:
    people = made(9, 10)
    draws = expected_table(people, pd.Series(0.4, index=people.index))
    with pytest.raises(UsageError, match="`by`: 'net2_lesions_week48' is the outcome"):
        simulated_forest(draws, people.assign(net2_lesions_week48=1), ["net2_lesions_week48 > 0"], reference="placebo")
