"""Samplers of the diffusion: deterministic (DPM-Solver++ 2M) and ancestral, and their inverses for abduction.

All speak of one denoiser ``D(x, sigma) -> P(voxel is lesion)``; the clean mask's conditional mean is ``m(x) = 2 D - 1``.
With half log-SNR ``l = -log sigma`` and ``h = l_next - l`` the variance-exploding updates are

(1) first order:  x' = (s'/s) x + (1 - s'/s) m                                    (DDIM; Song et al. 2021)
(2) 2M:           as (1) with m replaced by (1 + 1/(2r)) m - 1/(2r) m_prev, r = h_prev / h   (Lu et al. 2022, alg. 2)
(3) ancestral:    x' ~ N( m + (s'/s)^2 (x - m),  s'^2 (1 - s'^2/s^2) I )           exact posterior of x' given x and clean m,
                  with m extrapolated as in (2) with 1/(2r) unchanged (SDE-DPM-Solver++ 2M)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from causalms.generator.noise import DiffusionNoise

Denoise = Callable[[Tensor, float], Tensor]
Sampler = Literal["ode", "ode-2m", "ancestral"]
SAMPLERS: tuple[Sampler, ...] = ("ode", "ode-2m", "ancestral")


def ode_second_order(denoise: Denoise, x: Tensor, sigmas: np.ndarray) -> Tensor:
    """DPM-Solver++ 2M from ``sigmas[0]`` to ``sigmas[-1]``; returns P(lesion) at the last noise level.

    Parameters
    ----------
    denoise : callable
        ``denoise(x, sigma)`` gives P(lesion), the shape of ``x``.
    x : Tensor
        Noised mask at ``sigmas[0]``.
    sigmas : array (steps + 1,)
        Decreasing noise levels.
    """
    previous: Tensor | None = None
    last_h = 0.0
    for here, there in itertools.pairwise(sigmas):
        mean = 2 * denoise(x, float(here)) - 1
        h = float(np.log(here / there))
        target = mean if previous is None else mean + h / (2 * last_h) * (mean - previous)
        ratio = float(there / here)
        x = ratio * x + (1 - ratio) * target
        previous, last_h = mean, h
    return denoise(x, float(sigmas[-1]))


def ancestral(denoise: Denoise, x: Tensor, sigmas: np.ndarray, step_noise: Callable[[int], Tensor]) -> Tensor:
    """Stochastic DPM-Solver++ 2M (equation 3 with the second-order target); ``step_noise(i)`` gives the field of step ``i``."""
    previous: Tensor | None = None
    for index in range(len(sigmas) - 1):
        mean = 2 * denoise(x, float(sigmas[index])) - 1
        x = ancestral_mean(x, mean, previous, sigmas, index) + ancestral_sd(sigmas, index) * step_noise(index)
        previous = mean
    return denoise(x, float(sigmas[-1]))


def ancestral_mean(x: Tensor, mean: Tensor, previous: Tensor | None, sigmas: np.ndarray, index: int) -> Tensor:
    """Mean of equation 3 at a step, with the clean mask replaced by its second-order extrapolated conditional mean."""
    here, there = sigmas[index], sigmas[index + 1]
    target = mean
    if previous is not None:
        ratio = float(np.log(sigmas[index - 1] / here) / np.log(here / there))
        target = mean + (mean - previous) / (2 * ratio)
    return target + float(there / here) ** 2 * (x - target)


def ancestral_sd(sigmas: np.ndarray, index: int) -> float:
    """Standard deviation of equation 3 at a step."""
    here, there = sigmas[index], sigmas[index + 1]
    return float(there * np.sqrt(1 - (there / here) ** 2))


def abduct_ancestral(denoise: Denoise, clean: Tensor, sigmas: np.ndarray, fields: np.ndarray) -> tuple[Tensor, list[Tensor]]:
    """Noise that makes the ancestral sampler return ``clean``: start field and one field a step.

    The noising path is drawn from its forward law given the clean mask, ``x_i = clean + sigma_i w_i`` with independent
    increments, and every step's noise is solved from it; replaying the steps gives the path back at any number of steps.

    Parameters
    ----------
    clean : Tensor
        Mask coded -1 / +1.
    fields : array (steps + 1, *shape)
        Standard normal fields that drive the forward path, smallest noise level first.
    """
    path = [clean + float(sigmas[-1]) * torch.from_numpy(fields[0]).to(clean)]
    for index in range(len(sigmas) - 1, 0, -1):
        spread = float(np.sqrt(sigmas[index - 1] ** 2 - sigmas[index] ** 2))
        path.append(path[-1] + spread * torch.from_numpy(fields[len(sigmas) - index]).to(clean))
    path = path[::-1]
    noises = []
    previous: Tensor | None = None
    for index in range(len(sigmas) - 1):
        mean = 2 * denoise(path[index], float(sigmas[index])) - 1
        centre = ancestral_mean(path[index], mean, previous, sigmas, index)
        noises.append((path[index + 1] - centre) / ancestral_sd(sigmas, index))
        previous = mean
    return path[0], noises


def invert_ode(
    denoise: Denoise, x: Tensor, sigmas: np.ndarray, iterations: int = 40, tolerance: float = 1e-4
) -> tuple[Tensor, float]:
    """Start field of :func:`ode_first_order` that ends in ``x``: every step is solved by damped Newton refinement.

    The Jacobian is taken as diagonal, ``s'/s + (1 - s'/s) (1 - m^2) / s^2``, the derivative of a voxel's own evidence; a
    voxel whose residual does not shrink takes half steps.

    Returns
    -------
    start : Tensor
        Noised mask at ``sigmas[0]``.
    residual : float
        Largest absolute mismatch of a re-played step, in units of mask (-1 / +1).
    """
    worst = 0.0
    for here, there in zip(sigmas[:0:-1], sigmas[-2::-1], strict=True):
        ratio = float(here / there)  # the forward step goes from the larger level ``there`` to ``here``
        guess, damping = x, torch.ones_like(x)
        last: Tensor | None = None
        size = 0.0
        for _ in range(iterations):
            mean = 2 * denoise(guess, float(there)) - 1
            residual = ratio * guess + (1 - ratio) * mean - x
            size = float(residual.abs().max())
            if size < tolerance:
                break
            if last is not None:
                stuck = (residual.abs() > 0.7 * last.abs()) & (last.abs() > tolerance)
                damping = torch.where(stuck, 0.5 * damping, (1.2 * damping).clamp(max=1.0))
            last = residual
            guess = guess - damping * residual / (ratio + (1 - ratio) * (1 - mean**2) / float(there) ** 2)
        worst = max(worst, size)
        x = guess
    return x, worst


def ode_first_order(denoise: Denoise, x: Tensor, sigmas: np.ndarray) -> Tensor:
    """Equation 1 from ``sigmas[0]`` to ``sigmas[-1]``: the invertible deterministic sampler."""
    for here, there in itertools.pairwise(sigmas):
        mean = 2 * denoise(x, float(here)) - 1
        ratio = float(there / here)
        x = ratio * x + (1 - ratio) * mean
    return denoise(x, float(sigmas[-1]))


def sampled_masks(
    denoise: Denoise, noises: Sequence[DiffusionNoise], sigmas: np.ndarray, sampler: Sampler, like: Tensor
) -> np.ndarray:
    """The masks that a sampler makes of each draw's noise at once, bool (draws, X, Y, Z).

    Parameters
    ----------
    denoise : callable
    noises : sequence of DiffusionNoise
        Their fields start the sampler; the ancestral sampler also takes their step noise.
    sigmas : array (steps + 1,)
    sampler : {"ode", "ode-2m", "ancestral"}
    like : Tensor
        Says on which device.
    """

    def on_device(fields: Iterable[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(list(fields))).to(like.device)[:, None]

    start = -1 + float(sigmas[0]) * on_device(noise.field for noise in noises)
    if sampler == "ancestral":

        def of_step(step: int) -> Tensor:
            return on_device(noise.step_noise(step, noise.field.shape) for noise in noises)

        probability = ancestral(denoise, start, sigmas, of_step)
    else:
        probability = (ode_first_order if sampler == "ode" else ode_second_order)(denoise, start, sigmas)
    return np.asarray((probability[:, 0] > 0.5).cpu().numpy())


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread, as a block or as a decorator; the caller's number of threads comes back after.

    Several threads add in another order, and the last bits of a probability would depend on their number.  Patients, not
    voxels, are what is worth doing in parallel (``workers`` of a query).

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> one_thread()(torch.get_num_threads)(), torch.get_num_threads() == before
    (1, True)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
