"""The whole network: scan encoder, risk head and local denoiser.

One contract, ``D(x, sigma, condition) -> P(voxel is lesion | x)``; the condition enters as an intensity map of lesion centres.

(1) F = encoder(scan)                                        once a patient, for every arm, week, draw and step
(2) log Lambda(a, w) = b(h) + effect_a + h.e_a + log G_a(w)  expected count of the default lesion rule
(3) p(v | a) = softmax_v(F_v . (c + c_a))                    where the next lesion's centre lies, over brain voxels
(4) lambda_v = U Lambda p_v,  U ~ Gamma(k_a, 1/k_a)          frailty makes the count negative binomial of size k_a
(5) r = K * lambda,  logit_0 = log(exp(r) - 1)               a voxel is covered by some lesion of a Boolean model
(6) logit D = logit_0 + 2 x / sigma^2 + N(x, sigma, logit_0) prior, evidence of the voxel alone, what neighbours say
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalms.generator.configurations import ModelConfig, voxels_in_4_mm
from causalms.trials import mni_space


class Encoded(NamedTuple):
    """What the encoder gives for a batch of scans: ``features`` (B, C, X, Y, Z) and ``state`` (B, H)."""

    features: Tensor
    state: Tensor


class Encoder(nn.Module):
    """Scan encoder (equation 1): convolutions at half resolution, point-wise layers at full resolution, region pooling.

    No normalisation layers: the amplitude of a tissue's signal is information.
    """

    def __init__(self, channels: int, hidden: int, pooled: int, covariates: int, unit: int = 1) -> None:
        super().__init__()
        wide = 2 * channels
        self.point = nn.Conv3d(16, channels, 1)
        self.down = nn.Conv3d(16, wide, 3, stride=2, padding=1)
        self.mid = nn.Conv3d(wide, wide, 3, padding=unit, dilation=unit)
        self.deep = nn.Conv3d(wide, wide, 3, padding=unit, dilation=unit)
        self.up = nn.Conv3d(wide, channels, 1)
        self.out = nn.Conv3d(channels, channels, 1)
        self.pool_dropout = nn.Dropout(0.1)
        self.columns = nn.Linear(covariates + pooled, hidden)
        self.learned = nn.Linear(wide, hidden)
        self.linear_rate = nn.Linear(covariates + pooled, 1)
        self.hidden_rate = nn.Linear(hidden, 1)
        for layer in (self.linear_rate, self.hidden_rate):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, volume: Tensor, pooled: Tensor, covariates: Tensor, brain: Tensor) -> tuple[Encoded, Tensor]:
        """Features, state and the log rate ``b(h)`` without its intercept.

        ``volume`` (B, 16, X, Y, Z), ``pooled`` (B, P) and ``covariates`` (B, Q) standardised, ``brain`` (B, 1, X, Y, Z).
        """
        low, state, rate = self.summary(volume, pooled, covariates, brain)
        return Encoded(self.places(low, volume), state), rate

    def places(self, low: Tensor, volume: Tensor) -> Tensor:
        """Features at full resolution, which say where lesions come."""
        up = F.interpolate(self.up(low), size=volume.shape[2:], mode="nearest")
        full = F.silu(self.point(volume) + up)
        features: Tensor = full + F.silu(self.out(full))
        return features

    def summary(self, volume: Tensor, pooled: Tensor, covariates: Tensor, brain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Half-resolution features, state and log rate: all that a count needs, without the features of places."""
        low = self.coarse(volume)
        return low, *self.state_and_rate(self.average(low, brain), pooled, covariates)

    def coarse(self, volume: Tensor) -> Tensor:
        """Features at half resolution."""
        low = F.silu(self.down(volume))
        low = low + F.silu(self.mid(low))
        return low + F.silu(self.deep(low))

    def average(self, low: Tensor, brain: Tensor) -> Tensor:
        """Mean of half-resolution features over the brain, (B, 2 C)."""
        share = F.avg_pool3d(brain, 2, ceil_mode=True)
        share = share / share.sum(dim=(2, 3, 4), keepdim=True)
        return (low * share).sum(dim=(2, 3, 4))

    def state_and_rate(self, average: Tensor, pooled: Tensor, covariates: Tensor) -> tuple[Tensor, Tensor]:
        """State and log rate from the averaged features, pooled signals and columns."""
        columns = torch.cat([covariates, self.pool_dropout(pooled)], dim=1)
        state = torch.tanh(self.columns(columns) + self.learned(average))
        rate = self.linear_rate(columns) + self.hidden_rate(state)
        return state, rate[:, 0]


class LazilyEncoded:
    """What :class:`Encoded` holds, its features of places computed when they are first asked for: counts need none."""

    def __init__(self, encoder: Encoder, low: Tensor, volume: Tensor, state: Tensor) -> None:
        self._encoder, self._low, self._volume, self.state = encoder, low, volume, state

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.features, self.state))

    @cached_property
    @torch.no_grad()
    def features(self) -> Tensor:
        """Features at full resolution, (1, C, X, Y, Z)."""
        return self._encoder.places(self._low, self._volume)


class RiskHead(nn.Module):
    """Expected count, its dispersion and the place of lesions, by arm and week (equations 2 and 3)."""

    def __init__(self, channels: int, hidden: int, arms: int, last_week: float) -> None:
        super().__init__()
        self.last_week = last_week
        self.intercept = nn.Parameter(torch.zeros(()))
        self.effect = nn.Parameter(torch.zeros(arms))
        self.interaction = nn.Parameter(torch.zeros(arms, hidden))
        self.time_power = nn.Parameter(torch.zeros(arms))
        self.log_size = nn.Parameter(torch.tensor(-0.7))
        self.log_size_arm = nn.Parameter(torch.zeros(arms))
        self.place = nn.Linear(channels, 1, bias=False)
        self.place_arm = nn.Parameter(torch.zeros(arms, channels))
        self.log_mean_volume = nn.Parameter(torch.zeros(arms))

    def log_expected_count(self, rate: Tensor, state: Tensor, arm: Tensor, week: Tensor) -> Tensor:
        """Equation 2; ``G_a(w) = (w / last week) ** exp(c_a)``; all arguments and the result have shape (B,)."""
        modification = (state * self.interaction[arm]).sum(-1)
        share = torch.log(week / self.last_week) * torch.exp(self.time_power[arm])
        return self.intercept + rate + self.effect[arm] + modification + share

    def size(self, arm: Tensor) -> Tensor:
        """Negative-binomial size ``k_a`` (variance = m + m^2 / k)."""
        return torch.exp(self.log_size + self.log_size_arm[arm])

    def log_place(self, features: Tensor, brain: Tensor, arm: Tensor) -> Tensor:
        """Equation 3: log probability over voxels, (B, X, Y, Z); minus infinity outside the brain."""
        weight = self.place.weight[0] + self.place_arm[arm]
        logits = torch.einsum("bcxyz,bc->bxyz", features, weight)
        logits = logits.masked_fill(~brain, -torch.inf)
        return torch.log_softmax(logits.flatten(1), dim=1).view_as(logits)


class Denoiser(nn.Module):
    """Local denoiser of masks coded -1 / +1 (equations 5 and 6); trainable on crops because its field of view is local.

    Its first layer sees neighbouring voxels on every grid, the others reach ``unit`` voxels (4 mm) further each.
    """

    def __init__(self, channels: int, layers: int, unit: int = 1) -> None:
        super().__init__()
        self.channels, self.radius = channels, 2 * unit
        self.log_kernel = nn.Parameter(_coverage_kernel(unit))
        self.embed = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 2 * channels * layers))
        reach = [1, *[unit] * (layers - 1)]
        self.convs = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=step, dilation=step) for step in reach)
        self.head = nn.Conv3d(channels, 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def prior_logit(self, intensity: Tensor) -> Tensor:
        """Equation 5: log odds that a voxel is covered, from the intensity of centres (B, 1, X, Y, Z)."""
        coverage = F.conv3d(intensity, torch.exp(self.log_kernel), padding=self.radius).clamp(1e-9, 20.0)
        return torch.log(torch.expm1(coverage))

    def forward(self, x: Tensor, sigma: Tensor, prior_logit: Tensor) -> Tensor:
        """Equation 6: log odds of a lesion at every voxel; ``x``, ``prior_logit`` (B, 1, X, Y, Z), ``sigma`` (B,)."""
        level = sigma.view(-1, 1, 1, 1, 1)
        evidence = 2 * x / level**2
        belief = torch.sigmoid(prior_logit + evidence)
        planes = [x / torch.sqrt(1 + level**2), prior_logit / 5, torch.tanh(evidence / 4), belief]
        blank = x.new_zeros(x.shape[0], self.channels - len(planes), *x.shape[2:])
        hidden = torch.cat([*planes, blank], dim=1).to(memory_format=torch.channels_last_3d)
        scales = self.embed(_level_features(sigma)).view(x.shape[0], len(self.convs), 2, self.channels, 1, 1, 1)
        for layer, conv in enumerate(self.convs):
            update = F.silu(conv(hidden) * (1 + scales[:, layer, 0]) + scales[:, layer, 1])
            hidden = update if layer == 0 else hidden + update
        logit: Tensor = prior_logit + evidence + self.head(hidden)
        return logit


class Network(nn.Module):
    """The three parts under one roof, with the standardisation of their inputs as buffers."""

    def __init__(self, config: ModelConfig, arms: int, covariates: int, pooled: int, last_week: float) -> None:
        super().__init__()
        unit = voxels_in_4_mm(mni_space(config.grid).shape)
        self.encoder = Encoder(config.channels, config.hidden, pooled, covariates, unit)
        self.risk = RiskHead(config.channels, config.hidden, arms, last_week)
        self.denoiser = Denoiser(config.channels, config.denoiser_layers, unit)
        self.covariate_mean: Tensor
        self.covariate_sd: Tensor
        self.pooled_mean: Tensor
        self.pooled_sd: Tensor
        self.count_calibration: Tensor
        self.register_buffer("covariate_mean", torch.zeros(covariates))
        self.register_buffer("covariate_sd", torch.ones(covariates))
        self.register_buffer("pooled_mean", torch.zeros(pooled))
        self.register_buffer("pooled_sd", torch.ones(pooled))
        self.register_buffer("count_calibration", torch.tensor([[0.0, 1.0, 0.0, -5.0, 5.0]]).repeat(3, 1))

    def standardise(self, covariates: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised columns; a missing value (NaN) becomes the mean, zero."""
        columns = (covariates - self.covariate_mean) / self.covariate_sd
        regions = (pooled - self.pooled_mean) / self.pooled_sd
        return torch.nan_to_num(columns).clamp(-4, 4), torch.nan_to_num(regions).clamp(-4, 4)


def channels_last(network: Network) -> Network:
    """Keep weights with channels last, twice as fast on CPU as the default layout."""
    for parameter in network.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def _coverage_kernel(unit: int) -> Tensor:
    """Log of the probability that a lesion centred at a voxel covers its neighbours up to 8 mm away.

    A ball that thins outwards to start from.
    """
    axis = torch.arange(-2.0 * unit, 2.0 * unit + 1) / unit
    squared = axis.view(-1, 1, 1) ** 2 + axis.view(1, -1, 1) ** 2 + axis.view(1, 1, -1) ** 2
    return (-0.1 - 1.5 * squared).view(1, 1, *squared.shape)


def _level_features(sigma: Tensor) -> Tensor:
    position = torch.log(sigma).unsqueeze(1)
    waves = position * torch.tensor([0.5, 1.0, 2.0, 4.0], device=sigma.device)
    return torch.cat([position, torch.sin(waves), torch.cos(waves)], dim=1)
