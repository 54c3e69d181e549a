"""Masks of one patient under several arms, at several weeks and of several draws: at once on a GPU, in turn on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from causalms.errors import RefusalError, UsageError
from causalms.generator import noise as exogenous
from causalms.generator import sampling as samplers
from causalms.generator.noise import DiffusionNoise
from causalms.generator.outcomes import Scan

if TYPE_CHECKING:
    from causalms.generator.model import Generator

#: Voxels of a batch on a GPU, 32 masks at 4 mm.
_VOXELS = 2_500_000


def masks_at_once(scan: Scan) -> int:
    """Masks of a batch: one on a CPU, where more are no faster and their convolutions have other last bits."""
    return max(_VOXELS // scan.brain.numel(), 1) if scan.rate.is_cuda else 1


@samplers.one_thread()
@torch.no_grad()
def sample_each(
    generator: Generator,
    scan: Scan,
    asked: Sequence[tuple[str, float, DiffusionNoise]],
    sampler: samplers.Sampler = "ode",
    steps: int | None = None,
    at_once: int | None = None,
) -> list[np.ndarray]:
    """NET2 masks, each a deterministic function of its (scan, arm, week, noise).

    Parameters
    ----------
    generator : Generator
    scan : Scan
    asked : sequence of (arm, week, noise)
    sampler : {"ode", "ode-2m", "ancestral"}
    steps : int, optional
        Other than the checkpoint's own, for studying the sampler: the count curve was fitted at those, with others mean
        counts are off by the difference of their biases (docs/decisions/sampler_and_steps.md).
    at_once : int, optional
        Masks of a batch; by default one on a CPU, and on a GPU as many as 32 on the 4 mm grid would fill.

    Returns
    -------
    list of bool array, shape of the grid

    Raises
    ------
    UsageError
        If the sampler is unknown.
    RefusalError
        If the model was trained without its denoiser.
    """
    if generator.header.get("recipe", {}).get("denoiser_steps") == 0:
        raise RefusalError("the model was trained for expected counts only; train it with denoiser_steps to sample masks")
    if sampler not in samplers.SAMPLERS:
        raise UsageError(f"no sampler is called {sampler!r}; choose one of {', '.join(samplers.SAMPLERS)}")
    lowest, highest = generator.config.sigma_min, generator.config.sigma_max
    sigmas = generator.sigmas if steps is None else exogenous.sigma_ladder(lowest, highest, steps)
    size = at_once or masks_at_once(scan)
    masks: list[np.ndarray] = []
    for start in range(0, len(asked), size):
        part = asked[start : start + size]
        priors = [generator.prior(scan, arm, week, noise.frailty_normal, sampler) for arm, week, noise in part]
        denoise = generator.denoise(scan, torch.cat(priors))
        masks += list(samplers.sampled_masks(denoise, [noise for _, _, noise in part], sigmas, sampler, scan.rate))
    return masks
