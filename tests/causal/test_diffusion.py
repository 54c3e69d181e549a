"""The adapter of the diffusion model: masks under shared noise, factual masks as evidence, and the shipped checkpoint."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from causalms.causal import CausalModel, Running, Twin
from causalms.causal.mechanisms.diffusion import DiffusionMechanism
from causalms.errors import RefusalError
from causalms.generator import DiffusionNoise, Generator
from causalms.generator.noise import draw_noise
from causalms.generator.outcomes import ExpectedOutcome
from causalms.lesions import LesionRule, count_lesions
from causalms.tables import REGIONS
from causalms.trials import mni_space, template_anatomy

ARMS = ("placebo", "interferon-beta-1a-im", "ocrelizumab")
SPACE = mni_space("4mm")


class VoxelwiseGenerator:
    """Every brain voxel is a lesion where its noise exceeds a threshold of the arm: all answers by hand."""

    arms, weeks, space, checksum = ARMS, (24.0, 96.0), SPACE, "voxelwise"
    rule = LesionRule.default()
    sigmas = np.array([8.0, 2.0, 0.2])
    rates = dict(zip(ARMS, (4e-4, 2e-4, 5e-5), strict=True))  # noqa: RUF012

    def encode(self, trial, participant_id):
        return SimpleNamespace(missing=("ceT1w",) if participant_id == "sub-0001" else ())

    def model_error(self, scan, arm, week):
        return None  # this generator is the truth of its own world and claims no error model

    def expect(self, scan, arm, week, risk=False):
        p = self.rates[arm] * week / 48
        voxels = SPACE.shape[0] * SPACE.shape[1] * SPACE.shape[2]
        return ExpectedOutcome(
            p * voxels, p * voxels * 0.064, 1 - (1 - p) ** voxels, 0.0, np.full(SPACE.shape, p) if risk else None
        )

    def noise(self, participant_id, draw, seed):
        return draw_noise(participant_id, draw, seed, SPACE.shape)

    def sample(self, scan, arm, week, noise, sampler="ode", steps=None):
        field = noise.field if sampler == "ode" else noise.step_noise(1, SPACE.shape)
        return field > -special.ndtri(self.rates[arm] * week / 48)

    def abduct(self, scan, arm, week, mask, draw, seed, sampler="ancestral", method="stochastic"):
        rng = np.random.default_rng([draw, seed])
        p = self.rates[arm] * week / 48
        uniform = rng.random(SPACE.shape) if method == "stochastic" else np.full(SPACE.shape, 0.5)
        z = np.where(mask, -special.ndtri(p * uniform), special.ndtri((1 - p) * uniform)).astype(np.float32)
        path = None if sampler == "ode" else np.stack([z, z])
        return type("Abduction", (), {"noise": DiffusionNoise(0.0, z, path, ("p", draw, seed)), "residual": 0.0})()


@pytest.fixture(autouse=True)
def _one_by_one(monkeypatch):
    """This generator has no network to send a batch through: its masks are asked for one by one."""
    monkeypatch.setattr(
        "causalms.causal.mechanisms.diffusion.sample_across",
        lambda generator, asked, sampler: (generator.sample(*one, sampler) for one in asked),
    )
    monkeypatch.setattr("causalms.causal.mechanisms.diffusion.masks_at_once", lambda generator: 1)


@dataclass(frozen=True)
class MaskTrial:
    participants: pd.DataFrame
    masks: dict
    name: str = "masks"

    def image(self, participant_id, modality):
        return np.zeros(SPACE.shape, np.float32)

    def mask(self, participant_id, kind, week=0):
        return self.masks.get((participant_id, kind, week))


@pytest.fixture
def model():
    return CausalModel(DiffusionMechanism(VoxelwiseGenerator()))


@pytest.fixture
def trial(make_participants):
    table = make_participants(4, 6, ARMS).assign(arm=["placebo", "placebo", "ocrelizumab", "interferon-beta-1a-im"])
    rng = np.random.default_rng(8)
    masks = {(p, "NET2", 48): rng.random(SPACE.shape) < 1e-4 for p in table["participant_id"]}
    return MaskTrial(table, masks)


def test_the_sampler_that_shares_noise_thins_lesions(model, trial):
    masks = model.masks(trial, "sub-0000", list(ARMS), 48, draws=3)
    weak, strong = masks["placebo", 48.0], masks["ocrelizumab", 48.0]
    assert weak.shape == (3, *SPACE.shape)
    assert not (strong & ~weak).any()
    assert strong.sum() < weak.sum()


def test_masks_are_those_whose_counts_the_draws_table_holds(model, trial):
    draws = model.do(trial, list(ARMS), 48, draws=3)
    masks = model.masks(trial, "sub-0001", list(ARMS), 48, draws=3)
    regions = template_anatomy(SPACE).regions
    for (arm, _), of_arm in masks.items():
        rows = draws[(draws["participant_id"] == "sub-0001") & (draws["arm"] == arm)]
        counted = [count_lesions(m, SPACE.voxel_volume_mm3, LesionRule.default(), regions) for m in of_arm]
        assert rows["net2_lesions"].tolist() == [c.lesions for c in counted]
        assert rows["net2_volume_ml"].tolist() == [c.volume_ml for c in counted]
        assert rows[[f"net2_lesions_{r}" for r in REGIONS]].to_numpy().tolist() == [list(c.by_region) for c in counted]


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_a_factual_mask_is_given_back_in_its_own_world(model, trial, coupling):
    for participant_id, arm in zip(trial.participants["participant_id"], trial.participants["arm"], strict=True):
        masks = model.masks(trial, participant_id, list(ARMS), 48, draws=2, coupling=coupling, evidence_week=48.0)
        fact = trial.mask(participant_id, "NET2", 48)
        assert (masks[arm, 48.0] == fact).all()
        if arm == "placebo":
            assert not (masks["ocrelizumab", 48.0] & ~fact).any()


def test_counterfactuals_of_masks_pass_the_diagnostics_they_can(model, trial):
    twins = model.counterfactual(trial, "ocrelizumab", 48, particles=2)
    values = {row["diagnostic"]: row for row in twins.attrs["diagnostics"]}
    assert values["composition"]["value"] == 0.0
    assert values["composition of masks"]["value"] == 0.0
    assert values["invariance"]["value"] == 0.0
    record = next(iter(twins.attrs["queries"].values()))
    assert record["evidence"]["outcome"] == "NET2 mask"
    assert record["lesion_rule"] == {"connectivity": 26, "min_volume_mm3": 3.0, "strictly_more": False}


def test_deterministic_abduction_has_one_particle(model, trial):
    twins = model.counterfactual(trial, "placebo", 48, particles=3, twin=Twin(abduction="deterministic", checked_patients=0))
    counts = twins[twins["query"] == "counterfactual"].groupby("participant_id")["net2_lesions"].nunique()
    assert (counts == 1).all()


@pytest.mark.parametrize("expected", [True, False])
def test_inputs_that_a_patient_lacks_are_said_in_rows_and_record(model, trial, expected):
    draws = model.do(trial, "placebo", 48, draws=2, expected=expected)
    assert set(draws.loc[draws["participant_id"] == "sub-0001", "missing_inputs"]) == {"ceT1w"}
    assert draws.loc[draws["participant_id"] != "sub-0001", "missing_inputs"].isna().all()
    assert next(iter(draws.attrs["queries"].values()))["participants_with_missing_inputs"] == {"ceT1w": 1}


def test_risk_maps_are_by_arm(model, trial):
    risk = model.risk_map(trial, "sub-0000", "placebo", 48)
    assert risk.shape == SPACE.shape
    assert risk.max() == pytest.approx(4e-4)


def test_a_missing_mask_is_missing_evidence(model, trial):
    del trial.masks["sub-0002", "NET2", 48]
    with pytest.raises(RefusalError, match="sub-0002: no NET2 mask at week 48"):
        model.counterfactual(trial, "placebo", 48, particles=1)
    twins = model.counterfactual(trial, "placebo", 48, particles=1, twin=Twin(missing="skip", checked_patients=0))
    assert twins["participant_id"].nunique() == 3


def test_a_table_without_scans_is_refused(model, trial):
    with pytest.raises(RefusalError, match="needs a baseline scan and this is only a table"):
        model.do(trial.participants, "placebo")


def test_rho_mixes_fields(model, trial):
    twins = model.counterfactual(trial, "ocrelizumab", 48, coupling="rho", particles=2, twin=Twin(rho=0.5, checked_patients=0))
    assert len(twins) == 4 + 8


@pytest.fixture(scope="module")
def shipped():
    return CausalModel.load("reference")


@pytest.fixture(scope="module")
def phantom():
    import causalms as cms

    return cms.simulate_trial("lifelike", patients=8, seed=77)


def test_workers_load_the_checkpoint_instead_of_being_sent_it(shipped):
    assert len(pickle.dumps(shipped.mechanism)) < 1000
    assert pickle.loads(pickle.dumps(shipped.mechanism)).checksum == shipped.mechanism.checksum


@pytest.mark.slow
def test_the_shipped_model_gives_the_same_numbers_for_two_workers(shipped, phantom):
    some = list(phantom.participants["participant_id"].head(2))
    one, two = (
        shipped.do(phantom, ["placebo", "ocrelizumab"], 48, draws=1, running=Running(w, participants=some)) for w in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.slow
def test_ancestral_abduction_of_the_shipped_model_gives_factual_masks_back(shipped, phantom):
    seen = phantom.participants.dropna(subset=["net2_lesions_week48"])
    for participant_id, arm in seen[["participant_id", "arm"]].head(2).itertuples(index=False):
        masks = shipped.masks(phantom, participant_id, arm, 48, draws=1, coupling="ancestral", evidence_week=48.0)
        assert (masks[arm, 48.0][0] == phantom.mask(participant_id, "NET2", 48)).all()


def test_the_shipped_model_is_the_generator_behind_the_contract(shipped):
    assert isinstance(shipped.mechanism.generator, Generator)
    assert shipped.mechanism.description["guidance"] == 1.0
