"""Exogenous noise of the generator: keyed by (patient, draw, seed), never by arm, batch, order, thread or device.

Masks are coded ``m = -1 / +1`` and noised as ``x = m + sigma * e`` with ``e ~ N(0, I)`` (variance exploding; Karras et
al. 2022, eq. 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from causalms.stats import keyed_generator

FloatArray = np.ndarray


def stream(purpose: str, participant_id: str, draw: int, seed: int) -> np.random.Generator:
    """A random stream that depends on its four arguments alone.

    Examples
    --------
    >>> float(stream("field", "sub-1", 0, 7).standard_normal()) == float(stream("field", "sub-1", 0, 7).standard_normal())
    True
    """
    return keyed_generator(purpose, participant_id, draw, seed, separator="|")


@dataclass(frozen=True)
class DiffusionNoise:
    """The exogenous variables U of one patient and draw.

    Parameters
    ----------
    frailty_normal : float
        Normal score of the patient's frailty; frailty is ``F^-1(Phi(z))`` of Gamma(k, 1/k).
    field : array, shape of the grid, float32
        Standard normal field that starts the sampler at ``sigma_max``.
    path : array, shape ``(steps, *grid)``, float32, or None
        Standard normal fields of the ancestral sampler's steps; None lets the sampler draw them from ``path_key``.
    path_key : tuple
        Key of the step noise where ``path`` is None.
    """

    frailty_normal: float
    field: FloatArray
    path: FloatArray | None = None
    path_key: tuple[str, int, int] = ("", 0, 0)

    def step_noise(self, step: int, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal field of one ancestral step."""
        if self.path is not None:
            return np.asarray(self.path[step])
        participant_id, draw, seed = self.path_key
        return stream(f"step{step}", participant_id, draw, seed).standard_normal(shape, dtype=np.float32)

    def mix(self, other: DiffusionNoise, rho: float, steps: int = 0) -> DiffusionNoise:
        """Gaussian copula between two noises: ``rho * self + sqrt(1 - rho^2) * other`` on every normal score.

        ``rho = 1`` gives this noise, ``rho = 0`` the other one; every mixture is again standard normal. ``steps`` > 0
        mixes the path too.
        """
        rest = float(np.sqrt(max(0.0, 1.0 - rho * rho)))
        shape = self.field.shape
        path = None
        if steps:
            path = np.stack([rho * self.step_noise(s, shape) + rest * other.step_noise(s, shape) for s in range(steps)])
        mixed = (rho * self.field + rest * other.field).astype(np.float32)
        return DiffusionNoise(rho * self.frailty_normal + rest * other.frailty_normal, mixed, path, self.path_key)


def draw_noise(participant_id: str, draw: int, seed: int, shape: tuple[int, ...]) -> DiffusionNoise:
    """Draw the exogenous noise of one patient and draw.

    Examples
    --------
    >>> u = draw_noise("sub-1", 0, 7, (4, 4, 4))
    >>> u.field.shape, u.path is None
    ((4, 4, 4), True)
    """
    frailty = float(stream("frailty", participant_id, draw, seed).standard_normal())
    field = stream("field", participant_id, draw, seed).standard_normal(shape, dtype=np.float32)
    return DiffusionNoise(frailty, field, None, (participant_id, draw, seed))


def frailty_from_normal(z: float | FloatArray, size: float | FloatArray) -> FloatArray:
    """Gamma frailty with mean 1 and variance 1/size from a normal score.

    ``U = F^-1(Phi(z); shape=size) / size``.

    Examples
    --------
    >>> round(float(frailty_from_normal(0.0, 1e6)), 3)
    1.0
    """
    size = np.maximum(np.asarray(size, dtype=float), 1e-6)
    return np.asarray(special.gammaincinv(size, special.ndtr(np.asarray(z, dtype=float))) / size)


def normal_from_frailty(frailty: float | FloatArray, size: float | FloatArray) -> FloatArray:
    """Inverse of :func:`frailty_from_normal`.

    Examples
    --------
    >>> round(float(normal_from_frailty(frailty_from_normal(0.7, 0.5), 0.5)), 6)
    0.7
    """
    probability = special.gammainc(size, np.asarray(size) * np.asarray(frailty, dtype=float))
    return np.asarray(special.ndtri(np.clip(probability, 1e-12, 1 - 1e-12)))


def sigma_ladder(sigma_min: float, sigma_max: float, steps: int, rho: float = 3.0) -> FloatArray:
    """Decreasing noise levels of a sampler (Karras et al. 2022, eq. 5), ``steps + 1`` of them.

    Examples
    --------
    >>> sigma_ladder(0.2, 8.0, 2).round(2).tolist()
    [8.0, 2.16, 0.2]
    """
    ramp = np.linspace(0, 1, steps + 1)
    return np.asarray((sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho)


def training_sigmas(count: int, sigma_min: float, sigma_max: float, generator: torch.Generator) -> torch.Tensor:
    """Noise levels of a training step: log-uniform over the sampler's range, a little beyond both ends."""
    low, high = np.log(sigma_min * 0.8), np.log(sigma_max * 1.1)
    return torch.exp(low + (high - low) * torch.rand(count, generator=generator))
