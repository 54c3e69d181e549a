"""Simulated effects: paired contrasts, three errors apart, none of them shrinking that should not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse_draws, estimate, given_model, patient_means
from causalms.errors import InputError, RefusalError
from tests.conftest import interventional

ARMS = ("placebo", "drug")
LOG_EFFECT = np.log(0.5)


def draws_table(patients: int, draws: int, seed: int, generators: int = 1, generator_sd: float = 0.0) -> pd.DataFrame:
    """Poisson draws with patient rates of log-SD 0.8, a drug effect varying by patient (SD 0.4) and by generator."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.5, 0.8, patients)
    effect = LOG_EFFECT + rng.normal(0, 0.4, patients)
    tilt = rng.normal(0, generator_sd, generators)
    patient, arm, member, draw = (axis.ravel() for axis in np.indices((patients, 2, generators, draws)))
    rate = np.exp(base[patient] + arm * (effect[patient] + tilt[member]))
    counts = {"generator": member, "net2_lesions": rng.poisson(rate), "net2_volume_ml": rate / 10}
    return interventional(ARMS, patient, arm, draw).assign(**counts)


def test_standard_error_does_not_shrink_with_draws() -> None:
    few, many = (given_model(analyse_draws(draws_table(100, draws, seed=1), reference="placebo")).iloc[0] for draws in (4, 400))
    # A hundredfold more draws: Monte-Carlo error a tenth (its own estimate varies by some 20%), patient error the same but noise.
    assert many.se_monte_carlo == pytest.approx(few.se_monte_carlo / 10, rel=0.25)
    assert many.se_patient == pytest.approx(few.se_patient, rel=0.35)
    assert many.se > 0.9 * many.se_patient > 5 * many.se_monte_carlo


def test_total_error_is_the_spread_over_repeated_patients_and_draws() -> None:
    results = [given_model(analyse_draws(draws_table(80, 5, seed), reference="placebo")).iloc[0] for seed in range(80)]
    spread = np.std([np.log(row.estimate) for row in results], ddof=1)
    stated = np.sqrt(np.mean([row.se**2 for row in results]))
    # The spread of 80 repetitions has a relative Monte-Carlo error of 1 / sqrt(160) = 8%; three of them.
    assert stated == pytest.approx(spread, rel=0.24)


def test_monte_carlo_error_is_the_spread_over_repeated_draws_of_the_same_patients() -> None:
    rng = np.random.default_rng(0)
    table = draws_table(60, 6, seed=3)
    rate = table["net2_volume_ml"] * 10  # the true rate of each row
    results = [analyse_draws(table.assign(net2_lesions=rng.poisson(rate)), reference="placebo").iloc[0] for _ in range(80)]
    spread = np.std([np.log(row.estimate) for row in results], ddof=1)
    assert np.mean([row.se_monte_carlo for row in results]) == pytest.approx(spread, rel=0.24)


def test_generator_error_covers_a_new_generator_and_is_missing_for_one() -> None:
    one = analyse_draws(draws_table(60, 8, seed=5).drop(columns="generator"), reference="placebo").iloc[0]
    assert np.isnan(one.se_generator)
    assert "model error unknown: neither interval nor p-value" in one.variance
    assert np.isnan([one.se, one.lower, one.upper, one.p_value]).all()
    between = [
        analyse_draws(draws_table(100, 20, s, generators=5, generator_sd=0.3), reference="placebo").iloc[0] for s in range(40)
    ]
    # (1 + 1/5) x 0.09; the mean of 40 variances on 4 degrees of freedom has a relative error of sqrt(2 / 160) = 11%.
    assert np.mean([row.se_generator**2 for row in between]) == pytest.approx(1.2 * 0.09, rel=0.35)


def test_expected_outcomes_have_no_monte_carlo_error() -> None:
    table = draws_table(50, 1, seed=2).drop(columns=["draw", "net2_lesions", "generator"])
    table = table.assign(expected_net2_lesions=table["net2_volume_ml"] * 10, expected_net2_volume_ml=1.0, dispersion=2.0)
    table["activity_probability"] = 1 - np.exp(-table["expected_net2_lesions"])
    row = estimate(table, reference="placebo").results.iloc[0]
    means = table.groupby("arm")["expected_net2_lesions"].mean()
    assert row.estimate == pytest.approx(means["drug"] / means["placebo"], rel=1e-12)
    assert row.se_monte_carlo == 0
    ratios = table.pivot(index="participant_id", columns="arm", values="expected_net2_lesions")
    influence = ratios["drug"] / means["drug"] - ratios["placebo"] / means["placebo"]
    assert row.se_patient == pytest.approx(influence.std(ddof=1) / np.sqrt(50), rel=1e-10)


def test_rate_difference_is_a_year_and_risk_is_of_any_lesion() -> None:
    table = draws_table(40, 10, seed=4)
    means = table.groupby("arm")["net2_lesions"].mean()
    row = estimate(table, reference="placebo", measure="rate-difference").results.iloc[0]
    assert row.estimate == pytest.approx((means["drug"] - means["placebo"]) * 52.1775 / 48, rel=1e-12)
    active = (table["net2_lesions"] > 0).groupby(table["arm"]).mean()
    assert estimate(table, reference="placebo", measure="risk-ratio").results.iloc[0].estimate == pytest.approx(
        active["drug"] / active["placebo"]
    )
    volume = estimate(table, reference="placebo", measure="mean-difference").results.iloc[0]
    assert volume.analysis == "simulated net2_volume_ml, week 48"


def test_effect_in_the_treated_uses_only_patients_randomised_to_the_arm() -> None:
    table = draws_table(30, 20, seed=6)
    treated = table[table["arm_randomised"] == "drug"]
    assert analyse_draws(table, reference="placebo", population="treated").iloc[0].estimate == pytest.approx(
        analyse_draws(treated, reference="placebo").iloc[0].estimate
    )


def test_contrast_between_trials_is_not_randomised() -> None:
    table = draws_table(20, 5, seed=7)
    together = analyse_draws(table, reference="placebo").iloc[0]
    assert not together.randomised
    assert "randomised together in T" in together.estimator or "randomised together in " in together.estimator
    apart = table.assign(trial=np.where(table["arm_randomised"] == "drug", "two", "one"))
    assert "in no trial: transported" in analyse_draws(apart, reference="placebo").iloc[0].estimator


def test_counterfactual_draws_are_of_rung_three() -> None:
    row = analyse_draws(draws_table(20, 5, seed=7).assign(query="counterfactual"), reference="placebo").iloc[0]
    assert row.rung == 3
    assert "given each patient's observed outcome" in row.estimand


def test_order_of_rows_does_not_matter() -> None:
    table = draws_table(30, 6, seed=8)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(analyse_draws(table, reference="placebo"), analyse_draws(shuffled, reference="placebo"))


def test_every_visit_week_has_its_row_and_patient_means_their_columns() -> None:
    table = pd.concat([draws_table(10, 3, 9), draws_table(10, 3, 10).assign(visit_week=96.0)])
    assert len(analyse_draws(table, reference="placebo")) == 2
    assert len(analyse_draws(table, reference="placebo", week=96)) == 1
    assert list(patient_means(table, reference="placebo", week=48)[["placebo", "drug"]].shape) == [10, 2]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda t: t.drop(index=5), "no row for patient"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than one row"),
        (lambda t: t.assign(net2_lesions=-1), "at least 0"),
        (lambda t: t[t["arm"] == "drug"], "no draws under arm 'placebo'"),
        (lambda t: t.replace({"arm": {"placebo": "placebos"}}), "no draws under arm 'placebo' .*did you mean 'placebos'"),
        (lambda t: t[t["arm"] == "placebo"], "one arm only"),
        (lambda t: t.assign(query="observed"), "no simulated outcome"),
        (lambda t: t[t["participant_id"] == "p0"], "one patient only"),
    ],
)
def test_incomplete_draws_are_refused_in_one_line(broken, message: str) -> None:
    with pytest.raises((InputError, RefusalError), match=message):
        analyse_draws(broken(draws_table(6, 3, seed=1)), reference="placebo")


def test_effect_that_is_the_same_ratio_in_every_patient_has_no_patient_error() -> None:
    rows = [
        (p, "t", "a", 48, "interventional", "q", arm, rate)
        for p, base in enumerate([1.0, 2.0, 7.0])
        for arm, rate in [("a", base), ("b", base / 2)]
    ]
    columns = ["participant_id", "trial", "arm_randomised", "visit_week", "query", "query_id", "arm", "expected_net2_lesions"]
    row = estimate(pd.DataFrame(rows, columns=columns), reference="a").results.iloc[0]
    assert row.estimate == pytest.approx(0.5)
    assert row.se_patient < 1e-12
