"""Masks of several patients, arms, weeks and draws: in batches on a GPU, in turn on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
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


def masks_at_once(generator: Generator) -> int:
    """Masks of a batch: one on a CPU, where more are no faster and their convolutions have other last bits."""
    device = next(generator.network.parameters()).device
    return max(_VOXELS // int(np.prod(generator.space.shape)), 1) if device.type == "cuda" else 1


def sample_across(
    generator: Generator,
    asked: Iterable[tuple[Scan, str, float, DiffusionNoise]],
    sampler: samplers.Sampler = "ode",
    steps: int | None = None,
    at_once: int | None = None,
) -> Iterator[np.ndarray]:
    """NET2 masks of several patients in their order; what is asked for is taken as batches need it.

    Parameters
    ----------
    generator : Generator
    asked : iterable of (scan, arm, week, noise)
    sampler : {"ode", "ode-2m", "ancestral"}
    steps : int, optional
        Other than the checkpoint's own, for studying the sampler: the count curve was fitted at those, with others mean
        counts are off by the difference of their biases (docs/decisions/sampler_and_steps.md).
    at_once : int, optional
        Masks of a batch; by default one on a CPU, and on a GPU as many as 32 on the 4 mm grid would fill.

    Yields
    ------
    bool array, shape of the grid

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
    size, rest = at_once or masks_at_once(generator), iter(asked)
    while batch := list(islice(rest, size)):
        yield from _masks(generator, batch, sampler, sigmas)


@samplers.one_thread()
@torch.no_grad()
def _masks(
    generator: Generator, batch: Sequence[tuple[Scan, str, float, DiffusionNoise]], sampler: samplers.Sampler, sigmas: np.ndarray
) -> np.ndarray:
    """The masks of one batch, bool (masks, X, Y, Z)."""
    scans = [scan for scan, _, _, _ in batch]
    priors = [generator.prior(scan, arm, week, noise.frailty_normal, sampler) for scan, arm, week, noise in batch]
    alone = all(scan is scans[0] for scan in scans)
    denoise = generator.denoise(scans[:1] if alone else scans, torch.cat(priors))
    return samplers.sampled_masks(denoise, [noise for _, _, _, noise in batch], sigmas, sampler, scans[0].rate)
