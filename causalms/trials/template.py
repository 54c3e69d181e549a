"""The MNI152 template on any grid: tissue, ventricles, distances and the four lesion regions; the usual grids ship as files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy import ndimage

from causalms.trials.space import Space, mni_space

#: White matter and deep grey matter nearer than this to the lateral ventricles is periventricular.
PERIVENTRICULAR_MM = 8.0
#: Tissue nearer than this to the cortex is juxtacortical.
JUXTACORTICAL_MM = 5.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The template on one grid; arrays have the grid's shape.

    Attributes
    ----------
    t1 : float32
        Template T1-weighted image, 0 to 1.
    grey, white, csf : float32
        Tissue shares of a voxel.
    brain : bool
    ventricles : bool
        Lateral ventricles.
    distance_to_ventricles_mm, distance_to_cortex_mm : float32
    regions : uint8
        1 periventricular, 2 juxtacortical, 3 deep white matter, 4 infratentorial (:data:`causalms.tables.REGIONS`); 0 outside.
    """

    t1: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    brain: np.ndarray
    ventricles: np.ndarray
    distance_to_ventricles_mm: np.ndarray
    distance_to_cortex_mm: np.ndarray
    regions: np.ndarray


def make_anatomy(space: Space) -> Anatomy:
    """Resample the MNI152 template that ships with nilearn onto a grid in MNI coordinates.

    Distances are computed at 1 mm and then resampled, so they do not depend on the grid.

    Parameters
    ----------
    space : Space

    Returns
    -------
    Anatomy
    """
    fine = _fine_template()
    index = np.indices(space.shape).reshape(3, -1).T
    at = (space.world(index) - fine["origin"]) / fine["step"]

    def sampled(name: str, smooth: bool) -> np.ndarray:
        volume = fine[name]
        if smooth:  # a share of the target voxel, not the value at its middle
            widths = np.maximum(np.asarray(space.voxel_sizes_mm) - 1.0, 0) / 2.5
            volume = ndimage.gaussian_filter(volume, widths)
        values = ndimage.map_coordinates(volume, at.T, order=1, mode="nearest")
        return np.asarray(values.reshape(space.shape), dtype=np.float32)

    shares = {name: np.clip(sampled(name, True), 0, 1) for name in ("grey", "white", "csf", "brain", "ventricles")}
    brain = shares["brain"] > 0.5
    to_ventricles, to_cortex = sampled("to_ventricles", False), sampled("to_cortex", False)
    regions = _regions(space, brain, to_ventricles, to_cortex)
    arrays = [
        shares["grey"],
        shares["white"],
        shares["csf"],
        brain,
        shares["ventricles"] > 0.5,
        to_ventricles,
        to_cortex,
        regions,
    ]
    return Anatomy(sampled("t1", True), *arrays)


def _regions(space: Space, brain: np.ndarray, to_ventricles: np.ndarray, to_cortex: np.ndarray) -> np.ndarray:
    world = space.world(np.indices(space.shape).reshape(3, -1).T)
    below = _infratentorial(world).reshape(space.shape)
    regions = np.full(space.shape, 3, dtype=np.uint8)
    regions[to_cortex < JUXTACORTICAL_MM] = 2
    regions[to_ventricles < PERIVENTRICULAR_MM] = 1
    regions[below] = 4
    regions[~brain] = 0
    return regions


def _infratentorial(world: np.ndarray) -> np.ndarray:
    """Cerebellum and brainstem in MNI coordinates (mm): below a tent that falls off sideways, behind the brainstem's front."""
    x, y, z = np.abs(world[:, 0]), world[:, 1], world[:, 2]
    cerebellum = (y < -30) & (y > -85) & (z < -8 - 0.5 * x) & (x < 56)
    cerebellum |= (y <= -85) & (z < -26)
    brainstem = (x < 18) & (y <= -8) & (y > -46) & (z < -8)
    return np.asarray(cerebellum | brainstem)


@lru_cache(maxsize=1)
def _fine_template() -> dict[str, np.ndarray]:
    """The shipped template at 1 mm with everything that is derived from it."""
    from nilearn import datasets

    images = {
        "t1": datasets.load_mni152_template(resolution=1),
        "grey": datasets.load_mni152_gm_template(resolution=1),
        "white": datasets.load_mni152_wm_template(resolution=1),
    }
    affine = np.asarray(images["t1"].affine)
    volumes = {name: np.asarray(image.dataobj, dtype=np.float32) for name, image in images.items()}
    for name in ("t1", "grey", "white"):
        volumes[name] = volumes[name] / volumes[name].max()
    tissue = volumes["grey"] + volumes["white"]
    brain = ndimage.binary_fill_holes(
        ndimage.binary_closing(volumes["t1"] > 0.05, iterations=2) & (ndimage.maximum_filter(tissue, 9) > 0.3)
    )
    csf = np.clip(1 - tissue, 0, 1) * brain
    shape = brain.shape
    world = (np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]).reshape(*shape, 3)
    x, y, z = np.abs(world[..., 0]), world[..., 1], world[..., 2]
    box = (x < 32) & (y > -52) & (y < 36) & (z > 1) & (z < 34) & ~((x < 5) & (z < 8))
    ventricles = _largest((csf > 0.5) & box, 2)
    deep = (x < 36) & (y > -38) & (y < 28) & (z > -14) & (z < 24)
    cortex = (volumes["grey"] > 0.5) & ~deep & brain
    return {
        **volumes,
        "brain": brain.astype(np.float32),
        "csf": csf.astype(np.float32),
        "ventricles": ventricles.astype(np.float32),
        "to_ventricles": ndimage.distance_transform_edt(~ventricles).astype(np.float32),
        "to_cortex": ndimage.distance_transform_edt(~cortex).astype(np.float32),
        "origin": affine[:3, 3],
        "step": np.diag(affine)[:3],
    }


def _largest(mask: np.ndarray, count: int) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(np.isin(labels, np.argsort(sizes)[-count:]))


#: Grids whose template ships with the package; that of any other is made, in about five seconds and 1.3 GiB.
SHIPPED = ("4mm", "3mm")


@lru_cache(maxsize=8)
def template_anatomy(space: Space) -> Anatomy:
    """The MNI152 template on a grid in MNI coordinates.

    Read from a file that ships for the grids of the models (``SHIPPED``), made by ``make_anatomy`` for any other.

    Parameters
    ----------
    space : Space

    Returns
    -------
    Anatomy

    References
    ----------
    Fonov V, Evans AC, Botteron K, et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 2011.
    Regions after Filippi M, Preziosa P, Banwell BL, et al. Assessment of lesions on MRI in MS. Brain 2019.

    Examples
    --------
    >>> from causalms.trials import mni_space
    >>> anatomy = template_anatomy(mni_space("4mm"))
    >>> anatomy.regions.shape, sorted(int(label) for label in np.unique(anatomy.regions))
    ((40, 48, 40), [0, 1, 2, 3, 4])
    """
    for grid in SHIPPED:
        file = template_file(grid)
        if space == mni_space(grid) and file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                return _frozen(Anatomy(**arrays))
    return _frozen(make_anatomy(space))


def template_file(grid: str) -> Path:
    """Where the template of a grid ships; ``studies/template_files.py`` writes it."""
    return Path(str(files("causalms.trials") / f"template_{grid}.npz"))


def _frozen(anatomy: Anatomy) -> Anatomy:
    for array in vars(anatomy).values():
        array.setflags(write=False)
    return anatomy
