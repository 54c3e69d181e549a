"""Mathematics of the image baselines, whatever their networks have learned."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from studies.baselines.image_forecaster import COLUMNS
from studies.baselines.lineage import CONFIG, LineageNetwork, ancestral_step, log_snr, signal_and_noise, velocity
from studies.baselines.optimise import MovingAverage, Recipe, batch_at, optimise
from studies.baselines.stochastic_segmentation import LogitLaw, monte_carlo_loss
from studies.baselines.unet import ConditionedBlock, UNet


def _law() -> LogitLaw:
    mean = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    variance = torch.tensor([0.5, 0.1, 1.0, 0.2])
    factors = torch.tensor([[1.0, 0.5, 0.0, -1.0], [0.0, 1.0, 0.5, 0.3]])
    return LogitLaw(mean, variance, factors)


def test_sampled_logits_have_the_covariance_that_the_network_states() -> None:
    law, random = _law(), torch.Generator().manual_seed(0)
    count = 200_000
    logits = law.draw(torch.randn((count, 2), generator=random), torch.randn((count, 4), generator=random))
    stated = torch.diag(law.variance) + law.factors.T @ law.factors
    # the standard error of a covariance is sqrt((s_ij^2 + s_ii s_jj) / n), at most 0.005 here; four of them
    assert torch.allclose(torch.cov(logits.T), stated, atol=0.02)
    assert torch.allclose(logits.mean(0), law.mean, atol=0.012)


def test_marginal_probability_is_the_mean_of_sampled_probabilities() -> None:
    law, random = _law(), torch.Generator().manual_seed(1)
    logits = law.draw(torch.randn((200_000, 2), generator=random), torch.randn((200_000, 4), generator=random))
    # probabilities have a standard deviation of at most 0.5, so a standard error of at most 0.0012
    assert torch.allclose(law.marginal_probability(), torch.sigmoid(logits).mean(0), atol=0.005)


def test_certain_logits_cost_the_unweighted_cross_entropy() -> None:
    mean, target = torch.tensor([-3.0, 1.0, 0.2]), torch.tensor([0.0, 1.0, 0.0])
    certain = LogitLaw(mean, torch.zeros(3), torch.zeros(2, 3))
    loss = monte_carlo_loss(certain, target, torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(float(F.binary_cross_entropy_with_logits(mean, target, reduction="sum")), rel=1e-6)


def test_clean_mask_and_noise_are_recovered_from_velocity() -> None:
    random = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((1000,), generator=random, dtype=torch.float64) for _ in range(2))
    for t in (0.0, 0.3, 0.9, 1.0):
        alpha, sigma = signal_and_noise(log_snr(torch.tensor(t, dtype=torch.float64)))
        assert float(alpha**2 + sigma**2) == pytest.approx(1, abs=1e-12)
        x, v = alpha * clean + sigma * noise, velocity(clean, noise, alpha, sigma)
        assert torch.allclose(alpha * x - sigma * v, clean, atol=1e-6)
        assert torch.allclose(sigma * x + alpha * v, noise, atol=1e-6)


def test_signal_falls_all_along_the_cosine_schedule() -> None:
    levels = log_snr(torch.linspace(0, 1, 257, dtype=torch.float64))
    assert (torch.diff(levels) < 0).all()
    assert float(log_snr(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(0, abs=0.05)  # 9 and -12 are nearly symmetric


def test_ancestral_step_keeps_the_law_of_the_noised_mask() -> None:
    random = torch.Generator().manual_seed(2)
    here, there = torch.tensor(-1.0), torch.tensor(0.5)
    alpha, sigma = signal_and_noise(here)
    clean = torch.full((400_000,), -0.6)
    x = alpha * clean + sigma * torch.randn(clean.shape, generator=random)
    after = ancestral_step(x, clean, here, there, torch.randn(clean.shape, generator=random))
    next_alpha, next_sigma = signal_and_noise(there)
    # standard errors 0.001 of the mean and 0.0008 of the standard deviation; four of each
    assert float(after.mean()) == pytest.approx(float(next_alpha * -0.6), abs=0.004)
    assert float(after.std()) == pytest.approx(float(next_sigma), abs=0.0035)


def test_an_untrained_lineage_knows_what_a_voxel_says_alone() -> None:
    network, random = LineageNetwork(2, CONFIG).eval(), torch.Generator().manual_seed(3)
    network.start(math.log(0.1 / 0.9))
    level = torch.tensor([-0.5])
    alpha, sigma = (float(part) for part in signal_and_noise(level))
    lesion = (torch.rand((1, 1, 8, 8, 8), generator=random) < 0.1).float()
    x = alpha * (2 * lesion - 1) + sigma * torch.randn(lesion.shape, generator=random)
    with torch.no_grad():
        v = network(x, level, torch.zeros(1, 16, 8, 8, 8), torch.zeros(1, COLUMNS), torch.tensor([0]), torch.zeros(1))
    # Bayes' rule with a prior of 0.1 and normal noise
    there, absent = (torch.exp(-0.5 * ((x - alpha * value) / sigma) ** 2) * prior for value, prior in ((1, 0.1), (-1, 0.9)))
    assert torch.allclose(alpha * x - sigma * v, (there - absent) / (there + absent), atol=1e-4)


def test_a_new_block_passes_its_input_on_and_the_condition_modulates_a_trained_one() -> None:
    torch.manual_seed(0)
    block, x = ConditionedBlock(8, 4), torch.randn(2, 8, 4, 4, 4)
    assert torch.equal(block(x, torch.randn(2, 4)), x)
    unet = UNet([8, 16], 4)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.2)
    one, other = unet(x[:1], torch.zeros(1, 4)), unet(x[:1], torch.ones(1, 4))
    assert one.shape == x[:1].shape
    assert not torch.allclose(one, other)


def test_moving_average_forgets_its_start() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = MovingAverage(layer, 0.9999)
    nn.init.ones_(layer.weight)
    for step in range(5):
        average.update(layer, step)
    # the start's weight is prod (1 + i) / (10 + i) = 1 / C(14, 9) after five updates
    assert float(average.mean["weight"]) == pytest.approx(1 - 1 / math.comb(14, 9), rel=1e-5)


def test_optimiser_keeps_the_best_validated_weights() -> None:
    layer, seen = nn.Linear(1, 1, bias=False), []
    scores = iter([3.0, 1.0, 2.0])

    def validate() -> float:
        seen.append(layer.weight.item())
        return next(scores)

    done = optimise(layer, lambda step, random: (layer.weight**2).sum(), Recipe(9, None, 0.1), 0, validate, validations=3)
    assert done.steps == 9
    assert done.validation == 1.0
    assert layer.weight.item() == seen[1] != seen[2]


def test_a_budget_ends_training_early() -> None:
    layer = nn.Linear(1, 1)
    done = optimise(layer, lambda step, random: (layer.weight**2).sum(), Recipe(10**9, 0.001, 0.1), 0)
    assert 1 <= done.steps < 10**6


def test_every_patient_is_seen_once_an_epoch() -> None:
    patients = list(range(12))
    epoch = [batch_at(patients, 4, step, 7) for step in range(3)]  # type: ignore[arg-type]
    assert sorted(itertools.chain.from_iterable(epoch)) == patients
    assert batch_at(patients, 4, 3, 7) != epoch[0]  # type: ignore[arg-type]
