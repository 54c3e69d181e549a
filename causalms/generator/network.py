"""The whole network: scan encoder, risk head and local denoiser.

One contract, ``D(x, sigma, condition) -> P(voxel is lesion | x)``; the condition enters as an intensity map of lesion centres.

(1) F = encoder(scan)                                        once a patient, for every arm, week, draw and step
(2) log Lambda(a, w) = b(x) + effect_a + h.e_a + log G_a(w)  expected count of the default lesion rule
(3) p(v | a) = softmax_v(F_v . (c + c_a))                    where the next lesion's centre lies, over brain voxels
(4) lambda_v = U Lambda p_v,  U ~ Gamma(k_a, 1/k_a)          frailty makes the count negative binomial of size k_a
(5) r = K * lambda,  logit_0 = log(exp(r) - 1)               a voxel is covered by some lesion of a Boolean model
(6) logit D = logit_0 + 2 x / sigma^2 + N(x, sigma, logit_0, S) prior, evidence of the voxel alone, what neighbours say
(7) S = W (scan, rim of T2 lesions, F)                       what the denoiser sees of the scan, once a patient

In (2), ``b`` is linear in columns and image features ``x``, and ``h`` are the columns that may modify an arm's effect
(:data:`MODIFIERS`); all are fitted by the first stage of training.  Checkpoints from before it (``first_stage`` false) add to
``b`` what is linear in a state ``h`` learned with the encoder, and that state modifies effects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalms.generator.configurations import COVARIATES, MASK_PLANES, ModelConfig, voxels_in_4_mm
from causalms.generator.image_features import FEATURES, image_features
from causalms.generator.inputs import (
    POOLED,
    Anatomy,
    Blurred,
    blurred_twice,
    observed_signals,
    pooled_signals,
    touching,
    volumes,
)
from causalms.trials import mni_space

#: Columns that may modify the effect of an arm.
MODIFIERS = ("age", "gd_lesions")


class Encoder(nn.Module):
    """Scan encoder (equation 1) and the patient's part of the log rate.

    Convolutions at half resolution and point-wise layers at full resolution, without normalisation layers: the amplitude of a
    tissue's signal is information.
    """

    def __init__(self, config: ModelConfig, signals: int, covariates: int, unit: int = 1) -> None:
        super().__init__()
        channels, wide = config.channels, 2 * config.channels
        self.first_stage = config.first_stage
        self.point = nn.Conv3d(16, channels, 1)
        self.down = nn.Conv3d(16, wide, 3, stride=2, padding=1)
        self.mid = nn.Conv3d(wide, wide, 3, padding=unit, dilation=unit)
        self.deep = nn.Conv3d(wide, wide, 3, padding=unit, dilation=unit)
        self.up = nn.Conv3d(wide, channels, 1)
        self.out = nn.Conv3d(channels, channels, 1)
        self.linear_rate = nn.Linear(covariates + signals, 1)
        rates = [self.linear_rate]
        if not self.first_stage:
            self.columns = nn.Linear(covariates + signals, config.hidden)
            self.learned = nn.Linear(wide, config.hidden)
            self.hidden_rate = nn.Linear(config.hidden, 1)
            rates.append(self.hidden_rate)
        for layer in rates:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def places(self, low: Tensor, volume: Tensor) -> Tensor:
        """Features at full resolution, which say where lesions come."""
        up = F.interpolate(self.up(low), size=volume.shape[2:], mode="nearest")
        full = F.silu(self.point(volume) + up)
        features: Tensor = full + F.silu(self.out(full))
        return features

    def coarse(self, volume: Tensor) -> Tensor:
        """Features at half resolution."""
        low = F.silu(_convolved(self.down, volume))
        low = low + F.silu(_convolved(self.mid, low))
        return low + F.silu(_convolved(self.deep, low))

    def average(self, low: Tensor, brain: Tensor) -> Tensor:
        """Mean of half-resolution features over the brain, (B, 2 C)."""
        share = F.avg_pool3d(brain, 2, ceil_mode=True)
        share = share / share.sum(dim=(2, 3, 4), keepdim=True)
        return (low * share).sum(dim=(2, 3, 4))

    def state_and_rate(self, covariates: Tensor, signals: Tensor, average: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """What modifies effects (B, H) and the log rate (B,), from standardised columns and signals.

        ``average`` gives the averaged features, where the state is learned from them.
        """
        columns = torch.cat([covariates, signals], dim=1)
        if self.first_stage:
            return covariates[:, [COVARIATES.index(name) for name in MODIFIERS]], self.linear_rate(columns)[:, 0]
        state = torch.tanh(self.columns(columns) + self.learned(average()))
        return state, (self.linear_rate(columns) + self.hidden_rate(state))[:, 0]


class Places:
    """Features of a batch of scans, which say where lesions come; each is computed when it is first asked for."""

    def __init__(self, encoder: Encoder, images: Tensor, masks: Tensor, planes: Tensor) -> None:
        self._encoder, self._images, self._masks, self._planes = encoder, images, masks, planes
        self._with_gradient = torch.is_grad_enabled()

    @cached_property
    def volume(self) -> Tensor:
        """Input volumes (B, 16, X, Y, Z)."""
        return volumes(self._images, self._masks, self._planes, self.blurred_lesions)

    @cached_property
    def blurred_lesions(self) -> Blurred:
        """T2 lesions, blurred by two cubes."""
        return blurred_twice(self._masks[:, 1:2])

    @cached_property
    def low(self) -> Tensor:
        """Features at half resolution."""
        with torch.set_grad_enabled(self._with_gradient):
            return self._encoder.coarse(self.volume)

    @cached_property
    def features(self) -> Tensor:
        """Features at full resolution, (B, C, X, Y, Z); without gradient, what they were made of is not kept."""
        with torch.set_grad_enabled(self._with_gradient):
            features = self._encoder.places(self.low, self.volume)
        if not self._with_gradient:
            del self.volume, self.low, self.blurred_lesions
        return features

    def scan_planes(self) -> Tensor:
        """What a denoiser may see of the scans: input volumes, the rim of T2 lesions, features; (B, 16 + C, X, Y, Z)."""
        volume, features = self.volume, self.features
        if not self._with_gradient:
            for name in ("volume", "blurred_lesions"):  # features that were there before have not let them go
                vars(self).pop(name, None)
        brain, lesions = self._masks[:, :1], self._masks[:, 1:2]
        return torch.cat([volume[:, :15], touching(lesions) * brain, features * brain], dim=1)


class Reading(Places):
    """What the network reads of a batch of patients: state and log rate at once, features of places when first asked for.

    Attributes
    ----------
    signals, observed : tensor (B, P)
        Image signals as the rate reads them, and with NaN wherever an image is missing.
    state : tensor (B, H)
    rate : tensor (B,)
        The patient's part of the log rate.
    """

    def __init__(
        self,
        network: Network,
        images: Tensor,
        masks: Tensor,
        covariates: Tensor,
        anatomy: Anatomy,
        signals: Tensor | None,
        blurred: Blurred | None,
    ) -> None:
        encoder = network.encoder
        super().__init__(encoder, images, masks, anatomy.planes)
        if blurred is not None:
            self.blurred_lesions = blurred
        self.signals = network.signals(images, masks, anatomy, blurred=self.blurred_lesions) if signals is None else signals
        self.observed = self.signals if encoder.first_stage else observed_signals(images, self.signals)
        self.state, self.rate = network.state_and_rate(covariates, self)
        self._denoiser = network.denoiser

    @cached_property
    def average(self) -> Tensor:
        """Features averaged over the brain."""
        return self._encoder.average(self.low, self._masks[:, :1])

    @cached_property
    def seen(self) -> Tensor | None:
        """What the denoiser sees of the scans; None where it sees the noisy mask alone."""
        return None if self._denoiser.look is None else self._denoiser.see(self.scan_planes())


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

    Its first layer sees neighbouring voxels on every grid, the others reach ``unit`` voxels (4 mm) further each.  With
    ``features``, the width of the encoder, it sees the scan.
    """

    def __init__(self, channels: int, layers: int, unit: int = 1, features: int = 0) -> None:
        super().__init__()
        self.channels, self.radius = channels, 2 * unit
        self.log_kernel = nn.Parameter(_coverage_kernel(unit))
        self.embed = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 2 * channels * layers))
        reach = [1, *[unit] * (layers - 1)]
        self.convs = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=step, dilation=step) for step in reach)
        self.head = nn.Conv3d(channels, 1, 1)
        self.look = nn.Conv3d(16 + features, channels - MASK_PLANES, 1) if features else None
        for parameter in [*self.head.parameters(), *(self.look.parameters() if self.look is not None else [])]:
            nn.init.zeros_(parameter)

    def see(self, scan_planes: Tensor) -> Tensor:
        """Equation 7: the channels (B, C - 4, X, Y, Z) beside those of the noisy mask, from :meth:`Places.scan_planes`."""
        assert self.look is not None
        return _convolved(self.look, scan_planes.contiguous(memory_format=torch.channels_last_3d))

    def prior_logit(self, intensity: Tensor) -> Tensor:
        """Equation 5: log odds that a voxel is covered, from the intensity of centres (B, 1, X, Y, Z)."""
        coverage = F.conv3d(intensity, torch.exp(self.log_kernel), padding=self.radius).clamp(1e-9, 20.0)
        return torch.log(torch.expm1(coverage))

    def forward(self, x: Tensor, sigma: Tensor, prior_logit: Tensor, seen: Tensor | None = None) -> Tensor:
        """Equation 6: log odds of a lesion at every voxel.

        Parameters
        ----------
        x, prior_logit : tensor (B, 1, X, Y, Z)
        sigma : tensor (B,)
        seen : tensor (B, C - 4, X, Y, Z), optional
            From :meth:`see`; without it these channels are blank.
        """
        level = sigma.view(-1, 1, 1, 1, 1)
        evidence = 2 * x / level**2
        belief = torch.sigmoid(prior_logit + evidence)
        planes = [x / torch.sqrt(1 + level**2), prior_logit / 5, torch.tanh(evidence / 4), belief]
        rest = x.new_zeros(x.shape[0], self.channels - len(planes), *x.shape[2:]) if seen is None else seen
        hidden = torch.cat([*planes, rest], dim=1).to(memory_format=torch.channels_last_3d)
        scales = self.embed(_level_features(sigma)).view(x.shape[0], len(self.convs), 2, self.channels, 1, 1, 1)
        for layer, conv in enumerate(self.convs):
            update = F.silu(conv(hidden) * (1 + scales[:, layer, 0]) + scales[:, layer, 1])
            hidden = update if layer == 0 else hidden + update
        logit: Tensor = prior_logit + evidence + self.head(hidden)
        return logit


class Network(nn.Module):
    """The three parts under one roof, with the standardisation of their inputs as buffers."""

    def __init__(self, config: ModelConfig, arms: int, last_week: float) -> None:
        super().__init__()
        unit = voxels_in_4_mm(mni_space(config.grid).shape)
        covariates, pooled = len(COVARIATES), len(FEATURES) if config.first_stage else POOLED
        self.encoder = Encoder(config, pooled, covariates, unit)
        self.risk = RiskHead(config.channels, len(MODIFIERS) if config.first_stage else config.hidden, arms, last_week)
        width = config.denoiser_channels or config.channels
        self.denoiser = Denoiser(width, config.denoiser_layers, unit, config.channels if config.denoiser_sees_scan else 0)
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

    def signals(
        self, images: Tensor, masks: Tensor, anatomy: Anatomy, traced: Tensor | None = None, blurred: Blurred | None = None
    ) -> Tensor:
        """Image signals that the log rate reads, (B, P); ``traced`` and ``blurred`` as for :func:`image_features`."""
        if self.encoder.first_stage:
            return image_features(images, masks, anatomy, traced, blurred)
        return pooled_signals(images, masks, anatomy, blurred)

    def state_and_rate(self, covariates: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
        """State (B, H) and log rate (B,) of patients with these covariates, and the rest as it was read."""
        columns, signals = self.standardise(covariates, reading.signals)
        return self.encoder.state_and_rate(columns, signals, lambda: reading.average)

    def read(
        self,
        images: Tensor,
        masks: Tensor,
        covariates: Tensor,
        anatomy: Anatomy,
        signals: Tensor | None = None,
        blurred: Blurred | None = None,
    ) -> Reading:
        """Read images (B, 4, X, Y, Z), masks (B, 3, X, Y, Z) and covariates (B, Q), not yet standardised.

        ``signals`` (B, P) and ``blurred``: the image signals and the blurred T2 lesions, where they are known already.
        """
        return Reading(self, images, masks, covariates, anatomy, signals, blurred)

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


def _convolved(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """The layer's convolution; on a CPU always that of oneDNN, which torch leaves for a slower one where one patient is small.

    One patient then takes a sixth of the time, and has the bits of that patient in any batch.
    """
    if x.is_cuda or torch.is_grad_enabled() or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        result: Tensor = layer(x)
        return result
    padding = [int(n) for n in layer.padding]
    return torch.mkldnn_convolution(x, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups)


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
