"""Stochastic segmentation network (Monteiro et al. 2020, arXiv 2006.06015): low-rank Gaussian logits from one forward pass.

    eta ~ N(mu, D + P P^T)                                    logits of the NET2 mask over brain voxels, P of rank 10
    loss = - log (1/M) sum_m prod_v p(y_v | eta_v^m)          Monte Carlo over M draws, cross-entropy without weights
    mask = eta > 0, as its authors do, or drawn voxel by voxel with probability sigmoid(eta), as the likelihood says

``mu``, ``D`` (diagonal) and ``P`` are heads of a U-Net that sees the scan, modulated by arm, week and columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalms.generator.noise import stream
from causalms.generator.train.patients import TrainingPatient
from causalms.trials import Space
from studies.baselines.image_forecaster import (
    EncodedImage,
    ImageForecaster,
    ImageInputs,
    ImageNetwork,
    trained_weeks,
)
from studies.baselines.optimise import Recipe, optimise, seeded, split, visits_at
from studies.baselines.unet import Condition, UNet

CONFIG = {"widths": [16, 32, 64], "condition": 64, "rank": 10}
BATCH_PATIENTS = 4
#: Draws of the logits in a training step.
MONTE_CARLO = 16


class LogitLaw(NamedTuple):
    """Gaussian law of logits: ``mean`` and ``variance`` (V,) of the diagonal part, ``factors`` (rank, V)."""

    mean: Tensor
    variance: Tensor
    factors: Tensor

    def draw(self, common: Tensor, own: Tensor) -> Tensor:
        """Logits ``mu + z P + sqrt(D) e`` from standard normals ``common`` (M, rank) and ``own`` (M, V)."""
        return self.mean + common @ self.factors + torch.sqrt(self.variance) * own

    def marginal_probability(self, nodes: int = 21) -> Tensor:
        """``E sigmoid(eta_v)`` (V,), by Gauss-Hermite quadrature over each voxel's own normal law."""
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        sd = torch.sqrt(self.variance + (self.factors**2).sum(0))
        terms = [w * torch.sigmoid(self.mean + float(p) * sd) for p, w in zip(points, weights / weights.sum(), strict=True)]
        return torch.stack(terms).sum(0)


class StochasticSegmentationNetwork(ImageNetwork):
    """U-Net with three heads: mean, log variance and low-rank factors of the logits."""

    def __init__(self, arms: int, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        widths, rank = config["widths"], config["rank"]
        self.condition = Condition(arms, 1, config["condition"])
        self.stem = nn.Conv3d(16, widths[0], 3, padding=1)
        self.unet = UNet(widths, config["condition"])
        self.norm = nn.GroupNorm(min(8, widths[0]), widths[0])
        self.heads = nn.Conv3d(widths[0], 2 + rank, 1)
        with torch.no_grad():
            self.heads.weight.mul_(0.3)
            nn.init.zeros_(cast(Tensor, self.heads.bias))

    def forward(self, inputs: ImageInputs, arm: Tensor, log_week: Tensor) -> Tensor:
        """Mean, log variance and factors, (B, 2 + rank, X, Y, Z)."""
        condition = self.condition(arm, torch.cat([inputs.columns, log_week[:, None]], dim=1))
        features = self.unet(self.stem(inputs.volume), condition)
        return self.heads(F.silu(self.norm(features)))


def logit_law(maps: Tensor, brain: Tensor) -> LogitLaw:
    """Law of one patient's logits over its brain voxels, from maps (2 + rank, X, Y, Z) and a bool mask (X, Y, Z)."""
    inside = maps.flatten(1)[:, brain.flatten()]
    return LogitLaw(inside[0], torch.exp(inside[1].clamp(-10, 5)), inside[2:])


def monte_carlo_loss(law: LogitLaw, target: Tensor, generator: torch.Generator, draws: int = MONTE_CARLO) -> Tensor:
    """``- log mean_m prod_v p(y_v | eta_v^m)`` of one patient; ``target`` (V,) is 0 or 1."""
    device = law.mean.device
    common = torch.randn((draws, law.factors.shape[0]), generator=generator).to(device)
    own = torch.randn((draws, law.mean.shape[0]), generator=generator).to(device)
    logits = law.draw(common, own)
    # log p(y | eta) = y eta - log(1 + exp(eta)), summed over voxels
    log_likelihood = logits @ target - F.softplus(logits).sum(1)
    return math.log(draws) - torch.logsumexp(log_likelihood, dim=0)


class StochasticSegmentationForecaster(ImageForecaster):
    """The trained stochastic segmentation network."""

    name: ClassVar[str] = "stochastic segmentation network"
    capabilities: ClassVar[frozenset[str]] = frozenset({"place", "masks"})
    network: StochasticSegmentationNetwork
    _latest: tuple[EncodedImage, str, float, LogitLaw] | None = None

    @classmethod
    def build(cls, arms: int, config: Mapping[str, Any]) -> StochasticSegmentationNetwork:
        """The untrained network of a configuration."""
        return StochasticSegmentationNetwork(arms, config)

    @torch.no_grad()
    def law(self, scan: EncodedImage, arm: str, week: float) -> LogitLaw:
        """Law of the logits over brain voxels; the latest one is kept, so that many draws cost one forward pass."""
        latest = self._latest
        if latest is not None and latest[0] is scan and latest[1:3] == (arm, week):
            return latest[3]
        maps = self.network(scan.inputs, self.arm_index(arm), self.log_week(week))[0]
        law = logit_law(maps, scan.inputs.brain[0, 0] > 0)
        self._latest = (scan, arm, week, law)
        return law

    def sample(
        self,
        scan: EncodedImage,
        arm: str,
        week: float,
        draw: int,
        seed: int,
        voxels: Literal["likelier", "drawn"] = "likelier",
    ) -> np.ndarray:
        """One NET2 mask, bool of the grid's shape; the same noise for every arm and week.

        Where lesions are rare no voxel may be likelier in a lesion than not; masks of drawn voxels still have their number.
        """
        law = self.law(scan, arm, week)
        noise = stream("stochastic-segmentation", scan.participant_id, draw, seed)
        common = noise.standard_normal((1, law.factors.shape[0]), dtype=np.float32)
        own = noise.standard_normal((1, law.mean.shape[0]), dtype=np.float32)
        device = law.mean.device
        logits = law.draw(torch.from_numpy(common).to(device), torch.from_numpy(own).to(device))[0]
        # logistic noise on a logit: positive with probability sigmoid(logit)
        own_odds = torch.from_numpy(noise.logistic(size=logits.shape)).to(logits) if voxels == "drawn" else 0.0
        mask = np.zeros(self.space.shape, dtype=bool)
        mask[(scan.inputs.brain[0, 0] > 0).cpu().numpy()] = (logits + own_odds > 0).cpu().numpy()
        return mask

    def log_place(self, scan: EncodedImage, arm: str) -> np.ndarray:
        """Log probability of a lesion's place: the mean probability map at the last trained week, normalised over the brain."""
        probability = self.law(scan, arm, self.weeks[1]).marginal_probability().double().clamp(min=1e-12)
        place = np.full(self.space.shape, -np.inf)
        place[(scan.inputs.brain[0, 0] > 0).cpu().numpy()] = torch.log(probability / probability.sum()).cpu().numpy()
        return place


def train_stochastic_segmentation(
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    space: Space,
    seed: int = 0,
    steps: int = 3000,
    budget_minutes: float | None = None,
    device: str = "cpu",
    mixed_precision: bool = False,
) -> StochasticSegmentationForecaster:
    """Train on the NET2 mask of one visit a patient and step, drawn at random from the patient's own.

    With ``mixed_precision`` the network runs in bfloat16, the likelihood in single precision.
    """
    training, _ = split(patients, seed)
    network = seeded(lambda: StochasticSegmentationNetwork(len(arms), CONFIG), seed)
    with torch.no_grad():
        cast(Tensor, network.heads.bias)[0] = base_logit(training)
    network.prepare(training, space, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = visits_at(training, BATCH_PATIENTS, step, seed, generator)
        inputs, arm, weeks = network.read_visits(batch, arms, space)
        with torch.autocast(device, torch.bfloat16, enabled=mixed_precision):
            maps = network(inputs, arm, weeks)
        maps = maps.float()
        total = maps.new_zeros(())
        for index, (_, visit) in enumerate(batch):
            brain = inputs.brain[index, 0] > 0
            target = torch.from_numpy(visit.mask(space.shape).astype(np.float32)).to(device)[brain]
            total = total + monte_carlo_loss(logit_law(maps[index], brain), target, generator)
        return total / len(batch) / 10

    done = optimise(network, loss, Recipe(steps, budget_minutes, 1e-3), seed)
    return StochasticSegmentationForecaster(network.cpu(), arms, space, trained_weeks(patients), done.header(seed, training))


def base_logit(patients: list[TrainingPatient]) -> float:
    """Log odds that a brain voxel of a training patient is in a NET2 lesion at the last visit, from at most 500 of them."""
    some = patients[:500]
    lesion = sum(int(np.unpackbits(patient.last.packed_mask).sum()) for patient in some)
    brain = sum(int(patient.arrays.masks[0].sum()) for patient in some)
    return float(np.log((lesion + 1) / brain))
