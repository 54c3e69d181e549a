"""Image-conditioned risk map: a small U-Net gives the expected number of new lesions of every voxel.

    Lambda_v = exp(eta_v(scan, columns, arm) + log(week / 96))           expected lesions centred at voxel v
    loss = sum_v Lambda_v - sum_centres log Lambda_v                     Poisson process of centres, last visit

The count's mean is the sum of the map; its negative-binomial size is fitted to the training patients' counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalms.generator.outcomes import ExpectedOutcome
from causalms.generator.train.patients import TrainingPatient
from causalms.stats import fit_model
from causalms.trials import Space
from studies.baselines.image_forecaster import (
    EncodedImage,
    ImageForecaster,
    ImageInputs,
    ImageNetwork,
    trained_weeks,
)
from studies.baselines.optimise import Recipe, batch_at, optimise, seeded, split
from studies.baselines.unet import Condition, UNet

CONFIG = {"widths": [8, 16, 32], "condition": 64}
BATCH_PATIENTS = 4


class RiskMapNetwork(ImageNetwork):
    """U-Net with one head, the logarithm of expected lesions a voxel; ``size`` and ``lesion_ml`` are noted after training."""

    def __init__(self, arms: int, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        widths = config["widths"]
        self.condition = Condition(arms, 0, config["condition"])
        self.stem = nn.Conv3d(16, widths[0], 3, padding=1)
        self.unet = UNet(widths, config["condition"])
        self.norm = nn.GroupNorm(min(8, widths[0]), widths[0])
        self.head = nn.Conv3d(widths[0], 1, 1)
        self.level = nn.Linear(config["condition"], 1)
        self.law: Tensor
        self.register_buffer("law", torch.tensor([0.5, 0.0]))
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            nn.init.zeros_(self.level.weight)

    def forward(self, inputs: ImageInputs, arm: Tensor, log_week: Tensor) -> Tensor:
        """Log expected lesions (B, X, Y, Z), minus infinity outside the brain."""
        condition = self.condition(arm, inputs.columns)
        features = F.silu(self.norm(self.unet(self.stem(inputs.volume), condition)))
        eta = self.head(features)[:, 0] + (self.level(condition)[:, 0] + log_week)[:, None, None, None]
        return eta.masked_fill(inputs.brain[:, 0] == 0, -torch.inf)


class RiskMapForecaster(ImageForecaster):
    """The trained risk map."""

    name: ClassVar[str] = "U-Net risk map"
    capabilities: ClassVar[frozenset[str]] = frozenset({"expect", "place"})
    network: RiskMapNetwork

    @classmethod
    def build(cls, arms: int, config: Mapping[str, Any]) -> RiskMapNetwork:
        """The untrained network of a configuration."""
        return RiskMapNetwork(arms, config)

    @torch.no_grad()
    def log_map(self, scan: EncodedImage, arm: str, week: float) -> np.ndarray:
        """Log expected lesions of every voxel, grid's shape."""
        return self.network(scan.inputs, self.arm_index(arm), self.log_week(week))[0].double().cpu().numpy()

    def expect(self, scan: EncodedImage, arm: str, week: float) -> ExpectedOutcome:
        """Negative binomial whose mean is the sum of the map."""
        size, lesion_ml = (float(value) for value in self.network.law)
        mean = float(np.exp(self.log_map(scan, arm, week)).sum())
        return ExpectedOutcome(mean, mean * lesion_ml, 1 - (size / (size + mean)) ** size, 1 / size)

    def log_place(self, scan: EncodedImage, arm: str) -> np.ndarray:
        """The map at the last trained week, normalised."""
        eta = self.log_map(scan, arm, self.weeks[1])
        return eta - float(np.log(np.exp(eta).sum()))


def train_risk_map(
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    space: Space,
    seed: int = 0,
    steps: int = 3000,
    budget_minutes: float | None = None,
    device: str = "cpu",
) -> RiskMapForecaster:
    """Train on the lesion centres of the last visit; the size is that of the training patients, fitted in sample."""
    training, _ = split(patients, seed)
    network = seeded(lambda: RiskMapNetwork(len(arms), CONFIG), seed)
    lesions, brain = (sum(v) for v in zip(*((len(p.centres), p.arrays.masks[0].sum()) for p in training), strict=True))
    with torch.no_grad():
        cast(Tensor, network.head.bias).fill_(float(np.log(lesions / brain)))
    network.prepare(training, space, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = batch_at(training, BATCH_PATIENTS, step, seed)
        inputs, arm, weeks = network.read_visits([(p, p.last) for p in batch], arms, space)
        eta = network(inputs, arm, weeks)
        total = torch.exp(eta).sum()
        for index, patient in enumerate(batch):
            at = eta[index].flatten()[torch.from_numpy(patient.centres.astype(np.int64)).to(device)]
            total = total - at[torch.isfinite(at)].sum()
        return total / len(batch) / 10

    done = optimise(network, loss, Recipe(steps, budget_minutes, 1e-3), seed)
    fitted = RiskMapForecaster(network.cpu(), arms, space, trained_weeks(patients), done.header(seed, training))
    means = np.array([np.exp(fitted.log_map(fitted.encode_arrays(p.arrays), p.arm, p.last.week)).sum() for p in training[:300]])
    counts = np.array([p.last.lesions for p in training[:300]])
    volume = sum(p.volume_ml for p in training) / max(sum(p.last.lesions for p in training), 1)
    alpha = float(np.max(fit_model("negbin", np.ones((len(counts), 1)), counts, means).alpha))
    network.law.copy_(torch.tensor([1 / max(alpha, 1e-3), volume]))
    return fitted
