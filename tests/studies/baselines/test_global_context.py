"""Facts about the global-context denoiser: what it is given, what it may learn, and that it stands on one generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from causalms.errors import InputError, RefusalError
from causalms.generator import Generator, config
from causalms.generator.network import Network
from causalms.generator.train.data import training_set
from causalms.generator.train.denoiser import drawing_law
from causalms.generator.train.patients import TrainingPatient
from causalms.generator.train.risk import start_values
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from studies.baselines.count_network import CONFIG as COUNT_CONFIG
from studies.baselines.count_network import CountForecaster, CountNetwork
from studies.baselines.global_context import (
    CONFIG,
    MULTIPLES,
    GlobalContextForecaster,
    GlobalContextNetwork,
    frail_free_batch,
    log_likelihood_ratios,
    placed_patients,
    train_global_context,
)
from studies.baselines.optimise import Recipe, optimise
from studies.common import ARMS

STEPS = 2


@pytest.fixture(scope="module")
def patients(trial: PhantomTrial) -> list[TrainingPatient]:
    return training_set(trial, LesionRule.default())


@pytest.fixture(scope="module")
def generator(patients: list[TrainingPatient], tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """An untrained generator: nothing here asks it to be good."""
    model, _ = config("tiny")
    arms = tuple(arm for arm in ARMS if arm in {patient.arm for patient in patients})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(model, len(arms), 96.0)
    start_values(network, patients, arms)
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    Generator(network, model, arms, (24.0, 96.0), LesionRule.default()).save(path)
    return Generator.load(path)


@pytest.fixture(scope="module")
def trained(patients: list[TrainingPatient], generator: Generator) -> GlobalContextForecaster:
    return train_global_context(patients, generator, seed=5, steps=STEPS)


def _volume(multiple: float, sigma: float, prior: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean masks -1 / +1 whose odds are ``multiple`` times those of ``prior``, and the same with noise."""
    clean = 2.0 * (torch.rand(prior.shape, generator=random) < torch.sigmoid(prior + np.log(multiple))) - 1
    return clean, clean + sigma * torch.randn(prior.shape, generator=random)


def test_an_untrained_network_leaves_the_local_denoiser_as_it_is() -> None:
    torch.manual_seed(0)
    x, prior, local = torch.randn(2, 1, 8, 8, 8), torch.randn(2, 1, 8, 8, 8) - 4, torch.randn(2, 1, 8, 8, 8)
    logit = GlobalContextNetwork(CONFIG)(x, torch.tensor([0.5, 3.0]), prior, local, torch.ones_like(x))
    assert torch.equal(logit, local)


def test_log_likelihood_ratios_are_those_of_independent_voxels() -> None:
    random = torch.Generator().manual_seed(1)
    prior = torch.randn((1, 1, 4, 4, 4), generator=random, dtype=torch.float64) - 2
    brain = (torch.rand(prior.shape, generator=random) < 0.7).double()
    sigma = 1.3
    x = _volume(2.0, sigma, prior, random)[1].double()
    ratios = log_likelihood_ratios(prior, 2 * x / sigma**2, brain)[0].numpy()
    inside, odds = x[brain > 0].numpy(), np.exp(prior[brain > 0].numpy())

    def log_density(multiple: float) -> float:
        p = multiple * odds / (1 + multiple * odds)
        return float(np.log(p * stats.norm.pdf(inside, 1, sigma) + (1 - p) * stats.norm.pdf(inside, -1, sigma)).sum())

    assert ratios == pytest.approx([log_density(u) - log_density(1.0) for u in MULTIPLES], abs=1e-9)


def test_ratios_point_to_the_frailty_that_made_the_volume() -> None:
    random = torch.Generator().manual_seed(2)
    prior = torch.full((1, 1, 24, 24, 24), -6.0)
    brain = torch.ones_like(prior)
    for multiple in (0.125, 8.0):
        _, x = _volume(multiple, 0.5, prior, random)
        ratios = log_likelihood_ratios(prior, 2 * x / 0.5**2, brain)[0]
        # about 4 or 270 voxels against the 34 of the prior: the right end is ahead of the wrong one by tens of nats
        assert abs(MULTIPLES[int(ratios.argmax())] / multiple - 1) < 1.1
        assert float(ratios[MULTIPLES.index(multiple)]) > float(ratios[MULTIPLES.index(1 / multiple)]) + 10


def test_denoiser_learns_that_lesions_elsewhere_raise_the_odds_here() -> None:
    """Frailties 1/4 or 4 on a cube: after training, equal local evidence means more odds in the frail patient."""
    torch.manual_seed(0)
    network = GlobalContextNetwork({"widths": [8, 16], "condition": 16})
    prior = torch.full((4, 1, 8, 8, 8), -4.0)
    brain, sigma = torch.ones_like(prior), torch.full((4,), 0.6)
    multiples, evidence = (0.25, 4.0, 0.25, 4.0), 2 / 0.36  # no lesion is larger than a voxel: locally, evidence is all

    def batch(random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [_volume(multiple, 0.6, prior[:1], random) for multiple in multiples]
        clean, x = (torch.cat([part[side] for part in parts]) for side in (0, 1))
        return clean, x

    def loss(step: int, random: torch.Generator) -> torch.Tensor:
        clean, x = batch(random)
        return F.binary_cross_entropy_with_logits(network(x, sigma, prior, prior + evidence * x, brain), (clean > 0).float())

    held = torch.Generator().manual_seed(9)
    cleans, xs = zip(*[batch(held) for _ in range(10)], strict=True)

    def score() -> float:
        with torch.no_grad():
            logits = [network(x, sigma, prior, prior + evidence * x, brain) for x in xs]
        pairs = zip(logits, cleans, strict=True)
        return float(np.mean([float(F.binary_cross_entropy_with_logits(g, (c > 0).float())) for g, c in pairs]))

    before = score()
    truth = torch.log(torch.tensor(multiples)).view(4, 1, 1, 1, 1)
    written = [
        F.binary_cross_entropy_with_logits(prior + truth + evidence * x, (c > 0).float()) for x, c in zip(xs, cleans, strict=True)
    ]
    optimise(network, loss, Recipe(120, None, 5e-3), 0)
    # 512 voxels all but reveal which of the two frailties it is: half of what being told it is worth is asked for
    assert before - score() > 0.5 * (before - float(torch.stack(written).mean())) > 0.002
    with torch.no_grad():
        raised = network(xs[0], sigma, prior, prior + evidence * xs[0], brain) - prior - evidence * xs[0]
    by_patient = raised.flatten(1).mean(1)
    assert float(by_patient[[1, 3]].min()) > float(by_patient[[0, 2]].max()) + 1  # log 16 = 2.8 in full


def test_batches_hold_intensities_without_frailty_and_weigh_patients_alike(
    patients: list[TrainingPatient], generator: Generator
) -> None:
    placed = placed_patients(patients[:6], generator)
    law = drawing_law(placed)
    batch, brain = frail_free_batch(placed, law, tuple(generator.space.shape), np.random.default_rng(3))
    chosen = np.random.default_rng(3).choice(6, size=4, p=law)
    for row, index in enumerate(chosen):
        means = np.exp(placed[index].log_mean)
        # log places are kept in half precision: 0.1% of an odds of e^-10
        assert np.abs(float(batch.intensity[row].sum()) / means - 1).min() < 0.01
        assert float(batch.weight[row].sum()) == pytest.approx(1 / (6 * law[index]), rel=1e-5)
        assert np.array_equal(brain[row, 0].numpy() > 0, patients[index].arrays.masks[0])


def test_training_is_exact_under_a_seed_and_leaves_the_generator_alone(
    trained: GlobalContextForecaster, patients: list[TrainingPatient], generator: Generator
) -> None:
    before = {name: value.clone() for name, value in generator.network.state_dict().items()}
    state = torch.get_rng_state()
    again = train_global_context(patients, generator, seed=5, steps=STEPS)
    assert torch.equal(state, torch.get_rng_state())
    for key, value in trained.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[key]), key
    assert all(torch.equal(before[name], value) for name, value in generator.network.state_dict().items())
    assert again.header["steps"] == STEPS


def test_samples_share_the_generators_start_and_depend_on_patient_draw_and_seed_alone(
    trained: GlobalContextForecaster, patients: list[TrainingPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = GlobalContextForecaster(GlobalContextNetwork(CONFIG), trained.generator, {})
    with torch.no_grad():
        model.network.level.bias.fill_(3.0)  # untrained, most masks would be empty
    scans = [model.encode_arrays(patient.arrays) for patient in patients[:2]]
    pairs = [(0, 0), (0, 1), (1, 0)]  # patient and draw
    forward = [model.sample(scans[who], "placebo", 96, draw, 3, steps=3) for who, draw in pairs]
    backward = [model.sample(scans[who], "placebo", 96, draw, 3, steps=3) for who, draw in pairs[::-1]][::-1]
    assert (forward[0] != forward[1]).any()
    assert (forward[0] != model.sample(scans[0], "placebo", 96, 0, 4, steps=3)).any()
    assert all(np.array_equal(one, other) for one, other in zip(forward, backward, strict=True))
    brain = patients[0].arrays.masks[0]
    for sampler in ("ode", "ode-2m", "ancestral"):
        mask = model.sample(scans[0], "placebo", 96, 0, 3, sampler, steps=3)
        assert mask.dtype == bool
        assert mask.any()
        assert not mask[~brain].any()
    starts: list[np.ndarray] = []
    monkeypatch.setattr(
        "causalms.generator.sampling.ode_first_order",
        lambda denoise, x, sigmas: starts.append(x[0, 0].numpy()) or torch.sigmoid(x),
    )
    model.sample(scans[0], "placebo", 96, 0, 3)
    sigma = trained.generator.sigmas[0]
    field = trained.generator.noise(scans[0].participant_id, 0, 3).field
    assert np.allclose(starts[0], -1 + sigma * field, atol=1e-5)


def test_a_saved_model_gives_the_same_numbers_and_only_on_its_own_generator(
    trained: GlobalContextForecaster, generator: Generator, patients: list[TrainingPatient], tmp_path: Path
) -> None:
    trained.save(tmp_path / "global.safetensors")
    loaded = GlobalContextForecaster.load(tmp_path / "global.safetensors", generator)
    assert loaded.header == trained.header
    assert loaded.parameters == trained.parameters > sum(p.numel() for p in trained.network.parameters())
    scan = trained.encode_arrays(patients[0].arrays)
    x = torch.randn((1, 1, *generator.space.shape), generator=torch.Generator().manual_seed(0))
    one, other = (model.denoise(scan, "placebo", 48)(x, 2.0) for model in (trained, loaded))
    assert torch.equal(one, other)
    stranger = Generator(generator.network, generator.config, generator.arms, generator.weeks, generator.rule, {}, "f" * 64)
    with pytest.raises(InputError, match="generator"):
        GlobalContextForecaster.load(tmp_path / "global.safetensors", stranger)


def test_a_checkpoint_of_another_kind_is_refused(generator: Generator, tmp_path: Path) -> None:
    arms = generator.arms
    CountForecaster(CountNetwork(len(arms), COUNT_CONFIG), arms, generator.space, (24, 96), {}).save(
        tmp_path / "count.safetensors"
    )
    with pytest.raises(InputError, match="global-context denoiser"):
        GlobalContextForecaster.load(tmp_path / "count.safetensors", generator)


def test_counts_and_places_in_closed_form_are_refused(trained: GlobalContextForecaster, patients: list[TrainingPatient]) -> None:
    scan = trained.encode_arrays(patients[0].arrays)
    assert trained.capabilities == {"masks"}
    with pytest.raises(RefusalError, match="law of the count"):
        trained.expect(scan, "placebo", 96)
    with pytest.raises(RefusalError, match="law of places"):
        trained.log_place(scan, "placebo")
    with pytest.raises(RefusalError, match="trained on"):
        trained.sample(scan, "natalizumab", 96, 0, 0)
