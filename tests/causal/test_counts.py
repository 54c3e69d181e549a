"""The negative-binomial mechanism: its law, exact abduction, and the fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from causalms.causal import NegativeBinomialMechanism, Outcome, Subject
from causalms.causal.mechanisms.negative_binomial import poisson_quantile, poisson_score
from causalms.errors import ConvergenceError, InputError, RefusalError
from causalms.tables import WEEKS_PER_YEAR

SUBJECT = Subject("p1", "T", "placebo", {}, encoding=0.0)


def mechanism(**changes):
    settings = {"dispersion": 2.0, **changes}
    return NegativeBinomialMechanism(("placebo", "ocrelizumab"), (1.5, 0.0), {}, (), (), **settings)


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_pushed_counts_have_the_negative_binomial_law(coupling):
    m = mechanism().for_coupling(coupling)
    counts = np.array([m.push(SUBJECT, "placebo", 48, m.noise(SUBJECT, d, 0)).lesions for d in range(4000)])
    law = stats.nbinom(0.5, 0.5 / (0.5 + m.rate(SUBJECT, "placebo", 48)))
    edges = np.array([0, 1, 2, 3, 5, 9, 16, 1000])
    observed = np.histogram(counts, edges)[0]
    expected = np.diff(law.cdf(edges - 1)) * len(counts)
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_abduction_reproduces_the_fact_exactly(coupling):
    m = mechanism().for_coupling(coupling)
    for lesions, volume in ((0, 0.0), (1, 0.003), (4, 0.31), (60, 5.0), (400, 40.0)):
        for draw in range(20):
            u = m.abduct(SUBJECT, "ocrelizumab", 48, Outcome(lesions, volume), draw, 1)
            again = m.push(SUBJECT, "ocrelizumab", 48, u)
            assert again.lesions == lesions
            assert again.volume_ml == pytest.approx(volume, rel=1e-9)


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_abducted_noise_over_facts_of_the_model_is_standard_normal(coupling):
    m = mechanism().for_coupling(coupling)
    scores = {"frailty": [], "count" if coupling == "monotone" else "path": [], "volume": []}
    for d in range(3000):
        fact = m.push(SUBJECT, "placebo", 48, m.noise(SUBJECT, d, 0))
        u = m.abduct(SUBJECT, "placebo", 48, fact, d, 1)
        for name, values in scores.items():
            values.append(u.normals[name][0])
    for name, values in scores.items():
        assert stats.kstest(values, "norm").pvalue > 0.001, name


def test_thinning_path_gives_the_binomial_law_of_prevented_lesions():
    # given 10 lesions under the higher rate, each is there under the lower with probability (ratio of rates), independently
    m = mechanism().for_coupling("ancestral")
    ratio = m.rate(SUBJECT, "ocrelizumab", 48) / m.rate(SUBJECT, "placebo", 48)
    left = [
        m.push(SUBJECT, "ocrelizumab", 48, m.abduct(SUBJECT, "placebo", 48, Outcome(10, 1.0), d, 3)).lesions for d in range(3000)
    ]
    assert np.mean(left) == pytest.approx(10 * ratio, abs=4 * np.sqrt(10 * ratio * (1 - ratio) / 3000))
    assert np.var(left) == pytest.approx(10 * ratio * (1 - ratio), rel=4 * np.sqrt(2 / 3000))


def test_frailty_posterior_given_a_count_is_gamma():
    m = mechanism()
    rate = m.rate(SUBJECT, "placebo", 48)
    scores = np.array([m.abduct(SUBJECT, "placebo", 48, Outcome(7, 0.4), d, 0).normals["frailty"][0] for d in range(3000)])
    frailty = special.gammaincinv(0.5, special.ndtr(scores)) / 0.5
    assert stats.kstest(frailty, stats.gamma(0.5 + 7, scale=1 / (0.5 + rate)).cdf).pvalue > 0.001


def test_expected_values_agree_with_sampled_ones():
    m = mechanism()
    outcomes = [m.push(SUBJECT, "placebo", 96, m.noise(SUBJECT, d, 2)) for d in range(6000)]
    expected = m.expect(SUBJECT, "placebo", 96)
    counts = np.array([o.lesions for o in outcomes])
    assert counts.mean() == pytest.approx(expected.lesions, abs=4 * counts.std() / np.sqrt(6000))
    volumes = np.array([o.volume_ml for o in outcomes])
    assert volumes.mean() == pytest.approx(expected.volume_ml, abs=4 * volumes.std() / np.sqrt(6000))
    assert (counts > 0).mean() == pytest.approx(expected.activity_probability, abs=4 * 0.5 / np.sqrt(6000))


def test_poisson_model_has_no_frailty():
    m = mechanism(dispersion=0.0)
    counts = [m.push(SUBJECT, "placebo", 48, m.noise(SUBJECT, d, 0)).lesions for d in range(4000)]
    assert np.var(counts) == pytest.approx(np.mean(counts), rel=0.1)  # variance of a variance: 2/sqrt(2 x 4000) = 0.022
    assert m.expect(SUBJECT, "placebo", 48).dispersion == 0.0


def test_poisson_quantile_is_scipys_in_the_body_and_inverts_far_tails():
    for mean in (0.01, 0.7, 3.3, 50.0):
        for u in np.linspace(0.01, 0.99, 25):
            assert poisson_quantile(special.ndtri(u), mean) == int(stats.poisson(mean).ppf(u))
        for n in (0, 1, 5, 40):
            for v in (0.0, 0.5, 1.0):
                assert poisson_quantile(poisson_score(n, mean, v), mean) == n


def test_a_fact_that_the_model_cannot_explain_is_refused():
    with pytest.raises(RefusalError, match=r"a count of 300 .* has no explanation"):
        poisson_score(300, 0.01, 0.5)


def test_noise_never_depends_on_arm_or_order():
    m = mechanism()
    one = m.noise(SUBJECT, 3, 7)
    m.noise(SUBJECT, 4, 7)
    again = m.noise(SUBJECT, 3, 7)
    assert all(np.array_equal(one.normals[k], again.normals[k]) for k in one.normals)


def test_fit_recovers_the_truth_within_its_error(big_table, truth):
    fitted = NegativeBinomialMechanism.fit(big_table, 48, dict(truth.covariates))
    assert fitted.dispersion == pytest.approx(2.0, rel=0.2)  # se of alpha is about 5% with 1,500 patients
    rates, true_rates = dict(zip(fitted.arms, fitted.log_rates, strict=True)), dict(zip(truth.arms, truth.log_rates, strict=True))
    shift = sum(b * (c - t) for b, c, t in zip(truth.coefficients, fitted.centres, truth.centres, strict=True))
    for arm in truth.arms:
        assert rates[arm] == pytest.approx(true_rates[arm] + shift, abs=0.3)  # 4 standard errors of about .075
    assert fitted.coefficients == pytest.approx(truth.coefficients, abs=0.25)
    assert fitted.lesion_volume_ml == pytest.approx(truth.lesion_volume_ml, rel=0.1)


def test_fit_with_poisson_data_stays_at_the_boundary(make_participants, make_outcomes):
    poisson = NegativeBinomialMechanism(("placebo", "ocrelizumab"), (1.0, 0.2), {}, (), (), dispersion=0.0)
    table = make_outcomes(make_participants(400, 5, poisson.arms), poisson, 48, 1)
    assert NegativeBinomialMechanism.fit(table, 48, {}).dispersion < 0.15


@pytest.mark.parametrize(
    ("column", "change"), [("age", lambda t: 40.0), ("t2_lesions", lambda t: t["gd_lesions"]), ("gd_lesions", lambda t: 0)]
)
def test_covariate_that_is_constant_or_repeats_another_is_left_out_and_named(table, column, change):
    whole = {"age": "linear", "gd_lesions": "log1p", "t2_lesions": "log1p"}
    fitted = NegativeBinomialMechanism.fit(table.assign(**{column: change}), 48, whole)
    without = NegativeBinomialMechanism.fit(table, 48, {name: how for name, how in whole.items() if name != column})
    assert fitted.notes == (f"covariate {column!r} is constant or repeats others and is left out",)
    assert fitted.log_rates == without.log_rates
    assert list(fitted.covariates) == list(without.covariates)


def test_fit_names_the_covariate_that_nobody_has(table):
    with pytest.raises(InputError, match="covariate 'age' is missing for everybody"):
        NegativeBinomialMechanism.fit(table.assign(age=np.nan), 48)
    half = table.assign(age=table["age"].where(table.index % 2 == 0), gd_lesions=table["gd_lesions"].where(table.index % 2 == 1))
    with pytest.raises(InputError, match="nobody has all of 'net2_lesions_week48', 'age', 'gd_lesions', 't2_lesions'"):
        NegativeBinomialMechanism.fit(half, 48)


def test_fit_names_what_is_wrong(table):
    with pytest.raises(InputError, match="no column 'net2_lesions_week12'"):
        NegativeBinomialMechanism.fit(table, 12)
    with pytest.raises(InputError, match="nobody has 'net2_lesions_week48'"):
        NegativeBinomialMechanism.fit(table.assign(net2_lesions_week48=np.nan), 48)
    silent = table.assign(net2_lesions_week48=table["net2_lesions_week48"].where(table["arm"] != "ocrelizumab", 0.0))
    with pytest.raises(ConvergenceError, match="'ocrelizumab': all counts are zero"):
        NegativeBinomialMechanism.fit(silent, 48)


def test_a_missing_covariate_names_patient_and_column(truth, table):
    from causalms.causal.evidence import TableTrial

    holed = table.assign(age=table["age"].where(table["participant_id"] != "sub-0005"))
    with pytest.raises(InputError, match="participant sub-0005: column 'age' is missing"):
        truth.prepare(TableTrial(holed), "sub-0005")


def test_deterministic_abduction_of_a_count_is_refused():
    with pytest.raises(RefusalError, match="abducts by stochastic only"):
        mechanism().abduct(SUBJECT, "placebo", 48, Outcome(1, 0.1), 0, 0, "deterministic")


def test_rate_is_a_year_times_the_weeks():
    assert mechanism().rate(SUBJECT, "ocrelizumab", WEEKS_PER_YEAR) == pytest.approx(1.0)
