"""Climatology and the regression on columns recover what they claim; scores of places and masks have known values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from causalms.errors import RefusalError
from causalms.generator import Generator
from causalms.generator.train.data import training_set
from causalms.generator.train.patients import TrainingPatient, Visit
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from studies.baselines import (
    FactorisedDiffusion,
    SeenPatient,
    fit_climatology,
    fit_regression,
    judge_masks,
    judge_places,
)
from studies.baselines.climatology import maximum_likelihood_size
from studies.baselines.count_network import negative_binomial_log_likelihood
from studies.common import ARMS


@pytest.fixture(scope="module")
def patients(trial: PhantomTrial) -> list[TrainingPatient]:
    return training_set(trial, LesionRule.default())


@pytest.fixture(scope="module")
def many(patients: list[TrainingPatient]) -> list[TrainingPatient]:
    """1,200 patients whose count follows log mean = arm + 0.5 z by construction, z the standardised age."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(1200):
        z, arm = rng.normal(), number % len(ARMS)
        mean = np.exp(1.0 - 0.3 * arm + 0.5 * z)
        count = int(rng.poisson(rng.gamma(0.7) / 0.7 * mean))
        columns = patients[0].arrays.covariates.copy()
        columns[:] = rng.normal(size=len(columns))
        columns[0] = 40 + 10 * z
        arrays = replace(patients[0].arrays, covariates=columns)
        visit = Visit(96, count, patients[0].last.packed_mask)
        made.append(TrainingPatient(arrays, ARMS[arm], (visit,), np.zeros(0, np.int64), 0.1 * count))
    return made


def test_climatology_gives_arm_means_and_a_place_law(patients: list[TrainingPatient], trial: PhantomTrial) -> None:
    arms = tuple(sorted({p.arm for p in patients}))
    model = fit_climatology(patients, arms, trial.space)
    scan = model.encode_arrays(patients[0].arrays)
    own = [p for p in patients if p.arm == arms[0]]
    rate = sum(p.last.lesions for p in own) / sum(p.last.week / 96 for p in own)
    assert model.expect(scan, arms[0], 96).lesions == pytest.approx(rate)
    assert model.expect(scan, arms[0], 48).lesions == pytest.approx(rate / 2)
    log_place = model.log_place(scan, arms[0])
    assert np.exp(log_place).sum() == pytest.approx(1)
    assert np.isneginf(log_place[~scan]).all()


def test_size_by_maximum_likelihood_recovers_the_simulated_one() -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.8, 1 / 0.8, 5000) * 3.0)
    # The standard error of log size at 5,000 counts is about .03; four of them.
    assert maximum_likelihood_size(counts, np.full(5000, 3.0)) == pytest.approx(0.8, rel=0.12)


def test_regression_recovers_effects_of_arm_and_column(many: list[TrainingPatient]) -> None:
    model = fit_regression(many, ARMS)
    assert model.parameters == len(ARMS) + 8 + 1
    # Standard errors: about .09 for an arm of 200, .04 for a column of 1,200; three of them.
    assert model.beta[0] - model.beta[5] == pytest.approx(1.5, abs=0.4)
    assert model.beta[len(ARMS)] == pytest.approx(0.5, abs=0.12)
    assert 1 / model.alpha == pytest.approx(0.7, rel=0.25)
    scan = model.encode_arrays(many[0].arrays)
    assert model.expect(scan, "placebo", 48).lesions == pytest.approx(model.expect(scan, "placebo", 96).lesions / 2)


def test_regression_reads_a_missing_column_as_its_mean(many: list[TrainingPatient]) -> None:
    model = fit_regression(many, ARMS)
    columns = many[0].arrays.covariates.copy()
    columns[0] = np.nan
    assert model.encode_arrays(replace(many[0].arrays, covariates=columns))[0] == 0


def test_template_prior_gains_nothing_over_itself(patients: list[TrainingPatient], trial: PhantomTrial) -> None:
    model = fit_climatology(patients, ARMS, trial.space)
    seen = [SeenPatient(p.arrays, p.arm, p.last.mask(tuple(trial.space.shape))) for p in patients]
    row = judge_places(model, seen, model, trial.space, repetitions=20).iloc[0]
    assert row["estimate"] == row["lower"] == row["upper"] == 0


def test_tables_refuse_what_they_cannot_say(
    patients: list[TrainingPatient], many: list[TrainingPatient], trial: PhantomTrial
) -> None:
    climatology, regression = fit_climatology(patients, ARMS, trial.space), fit_regression(many, ARMS)
    with pytest.raises(RefusalError, match="no masks"):
        climatology.sample(climatology.encode_arrays(patients[0].arrays), "placebo", 96, 0, 0)
    with pytest.raises(RefusalError, match="no masks"):
        regression.sample(regression.encode_arrays(patients[0].arrays), "placebo", 96, 0, 0)
    with pytest.raises(RefusalError, match="no law of places"):
        regression.log_place(regression.encode_arrays(patients[0].arrays), "placebo")


class Clairvoyant(FactorisedDiffusion):
    """Returns the mask that was seen."""

    def __init__(self, generator: Generator, masks: dict[str, np.ndarray]) -> None:
        super().__init__(generator)
        self.masks = masks

    def sample(self, scan, arm: str, week: float, draw: int, seed: int) -> np.ndarray:  # type: ignore[no-untyped-def]
        return self.masks[scan.participant_id]


def test_seen_masks_score_perfectly(tiny: tuple[Generator, object], patients: list[TrainingPatient], trial: PhantomTrial) -> None:
    seen = [SeenPatient(p.arrays, p.arm, p.last.mask(tuple(trial.space.shape))) for p in patients]
    model = Clairvoyant(tiny[0], {p.arrays.participant_id: p.mask for p in seen})
    scores = judge_masks(model, seen, 96, trial.space, repetitions=20).set_index("measure")["estimate"]
    assert scores["lesion-volume KS distance"] == 0
    assert scores["detection F1 of one draw"] == 1
    assert scores["sampled / seen mean count"] == 1


def test_own_generator_answers_the_protocol(tiny: tuple[Generator, object], patients: list[TrainingPatient]) -> None:
    model = FactorisedDiffusion(tiny[0])
    scan = model.encode_arrays(patients[0].arrays)
    assert np.exp(model.log_place(scan, "placebo")).sum() == pytest.approx(1, abs=1e-4)
    assert model.expect(scan, "placebo", 96).lesions > 0
    mask = model.sample(scan, "placebo", 96, 0, 1)
    assert mask.dtype == bool
    assert np.array_equal(mask, model.sample(scan, "placebo", 96, 0, 1))


def test_negative_binomial_likelihood_matches_scipy() -> None:
    count, mean, size = np.array([0.0, 3.0, 40.0]), np.array([0.5, 2.0, 17.0]), np.array([0.5, 0.3, 5.0])
    log_likelihood = negative_binomial_log_likelihood(torch.tensor(count), torch.log(torch.tensor(mean)), torch.tensor(size))
    assert np.allclose(log_likelihood.numpy(), stats.nbinom.logpmf(count, size, size / (size + mean)), rtol=1e-9)
