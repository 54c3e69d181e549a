"""Multi-head count network: one scan encoder, one negative-binomial head an arm (Durso-Finley et al. 2022, arXiv 2204.01702).

    h = MLP(columns, mean over the brain of convolutional features)         shared by every arm
    log m_a = u_a . h + b_a + exp(c_a) log(week / 96),  log k_a = w_a . h + d_a
    loss = - mean over visits of log NB(n; m_a, k_a),  a the arm received    unweighted

It has no place and no mask: only the law of the count.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalms.generator.outcomes import ExpectedOutcome
from causalms.generator.train.patients import TrainingPatient
from causalms.trials import Space
from studies.baselines.image_forecaster import (
    COLUMNS,
    REFERENCE_WEEK,
    EncodedImage,
    ImageForecaster,
    ImageInputs,
    ImageNetwork,
    trained_weeks,
)
from studies.baselines.optimise import Recipe, batch_at, optimise, seeded, split

#: Width of the three strided convolutions and of the fully connected layers.
CONFIG = {"widths": [16, 32, 64], "hidden": 64}
BATCH_PATIENTS = 8
#: Patients of the validation split that early stopping looks at.
VALIDATION_PATIENTS = 400


def negative_binomial_log_likelihood(count: Tensor, log_mean: Tensor, size: Tensor) -> Tensor:
    """``log NB(n; m, k)`` with variance ``m + m^2 / k``, shape of ``count``."""
    log_total = torch.logaddexp(torch.log(size), log_mean)
    return (
        torch.lgamma(count + size)
        - torch.lgamma(size)
        - torch.lgamma(count + 1)
        + size * (torch.log(size) - log_total)
        + count * (log_mean - log_total)
    )


class CountHead(nn.Module):
    """Log mean and log size of one arm."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.law = nn.Linear(hidden, 2)
        self.log_power = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.law.weight)

    def forward(self, state: Tensor, log_week: Tensor) -> tuple[Tensor, Tensor]:
        """Log mean and size, each the shape of ``log_week``."""
        log_mean, log_size = self.law(state).unbind(-1)
        return log_mean + torch.exp(self.log_power) * log_week, torch.exp(log_size.clamp(-4, 6))


class CountNetwork(ImageNetwork):
    """Shared encoder and one :class:`CountHead` an arm."""

    def __init__(self, arms: int, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        widths, hidden = config["widths"], config["hidden"]
        channels = [16, *widths]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(channels)
        )
        self.first = nn.Linear(COLUMNS + widths[-1], hidden)
        self.second = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(0.1)
        self.heads = nn.ModuleList(CountHead(hidden) for _ in range(arms))
        self.mean_lesion_volume_ml: Tensor
        self.register_buffer("mean_lesion_volume_ml", torch.zeros(arms))

    def state(self, inputs: ImageInputs) -> Tensor:
        """Hidden state of every patient, (B, hidden)."""
        features, share = inputs.volume, inputs.brain
        for convolution in self.convolutions:
            features = F.silu(convolution(features))
            share = F.avg_pool3d(share, 2, ceil_mode=True)
        share = share / share.sum(dim=(2, 3, 4), keepdim=True)
        average = (features * share).sum(dim=(2, 3, 4))
        hidden = F.silu(self.first(torch.cat([inputs.columns, average], dim=1)))
        return F.silu(self.second(self.dropout(hidden)))

    def log_likelihood(self, inputs: ImageInputs, patients: list[TrainingPatient], arms: tuple[str, ...]) -> Tensor:
        """Sum over patients of the mean log-likelihood of their visits, each by the head of the arm received."""
        states = self.state(inputs)
        total = states.new_zeros(())
        for index, arm in enumerate(arms):
            owner = [i for i, patient in enumerate(patients) if patient.arm == arm]
            if not owner:  # the head stays out of the graph: other arms' patients cannot move it
                continue
            rows = [(i, visit, 1 / len(patients[i].visits)) for i in owner for visit in patients[i].visits]
            log_week = torch.tensor([float(np.log(visit.week / REFERENCE_WEEK)) for _, visit, _ in rows], device=states.device)
            count = torch.tensor([float(visit.lesions) for _, visit, _ in rows], device=states.device)
            weight = torch.tensor([share for _, _, share in rows], device=states.device)
            log_mean, size = self.heads[index](states[[i for i, _, _ in rows]], log_week)
            total = total + (weight * negative_binomial_log_likelihood(count, log_mean, size)).sum()
        return total

    def start(self, patients: list[TrainingPatient], arms: tuple[str, ...]) -> None:
        """Begin every head at its arm's observed rate and a size of 0.5; note the arm's mean lesion volume."""
        with torch.no_grad():
            for index, arm in enumerate(arms):
                own = [patient for patient in patients if patient.arm == arm]
                lesions = sum(patient.last.lesions for patient in own)
                time = sum(patient.last.week / REFERENCE_WEEK for patient in own)
                head = cast(CountHead, self.heads[index])
                head.law.bias.copy_(torch.tensor([float(np.log((lesions + 0.5) / (time + 0.5))), float(np.log(0.5))]))
                volume_ml = sum(patient.volume_ml for patient in own)
                self.mean_lesion_volume_ml[index] = volume_ml / lesions if lesions else 0.0


class CountForecaster(ImageForecaster):
    """The trained multi-head count network."""

    name: ClassVar[str] = "multi-head count network"
    capabilities: ClassVar[frozenset[str]] = frozenset({"expect"})
    network: CountNetwork

    @classmethod
    def build(cls, arms: int, config: Mapping[str, Any]) -> CountNetwork:
        """The untrained network of a configuration."""
        return CountNetwork(arms, config)

    @torch.no_grad()
    def expect(self, scan: EncodedImage, arm: str, week: float) -> ExpectedOutcome:
        """Law of the count; the expected volume is the count's mean times the arm's mean lesion volume in training."""
        index = int(self.arm_index(arm))
        log_mean, size = self.network.heads[index](self.network.state(scan.inputs), self.log_week(week))
        mean, k = float(torch.exp(log_mean)), float(size)
        volume = mean * float(self.network.mean_lesion_volume_ml[index])
        return ExpectedOutcome(mean, volume, 1 - (k / (k + mean)) ** k, 1 / k)


def train_count_network(
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    space: Space,
    seed: int = 0,
    steps: int = 6000,
    budget_minutes: float | None = None,
    device: str = "cpu",
) -> CountForecaster:
    """Train by unweighted negative-binomial likelihood, with early stopping on a tenth of the patients."""
    training, validation = split(patients, seed)
    network = seeded(lambda: CountNetwork(len(arms), CONFIG), seed)
    network.start(training, arms)
    network.prepare(training, space, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = batch_at(training, BATCH_PATIENTS, step, seed)
        inputs = network.read([patient.arrays for patient in batch], space)
        return -network.log_likelihood(inputs, batch, arms) / len(batch)

    def validate() -> float:
        total = 0.0
        watched = validation[:VALIDATION_PATIENTS]
        for start in range(0, len(watched), BATCH_PATIENTS):
            batch = watched[start : start + BATCH_PATIENTS]
            inputs = network.read([patient.arrays for patient in batch], space)
            total -= float(network.log_likelihood(inputs, batch, arms))
        return total / len(watched)

    done = optimise(network, loss, Recipe(steps, budget_minutes, 2e-3), seed, validate)
    return CountForecaster(network.cpu(), arms, space, trained_weeks(patients), done.header(seed, training))
