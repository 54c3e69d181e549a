"""A small trial table, its true count mechanism, and an analytic linear-Gaussian mechanism."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import Expected, MechanismBase, NegativeBinomialMechanism, Noise, Outcome
from causalms.causal.evidence import TableTrial
from causalms.stats import keyed_generator

TRUE = NegativeBinomialMechanism(
    ("placebo", "dimethyl-fumarate", "ocrelizumab"),
    (1.6, 0.8, -0.2),
    {"age": "linear", "gd_lesions": "log1p"},
    (-0.03, 0.5),
    (37.0, 0.5),
    dispersion=2.0,
)


class LinearGaussian(MechanismBase):
    """Volume = 50 + effect of the arm + 0.1 age + loadings(arm) . U with U ~ N(0, I_2): every answer by hand."""

    name = "linear-gaussian"
    arms = ("placebo", "drug")
    capabilities = frozenset({"push", "expect", "abduct", "deterministic-abduct"})
    effects = {"placebo": 2.0, "drug": -1.0}  # noqa: RUF012
    loadings = {"placebo": np.array([1.0, 0.5]), "drug": np.array([0.8, -0.3])}  # noqa: RUF012

    def mean(self, subject, arm, week):
        return 50.0 + self.effects[arm] * week / 48 + 0.1 * subject.covariates["age"]

    def noise(self, subject, draw, seed):
        return Noise({"u": keyed_generator(self.name, subject.participant_id, draw, seed).standard_normal(2)})

    def push(self, subject, arm, week, noise):
        return Outcome(0.0, float(self.mean(subject, arm, week) + self.loadings[arm] @ noise.normals["u"]))

    def expect(self, subject, arm, week):
        return Expected(0.0, float(self.mean(subject, arm, week)), 0.0, 0.0)

    def abduct(self, subject, arm, week, outcome, draw, seed, method="stochastic"):
        loading = self.loadings[arm]
        residual = outcome.volume_ml - self.mean(subject, arm, week)
        centre = loading * residual / (loading @ loading)
        if method == "deterministic":
            return Noise({"u": centre})
        free = keyed_generator(self.name, "abduct", subject.participant_id, draw, seed).standard_normal(2)
        return Noise({"u": centre + free - loading * (loading @ free) / (loading @ loading)})


def participants(n: int, seed: int, arms=("placebo", "dimethyl-fumarate", "ocrelizumab")) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:04d}" for i in range(n)],
            "trial": "T",
            "site": "1",
            "arm": np.array(arms)[rng.integers(0, len(arms), n)],
            "age": rng.normal(37, 8, n).clip(18, 60),
            "sex": "F",
            "edss": 2.0,
            "disease_duration": 5.0,
            "relapses_prior_year": 1.0,
            "gd_lesions": rng.poisson(1.0, n).astype(float),
            "t2_lesions": rng.poisson(30, n).astype(float),
            "t2_volume_ml": 5.0,
            "exposure_years": 96 / 52.1775,
        }
    )


def with_outcomes(table: pd.DataFrame, mechanism, week: int, seed: int) -> pd.DataFrame:
    """Factual outcomes drawn from a mechanism under the randomised arms."""
    trial = TableTrial(table)
    outcomes = []
    for participant_id, arm in zip(table["participant_id"], table["arm"], strict=True):
        subject = mechanism.prepare(trial, participant_id)
        outcomes.append(mechanism.push(subject, arm, week, mechanism.noise(subject, 0, seed)))
    lesions, volumes = [o.lesions for o in outcomes], [o.volume_ml for o in outcomes]
    return table.assign(**{f"net2_lesions_week{week}": lesions, f"net2_volume_ml_week{week}": volumes})


@pytest.fixture(scope="session")
def truth() -> NegativeBinomialMechanism:
    return TRUE


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return with_outcomes(participants(60, 1), TRUE, 48, seed=99)


@pytest.fixture(scope="session")
def big_table() -> pd.DataFrame:
    return with_outcomes(participants(1500, 2), TRUE, 48, seed=99)


@pytest.fixture(scope="session")
def gaussian() -> LinearGaussian:
    return LinearGaussian()


@pytest.fixture(scope="session")
def gaussian_table(gaussian) -> pd.DataFrame:
    return with_outcomes(participants(12, 3, ("placebo", "drug")), gaussian, 48, seed=5)


@pytest.fixture(scope="session")
def make_participants():
    return participants


@pytest.fixture(scope="session")
def make_outcomes():
    return with_outcomes
