"""What a generator takes and gives: an encoded scan, the outcome's law, a particle of the posterior of the noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from causalms.generator.configurations import COVARIATES
from causalms.generator.network import Reading
from causalms.generator.noise import DiffusionNoise


@dataclass(frozen=True)
class Scan:
    """One encoded patient: made once, used for every arm, week and draw.

    ``distances`` say how far the patient lies from those the model learned from (1: what 99 of 100 of them keep within);
    ``rate`` holds the correction for inputs that are missing, ``log_size`` what it adds to the log negative-binomial size;
    ``log_means`` keeps, by week, what the generator that encoded it says of every arm.
    """

    participant_id: str
    encoded: Reading = field(repr=False)
    rate: Tensor = field(repr=False)
    brain: Tensor = field(repr=False)
    missing: tuple[str, ...] = ()
    covariates: np.ndarray = field(default_factory=lambda: np.full(len(COVARIATES), np.nan), repr=False)
    distances: dict[str, float] = field(default_factory=dict)
    log_size: float = 0.0
    log_means: dict[float, Tensor] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ExpectedOutcome:
    """The outcome's law by one evaluation.

    Parameters
    ----------
    lesions, volume_ml : float
        Expected count by the lesion rule, and expected volume.
    activity_probability : float
        P(at least one lesion).
    dispersion : float
        Negative-binomial alpha, variance = m + alpha m^2.
    risk : array, shape of the grid, or None
        Probability that a voxel lies in a new or enlarging lesion.
    """

    lesions: float
    volume_ml: float
    activity_probability: float
    dispersion: float
    risk: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Abduction:
    """One particle of the posterior of U given a factual mask.

    ``residual`` is the number of voxels in which replaying the particle differs from the factual mask.
    """

    noise: DiffusionNoise
    residual: float
