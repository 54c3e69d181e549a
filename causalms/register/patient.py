"""Registration of one visit: brain mask, rigid registration between modalities, affine registration to the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from causalms.errors import RefusalError
from causalms.register.greedy import align, deform
from causalms.register.scan import STANDARD_SPACE, Scan, extract_brain, is_extracted
from causalms.register.similarity import fits_best_in_place, mutual_information
from causalms.trials import Deformation, Position, measure_position, mni_space, template_anatomy

#: Which image the others are brought onto, and which is home: the first that is there.
_REFERENCES, _HOMES = ("T1w", "FLAIR", "T2w", "ceT1w"), ("FLAIR", "T2w", "T1w", "ceT1w")
_VOXEL_MM, _MARGIN_MM, _FAR_APART_MM = 2.0, 6.0, 60.0


@dataclass(frozen=True, eq=False)
class Registration:
    """How the images of one visit lie against the template.

    Attributes
    ----------
    reference : str
        The image that the others were brought onto.
    home : str
        The image on whose grid maps are brought home.
    to_template : dict of str to array
        For each image, world coordinates of the scanner to those of the template.
    brain : Scan
        Brain mask on the grid of the reference.
    position : Position
        How well the registered images fit the template; the verdict is :meth:`Position.problem`.
    registered : dict of str to Scan
        Images on the 1 mm grid of the template, zero outside the brain.
    registered_brain : array of bool
    deformation : Deformation, optional
        What follows the matrices, if it was asked for.
    """

    reference: str
    home: str
    to_template: Mapping[str, np.ndarray]
    brain: Scan
    position: Position
    registered: Mapping[str, Scan]
    registered_brain: np.ndarray
    deformation: Deformation | None = None

    @property
    def scale(self) -> float:
        """Volume in the template over volume in the scanner."""
        return float(np.linalg.det(self.to_template[self.reference]))


def register_images(
    where: str,
    images: Mapping[str, Scan],
    brain: Scan | None = None,
    transform: np.ndarray | None = None,
    deformable: bool | Deformation = False,
) -> Registration:
    """Bring the images of one visit to the MNI152 template.

    The first of T1w, FLAIR, T2w and T1w with gadolinium is the reference. The others are brought onto it by a rigid motion within
    the brain (images on one grid are taken to lie on each other), it is brought onto the template by an affine transform.

    Parameters
    ----------
    where : str
        The visit, for messages.
    images : mapping of str to Scan
        By modality, each on a grid of its own.
    brain : Scan, optional
        Brain mask in the same world; by default what is not zero in images without a skull, else deepbet's.
    transform : array of shape (4, 4), optional
        World coordinates of the reference to those of the template, found elsewhere.
    deformable : bool or Deformation
        Whether a smooth deformation follows the affine transform: for brains with wide ventricles; or the one that was found
        elsewhere with ``transform``.

    Returns
    -------
    Registration

    Raises
    ------
    RefusalError
        If no brain is seen, space folds, or the result does not lie in MNI152 space.
    """
    reference = next(name for name in _REFERENCES if name in images)
    scan = images[reference]
    inside = _brain(f"{where}, {reference}", scan, brain)
    if not inside.values.any():
        raise RefusalError(f"{where}: the brain mask is empty on the grid of the {reference}; give another")
    onto_reference = {
        name: np.eye(4) if other.space.same_as(scan.space) else onto(f"{where}, {name}", other, scan, inside)
        for name, other in images.items()
    }
    to_template = _onto_template(Scan(scan.values * inside.values, scan.space)) if transform is None else transform
    deformation = deformable if isinstance(deformable, Deformation) else None
    if deformable is True:
        deformation = _deformation(where, reference, Scan(scan.values * inside.values, scan.space), to_template)
    brain_there = inside.moved(to_template).on(STANDARD_SPACE, deformation).values >= 0.5
    registered, matrices = {}, {}
    for name, other in images.items():
        matrices[name] = to_template @ onto_reference[name]
        values = other.moved(matrices[name]).on(STANDARD_SPACE, deformation).values
        registered[name] = Scan(values * brain_there, STANDARD_SPACE)
    position = measure_position([one.values for one in registered.values()], brain_there, STANDARD_SPACE)
    problem = position.problem()
    if problem is not None:
        raise RefusalError(f"{where}: could not be registered: {problem.partition(';')[0]}; give a transform with `xfm`")
    home = next(name for name in _HOMES if name in images)
    return Registration(reference, home, matrices, inside, position, registered, brain_there, deformation)


def onto(where: str, moving: Scan, reference: Scan, brain: Scan) -> np.ndarray:
    """World coordinates of an image to those of the reference, of the same visit or an earlier one: a rigid motion.

    Of the start and what is found from it, near and far, that with the most mutual information within the brain is taken.

    Parameters
    ----------
    where : str
        The image, for messages.
    moving, reference : Scan
    brain : Scan
        Mask on the grid of the reference.

    Raises
    ------
    RefusalError
        If the image fits better when it is shifted by 8 mm: it was lost.
    """
    fixed, even, within = reference.even(_VOXEL_MM), moving.even(_VOXEL_MM), _widened(brain)
    start, there = _start(moving, reference), within.values > 0
    candidates = [start, align(fixed, even, start, rigid=True, far=False, within=within)]
    fit = [mutual_information(fixed, even.moved(matrix), there) for matrix in candidates]
    if fit[1] < fit[0]:
        candidates.append(align(fixed, even, start, rigid=True, far=True))
        fit.append(mutual_information(fixed, even.moved(candidates[2]), there))
    best = candidates[int(np.argmax(fit))]
    if not fits_best_in_place(fixed, even.moved(best), there):
        raise RefusalError(f"{where}: does not fit the reference image of the patient; look at it, or leave it out")
    return best


def _start(moving: Scan, reference: Scan) -> np.ndarray:
    """As the headers say, or middle onto middle where these are so far apart that the head was put elsewhere."""
    middles = [scan.space.world(np.array([scan.space.shape]) / 2)[0] for scan in (moving, reference)]
    start = np.eye(4)
    if np.linalg.norm(middles[1] - middles[0]) > _FAR_APART_MM:
        start[:3, 3] = middles[1] - middles[0]
    return start


def _brain(where: str, scan: Scan, brain: Scan | None) -> Scan:
    if brain is not None:
        return Scan(brain.on(scan.space).values >= 0.5, scan.space)
    return Scan(scan.values != 0 if is_extracted(scan) else extract_brain(where, scan), scan.space)


def _widened(brain: Scan) -> Scan:
    """A brain mask on even voxels, wider by a margin: the edge of the brain is what a motion is seen by."""
    even = Scan(brain.values.astype(np.float32), brain.space).even(_VOXEL_MM)
    wide = ndimage.binary_dilation(even.values >= 0.5, iterations=int(_MARGIN_MM / _VOXEL_MM))
    return Scan(wide.astype(np.float32), even.space)


def _onto_template(brain: Scan) -> np.ndarray:
    template, moving = _template(), brain.even(_VOXEL_MM)
    start = np.eye(4)
    start[:3, 3] = template.centre_mm() - moving.centre_mm()
    return align(template, moving, start, rigid=False, far=True)


def _deformation(where: str, reference: str, brain: Scan, to_template: np.ndarray) -> Deformation:
    found = deform(_template(), brain.even(_VOXEL_MM), to_template, same_contrast=reference == "T1w")
    least = found.least_volume_ratio()
    if least <= 0:
        raise RefusalError(f"{where}: the deformation folds space (volume ratio {least:.2f}); register it without `deformable`")
    return found


@lru_cache(maxsize=1)
def _template() -> Scan:
    space = mni_space("3mm")
    anatomy = template_anatomy(space)
    return Scan(anatomy.t1 * anatomy.brain, space)
