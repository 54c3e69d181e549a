"""Borrowing: R's digits by numerical integration, closed forms, conflict, and draws that know their own error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import (
    PRIORS,
    ControlSource,
    LogRates,
    control_prior,
    external_control,
    historical_sources,
    meta_analytic_predictive,
    operating_characteristics,
    simulated_source,
)
from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import ModelError

TRUTH = pd.read_csv(Path(__file__).parents[1] / "oracles" / "borrowing_r.csv").set_index("id")["value"]
SOURCES = [ControlSource(f"t{i}", y, s, 100) for i, (y, s) in enumerate(((0.9, 0.12), (1.1, 0.2), (1.3, 0.15)))]
RATES = LogRates("drug", "placebo", np.array([0.6, 0.2]), np.diag([0.18**2, 0.2**2]), 60, 60)


def test_map_predictive_law_has_the_moments_of_numerical_integration() -> None:
    law = meta_analytic_predictive(np.array([0.9, 1.1, 1.3]), np.array([0.12, 0.2, 0.15]), 0.5)
    # R integrates tau to 4 = eight scales, adaptively; Gauss-Legendre with 64 nodes agrees to seven digits
    np.testing.assert_allclose([law.mean, np.sqrt(law.variance)], TRUTH[["map_mean", "map_sd"]], rtol=1e-7)


@pytest.mark.parametrize("kind", PRIORS)
def test_prior_effective_size_and_posterior_are_those_of_numerical_integration(kind: str) -> None:
    prior = control_prior(SOURCES, kind=kind, heterogeneity=0.5, unit_sd=1.3)
    posterior = prior.law.posterior(0.6, 0.18)
    probability = float(RATES.effect(prior.law, 0.6).shifted(0.2, 1.0, 0.0).cdf(0.0))
    ours = [np.sqrt(prior.law.variance), prior.ess_elir, posterior.mean, probability]
    truth = TRUTH[[f"{kind}_{name}" for name in ("sd", "elir", "posterior_mean", "probability")]]
    np.testing.assert_allclose(np.array(ours, float), truth, rtol=2e-6)  # R's derivative is that of a spline


def test_power_prior_is_worth_its_share_of_the_patients() -> None:
    source = ControlSource("earlier", 1.0, 1.3 / 10, 100)
    prior = control_prior([source], kind="power", weight=0.3, unit_sd=1.3)
    np.testing.assert_allclose([prior.ess_elir, prior.ess_moment], [30, 30], rtol=1e-6)


def test_model_error_of_a_simulated_arm_widens_its_prior() -> None:
    rows = [(f"p{i}", arm, 2.0 + i % 3) for i in range(30) for arm in ("placebo", "drug")]
    draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"])
    draws = draws.assign(trial="t", arm_randomised="placebo", visit_week=48.0, query="interventional", query_id="q")
    with pytest.raises(RefusalError, match="model's own error is unknown"):
        simulated_source(draws, arm="placebo")
    known = draws.assign(model_error=ModelError("m", "from 40 patients", np.array([0.3, 0.4]), 0.1, 0.1).text())
    wide, narrow = simulated_source(known, arm="placebo"), simulated_source(draws, arm="placebo", model_known=True)
    np.testing.assert_allclose(wide.se**2, narrow.se**2 + 0.25, rtol=1e-9)
    assert wide.se_model == pytest.approx(0.5)


def test_type_1_error_is_nominal_alone_and_grows_with_conflict() -> None:
    priors = [control_prior(SOURCES, kind=kind, unit_sd=1.3) for kind in PRIORS]
    table = operating_characteristics(RATES, priors, conflicts=(-0.4, 0.0, 0.4))
    alone = table[table["prior"] == "trial alone"]
    np.testing.assert_allclose(alone[["type_1_error", "coverage"]], [[0.025, 0.95]] * 3, atol=1e-6)
    for kind in PRIORS:
        error = table[table["prior"] == kind].set_index("conflict")["type_1_error"]
        assert error[-0.4] > 0.025 > error[0.4]  # the borrowed controls had more lesions than the trial's: too many claims
    at = table[table["conflict"] == -0.4].set_index("prior")["type_1_error"]
    assert at["robust-map"] < at["power"]


def test_type_1_error_is_that_of_simulated_trials() -> None:
    prior = control_prior(SOURCES, kind="robust-map", unit_sd=1.3)
    correlated = LogRates("drug", "placebo", RATES.estimates, np.array([[0.0324, 0.012], [0.012, 0.04]]), 60, 60)
    ours = operating_characteristics(correlated, [prior], conflicts=(-0.3,)).iloc[1]
    rng = np.random.default_rng(1)
    truth = float(prior.law.mean) - 0.3
    trials = rng.multivariate_normal([truth, truth], correlated.covariance, 20_000)
    given = correlated.effect(prior.law, trials[:, 0]).shifted(trials[:, 1], 1.0, 0.0)
    claims = (given.cdf(np.zeros(len(trials))) > 0.975).mean()
    assert abs(claims - ours["type_1_error"]) < 4 * np.sqrt(claims * (1 - claims) / 20_000)


def test_historical_controls_are_one_source_a_trial() -> None:
    table = pd.DataFrame({"trial": list("aaabbb"), "arm": ["p", "p", "d"] * 2, "y": [1, 3, 9, 2, 4, 9]})
    sources = historical_sources(table, outcome="y", reference="p", source="h.csv")
    assert [(source.name, source.patients, round(np.exp(source.log_rate), 6)) for source in sources] == [
        ("h.csv, a", 2, 2.0),
        ("h.csv, b", 2, 3.0),
    ]
    with pytest.raises(InputError, match="no patient of arm 'x'"):
        historical_sources(table, outcome="y", reference="x", source="h.csv")
    with pytest.raises(RefusalError, match="no control has an event"):
        historical_sources(table.assign(y=0), outcome="y", reference="p")
    with pytest.raises(UsageError, match="`weight`: found 2"):
        control_prior(sources, kind="power", weight=2, unit_sd=1.0)


@pytest.mark.parametrize("estimator", ["aipw", "targeted"])
def test_external_control_is_unbiased_and_covers_where_one_of_its_models_is_wrong(estimator: str) -> None:
    """The model of the rate lacks a step in x, the propensity is right.

    Thirty repetitions: bias within four Monte-Carlo errors.
    """
    rng, estimates, covered = np.random.default_rng(3), [], 0
    for _ in range(30):
        x = rng.normal(size=600)
        treated = rng.random(600) < 1 / (1 + np.exp(1 - 0.8 * x))
        rate = np.exp(0.2 + 0.4 * x + 0.3 * (x > 1))  # the model of the rate is wrong, the propensity right
        y = rng.negative_binomial(2, 2 / (2 + rate * np.where(treated, 0.5, 1.0)))
        table = pd.DataFrame({"x": x, "y": y})
        row = external_control(table[treated], table[~treated], outcome="y", adjust="x", estimator=estimator).results.iloc[0]
        estimates.append(np.log(row["estimate"]))
        covered += row["lower"] < 0.5 < row["upper"]
    error = np.std(estimates) / np.sqrt(30)
    assert abs(np.mean(estimates) - np.log(0.5)) < 4 * error
    assert covered >= 25  # 28 expected; fewer than 25 has probability .01 at coverage .95


def test_patients_are_not_their_own_external_controls() -> None:
    same = pd.DataFrame({"y": [2, 1, 4, 0], "age": [30.0, 41.0, 52.0, 38.0]})
    with pytest.raises(RefusalError, match="the same table twice; give other patients as the controls"):
        external_control(same, same.copy(), outcome="y", adjust="age")
