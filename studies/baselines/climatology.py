"""Arm-mean climatology: every patient of an arm has the arm's count law, and lesions lie where they lie on average."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage, optimize, stats

from causalms.errors import RefusalError
from causalms.generator.inputs import PatientArrays
from causalms.generator.outcomes import ExpectedOutcome
from causalms.generator.train.patients import TrainingPatient
from causalms.trials import Space


def maximum_likelihood_size(counts: np.ndarray, means: np.ndarray) -> float:
    """Size of a negative binomial with given means, between 0.01 and 1,000.

    Examples
    --------
    >>> round(maximum_likelihood_size(np.array([0, 0, 1, 7]), np.full(4, 2.0)), 2)
    0.37
    """

    def loss(log_size: float) -> float:
        size = np.exp(log_size)
        return -float(stats.nbinom.logpmf(counts, size, size / (size + means)).sum())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(np.log(0.01), np.log(1000)), method="bounded").x))


@dataclass(frozen=True)
class Climatology:
    """Means and negative-binomial sizes by arm, and the template prior of places.

    Parameters
    ----------
    arms : tuple of str
    mean_at_last_week, size : array (arms,)
    volume_ml : array (arms,)
        Mean volume of a lesion.
    frequency : array, shape of the grid
        Smoothed frequency of lesion centres over the training patients.
    last_week : float
    """

    arms: tuple[str, ...]
    mean_at_last_week: np.ndarray
    size: np.ndarray
    volume_ml: np.ndarray
    frequency: np.ndarray = field(repr=False)
    last_week: float = 96.0
    name: str = "climatology"
    capabilities: frozenset[str] = frozenset({"expect", "place"})

    @property
    def parameters(self) -> int:
        """Mean, size and lesion volume of every arm (the map of places is counted as none)."""
        return 3 * len(self.arms)

    def encode_arrays(self, patient: PatientArrays) -> np.ndarray:
        """The brain mask is all that is read of a patient."""
        return patient.masks[0]

    def expect(self, scan: Any, arm: str, week: float) -> ExpectedOutcome:
        """The arm's law, its mean in proportion to time."""
        index = self.arms.index(arm)
        mean, size = float(self.mean_at_last_week[index]) * week / self.last_week, float(self.size[index])
        volume = mean * float(self.volume_ml[index])
        return ExpectedOutcome(mean, volume, 1 - (size / (size + mean)) ** size, 1 / size)

    def log_place(self, scan: np.ndarray, arm: str) -> np.ndarray:
        """The template prior inside the patient's brain."""
        inside = np.where(scan, self.frequency, 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(inside / inside.sum()))

    def sample(self, scan: Any, arm: str, week: float, draw: int, seed: int) -> np.ndarray:
        """Refused: climatology has no masks."""
        raise RefusalError("climatology has no masks; ask it for counts (expect) or places (log_place)")


def fit_climatology(
    patients: list[TrainingPatient], arms: tuple[str, ...], space: Space, smoothing_mm: float = 8.0
) -> Climatology:
    """Arm means of the lesions at the last visit (scaled to the last week of the trial), sizes by maximum likelihood.

    Parameters
    ----------
    patients : list of TrainingPatient
    arms : tuple of str
    space : Space
    smoothing_mm : float
        Standard deviation of the Gaussian that smooths the frequency of places; a hundredth of it is spread over the brain.
    """
    last = float(max(p.last.week for p in patients))
    means, sizes, volumes = np.zeros(len(arms)), np.ones(len(arms)), np.zeros(len(arms))
    for index, arm in enumerate(arms):
        own = [p for p in patients if p.arm == arm]
        counts = np.array([p.last.lesions for p in own])
        time = np.array([p.last.week / last for p in own])
        means[index] = counts.sum() / time.sum()
        sizes[index] = maximum_likelihood_size(counts, means[index] * time)
        volumes[index] = sum(p.volume_ml for p in own) / max(counts.sum(), 1)
    centres = np.bincount(np.concatenate([p.centres for p in patients]), minlength=int(np.prod(space.shape)))
    spread = smoothing_mm / np.cbrt(space.voxel_volume_mm3)
    frequency = ndimage.gaussian_filter(centres.reshape(space.shape).astype(float), spread)
    brain = np.mean([p.arrays.masks[0] for p in patients[:200]], axis=0)
    frequency = 0.99 * frequency / frequency.sum() + 0.01 * brain / brain.sum()
    return Climatology(arms, means, sizes, volumes, frequency, last)
