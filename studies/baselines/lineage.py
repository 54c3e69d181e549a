"""Lineage-faithful diffusion: the recipe that public code preceding the paper uses, kept whole as a baseline.

    m_0 = m                                  mask in -1 / +1
    x_t = alpha_t m_0 + sigma_t e            variance preserving, alpha^2 = sigmoid(l), sigma^2 = sigmoid(-l)
    l(t) = -2 log tan(a + (b - a) t)         cosine log-SNR in continuous time, from 9 to -12
    v = alpha e - sigma m_0                  the target; plain mean squared error     (Salimans and Ho 2022)
    m_hat = tanh(alpha x / sigma^2 + h / 2)  the network gives h; its v is (alpha x - m_hat) / sigma
    v_w = v(no arm, no image) + w (v(arm, image) - v(no arm, no image)),  w = 3.5      (Ho and Salimans 2022)

Baseline volumes are concatenated to the noisy mask; arm and week are embedded; arm and image (with the columns) are each
dropped from 15% of training patients; weights are averaged; 256 ancestral steps clip the clean estimate to [-1, 1]; the
mask is ``x > 0``.  The blur of one voxel is left out: thresholding does not bring a lesion of one voxel back, and at 4 mm
it keeps 6 of 1,945 lesions.  One thing is added in the recipe's favour: the output h is the log odds of a lesion beside
those of the voxel's own noisy value (were voxels independent, m_hat would be the posterior mean), and begins at the share of
lesion voxels in the training masks.  A network that starts from ``v = 0`` still drew noise for lesions after 2.5 CPU minutes.
Guidance and mean squared error are known to bias counts: that is what the comparison shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

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
from studies.baselines.stochastic_segmentation import base_logit
from studies.baselines.unet import Condition, UNet

CONFIG = {"widths": [16, 32, 64], "condition": 64}
BATCH_PATIENTS = 4
DROPOUT = 0.15
GUIDANCE = 3.5
STEPS = 256
AVERAGE = 0.9999
LOG_SNR_RANGE = (9.0, -12.0)


def log_snr(t: Tensor) -> Tensor:
    """Cosine log signal-to-noise ratio at time ``t`` in [0, 1].

    Examples
    --------
    >>> log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64)).round(decimals=6).tolist()
    [9.0, -12.0]
    """
    first, last = (math.atan(math.exp(-0.5 * value)) for value in LOG_SNR_RANGE)
    return -2 * torch.log(torch.tan(first + (last - first) * t))


def signal_and_noise(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """``alpha = sqrt(sigmoid(l))`` and ``sigma = sqrt(sigmoid(-l))``; their squares sum to one."""
    return torch.sqrt(torch.sigmoid(log_ratio)), torch.sqrt(torch.sigmoid(-log_ratio))


def velocity(clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``v = alpha e - sigma m_0``; then ``m_0 = alpha x - sigma v`` and ``e = sigma x + alpha v``."""
    return alpha * noise - sigma * clean


class LineageNetwork(ImageNetwork):
    """U-Net that predicts ``v`` from the noisy mask, the baseline volumes, arm, week, columns and log-SNR."""

    def __init__(self, arms: int, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        widths = config["widths"]
        self.no_arm = arms
        self.condition = Condition(arms, 1 + 9, config["condition"])
        # a convolution of the concatenated volumes is the sum of the two; the scan's part is the same at every step
        self.see_mask = nn.Conv3d(1, widths[0], 3, padding=1)
        self.see_scan = nn.Conv3d(16, widths[0], 3, padding=1, bias=False)
        self.unet = UNet(widths, config["condition"])
        self.norm = nn.GroupNorm(min(8, widths[0]), widths[0])
        self.head = nn.Conv3d(widths[0], 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def start(self, log_odds: float) -> None:
        """Begin at the share of lesion voxels in the training masks."""
        nn.init.constant_(cast(Tensor, self.head.bias), log_odds)

    def forward(self, x: Tensor, log_ratio: Tensor, seen: Tensor, columns: Tensor, arm: Tensor, log_week: Tensor) -> Tensor:
        """``v`` of the shape of ``x`` (B, 1, X, Y, Z); ``seen`` is ``see_scan(volume)``; the rest has a row a patient."""
        waves = log_ratio[:, None] * torch.tensor([0.15, 0.3, 0.6, 1.2], device=x.device)
        level = torch.cat([log_ratio[:, None] / 10, torch.sin(waves), torch.cos(waves)], dim=1)
        condition = self.condition(arm, torch.cat([columns, log_week[:, None], level], dim=1))
        features = self.unet(self.see_mask(x) + seen, condition)
        log_odds = self.head(F.silu(self.norm(features))).float()
        alpha, sigma = (part.view(-1, 1, 1, 1, 1) for part in signal_and_noise(log_ratio))
        return (alpha * x - torch.tanh(alpha * x / sigma**2 + log_odds / 2)) / sigma


def lineage_loss(
    network: LineageNetwork, inputs: ImageInputs, clean: Tensor, arm: Tensor, log_week: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared error of ``v`` over the whole grid; arm and image are dropped independently of each other."""
    size, device = clean.shape[0], clean.device
    log_ratio = log_snr(torch.rand(size, generator=generator)).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    no_arm = (torch.rand(size, generator=generator) < DROPOUT).to(device)
    image = (torch.rand(size, generator=generator) >= DROPOUT).float().to(device)
    alpha, sigma = (part.view(-1, 1, 1, 1, 1) for part in signal_and_noise(log_ratio))
    seen = network.see_scan(inputs.volume * image.view(-1, 1, 1, 1, 1))
    arm = torch.where(no_arm, torch.full_like(arm, network.no_arm), arm)
    output = network(alpha * clean + sigma * noise, log_ratio, seen, inputs.columns * image[:, None], arm, log_week)
    return F.mse_loss(output, velocity(clean, noise, alpha, sigma))


class LineageForecaster(ImageForecaster):
    """The trained lineage-faithful diffusion."""

    name: ClassVar[str] = "lineage-faithful diffusion"
    capabilities: ClassVar[frozenset[str]] = frozenset({"masks"})
    network: LineageNetwork

    @classmethod
    def build(cls, arms: int, config: Mapping[str, Any]) -> LineageNetwork:
        """The untrained network of a configuration."""
        return LineageNetwork(arms, config)

    def sample(
        self,
        scan: EncodedImage,
        arm: str,
        week: float,
        draw: int,
        seed: int,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
    ) -> np.ndarray:
        """One NET2 mask, bool of the grid's shape; the same noise for every arm and week."""
        return (self.sample_field(scan, arm, week, draw, seed, steps, guidance) > 0) & self._brain(scan)

    @torch.no_grad()
    def sample_field(
        self, scan: EncodedImage, arm: str, week: float, draw: int, seed: int, steps: int, guidance: float
    ) -> np.ndarray:
        """The continuous field that :meth:`sample` thresholds at zero."""
        network = self.network
        columns = scan.inputs.columns
        arms = torch.cat([self.arm_index(arm), torch.full_like(self.arm_index(arm), network.no_arm)])
        weeks = self.log_week(week).expand(2)
        seen = network.see_scan(torch.cat([scan.inputs.volume, torch.zeros_like(scan.inputs.volume)]))
        both = torch.cat([columns, torch.zeros_like(columns)])
        times = log_snr(torch.linspace(1, 0, steps + 1, device=columns.device))
        x = self._noise(scan, "start", draw, seed)
        for index in range(steps):
            here, there = times[index], times[index + 1]
            with_condition, without = network(x.expand(2, -1, -1, -1, -1), here.expand(2), seen, both, arms, weeks)
            v = without + guidance * (with_condition - without)
            alpha, sigma = signal_and_noise(here)
            clean = (alpha * x - sigma * v).clamp(-1, 1)
            last = index == steps - 1
            noise = torch.zeros_like(x) if last else self._noise(scan, f"step{index}", draw, seed)
            x = clean if last else ancestral_step(x, clean, here, there, noise)
        return x[0, 0].cpu().numpy()

    def _noise(self, scan: EncodedImage, purpose: str, draw: int, seed: int) -> Tensor:
        field = stream(f"lineage-{purpose}", scan.participant_id, draw, seed).standard_normal(self.space.shape, dtype=np.float32)
        return torch.from_numpy(field)[None, None].to(scan.inputs.volume.device)

    @staticmethod
    def _brain(scan: EncodedImage) -> np.ndarray:
        return (scan.inputs.brain[0, 0] > 0).cpu().numpy()


def ancestral_step(x: Tensor, clean: Tensor, here: Tensor, there: Tensor, noise: Tensor) -> Tensor:
    """From log-SNR ``here`` to the larger ``there``: a draw from ``q(x' | x, m_0)`` (Kingma et al. 2021, appendix A).

    With ``c = 1 - exp(l - l')``: mean ``alpha' ((1 - c) x / alpha + c m_0)`` and variance ``sigma'^2 c``.
    """
    alpha, _ = signal_and_noise(here)
    next_alpha, next_sigma = signal_and_noise(there)
    share = -torch.expm1(here - there)
    mean = next_alpha * ((1 - share) * x / alpha + share * clean)
    return mean + next_sigma * torch.sqrt(share) * noise


def train_lineage(
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    space: Space,
    seed: int = 0,
    steps: int = 4000,
    budget_minutes: float | None = None,
    device: str = "cpu",
    mixed_precision: bool = False,
) -> LineageForecaster:
    """Train on the mask of one visit a patient and step, drawn at random from the patient's own; if told so, in bfloat16."""
    training, _ = split(patients, seed)
    network = seeded(lambda: LineageNetwork(len(arms), CONFIG), seed)
    network.start(base_logit(training))
    network.prepare(training, space, device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = visits_at(training, BATCH_PATIENTS, step, seed, generator)
        inputs, arm, weeks = network.read_visits(batch, arms, space)
        masks = np.stack([visit.mask(space.shape) for _, visit in batch])[:, None]
        clean = torch.from_numpy(2 * masks.astype(np.float32) - 1).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=mixed_precision):
            return lineage_loss(network, inputs, clean, arm, weeks, generator)

    done = optimise(network, loss, Recipe(steps, budget_minutes, 1e-3), seed, average=AVERAGE)
    return LineageForecaster(network.cpu(), arms, space, trained_weeks(patients), done.header(seed, training))
