"""Queries on a linear-Gaussian model against the answer by hand, to 1e-10."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.causal import CausalModel, Twin
from causalms.causal.evidence import TableTrial
from causalms.causal.graph import world_seed


@pytest.fixture
def model(gaussian):
    return CausalModel(gaussian)


def drug_rows(twins):
    return twins[(twins["query"] == "counterfactual") & (twins["arm"] == "drug")]


def test_do_is_the_mean_plus_the_loading_times_the_noise(model, gaussian, gaussian_table):
    draws = model.do(gaussian_table, arm=["placebo", "drug"], week=[24, 48], draws=3, seed=4)
    trial = TableTrial(gaussian_table)
    for row in draws.itertuples():
        subject = gaussian.prepare(trial, row.participant_id)
        u = gaussian.noise(subject, int(row.draw), 4).normals["u"]
        by_hand = 50 + gaussian.effects[row.arm] * row.visit_week / 48 + 0.1 * subject.covariates["age"]
        assert row.net2_volume_ml == pytest.approx(by_hand + gaussian.loadings[row.arm] @ u, abs=1e-10)


def test_deterministic_counterfactual_is_the_posterior_mean_by_hand(model, gaussian, gaussian_table):
    twins = model.counterfactual(gaussian_table, arm="drug", particles=1, twin=Twin(abduction="deterministic"))
    facts = gaussian_table.set_index("participant_id")
    for row in drug_rows(twins).itertuples():
        fact = facts.loc[row.participant_id]
        la, lb = gaussian.loadings[fact["arm"]], gaussian.loadings["drug"]
        residual = fact["net2_volume_ml_week48"] - 50 - gaussian.effects[fact["arm"]] - 0.1 * fact["age"]
        by_hand = 50 - 1.0 + 0.1 * fact["age"] + (lb @ la) / (la @ la) * residual
        assert row.net2_volume_ml == pytest.approx(by_hand, abs=1e-10)


def test_stochastic_counterfactual_has_the_posterior_law_by_hand(model, gaussian, gaussian_table):
    particles = 4000
    twins = drug_rows(model.counterfactual(gaussian_table.head(4), arm="drug", particles=particles, seed=2))
    facts = gaussian_table.set_index("participant_id")
    for participant_id, rows in twins.groupby("participant_id"):
        fact = facts.loc[participant_id]
        la, lb = gaussian.loadings[fact["arm"]], gaussian.loadings["drug"]
        residual = fact["net2_volume_ml_week48"] - 50 - gaussian.effects[fact["arm"]] - 0.1 * fact["age"]
        centre = 50 - 1.0 + 0.1 * fact["age"] + (lb @ la) / (la @ la) * residual
        spread = np.sqrt(lb @ lb - (lb @ la) ** 2 / (la @ la))
        assert rows["net2_volume_ml"].mean() == pytest.approx(centre, abs=4 * spread / np.sqrt(particles) + 1e-9)
        assert rows["net2_volume_ml"].std() == pytest.approx(spread, rel=4 / np.sqrt(2 * particles), abs=1e-9)


def test_the_factual_world_is_the_fact_under_every_coupling(model, gaussian_table):
    for coupling, rho in (("monotone", None), ("independent", None), ("rho", 0.4)):
        twins = model.counterfactual(gaussian_table, arm=["placebo", "drug"], coupling=coupling, particles=3, twin=Twin(rho=rho))
        facts = gaussian_table.set_index("participant_id")["net2_volume_ml_week48"]
        own = twins[(twins["query"] == "counterfactual") & (twins["arm"] == twins["arm_randomised"])]
        assert np.abs(own["net2_volume_ml"] - own["participant_id"].map(facts)).max() < 1e-10


def test_rho_mixes_the_noise_of_the_two_worlds_by_hand(model, gaussian, gaussian_table):
    rho, seed = 0.6, 8
    twins = drug_rows(
        model.counterfactual(gaussian_table, arm="drug", coupling="rho", particles=2, seed=seed, twin=Twin(rho=rho))
    )
    trial = TableTrial(gaussian_table)
    checked = 0
    for row in twins[twins["arm_randomised"] == "placebo"].itertuples():
        subject = gaussian.prepare(trial, row.participant_id)
        fact = gaussian_table.set_index("participant_id").loc[row.participant_id, "net2_volume_ml_week48"]
        outcome = type("O", (), {"volume_ml": fact})()
        u = gaussian.abduct(subject, "placebo", 48, outcome, int(row.draw), seed).normals["u"]
        v = gaussian.noise(subject, int(row.draw), world_seed(seed, "drug")).normals["u"]
        by_hand = gaussian.mean(subject, "drug", 48) + gaussian.loadings["drug"] @ (rho * u + np.sqrt(1 - rho**2) * v)
        assert row.net2_volume_ml == pytest.approx(by_hand, abs=1e-10)
        checked += 1
    assert checked > 4


def test_counterfactual_equals_do_when_the_evidence_is_uninformative(gaussian, gaussian_table):
    class Orthogonal(type(gaussian)):
        loadings = {"placebo": np.array([1.0, 0.0]), "drug": np.array([0.0, 1.0])}  # noqa: RUF012

    model, particles = CausalModel(Orthogonal()), 3000
    fact = gaussian_table[gaussian_table["arm"] == "placebo"].head(1)
    twins = drug_rows(model.counterfactual(fact, arm="drug", particles=particles))["net2_volume_ml"]
    do = model.do(fact, arm="drug", draws=particles)["net2_volume_ml"]
    assert twins.mean() == pytest.approx(do.mean(), abs=4 * np.sqrt(2 / particles))
    assert twins.std() == pytest.approx(do.std(), rel=4 / np.sqrt(particles))


def test_counterfactual_differs_from_do_when_the_evidence_informs(model, gaussian_table):
    fact = gaussian_table[gaussian_table["arm"] == "placebo"].head(1)
    changed = fact.assign(net2_volume_ml_week48=fact["net2_volume_ml_week48"] + 3.0)
    first = drug_rows(model.counterfactual(fact, arm="drug", particles=50))["net2_volume_ml"].mean()
    second = drug_rows(model.counterfactual(changed, arm="drug", particles=50))["net2_volume_ml"].mean()
    slope = (0.8 * 1.0 - 0.3 * 0.5) / 1.25
    assert second - first == pytest.approx(3.0 * slope, abs=1e-9)
