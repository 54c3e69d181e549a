"""Smooth anatomical coordinates of a voxel, and log-linear laws of place and size in them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from causalms.phantom.anatomy import PatientAnatomy
from causalms.phantom.lesion_laws import SizeLaw


def coordinates(ventricle_mm: np.ndarray, cortex_mm: np.ndarray, place_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Coordinates that laws of place are written in, each of about unit size.

    ``at_ventricle`` = exp(-d/3 mm) and ``near_ventricle`` = exp(-d/12 mm) of the distance to the lateral ventricles,
    ``at_cortex`` = exp(-d/3 mm) and ``near_cortex`` = exp(-d/10 mm) of that to the cortex; ``side`` = |x|/70 mm, left and right
    alike; ``front`` = (y + 20)/90 mm; ``up`` = (z - 10)/70 mm, with x, y, z in MNI152 coordinates.

    Parameters
    ----------
    ventricle_mm, cortex_mm : float arrays of shape (K,)
    place_mm : float array of shape (3, K)
        Where the voxels lie in the template.

    Examples
    --------
    >>> import numpy as np
    >>> place = coordinates(np.zeros(1), np.full(1, 30.0), np.array([[-35.0], [-20.0], [10.0]]))
    >>> float(place["at_ventricle"][0]), float(place["side"][0]), float(place["front"][0])
    (1.0, 0.5, 0.0)
    """
    x, y, z = place_mm
    return {
        "at_ventricle": np.exp(-ventricle_mm / 3.0),
        "near_ventricle": np.exp(-ventricle_mm / 12.0),
        "at_cortex": np.exp(-cortex_mm / 3.0),
        "near_cortex": np.exp(-cortex_mm / 10.0),
        "side": np.abs(x) / 70.0,
        "front": (y + 20.0) / 90.0,
        "up": (z - 10.0) / 70.0,
    }


def log_linear(law: dict[str, float], at: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of coefficients times products of coordinates, at every voxel.

    Examples
    --------
    >>> import numpy as np
    >>> log_linear({"up": 2.0, "up*side": 1.0}, {"up": np.array([1.0, 2.0]), "side": np.array([0.5, 1.0])})
    array([2.5, 6. ])
    """
    total = np.zeros(len(next(iter(at.values()))))
    for term, coefficient in law.items():
        total += coefficient * np.prod([at[name] for name in term.split("*")], axis=0)
    return total


def at_sites(anatomy: PatientAnatomy) -> dict[str, np.ndarray]:
    """Coordinates of the voxels where a lesion may lie."""
    return coordinates(anatomy.ventricle_mm, anatomy.cortex_mm, anatomy.place_mm)


@dataclass(frozen=True)
class Sizes:
    """Volumes of a patient's lesions, known once their first voxel is.

    Attributes
    ----------
    z, uniform : float arrays of shape (lesions,)
        Standard normal and uniform numbers, of size and of rounding to voxels.
    log_median, log_sd : float arrays of shape (K,)
        At the voxels of the anatomy, ``voxels``.
    largest : float
        Voxels of the largest lesion.
    """

    z: np.ndarray
    uniform: np.ndarray
    voxels: np.ndarray
    log_median: np.ndarray
    log_sd: np.ndarray
    largest: float

    def __len__(self) -> int:
        return len(self.z)

    def at(self, lesion: int, site: int) -> int:
        """Voxels of a lesion whose first voxel is ``site``; rounded so that the mean is kept, at least one."""
        here = int(np.searchsorted(self.voxels, site))
        exact = min(np.exp(self.log_median[here] + self.log_sd[here] * self.z[lesion]), self.largest)
        return max(int(exact + self.uniform[lesion]), 1)


def sizes_by_place(
    law: SizeLaw, scale: float, lesions: int, anatomy: PatientAnatomy, at: dict[str, np.ndarray], rng: np.random.Generator
) -> Sizes:
    """Sizes of lesions whose median and spread depend on place; ``scale`` multiplies the median."""
    voxel = anatomy.voxel_mm**3
    return Sizes(
        z=rng.standard_normal(lesions),
        uniform=rng.random(lesions),
        voxels=anatomy.voxels,
        log_median=log(law.median_volume_mm3 * scale / voxel) + log_linear(law.log_median_by_place, at),
        log_sd=np.clip(law.log_sd + log_linear(law.log_sd_by_place, at), 0.0, 3.0),
        largest=law.largest_volume_mm3 / voxel,
    )
