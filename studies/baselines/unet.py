"""A small 3-D U-Net whose blocks are modulated by a condition vector (FiLM; Perez et al. 2018), used by two baselines.

Residual blocks of two 3x3x3 convolutions, strided down and up by 2, skips added.  Group normalisation is the field's habit and
kept here; amplitudes that it hides reach the network through the condition.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from studies.baselines.image_forecaster import COLUMNS


class ConditionedBlock(nn.Module):
    """``x + conv(silu(norm(conv(silu(norm(x))) * (1 + scale) + shift)))``, the last convolution starting at zero."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        groups = min(8, width)
        self.norms = nn.ModuleList([nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)])
        self.convolutions = nn.ModuleList([nn.Conv3d(width, width, 3, padding=1), nn.Conv3d(width, width, 3, padding=1)])
        self.film = nn.Linear(condition, 2 * width)
        for parameter in [*self.film.parameters(), *self.convolutions[1].parameters()]:
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Same shape as ``x`` (B, width, X, Y, Z); ``condition`` (B, condition)."""
        scale, shift = self.film(condition)[:, :, None, None, None].chunk(2, dim=1)
        hidden = self.convolutions[0](F.silu(self.norms[0](x)))
        hidden = self.norms[1](hidden) * (1 + scale) + shift
        return x + self.convolutions[1](F.silu(hidden))


class UNet(nn.Module):
    """Features (B, widths[0], X, Y, Z) to features of the same shape; the grid's sizes are multiples of ``2^(levels - 1)``."""

    def __init__(self, widths: list[int], condition: int) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(ConditionedBlock(width, condition) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(ConditionedBlock(fine, condition) for fine, _ in steps)
        self.grow = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in steps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features at every voxel."""
        skips = []
        for block, shrink in zip(self.down[:-1], self.shrink, strict=True):
            x = block(x, condition)
            skips.append(x)
            x = shrink(x)
        x = self.down[-1](x, condition)
        for block, grow, skip in zip(reversed(self.up), reversed(self.grow), reversed(skips), strict=True):
            x = skip + F.interpolate(grow(x), size=skip.shape[2:], mode="nearest")
            x = block(x, condition)
        return x


class Condition(nn.Module):
    """One vector from arm (an embedding; index ``arms`` stands for no arm), columns and a few further numbers."""

    def __init__(self, arms: int, further: int, width: int) -> None:
        super().__init__()
        self.arm = nn.Embedding(arms + 1, width)
        self.numbers = nn.Linear(COLUMNS + further, width)
        self.mix = nn.Linear(width, width)

    def forward(self, arm: Tensor, numbers: Tensor) -> Tensor:
        """(B, width) from ``arm`` (B,) and ``numbers`` (B, columns + further)."""
        return F.silu(self.mix(F.silu(self.arm(arm) + self.numbers(numbers))))
