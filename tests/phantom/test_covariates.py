from __future__ import annotations

import numpy as np
import pytest

from causalms.phantom import load_design, simulate_trial
from causalms.phantom.covariates import draw_baseline, log_rates, realise, terms
from causalms.phantom.design import parse_design

ZERO = dict.fromkeys(("log_gd", "gd_positive", "age", "log_t2", "relapses", "dirty_white_matter", "black_holes"), 0.0)


@pytest.mark.parametrize(
    ("trial", "arm", "reference", "published"),
    [
        ("OPERA-I", "ocrelizumab", "interferon-beta-1a-sc", 0.23),
        ("OPERA-II", "ocrelizumab", "interferon-beta-1a-sc", 0.17),
        ("DEFINE", "dimethyl-fumarate", "placebo", 0.15),
        ("BRAVO", "laquinimod", "placebo", 0.835),
    ],
)
def test_true_rate_ratios_are_the_published_ones(trial, arm, reference, published):
    design = load_design("pooled")
    rates = log_rates(design, next(entry for entry in design.trials if entry.name == trial), ZERO)
    ratio = np.exp(rates[design.arms.index(arm)] - rates[design.arms.index(reference)])
    assert ratio == pytest.approx(published, rel=1e-3)  # ratios in the design are rounded to four places


def test_counts_have_the_mean_and_variance_of_a_negative_binomial():
    """Mean m and variance m + m^2/k; 40,000 draws of m = 8, k = 0.5: SE of the mean .058, of the variance about 2.5."""
    design = load_design("pooled")
    rng = np.random.default_rng(1)
    log_rate = np.log(np.full(len(design.arms), 8.0))
    counts = rng.poisson([realise(design, log_rate, rng).realised[0] for _ in range(40_000)])
    assert counts.mean() == pytest.approx(8.0, abs=4 * 0.058)
    assert counts.var() == pytest.approx(8 + 64 / 0.5, abs=4 * 2.5)


def test_zero_inflation_adds_zeros_and_keeps_the_mean():
    design = parse_design(small_design(counts={"size": 5.0, "zero_inflation": 0.3}))
    rng = np.random.default_rng(2)
    realised = np.array([realise(design, np.log([6.0, 3.0]), rng).realised for _ in range(20_000)])
    # SE of the share sqrt(.21/20000) = .0032; of the mean of the first arm about .031
    assert (realised[:, 0] == 0).mean() == pytest.approx(0.3, abs=4 * 0.0032)
    assert realised.mean(axis=0) == pytest.approx([6.0, 3.0], abs=4 * 0.031)


def test_dispersion_changed_by_treatment_shares_the_quantile_of_frailty():
    design = parse_design(small_design(counts={"size": 0.5, "size_by_arm": {"b": 2.0}}))
    rng = np.random.default_rng(3)
    frailty = np.array([realise(design, np.zeros(2), rng).realised for _ in range(20_000)])
    # variance 1/k; SE of a gamma variance at k = .5 is about sqrt((6/k^3+2/k^2)/n) = .053
    assert frailty.var(axis=0) == pytest.approx([2.0, 0.5], abs=0.22)
    order = np.argsort(frailty[:, 0], kind="stable")
    assert (np.diff(frailty[order, 1]) >= 0).all()


def test_true_rates_are_calibrated_for_potential_counts(trial):
    """Mean count minus rate, arm by arm, within 3.5 standard errors of zero."""
    last = trial.truth.table.query("visit_week == 96")
    for _, rows in last.groupby("arm"):
        error = rows["true_lesions"] - rows["true_rate"]
        assert abs(error.mean()) < 3.5 * error.std() / np.sqrt(len(rows))


def test_counts_given_frailty_are_poisson(trial):
    """Pearson chi-square of counts about their realised rates is about its degrees of freedom; SE sqrt(2/n) or a little more."""
    rows = trial.truth.table.query("visit_week == 96 and arm == 'placebo' and realised_rate > 1")
    pearson = ((rows["true_lesions"] - rows["realised_rate"]) ** 2 / rows["realised_rate"]).mean()
    assert pearson == pytest.approx(1.0, abs=4 * np.sqrt(2.5 / len(rows)))


def test_image_markers_carry_about_two_fifths_of_the_variance_of_the_log_rate():
    """SD of the log rate 0.75; 0.34^2 + 0.34^2 = 0.231 of its variance 0.56 is seen in the images only."""
    design = load_design("pooled")
    rng = np.random.default_rng(4)
    markers = design.rate.image_markers
    drawn = ("age", "sex", "edss", "disease_duration", "relapses_prior_year", "gd_lesions", "t2_lesions")
    columns, images = [], []
    for entry in design.trials:
        for _ in range(1500):
            b = draw_baseline(entry.baseline, rng)
            values = terms(**{name: getattr(b, name) for name in drawn}, t2_volume_ml=5.0)
            columns.append(sum(slope * values[term] for term, slope in design.rate.columns.items()))
            images.append(sum(slope * getattr(b, name) for name, slope in markers.items()))
    total = np.add(columns, images)
    assert total.std() == pytest.approx(0.75, abs=0.03)  # SE of a SD of 6,000 draws .007
    assert np.var(images) / total.var() == pytest.approx(0.41, abs=0.03)
    assert abs(np.corrcoef(columns, images)[0, 1]) < 0.05


def test_effect_modification_changes_the_log_rate_ratio_by_the_term():
    design = load_design("harmful")
    without, enhancing = (log_rates(design, design.trials[0], ZERO | {"gd_positive": x}) for x in (-0.4, 0.6))
    assert (enhancing - without)[1] - (enhancing - without)[0] == pytest.approx(-0.5)


def test_a_harmful_drug_has_more_lesions_than_placebo():
    wide = simulate_trial("harmful", patients=30, seed=1).truth.table.pivot_table(
        index="participant_id", columns="arm", values="true_rate", aggfunc="max"
    )
    assert (wide["drug-x"].mean()) > 1.1 * wide["placebo"].mean()


def test_a_trial_effect_shows_only_in_its_own_design():
    assert len({entry.log_rate_week96 for entry in load_design("pooled").trials}) == 1
    assert len({entry.log_rate_week96 for entry in load_design("pooled-2131").trials}) == 1
    assert len({entry.log_rate_week96 for entry in load_design("pooled-trial-effect").trials}) == 3


def test_registry_gives_the_strong_drug_to_active_patients():
    table = simulate_trial("registry", patients=240, seed=3).participants
    active = (table["gd_lesions"] > 0).groupby(table["arm"]).mean()
    # about .25 against .60 in 80 patients an arm: SE of the difference .075
    assert active["ocrelizumab"] - active["placebo"] > 0.1


def small_design(**keys):
    """One trial of two arms."""
    return {
        "name": "small",
        "rate_ratio": {"a": 1.0, "b": 0.5},
        "trials": [{"name": "S", "arms": {"a": 10, "b": 10}, "log_rate_week96": 1.5}],
        **keys,
    }
