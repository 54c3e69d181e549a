"""Where lesions lie and what shape they take: weighted sites without contact, connected irregular growth."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from causalms.phantom.anatomy import PatientAnatomy
from causalms.phantom.lesion_laws import Lesions
from causalms.phantom.place_law import Sizes, at_sites, log_linear

_PERIVENTRICULAR_MM = 5.0
_JUXTACORTICAL_MM = 3.0
_NEAR_LESION_MM = 5.0


@dataclass(frozen=True)
class Density:
    """A probability over voxels: flat indices (C order) and their probabilities, which sum to 1."""

    voxels: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Growth:
    """How dear a voxel is to a growing lesion: a factor on its squared distance, for lesions that start in ``starts``.

    Attributes
    ----------
    cost : float array, flat over the grid
    starts : bool array, flat, or None
        None: for all lesions.
    """

    cost: np.ndarray
    starts: np.ndarray | None = None

    def of(self, site: int) -> np.ndarray | None:
        """Costs of a lesion that starts here; None if its growth is free."""
        return self.cost if self.starts is None or self.starts[site] else None


def baseline_density(anatomy: PatientAnatomy, law: dict[str, float]) -> Density:
    """Location law of lesions that are there before the trial.

    Log-linear in the coordinates of the place; without a law a mixture: around the ventricles, deep, and under the cortex.
    """
    if law:
        return Density(anatomy.voxels, _normalised(_log_linear_weight(anatomy, law) * anatomy.tissue))
    near_ventricles = np.exp(-anatomy.ventricle_mm / _PERIVENTRICULAR_MM)
    near_cortex = np.exp(-anatomy.cortex_mm / _JUXTACORTICAL_MM)
    parts = [(0.50, near_ventricles), (0.16, near_cortex), (0.34, np.exp(-anatomy.ventricle_mm / 20.0))]
    weight = sum(share * _normalised(part * anatomy.tissue) for share, part in parts)
    return Density(anatomy.voxels, np.asarray(weight))


def net2_density(anatomy: PatientAnatomy, t2: np.ndarray, gd: np.ndarray, law: Lesions) -> Density:
    """Location law of new and enlarging lesions of one patient.

    A mixture of seven densities: around the ventricles (exponential, 5 mm), under the cortex (exponential, 3 mm), anywhere in
    white matter, near existing T2 lesions and near enhancing lesions (Gaussian, 5 mm), log-linear in the coordinates of the
    place (anatomical), and on the rim of existing T2 lesions (enlarging). All but the last keep off existing lesions and
    their rim. A part that has nowhere to go gives its share to the others.

    Parameters
    ----------
    anatomy : PatientAnatomy
    t2, gd : bool array of shape ``anatomy.shape``
        Baseline masks.
    law : Lesions
        Shares of the seven parts, and the log-linear law.
    """
    placement = law.placement
    inside = anatomy.voxels
    rim = dilate26(t2) & ~t2
    free = anatomy.tissue * ~(t2 | rim).ravel()[inside]
    parts = [
        (placement.periventricular, np.exp(-anatomy.ventricle_mm / _PERIVENTRICULAR_MM) * free),
        (placement.juxtacortical, np.exp(-anatomy.cortex_mm / _JUXTACORTICAL_MM) * free),
        (placement.white_matter, free),
        (placement.near_t2_lesions, _near(t2, anatomy) * free),
        (placement.near_gd_lesions, _near(gd, anatomy) * free),
        (placement.anatomical, _log_linear_weight(anatomy, law.place) * free if placement.anatomical else free),
        (placement.enlarging, rim.ravel()[inside] * anatomy.tissue),
    ]
    present = [(share, part) for share, part in parts if share > 0 and part.sum() > 0]
    weight = sum(share * _normalised(part) for share, part in present) / sum(share for share, _ in present)
    return Density(inside, np.asarray(weight))


def growth_cost(anatomy: PatientAnatomy, law: dict[str, float]) -> np.ndarray:
    """Costs under which lesions spread where a log-linear law is high."""
    cost = np.ones(int(np.prod(anatomy.shape)))
    cost[anatomy.voxels] = np.exp(-np.clip(log_linear(law, at_sites(anatomy)), -8.0, 8.0))
    return cost


def rim_growth(t2: np.ndarray, share: float) -> Growth:
    """Enlarging lesions keep to the rim of existing ones: off it their squared distance counts 1 / (1 - share) times."""
    rim = (dilate26(t2) & ~t2).ravel()
    return Growth(np.where(rim, 1.0, 1.0 / (1.0 - share)), rim)


def race(density: Density, rng: np.random.Generator) -> np.ndarray:
    """Voxels in the order in which a weighted draw without replacement takes them (exponential races, one sort)."""
    positive = density.probability > 0
    arrival = rng.standard_exponential(int(positive.sum())) / density.probability[positive]
    return density.voxels[positive][np.argsort(arrival)]


def grow(
    seed: int,
    voxels: int,
    allowed: np.ndarray,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    cost: np.ndarray | None = None,
) -> np.ndarray:
    """A connected, irregular ellipsoid of at most ``voxels`` voxels around ``seed`` within ``allowed``.

    Parameters
    ----------
    seed : int
        Flat index (C order) of the first voxel; must not lie on the border of the grid.
    voxels : int
        Wanted size; fewer are returned where there is no room.
    allowed : bool array, flat
    shape : tuple of int
    rng : Generator
    cost : float array, flat, optional
        Factor on the squared distance of a voxel: the lesion grows first where it is low.

    Returns
    -------
    int32 array
        Flat indices, sorted.

    Examples
    --------
    >>> import numpy as np
    >>> grow(62, 1, np.ones(125, bool), (5, 5, 5), np.random.default_rng(0))
    array([62], dtype=int32)
    """
    if voxels == 1:
        return np.array([seed], dtype=np.int32)
    steps = (shape[1] * shape[2], shape[2], 1)
    stretch = np.exp(rng.normal(0.0, 0.35, 3))
    x0, y0, z0 = np.unravel_index(seed, shape)
    noise = rng.random(6 * voxels + 6) * 0.9 + 0.55
    front = [(0.0, seed, 0, 0, 0)]
    seen = {seed}
    taken: list[int] = []
    drawn = 0
    while front and len(taken) < voxels:
        _, voxel, x, y, z = heapq.heappop(front)
        taken.append(voxel)
        for axis in range(3):
            for sign in (-1, 1):
                neighbour = voxel + sign * steps[axis]
                if neighbour in seen or not allowed[neighbour]:
                    continue
                seen.add(neighbour)
                dx, dy, dz = x + sign * (axis == 0), y + sign * (axis == 1), z + sign * (axis == 2)
                far = (dx * stretch[0]) ** 2 + (dy * stretch[1]) ** 2 + (dz * stretch[2]) ** 2
                if cost is not None:
                    far *= cost[neighbour]
                heapq.heappush(front, (far * noise[drawn], neighbour, dx, dy, dz))
                drawn += 1
    return np.sort(np.array(taken, dtype=np.int32))


def place(
    density: Density,
    sizes: np.ndarray | Sizes,
    allowed: np.ndarray,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    apart: bool,
    growth: Growth | None = None,
) -> list[np.ndarray]:
    """Place lesions one after another; with ``apart`` no two touch, not even at a corner.

    Sites are taken in the order of :func:`race`, skipping those that are taken or, with ``apart``, next to an earlier lesion: a
    draw from the density given that the site is free. So a 26-connected component of the mask is one lesion, and
    lesions can be counted. Where the brain is full, fewer lesions than asked are returned.

    Parameters
    ----------
    density : Density
    sizes : int array or Sizes
        Voxels of each lesion, or what they are given its first voxel.
    allowed : bool array, flat
        Where lesions may grow; not changed.
    shape : tuple of int
    rng : Generator
    apart : bool
    growth : Growth, optional

    Returns
    -------
    list of int32 array
        Flat voxel indices of each lesion placed.
    """
    free = allowed.copy()
    around = _offsets26(shape)
    lesions: list[np.ndarray] = []
    sites = iter(race(density, rng)) if len(sizes) else iter(())
    for number in range(len(sizes)):
        site = next((int(voxel) for voxel in sites if free[voxel]), None)
        if site is None:
            break
        size = sizes.at(number, site) if isinstance(sizes, Sizes) else int(sizes[number])
        lesion = grow(site, size, free, shape, rng, growth.of(site) if growth else None)
        if apart:
            free[(lesion[:, None] + around).ravel()] = False
        else:
            free[lesion] = False
        lesions.append(lesion)
    return lesions


def voxel_sizes(volumes_mm3: np.ndarray, voxel_volume_mm3: float, rng: np.random.Generator) -> np.ndarray:
    """Whole voxels of lesions of these volumes: rounded up or down at random so that the mean is kept, at least one."""
    exact = np.asarray(volumes_mm3) / voxel_volume_mm3
    return np.maximum(np.floor(exact + rng.random(exact.shape)), 1).astype(int)


def dilate26(mask: np.ndarray) -> np.ndarray:
    """The mask and every voxel that touches it by a face, an edge or a corner."""
    grown = mask
    for axis in range(3):
        wide = grown.copy()
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        wide[tuple(ahead)] |= grown[tuple(behind)]
        wide[tuple(behind)] |= grown[tuple(ahead)]
        grown = wide
    return grown


def _near(mask: np.ndarray, anatomy: PatientAnatomy) -> np.ndarray:
    if not mask.any():
        return np.zeros(len(anatomy.voxels))
    from scipy.ndimage import gaussian_filter

    spread = gaussian_filter(mask.astype(np.float32), _NEAR_LESION_MM / anatomy.voxel_mm, mode="constant", truncate=3.0)
    return np.asarray(spread.ravel()[anatomy.voxels])


def _log_linear_weight(anatomy: PatientAnatomy, law: dict[str, float]) -> np.ndarray:
    value = log_linear(law, at_sites(anatomy))
    return np.asarray(np.exp(value - value.max()))


def _normalised(weight: np.ndarray) -> np.ndarray:
    return np.asarray(weight / weight.sum())


def _offsets26(shape: tuple[int, int, int]) -> np.ndarray:
    x, y, z = np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij")
    return np.asarray((x * shape[1] * shape[2] + y * shape[2] + z).ravel())
