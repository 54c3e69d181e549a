"""Masks of every model under one call, and the laws of independent lesions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from causalms.generator import Generator
from causalms.generator.inputs import PatientArrays
from causalms.generator.noise import frailty_from_normal, stream
from causalms.generator.outcomes import Scan
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.phantom.placement import Density, grow, race
from causalms.trials import Space, template_anatomy

#: A mask of (patient, arm, week, draw), bool of the grid's shape; its noise depends on patient and draw alone.
Draw = Callable[[PatientArrays, str, float, int], np.ndarray]
PERIVENTRICULAR_MM, JUXTACORTICAL_MM = 8.0, 4.0
REGIONS = ("periventricular", "juxtacortical", "deep")


def region_map(space: Space) -> np.ndarray:
    """Position among :data:`REGIONS` of every voxel: near the ventricles, else near the cortex, else deep."""
    anatomy = template_anatomy(space)
    near_cortex = np.asarray(anatomy.distance_to_cortex_mm) < JUXTACORTICAL_MM
    rest = np.where(near_cortex, 1, 2)
    return np.where(np.asarray(anatomy.distance_to_ventricles_mm) < PERIVENTRICULAR_MM, 0, rest)


def region_of(voxels: np.ndarray, regions: np.ndarray) -> int:
    """Region of a lesion, the flat voxels of which are given: that of its voxel nearest to its middle."""
    points = np.stack(np.unravel_index(voxels, regions.shape), axis=1)
    middle = ((points - points.mean(0)) ** 2).sum(1).argmin()
    return int(regions[tuple(points[middle])])


def lesions_of(mask: np.ndarray, voxel_mm3: float) -> list[np.ndarray]:
    """Flat voxels of every lesion by the default rule."""
    labels = LesionRule.default().label(mask, voxel_mm3).ravel()
    inside = np.flatnonzero(labels)
    order = inside[np.argsort(labels[inside], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(labels[inside])[1:])[:-1]) if len(inside) else []


def sizes_by_region(patients: list[TrainingPatient], space: Space) -> list[np.ndarray]:
    """Voxels of the lesions of patients' last visits, one array a region."""
    regions, found = region_map(space), ([], [], [])
    for patient in patients:
        for lesion in lesions_of(patient.last.mask(space.shape), float(space.voxel_volume_mm3)):
            found[region_of(lesion, regions)].append(len(lesion))
    return [np.array(sizes or [1]) for sizes in found]


@dataclass
class Counted:
    """A generator's encoder with one patient kept: expected counts, places and frailties for every model that stands on it."""

    generator: Generator
    _scan: Scan | None = field(default=None, repr=False)

    def scan(self, patient: PatientArrays) -> Scan:
        """The patient encoded; the latest one is kept."""
        if self._scan is None or self._scan.participant_id != patient.participant_id:
            self._scan = self.generator.encode_arrays(patient)
        return self._scan


@dataclass(frozen=True)
class IndependentLesions:
    """Lesions that keep apart and know nothing else of each other: counts and places of the generator, sizes of training lesions.

    The number is a Poisson draw of ``U`` times the expected count, ``U`` the generator's own frailty; first voxels are drawn from
    the law of places, sizes from those of all training lesions or of those of the region, and every lesion grows as those of
    the phantom do: connected and irregular, outside baseline lesions, none touching another.

    Attributes
    ----------
    counted : Counted
    sizes : list of int arrays
        One a region; the same thrice where sizes do not depend on the region.
    """

    counted: Counted
    sizes: list[np.ndarray]

    @torch.no_grad()
    def __call__(self, patient: PatientArrays, arm: str, week: float, draw: int, seed: int = 0) -> np.ndarray:
        """One mask."""
        generator, scan = self.counted.generator, self.counted.scan(patient)
        law = generator.expect(scan, arm, week)
        frailty = float(
            frailty_from_normal(generator.noise(patient.participant_id, draw, seed).frailty_normal, 1 / law.dispersion)
        )
        index = torch.tensor([generator.arm_index(arm)])
        place = torch.exp(generator.network.risk.log_place(scan.encoded.features, scan.brain, index))[0].double().numpy().ravel()
        rng = stream("independent lesions", patient.participant_id, draw, seed)
        return self._placed(place, patient.masks, int(rng.poisson(law.lesions * frailty)), rng)

    def _placed(self, place: np.ndarray, masks: np.ndarray, lesions: int, rng: np.random.Generator) -> np.ndarray:
        shape = masks.shape[1:]
        free, mask = (masks[0] & ~masks[1]).ravel().copy(), np.zeros(shape, dtype=bool)
        _border(free.reshape(shape))
        regions = region_map(self.counted.generator.space).ravel()
        inside = np.flatnonzero(free)
        sites = iter(race(Density(inside, place[inside]), rng))
        for _ in range(lesions):
            site = next((int(voxel) for voxel in sites if free[voxel]), None)
            if site is None:
                break
            size = int(rng.choice(self.sizes[regions[site]]))
            lesion = grow(site, size, free, shape, rng)
            mask.ravel()[lesion] = True
            for voxel in lesion:
                x, y, z = np.unravel_index(voxel, shape)
                free.reshape(shape)[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = False
        return mask


def _border(free: np.ndarray) -> None:
    """Nothing grows onto the border of the grid."""
    for axis in range(3):
        view = np.moveaxis(free, axis, 0)
        view[0] = view[-1] = False
