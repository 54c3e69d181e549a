"""Attempts to break the room: degenerate laws, one particle, one patient, nonsense weeks and arms, spoilt files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from causalms.causal import (
    CausalModel,
    Noise,
    Running,
    Twin,
    benefit_and_harm,
    contrast,
    individual_effects,
    policy,
    policy_values,
    recalibrated,
)
from causalms.causal.bounds import Law, benefit_bounds, harm_bounds, makarov, twin_mean_bounds
from causalms.causal.individual import rung_three_results
from causalms.errors import InputError, RefusalError, UsageError


def test_bounds_of_two_certain_outcomes_are_certain():
    three, five = Law.of_draws([3.0]), Law.negative_binomial(0.0, 2.0)
    assert (benefit_bounds(three, five).lower, benefit_bounds(three, five).upper) == (1.0, 1.0)
    assert (harm_bounds(three, five).lower, harm_bounds(three, five).upper) == (0.0, 0.0)
    assert benefit_bounds(three, three).upper == harm_bounds(three, three).upper == 0.0
    assert (makarov(three, five, -3.0).lower, makarov(three, five, -3.1).upper) == (1.0, 0.0)
    assert twin_mean_bounds(three, 1e-12).lower == 3.0


@pytest.mark.parametrize(("mean", "dispersion"), [(500.0, 2.0), (1e4, 0.0), (1e-9, 2.0), (3.0, 50.0), (20.0, 1e-12)])
def test_bounds_of_extreme_laws_are_ordered_probabilities_and_hold_both_ends(mean, dispersion):
    zero, one = Law.negative_binomial(mean, dispersion), Law.negative_binomial(0.3 * mean, dispersion)
    assert zero.mean == pytest.approx(mean, rel=1e-4)  # cut where 1e-10 is left
    for found in (benefit_bounds(zero, one), harm_bounds(zero, one), makarov(zero, one, -1.0)):
        assert -1e-12 <= found.lower <= found.upper <= 1 + 1e-12
    assert benefit_bounds(zero, one).lower + harm_bounds(zero, one).lower <= 1 + 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Law.negative_binomial(float("nan"), 1.0), "both must be at least 0"),
        (lambda: Law.negative_binomial(float("inf"), 1.0), "both must be at least 0"),
        (lambda: Law.negative_binomial(-1.0, 1.0), "both must be at least 0"),
        (lambda: Law.negative_binomial(1e7, 2.0), "check the mean"),
        (lambda: Law.of_draws([]), "at least one draw"),
        (lambda: Law.of_draws([1.0, float("nan")]), "no missing ones"),
    ],
)
def test_a_law_that_is_none_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_mixing_at_the_ends_is_mirror_redraw_and_identity():
    rng = np.random.default_rng(0)
    one, other = (Noise({"u": rng.standard_normal(4000)}) for _ in range(2))
    assert one.mix(other, 1.0) is one
    assert one.mix(other, 0.0) is other
    assert (one.mix(other, -1.0).normals["u"] == -one.normals["u"]).all()
    for rho in (-0.7, 0.3):
        mixed = one.mix(other, rho).normals["u"]
        assert np.corrcoef(mixed, one.normals["u"])[0, 1] == pytest.approx(rho, abs=0.05)  # 1/sqrt(4000) = 0.016
        assert mixed.std() == pytest.approx(1.0, abs=0.05)
    with pytest.raises(UsageError, match="cannot be mixed"):
        one.mix(Noise({"v": np.zeros(1)}), 0.5)


def test_mirrored_noise_keeps_the_law_of_every_world(truth, table):
    twins = CausalModel(truth).counterfactual(
        table, "ocrelizumab", coupling="rho", particles=20, twin=Twin(rho=-1.0, checked_patients=0)
    )
    own = twins[(twins["arm"] == twins["arm_randomised"]) & (twins["query"] == "counterfactual")]
    facts = twins[twins["query"] == "observed"].set_index("participant_id")["net2_lesions"]
    assert (own["net2_lesions"].to_numpy() == facts.loc[own["participant_id"]].to_numpy()).all()  # the fact stays the fact
    others = twins[(twins["arm"] != twins["arm_randomised"]) & (twins["query"] == "counterfactual")]
    busy = others["participant_id"].map(facts) > 3
    assert others.loc[busy, "net2_lesions"].mean() < others.loc[~busy, "net2_lesions"].mean()  # who fared badly now fares well


def test_one_particle_gives_an_estimate_and_no_monte_carlo_error(truth, table):
    model = CausalModel(truth)
    twins = model.counterfactual(table, "ocrelizumab", particles=1, twin=Twin(checked_patients=5))
    marginals = model.do(table, ["placebo", "ocrelizumab"], expected=True)
    found = benefit_and_harm(twins, marginals, "ocrelizumab", "placebo", "monotone").iloc[0]
    assert np.isnan(found["se_monte_carlo"])
    assert np.isnan(found["se_patient"])
    assert np.isnan(found["se"])  # the mechanism states no model error
    assert len(rung_three_results(model, table, twins)) > 8


def test_one_draw_shows_no_monte_carlo_error_and_one_patient_has_no_average_effect(truth, table):
    model = CausalModel(truth)
    single = contrast(model.do(table, ["placebo", "ocrelizumab"], draws=1), table, "ocrelizumab", "placebo").results.iloc[0]
    assert np.isnan(single["se_monte_carlo"])
    assert np.isnan(single["se"])  # the mechanism states no model error
    alone = model.do(table.head(1), ["placebo", "ocrelizumab"], expected=True)
    with pytest.raises(RefusalError, match="one patient only"):
        contrast(alone, table, "ocrelizumab", "placebo")
    values = policy_values(model.do(table.head(1), ["placebo", "ocrelizumab"], draws=1), ["placebo", "ocrelizumab"])
    assert values[["se_patient", "se_monte_carlo"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"arm": "placebo", "week": "48"}, UsageError, "`week` is '48'"),
        ({"arm": "placebo", "week": None}, UsageError, "`week` is None"),
        ({"arm": "placebo", "week": []}, UsageError, "each once"),
        ({"arm": "placebo", "week": float("nan")}, UsageError, "each once"),
        ({"arm": "placebo", "week": 0}, RefusalError, "week 0 is outside"),
        ({"arm": "placebo", "week": -3}, RefusalError, "week -3 is outside"),
        ({"arm": "placebo", "week": 97}, RefusalError, "week 97 is outside"),
        ({"arm": None}, UsageError, "`arm` is None"),
        ({"arm": ""}, RefusalError, "arm '' is outside the support"),
        ({"arm": "placebo", "draws": 2.5}, UsageError, "`draws` is 2.5"),
        ({"arm": "placebo", "running": Running(participants=["nobody"])}, UsageError, "unknown participant_id 'nobody'"),
        ({"arm": policy("placebo", [], "ocrelizumab")}, UsageError, "cannot be called 'placebo', the name of an arm"),
        ({"arm": policy("tall", [("height > 2", "ocrelizumab")], "placebo")}, InputError, "no column 'height'"),
    ],
)
def test_nonsense_is_refused_before_any_work(truth, table, asked, error, message):
    with pytest.raises(error, match=message):
        CausalModel(truth).do(table, **{"draws": 2, **asked})


def test_weeks_may_be_numpy_numbers(truth, table):
    found = CausalModel(truth).do(table.head(2), "placebo", week=np.array([24, 48]), draws=1)
    assert sorted(found["visit_week"].unique()) == [24.0, 48.0]
    one = CausalModel(truth).do(table.head(2), "placebo", week=np.int64(48), draws=1)
    assert one["visit_week"].eq(48.0).all()


def test_a_policy_names_the_patient_who_lacks_its_column(truth, table):
    lacking = table.assign(gd_lesions=table["gd_lesions"].where(table["participant_id"] != "sub-0003"))
    without = dataclasses.replace(truth, covariates={"age": "linear"}, coefficients=(-0.03,), centres=(37.0,))
    rule = policy("escalate", [("gd_lesions > 0", "ocrelizumab")], "placebo")
    with pytest.raises(InputError, match="sub-0003 has no 'gd_lesions'"):
        CausalModel(without).do(lacking, arm=rule, draws=1)


@pytest.mark.parametrize("value", [2.5, -1.0])
def test_evidence_that_is_no_count_is_named(truth, table, value):
    spoilt = table.assign(net2_lesions_week48=table["net2_lesions_week48"].where(table.index != 4, value))
    with pytest.raises(
        InputError, match=f"column 'net2_lesions_week48', row 5: found {value:g}, expected a whole number of lesions"
    ):
        CausalModel(truth).counterfactual(spoilt, "placebo", particles=1)


def test_evidence_of_half_a_week_is_not_rounded(truth, table):
    with pytest.raises(UsageError, match=r"evidence at week 47.5: visits are at whole weeks"):
        CausalModel(truth).counterfactual(table, "placebo", week=48, particles=1, twin=Twin(evidence_week=47.5))


def test_benefit_never_compares_counts_of_two_visits(truth, table):
    model = CausalModel(truth)
    twins = model.counterfactual(table, "ocrelizumab", week=24, particles=2, twin=Twin(evidence_week=48, checked_patients=0))
    marginals = model.do(table, ["placebo", "dimethyl-fumarate", "ocrelizumab"], week=24, expected=True)
    with pytest.raises(InputError, match="seen at week 48 and the twins are of week 24"):
        individual_effects(twins, marginals)
    with pytest.raises(RefusalError, match="at the visit of the evidence"):
        rung_three_results(model, table, twins)
    whole = model.counterfactual(table, "ocrelizumab", particles=2, twin=Twin(checked_patients=0))
    marginals = model.do(table, ["placebo", "dimethyl-fumarate", "ocrelizumab"], expected=True)
    with pytest.raises(InputError, match="lack the observed row of participant sub-"):
        individual_effects(whole[whole["query"] == "counterfactual"], marginals)


def test_a_spoilt_part_is_answered_again_and_an_id_is_never_a_path(truth, table, tmp_path):
    some = table.head(3).assign(participant_id=["../escape", "a/b", "plain"])
    model = CausalModel(truth)
    first = model.do(some, "placebo", draws=2, running=Running(parts=tmp_path / "parts"))
    files = list(tmp_path.rglob("*.parquet"))
    assert len(files) == 3
    assert all(p.parent.parent == tmp_path / "parts" for p in files)
    files[0].write_bytes(b"PAR1 and then the disk was full")
    again = model.do(some, "placebo", draws=2, running=Running(parts=tmp_path / "parts"))
    assert again["net2_lesions"].tolist() == first["net2_lesions"].tolist()


def test_recalibration_survives_an_arm_without_a_single_lesion(truth, big_table):
    some = big_table.head(120)
    quiet = some.assign(net2_lesions_week48=some["net2_lesions_week48"].where(some["arm"] != "ocrelizumab", 0.0))
    expected = CausalModel(truth).do(some, ["placebo", "dimethyl-fumarate", "ocrelizumab"], expected=True)
    moved, _ = recalibrated(CausalModel(truth), quiet, expected)
    means = moved.groupby("arm")["expected_net2_lesions"].mean()
    ratio = means["ocrelizumab"] / means["placebo"]
    shipped = expected.groupby("arm")["expected_net2_lesions"].mean()
    assert 0 < ratio < shipped["ocrelizumab"] / shipped["placebo"]
