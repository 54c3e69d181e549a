"""One patient's head: the MNI152 template with a shape of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import binary_dilation, map_coordinates

from causalms.trials import Space, template_anatomy

_SCALE_SD = 0.02
_SCALE_LIMIT = 0.05
_WARP_MM = 2.5
_KNOTS = (5, 6, 5)
_LEAST_TISSUE = 0.35


@dataclass(frozen=True)
class PatientAnatomy:
    """Tissue of one patient on the grid of the trial.

    Attributes
    ----------
    shape : tuple of int
    voxel_mm : float
        Edge of a voxel.
    brain : bool array of shape ``shape``
    head : int array of shape (M,)
        Flat indices (C order) of the brain's voxels.
    grey, white, csf : float32 arrays of shape (M,)
        Tissue shares of those voxels; they sum to 1.
    head_ventricle_mm : float32 array of shape (M,)
        Distance to the lateral ventricles.
    voxels : int array of shape (K,)
        Flat indices of voxels where a lesion may lie (white matter and deep grey matter, off the grid's border).
    tissue, ventricle_mm, cortex_mm : float arrays of shape (K,)
        Weight of the voxel as a site, and its distances.
    place_mm : float32 array of shape (3, K)
        Where the voxel lies in the template, MNI152 coordinates.
    """

    shape: tuple[int, int, int]
    voxel_mm: float
    brain: np.ndarray
    head: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    head_ventricle_mm: np.ndarray
    voxels: np.ndarray
    tissue: np.ndarray
    ventricle_mm: np.ndarray
    cortex_mm: np.ndarray
    place_mm: np.ndarray

    @property
    def allowed(self) -> np.ndarray:
        """Where lesions may grow, as a flat bool array."""
        where = np.zeros(int(np.prod(self.shape)), dtype=bool)
        where[self.voxels] = True
        return where


def draw_anatomy(space: Space, rng: np.random.Generator) -> PatientAnatomy:
    """Deform the template: scale within 5% along each axis, and a smooth warp of about 2.5 mm.

    Parameters
    ----------
    space : Space
    rng : Generator

    Returns
    -------
    PatientAnatomy
    """
    channels, points, centre = _template(space)
    scale = 1.0 + np.clip(rng.normal(0.0, _SCALE_SD) + rng.normal(0.0, 0.4 * _SCALE_SD, 3), -_SCALE_LIMIT, _SCALE_LIMIT)
    knots = rng.normal(0.0, _WARP_MM / space.voxel_sizes_mm[0], (3, *_KNOTS))
    at = np.stack(np.unravel_index(points, space.shape)).astype(np.float32)
    source = (at - centre[:, None]) / scale[:, None].astype(np.float32) + centre[:, None]
    source += _smooth_field(knots, space.shape).reshape(3, -1)[:, points]
    grey, white, csf, brain, ventricle_mm, cortex_mm = (
        map_coordinates(channel, source, order=1, mode="nearest", prefilter=False) for channel in channels
    )
    inside = brain > 0.5
    head = points[inside]
    mask = np.zeros(space.shape, dtype=bool)
    mask.ravel()[head] = True
    grey, white, csf = (np.clip(share[inside], 0.0, 1.0) for share in (grey, white, csf))
    whole = grey + white + csf + 1e-6
    grey, white, csf = grey / whole, white / whole, csf / whole
    ventricle_mm, cortex_mm = ventricle_mm[inside], cortex_mm[inside]
    deep_grey = grey * (cortex_mm > 8.0)
    weight = (white + 0.3 * deep_grey).astype(float)
    site = (weight > _LEAST_TISSUE) & ~_border(space.shape).ravel()[head]
    return PatientAnatomy(
        shape=space.shape,
        voxel_mm=space.voxel_sizes_mm[0],
        brain=mask,
        head=head,
        grey=grey,
        white=white,
        csf=csf,
        head_ventricle_mm=ventricle_mm,
        voxels=head[site],
        tissue=weight[site],
        ventricle_mm=ventricle_mm[site].astype(float),
        cortex_mm=cortex_mm[site].astype(float),
        place_mm=space.world(source[:, np.flatnonzero(inside)[site]].T).T,
    )


@lru_cache(maxsize=4)
def _template(space: Space) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Channels to deform, the voxels a deformed brain can reach, and the centre of scaling (voxels)."""
    template = template_anatomy(space)
    channels = tuple(
        np.ascontiguousarray(channel, dtype=np.float32)
        for channel in (
            template.grey,
            template.white,
            template.csf,
            template.brain,
            template.distance_to_ventricles_mm,
            template.distance_to_cortex_mm,
        )
    )
    reach = binary_dilation(template.brain, iterations=max(2, round(10.0 / space.voxel_sizes_mm[0])))
    centre = np.argwhere(template.brain).mean(axis=0).astype(np.float32)
    return channels, np.flatnonzero(reach), centre


def _smooth_field(knots: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Displacements at every voxel from values at a few knots (Gaussian weights along each axis)."""
    along = [_weights(n, k) for n, k in zip(shape, knots.shape[1:], strict=True)]
    field = np.tensordot(knots.astype(np.float32), along[2], (3, 1))
    field = np.tensordot(along[1], field, (1, 2))
    field = np.tensordot(along[0], field, (1, 2))
    return np.ascontiguousarray(field.transpose(2, 0, 1, 3))


@lru_cache(maxsize=16)
def _weights(voxels: int, knots: int) -> np.ndarray:
    at = np.linspace(0, knots - 1, voxels)[:, None]
    weights = np.exp(-0.5 * ((at - np.arange(knots)[None]) / 0.6) ** 2)
    weights = weights / weights.sum(axis=1, keepdims=True)
    scaled: np.ndarray = (weights / np.sqrt((weights**2).sum(axis=1).mean())).astype(np.float32)
    return scaled


@lru_cache(maxsize=4)
def _border(shape: tuple[int, int, int]) -> np.ndarray:
    border = np.ones(shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    return border
