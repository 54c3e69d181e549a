r"""What masks look like, judged against known ones: scores of whole masks, and laws of lesions beside those of the truth.

With ``y`` the true mask of a patient, ``x_1 .. x_D`` draws:

- energy score of blocks, ``mean_d |z(x_d) - z(y)| - 1/2 mean_{d != e} |z(x_d) - z(x_e)|``, Euclidean norms, where ``z`` are the
  square roots of the lesion volume (mL) in cubes of 2 voxels (8 mm): a proper score of the whole law of places and amounts;
- variogram score of blocks, ``sum over pairs of neighbouring cubes of 4 voxels (16 mm) of (v(y) - mean_d v(x_d))^2``, with
  ``v = |z_i - z_j|^(1/2)``, less the variance of that mean (so that it is unbiased for any number of draws): proper, and more
  sensitive to what lies beside what (Scheuerer and Hamill 2015);

both per patient, the smaller the better.  A law is a ratio of sums over patients:

- pairs of centres 8 to 16 mm, and 16 to 24 mm apart, as a share of all pairs 8 to 48 mm apart: the pair correlation;
- share of lesions that touch a baseline T2 lesion (enlarging), the share of their voxels that touch it (contact), and the share
  of all lesion voxels that lie inside one (a new lesion is outside by definition);
- mean voxels a lesion by region, and the largest distance between the laws of sizes (Kolmogorov-Smirnov), by region.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import pdist

from causalms.phantom.placement import dilate26
from causalms.trials import Space
from studies.denoiser_worth.samplers import REGIONS, lesions_of, region_map, region_of

_LARGEST = 60
PAIRS_MM = (8.0, 16.0, 24.0, 48.0)


def blocks(mask: np.ndarray, side: int) -> np.ndarray:
    """Square root of the lesion volume (mL; voxels of 4 mm) in cubes of ``side`` voxels, (X, Y, Z) of the cubes."""
    x, y, z = (n // side for n in mask.shape)
    cubes = mask[: side * x, : side * y, : side * z].reshape(x, side, y, side, z, side)
    return np.asarray(np.sqrt(cubes.sum((1, 3, 5)) * 0.064))


def energy_score(draws: np.ndarray, true: np.ndarray) -> float:
    """Energy score of draws (D, X, Y, Z) of a mask.

    Examples
    --------
    >>> true = np.zeros((4, 4, 4), bool)
    >>> true[0, 0, 0] = True
    >>> energy_score(np.stack([true, true]), true) < energy_score(np.stack([~true, ~true]), true)
    True
    """
    own, y = np.stack([blocks(mask, 2).ravel() for mask in draws]), blocks(true, 2).ravel()
    return float(np.linalg.norm(own - y, axis=1).mean() - pdist(own).mean() / 2)


def _variogram(mask: np.ndarray) -> np.ndarray:
    """Square root of the difference of every pair of neighbouring cubes."""
    z = blocks(mask, 4)
    return np.concatenate([np.sqrt(np.abs(np.diff(z, axis=axis))).ravel() for axis in range(3)])


def variogram_score(draws: np.ndarray, true: np.ndarray) -> float:
    """Variogram score of draws (D, X, Y, Z) of a mask."""
    own = np.stack([_variogram(mask) for mask in draws])
    noise = own.var(axis=0, ddof=1) / len(draws)
    return float(((_variogram(true) - own.mean(0)) ** 2 - noise).sum())


def counted(masks: np.ndarray, t2: np.ndarray, space: Space) -> dict[str, np.ndarray]:
    """Sums over masks (D, X, Y, Z) of one patient, from which every law is made."""
    regions, near = region_map(space).ravel(), dilate26(t2).ravel()
    rim, inside = near & ~t2.ravel(), t2.ravel()
    sizes, pairs = np.zeros((len(REGIONS), _LARGEST + 1)), np.zeros(len(PAIRS_MM) - 1)
    enlarging, voxels = np.zeros(3), np.zeros(2)
    for mask in masks:
        lesions, centres = lesions_of(mask, float(space.voxel_volume_mm3)), []
        for lesion in lesions:
            sizes[region_of(lesion, regions.reshape(t2.shape)), min(len(lesion), _LARGEST)] += 1
            centres.append(np.stack(np.unravel_index(lesion, t2.shape), axis=1).mean(0) * space.voxel_sizes_mm[0])
            if near[lesion].any():
                enlarging += [1, rim[lesion].sum(), len(lesion)]
            voxels += [inside[lesion].sum(), len(lesion)]
        if len(centres) > 1:
            pairs += np.histogram(pdist(np.array(centres)), PAIRS_MM)[0]
    return {"sizes": sizes, "pairs": pairs, "enlarging": enlarging, "voxels": voxels}


Law = Callable[[dict[str, np.ndarray]], float]


def _share(name: str, over: int, under: int) -> Law:
    return lambda sums: float(sums[name][over] / max(sums[name][under], 1))


def _mean_size(region: int) -> Law:
    return lambda sums: float(sums["sizes"][region] @ np.arange(_LARGEST + 1) / max(sums["sizes"][region].sum(), 1))


#: Laws that a model's masks and the true ones have a value of each.
LAWS: dict[str, Law] = {
    "lesions a patient": lambda sums: float(sums["sizes"].sum() / sums["masks"]),
    "voxels a lesion": lambda sums: float(sums["sizes"].sum(0) @ np.arange(_LARGEST + 1) / max(sums["sizes"].sum(), 1)),
    "pairs 8-16 mm apart": lambda sums: float(sums["pairs"][0] / max(sums["pairs"].sum(), 1)),
    "pairs 16-24 mm apart": lambda sums: float(sums["pairs"][1] / max(sums["pairs"].sum(), 1)),
    "share enlarging": lambda sums: float(sums["enlarging"][0] / max(sums["sizes"].sum(), 1)),
    "contact of enlarging lesions": _share("enlarging", 1, 2),
    "voxels inside baseline lesions": _share("voxels", 0, 1),
    **{f"voxels a lesion, {region}": _mean_size(k) for k, region in enumerate(REGIONS)},
}


def distance_of_sizes(own: dict[str, np.ndarray], true: dict[str, np.ndarray], region: int) -> float:
    """Largest distance between the laws of sizes of two sets of lesions in a region."""
    laws = [np.cumsum(sums["sizes"][region]) / max(sums["sizes"][region].sum(), 1) for sums in (own, true)]
    return float(np.abs(laws[0] - laws[1]).max())
