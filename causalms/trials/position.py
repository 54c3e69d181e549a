"""Whether a scan lies in MNI152 space: how well its brain fits the template as it lies, and would fit if it were moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from causalms.errors import RefusalError
from causalms.stats import median, sorted_quantiles
from causalms.trials.motion import CENTRE_MM, onto_template, rigid_motion_mm
from causalms.trials.space import Space, mni_space
from causalms.trials.template import template_anatomy

#: A scan is elsewhere if a rigid motion onto the template moves its brain by more than this, about one voxel of the model: 60
#: phantom patients and two real ones in place 0.4 to 3.8, the real ones 6 mm off 4.5 and more, tilted by 8 degrees 6.4 and more
#: (docs/decisions/space_gate.md).
LARGEST_MOTION_MM = 4.5
#: The same for scans on a grid of this package, where only `causalms simulate` and `causalms register` put them: 3 of 600
#: simulated patients, whose heads differ, are 4.9 to 5.3 mm away, the median of those that were moved by 6 mm 7.4.
LARGEST_MOTION_HERE_MM = 6.0
#: Least similarity in place; phantom patients 0.70 and more, the real one 0.53, the same 20% too small 0.24.
LEAST_SIMILARITY = 0.30
#: Largest volume of what is not zero, in brains of the template: phantom brains reach 1.12, a raw head 1.37 and more.
LARGEST_VOLUME = 1.3
#: Largest volume of a head with its skull, in brains of the template (2.22 in MNI152 space); beyond, the background is not 0.
LARGEST_HEAD = 2.4
#: Largest brightness of the outer 8 mm of what is not zero, in that of the inside, where it is least of several images (brains
#: 0.71 to 1.01, with a bright shell 1.09 and more); of one image, which may be a T2w with its bright rim of CSF (to 1.27).
LARGEST_RIM, LARGEST_RIM_ALONE = 1.05, 1.5

_LEVELS = 8


@dataclass(frozen=True)
class Position:
    """How a brain lies against the template.

    Parameters
    ----------
    similarity : float
        Correlation ratio of the images on the template's grey levels, 0 to 1, as the scan lies.
    motion_mm : float
        How far a rigid motion that brings the brain onto the template would move it, root mean square over the brain.
    volume : float
        Volume of the brain (or of all that is not zero) in brains of the template.
    rim : float
        Brightness of the outer 8 mm of the brain (or of all that is not zero) in that of its inside, in the least bright image.
    largest_motion_mm, largest_rim : float
        That are no reason to refuse the scan.
    """

    similarity: float
    motion_mm: float
    volume: float
    rim: float = 0.0
    largest_motion_mm: float = LARGEST_MOTION_MM
    largest_rim: float = LARGEST_RIM

    def problem(self) -> str | None:
        """What is wrong with the position, with its number, limit and mend; None for a brain in MNI152 space."""
        mend = "register the scan to MNI152 (causalms register, FSL FLIRT, ANTs) and brain-extract it"
        for factor, unit in ((1e3, "centimetres"), (1e9, "metres")):
            if 0.4 < self.volume * factor < 2.5:
                return (
                    f"the brain has {self.volume:.2g} times the volume of a brain, as if its header were in {unit}; write the "
                    "affine in millimetres, as NIfTI says"
                )
        if self.volume > LARGEST_HEAD:
            return (
                f"the background is not zero: so are {self.volume:.2f} times the volume of a brain (limit {LARGEST_VOLUME}); set "
                "what lies outside the brain to 0 or add a brain mask (desc-brain_mask)"
            )
        if self.volume > LARGEST_VOLUME:
            return (
                f"the skull is on: {self.volume:.2f} times the volume of a brain is not zero (limit {LARGEST_VOLUME}); "
                "brain-extract the images or add a brain mask (desc-brain_mask)"
            )
        if self.rim > self.largest_rim:
            return (
                f"the skull is on: the outer 8 mm of what is not zero are {self.rim:.2f} times as bright as the inside (limit "
                f"{self.largest_rim}); brain-extract the images or add a brain mask (desc-brain_mask)"
            )
        if self.motion_mm > self.largest_motion_mm:
            return (
                f"not in MNI152 space: the brain fits the template better {self.motion_mm:.1f} mm away (limit "
                f"{self.largest_motion_mm} mm); {mend}"
            )
        if self.similarity < LEAST_SIMILARITY:
            return f"not in MNI152 space: similarity with the template {self.similarity:.2f} (limit {LEAST_SIMILARITY}); {mend}"
        return None


def measure_position(images: list[np.ndarray], brain: np.ndarray, space: Space) -> Position:
    """Compare a brain with the MNI152 template in place, and say how far it would have to be moved onto it.

    The similarity of an image with a template is the correlation ratio: the share of the image's variance, over the field of
    view, that lies between eight grey levels of the template (and the outside). It needs no common contrast, so FLAIR and T1
    count alike; the mean over the images is taken. The motion starts from the best of 46 shifts and tilts (up to 32 mm, 30
    degrees, half turns) and maximises the same share over shifts, rotations and three scales; the scales, a small or a large
    head, do not count as motion.

    Parameters
    ----------
    images : list of array, shape (X, Y, Z)
    brain : array of bool, shape (X, Y, Z)
    space : Space
        Their grid.

    Returns
    -------
    Position

    References
    ----------
    Roche A, Malandain G, Pennec X, Ayache N. The correlation ratio as a new similarity measure for multimodal image
    registration. MICCAI 1998.
    """
    cells, counts = _moved_templates()
    at, voxels = _points_in(space)
    inside = _at_points(brain, at, voxels) > 0.5
    volume = float(brain.sum() * space.voxel_volume_mm3 / _template_volume_mm3())
    if inside.sum() < 50:
        return Position(0.0, 0.0, volume)
    read = [_at_points(image, at, voxels) for image in images]
    values = np.stack([_scaled(image, inside) for image in read])
    similarity = _correlation_ratio(values, cells, counts).mean(axis=0)
    seen = ((at[:, :3] > -0.5) & (at[:, :3] < np.array(space.shape) - 0.5)).all(axis=1) & _near(inside)
    start = np.linalg.inv(_poses()[int(similarity.argmax())])
    motion = onto_template(values[:, seen].T, _grid_points()[seen, :3], start)
    moved_mm = rigid_motion_mm(motion, _grid_points()[inside, :3])
    return Position(
        float(similarity[0]),
        moved_mm,
        volume,
        _rim(read, inside),
        largest_rim=LARGEST_RIM if len(images) > 1 else LARGEST_RIM_ALONE,
    )


def made_here(space: Space) -> bool:
    """Whether scans that were read from a file lie on a grid that only this package writes."""
    return any(space.same_as(mni_space(grid)) for grid in ("4mm", "3mm", "2mm", "1mm"))


def position_problem(images: list[np.ndarray], brain: np.ndarray, space: Space, resampled: bool = False) -> str | None:
    """What is wrong with the position of a scan; ``resampled``: it was put onto its grid after it was read."""
    position = measure_position(images, brain, space)
    here = made_here(space) and not resampled
    return (replace(position, largest_motion_mm=LARGEST_MOTION_HERE_MM) if here else position).problem()


def refuse_elsewhere(where: str, images: list[np.ndarray], brain: np.ndarray, space: Space, resampled: bool = False) -> None:
    """Refuse a scan that does not lie in MNI152 space, naming it, the number and the way out.

    Raises
    ------
    RefusalError
    """
    problem = position_problem(images, brain, space, resampled)
    if problem is not None:
        raise RefusalError(f"{where}: {problem}")


@lru_cache(maxsize=4)
def _points_in(space: Space) -> tuple[np.ndarray, np.ndarray | None]:
    """The compared points as voxel coordinates (N, 4) of a grid, and as numbers (N,) of voxels where all of them are some."""
    at = _grid_points() @ np.linalg.inv(space.affine).T
    index = at[:, :3].astype(np.intp)
    if (index == at[:, :3]).all() and (index >= 0).all() and (index < space.shape).all():
        return at, np.ravel_multi_index(tuple(index.T), space.shape)
    return at, None


def _at_points(volume: np.ndarray, at: np.ndarray, voxels: np.ndarray | None) -> np.ndarray:
    """A volume at voxel coordinates (N, 4), linear, 0 outside; where all are voxels of it, as they are there."""
    if voxels is not None:
        return np.asarray(volume.take(voxels), dtype=np.float32)
    return np.asarray(ndimage.map_coordinates(volume.astype(np.float32), at[:, :3].T, order=1, mode="constant"))


def _scaled(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Brain to median 4 and interquartile range 1, clipped to 1 to 7; 0 outside."""
    low, middle, high = sorted_quantiles(np.sort(values[inside]), [0.25, 0.5, 0.75])
    return np.where(inside, np.clip((values - middle) / max(high - low, 1e-9), -3, 3) + 4, 0.0)


def _rim(images: list[np.ndarray], inside: np.ndarray) -> float:
    """Median of the outermost points of the brain in that of those at least two points from its edge, in the darkest image."""
    where = inside.reshape(tuple(-(-n // 2) for n in mni_space("4mm").shape))
    core = ndimage.binary_erosion(where)
    deep = ndimage.binary_erosion(core)
    if not deep.any():
        return 0.0
    parts = [(where & ~core).ravel(), deep.ravel()]
    medians = [[median(values[part]) for part in parts] for values in images]
    return min(outer / inner if inner > 0 else 0.0 for outer, inner in medians)


def _near(inside: np.ndarray) -> np.ndarray:
    """Every second point, as on a chessboard, of the brain and two points around it, where its edge is seen."""
    shape = tuple(-(-n // 2) for n in mni_space("4mm").shape)
    near = ndimage.binary_dilation(inside.reshape(shape), iterations=2)
    return np.asarray((near & (np.indices(shape).sum(axis=0) % 2 == 0)).ravel())


def _correlation_ratio(values: np.ndarray, cells: sparse.csr_array, counts: np.ndarray) -> np.ndarray:
    """Share of the variance of each row of ``values`` between the grey levels, for each template (rows, templates)."""
    away = (values - values.mean(axis=1, keepdims=True)).astype(np.float32)
    sums = (cells @ away.T).T.reshape(-1, *counts.shape)
    between = (sums**2 / np.maximum(counts, 1)).sum(axis=2)
    return np.asarray(between / np.maximum((away**2).sum(axis=1, keepdims=True), 1e-12))


@lru_cache(maxsize=1)
def _grid_points() -> np.ndarray:
    """Homogeneous world coordinates (mm) of the points that are compared: every second voxel of the 4 mm grid."""
    shape = mni_space("4mm").shape
    index = np.stack(np.meshgrid(*[np.arange(0, n, 2) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    return np.column_stack([mni_space("4mm").world(index), np.ones(len(index))])


@lru_cache(maxsize=1)
def _moved_templates() -> tuple[sparse.csr_array, np.ndarray]:
    """Which points have which grey level of the template as it is and as moved.

    Returns
    -------
    cells : sparse array of 0 and 1, shape (templates times levels, points)
    counts : array, shape (templates, levels)
    """
    space = mni_space("4mm")
    anatomy = template_anatomy(space)
    edges = np.quantile(anatomy.t1[anatomy.brain], np.linspace(0, 1, _LEVELS + 1)[1:-1])
    binned = np.where(anatomy.brain, np.digitize(anatomy.t1, edges) + 1, 0)
    to_voxel = np.linalg.inv(space.affine)
    rows = []
    for pose in _poses():
        at = _grid_points() @ (to_voxel @ np.linalg.inv(pose)).T
        rows.append(ndimage.map_coordinates(binned, at[:, :3].T, order=0, mode="constant"))
    templates, levels = len(rows), _LEVELS + 1
    cell = (np.asarray(rows) + np.arange(templates)[:, None] * levels).ravel()
    point = np.tile(np.arange(len(_grid_points())), templates)
    cells = sparse.csr_array(
        (np.ones(cell.size, dtype=np.float32), (cell, point)), shape=(templates * levels, len(_grid_points()))
    )
    return cells, np.bincount(cell, minlength=templates * levels).reshape(templates, levels)


@lru_cache(maxsize=1)
def _poses() -> list[np.ndarray]:
    """Rigid moves: none, shifts by 8 to 32 mm, tilts by 10 to 30 degrees and half turns, along and about each axis."""
    poses = [np.eye(4)]
    for axis in range(3):
        for sign in (-1, 1):
            for shift in (8, 16, 24, 32):
                moved = np.eye(4)
                moved[axis, 3] = sign * shift
                poses.append(moved)
            poses += [_turned(axis, sign * degrees) for degrees in (10, 20, 30)]
        poses.append(_turned(axis, 180))
    return poses


def _turned(axis: int, degrees: float) -> np.ndarray:
    """Rotation about an axis through the middle of the brain."""
    angle = np.deg2rad(degrees)
    first, second = (other for other in range(3) if other != axis)
    turn = np.eye(4)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    to_centre = np.eye(4)
    to_centre[:3, 3] = CENTRE_MM
    return np.asarray(to_centre @ turn @ np.linalg.inv(to_centre))


def _template_volume_mm3() -> float:
    space = mni_space("4mm")
    return float(template_anatomy(space).brain.sum() * space.voxel_volume_mm3)
