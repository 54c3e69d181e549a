"""From a trial's own grid to a model's and back: only when asked for, and said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import ndimage

from causalms.errors import RefusalError, UsageError
from causalms.lesions import LesionRule
from causalms.trials.space import Space
from causalms.trials.trial import MODALITIES, Trial

#: Least share of the model's grid that the images must cover.
_LEAST_COVER = 0.5
#: No field of view is larger.
_LARGEST_FIELD_MM = 600.0
_RULE = LesionRule.default()
#: World coordinates (mm), shape (N, 3), to others.
Points = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class ResampledSource:
    """A trial's images and masks on another grid.

    Parameters
    ----------
    trial : Trial
        As it is, each participant on a grid of their own.
    space : Space
        The grid wanted.
    """

    trial: Trial
    space: Space

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image, averaged over the voxels of the wanted grid; None if there is none."""
        image = self.trial.source.image(participant_id, modality)
        return None if image is None else resample_image(image, self._own_space(participant_id), self.space)

    def place(self, participant_id: str) -> str:
        """Where the participant's images stand, for messages."""
        return self.trial.place(participant_id)

    def stamp(self, participant_id: str) -> str:
        """What tells whether the participant's files are still the same; empty where they are in memory."""
        stamp = getattr(self.trial.source, "stamp", None)
        return "" if stamp is None else str(stamp(participant_id))

    def mask(self, participant_id: str, kind: str, week: int) -> np.ndarray | None:
        """Mask on the wanted grid; a missing brain mask is taken from brain-extracted images."""
        mask, own = self.trial.source.mask(participant_id, kind, week), self._own_space(participant_id)
        if mask is not None and kind != "brain":
            return mask if own.same_as(self.space) else resample_lesions(mask, own, self.space)
        if mask is None and kind == "brain" and week == 0:
            mask = self._extracted_brain(participant_id)
        return None if mask is None else resample_image(mask.astype(np.float32), own, self.space) >= 0.5

    def _own_space(self, participant_id: str) -> Space:
        own = self.trial.space_of(participant_id)
        refuse_without_cover(self.trial.place(participant_id), own, self.space)
        return own

    def _extracted_brain(self, participant_id: str) -> np.ndarray | None:
        inside = np.zeros(self.trial.space_of(participant_id).shape, dtype=bool)
        for modality in MODALITIES:
            image = self.trial.source.image(participant_id, modality)
            if image is not None:
                inside |= image != 0
        return inside if inside.any() else None


def resample_trial(trial: Trial, space: Space) -> Trial:
    """The same trial with its images and masks on another grid, resampled when they are asked for.

    Both grids must be of one world: images in MNI152 coordinates for a model in MNI152 coordinates. Nothing is registered
    here. The participants table stays as it is: its counts are those on the trial's own grid.

    Parameters
    ----------
    trial : Trial
    space : Space

    Returns
    -------
    Trial
        With what was done in :attr:`Trial.notes`. The trial itself, unchanged, if the grids are the same.

    Raises
    ------
    RefusalError
        If the images cover less than half of the wanted grid.

    See Also
    --------
    resample_back : the inverse, for maps and masks.
    """
    several = bool(getattr(trial.source, "several_grids", False))
    if trial.space.same_as(space) and not several:
        return trial
    if not several:
        refuse_without_cover(trial.name, trial.space, space)
    own = "the grid of each participant" if several else trial.space.describe()
    notes = (
        f"resampled from {own} to {space.describe()}: images averaged over the new voxels (Gaussian, "
        "linear interpolation), brain where at least half a voxel is brain",
        "each lesion of at least 3 mm3 keeps its volume to the nearest voxel and at least one voxel; lesions closer than a voxel "
        "may merge; counts and volumes in the participants table are those of the original grid",
        "where a participant has no brain mask and the images are zero outside the brain, brain is where any image is not zero",
    )
    return replace(trial, space=space, source=ResampledSource(trial, space), notes=(*trial.notes, *notes))


def refuse_without_cover(where: str, own_space: Space, space: Space) -> None:
    """Refuse images that cover less than half of the grid wanted.

    Raises
    ------
    RefusalError
        With the unit that the header seems to be in, where that explains it.
    """
    covered = _covered(own_space, space)
    if covered >= _LEAST_COVER:
        return
    for factor, unit in ((10.0, "centimetres"), (1000.0, "metres")):
        in_mm = Space(own_space.shape, np.diag([factor, factor, factor, 1.0]) @ own_space.affine)
        extent_mm = max(np.multiply(own_space.shape, own_space.voxel_sizes_mm))
        if extent_mm * factor < _LARGEST_FIELD_MM and _covered(in_mm, space) >= _LEAST_COVER:
            raise RefusalError(
                f"{where}: the images ({own_space.describe()}) are as large as a head if their header is in {unit}; write the "
                "affine in millimetres, as NIfTI says"
            )
    raise RefusalError(
        f"{where}: the images ({own_space.describe()}) cover {covered:.0%} of the grid asked for "
        f"({space.describe()}); register them to MNI152 first"
    )


def resample_back(
    array: np.ndarray, model_space: Space, own_space: Space, order: int | None = None, through: Points | None = None
) -> np.ndarray:
    """A map or mask on a model's grid brought onto a patient's own grid.

    Parameters
    ----------
    array : array of the shape of ``model_space``
        Bool for a mask, float for a map.
    model_space, own_space : Space
    order : {0, 1}, optional
        0 takes the value of the nearest voxel, 1 interpolates linearly (a mask is then where that gives at least one half).
        By default 0 for masks, so that volumes stay, and 1 for maps.
    through : callable, optional
        Where points of the own world lie in that of the model, if the two differ by a deformation.

    Returns
    -------
    array of the shape of ``own_space``
        Bool for a mask, float32 for a map; 0 outside the model's grid.

    Raises
    ------
    UsageError
        If the array does not have the shape of ``model_space``, or order is neither 0 nor 1.

    Examples
    --------
    >>> import numpy as np
    >>> coarse, fine = Space((2, 2, 2), np.diag([4.0, 4, 4, 1])), Space((8, 8, 8), _fine_affine(4.0, 4))
    >>> mask = np.zeros(coarse.shape, dtype=bool)
    >>> mask[1, 1, 1] = True
    >>> int(resample_back(mask, coarse, fine).sum())  # one voxel of 64 mm3 is 64 voxels of 1 mm3
    64
    """
    values = np.asarray(array)
    if values.shape != model_space.shape:
        raise UsageError(f"the array has shape {values.shape}, its grid {model_space.shape}; give both of one grid")
    if order not in (None, 0, 1):
        raise UsageError(f"order {order!r} is neither 0 (nearest) nor 1 (linear); choose one of them")
    is_mask = values.dtype == bool
    chosen = (0 if is_mask else 1) if order is None else order
    if through is None and model_space.same_as(own_space):
        return values.copy() if is_mask else values.astype(np.float32)
    moved = _transformed(values.astype(np.float32), model_space, own_space, chosen, through)
    return moved >= 0.5 if is_mask else moved


def resample_image(image: np.ndarray, own_space: Space, space: Space, through: Points | None = None) -> np.ndarray:
    """An image on another grid: smoothed to the size of the new voxels, then interpolated linearly; 0 outside.

    Parameters
    ----------
    image : array of the shape of ``own_space``
    own_space, space : Space
    through : callable, optional
        Where points of the new world lie in the own, if the two differ by a deformation.

    Returns
    -------
    array of float32, of the shape of ``space``
    """
    values = np.asarray(image, dtype=np.float32)
    if through is None and own_space.same_as(space):
        return values
    to_own = np.linalg.inv(own_space.affine) @ space.affine
    width = np.sqrt((to_own[:3, :3] ** 2).sum(axis=1))  # of a new voxel along each old axis, in old voxels
    sigma = np.maximum(width - 1.0, 0.0) / 2.5
    if sigma.any():
        values = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3.0)
    return _transformed(values, own_space, space, 1, through)


def resample_lesions(mask: np.ndarray, own_space: Space, space: Space, through: Points | None = None) -> np.ndarray:
    """A lesion mask on another grid; no lesion is lost and none changes its volume by more than rounding.

    A lesion of volume V becomes max(1, round(V / v)) voxels of volume v: those of which it covers most. Components that are
    no lesion by the default rule (less than 3 mm3) are left out, for a coarse voxel would make lesions of them.

    Parameters
    ----------
    mask : array of bool, of the shape of ``own_space``
    own_space, space : Space
    through : callable, optional
        Where points of the own world lie in the new, if the two differ by a deformation.

    Returns
    -------
    array of bool, of the shape of ``space``
        A lesion that lies outside ``space`` altogether has no voxel.

    Examples
    --------
    >>> import numpy as np
    >>> fine, coarse = Space((8, 8, 8), _fine_affine(4.0, 4)), Space((2, 2, 2), np.diag([4.0, 4, 4, 1]))
    >>> mask = np.zeros(fine.shape, dtype=bool)
    >>> mask[6, 6, 5:8] = True  # 3 mm3
    >>> np.argwhere(resample_lesions(mask, fine, coarse)).tolist()
    [[1, 1, 1]]
    """
    labels = _RULE.label(mask, own_space.voxel_volume_mm3)
    out = np.zeros(space.shape, dtype=bool)
    if not labels.any():
        return out
    lesion, target = _points(labels, own_space, space, through)
    lesions = int(labels.max())
    cells = out.size
    pairs, covered = np.unique(lesion * np.int64(cells) + target, return_counts=True)
    lesion_of, cell_of = pairs // cells, pairs % cells
    volume = np.bincount(labels.ravel(), minlength=lesions + 1) * own_space.voxel_volume_mm3
    wanted = np.maximum(1, np.floor(volume / space.voxel_volume_mm3 + 0.5)).astype(np.int64)
    order = np.lexsort((cell_of, -covered, lesion_of))
    lesion_of, cell_of = lesion_of[order], cell_of[order]
    first = np.searchsorted(lesion_of, lesion_of)
    taken = np.arange(len(lesion_of)) - first < wanted[lesion_of]
    out.ravel()[cell_of[taken]] = True
    return out


def _points(labels: np.ndarray, own_space: Space, space: Space, through: Points | None) -> tuple[np.ndarray, np.ndarray]:
    """Lesion and new voxel (flat index) of points spread evenly over the lesions' old voxels."""
    inside = np.flatnonzero(labels)
    index = np.stack(np.unravel_index(inside, labels.shape), axis=1).astype(float)
    to_new = np.linalg.inv(space.affine) @ own_space.affine
    width = np.sqrt((to_new[:3, :3] ** 2).sum(axis=0))  # of an old voxel, in new voxels
    counts = np.maximum(1, np.ceil(2 * width)).astype(int)
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (index[:, None] + offsets[None]).reshape(-1, 3)
    if through is None:
        at = points @ to_new[:3, :3].T + to_new[:3, 3]
    else:
        to_voxel = np.linalg.inv(space.affine)
        at = through(own_space.world(points)) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    voxel = np.floor(np.round(at + 0.5, 6)).astype(np.int64)
    lesion = np.repeat(labels.ravel()[inside].astype(np.int64), len(offsets))
    within = ((voxel >= 0) & (voxel < np.asarray(space.shape))).all(axis=1)
    return lesion[within], np.ravel_multi_index(tuple(voxel[within].T), space.shape).astype(np.int64)


def _transformed(values: np.ndarray, source: Space, target: Space, order: int, through: Points | None = None) -> np.ndarray:
    if through is not None:
        to_voxel, out = np.linalg.inv(source.affine), np.empty(target.shape, dtype=np.float32)
        index = np.indices(target.shape[1:]).reshape(2, -1)
        for x in range(target.shape[0]):
            world = through(target.world(np.vstack([np.full(index.shape[1], x), index]).T))
            at = world @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            out[x] = ndimage.map_coordinates(values, at.T, order=order, mode="grid-constant").reshape(target.shape[1:])
        return out
    to_source = np.round(np.linalg.inv(source.affine) @ target.affine, 9)
    linear, offset = to_source[:3, :3], to_source[:3, 3]
    along_axes = np.array_equal(linear, np.diag(linear.diagonal()))  # then scipy takes less time for the same bits
    moved = ndimage.affine_transform(
        values,
        linear.diagonal() if along_axes else linear,
        offset,
        output_shape=target.shape,
        output=np.float32,
        order=order,
        mode="grid-constant",
        cval=0.0,
    )
    return np.asarray(moved)


@lru_cache(maxsize=256)
def _covered(own_space: Space, space: Space) -> float:
    """Share of the wanted grid's voxels whose middle lies in the own grid's field of view (every third voxel is asked)."""
    axes = [np.arange(0, n, 3) for n in space.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    to_own = np.linalg.inv(own_space.affine) @ space.affine
    at = index @ to_own[:3, :3].T + to_own[:3, 3]
    return float(((at > -0.5) & (at < np.asarray(own_space.shape) - 0.5)).all(axis=1).mean())


def _fine_affine(size_mm: float, parts: int) -> np.ndarray:
    """Affine of the grid that cuts voxels of a grid at the origin into ``parts`` along each axis."""
    affine = np.diag([size_mm / parts] * 3 + [1.0])
    affine[:3, 3] = -size_mm / 2 + size_mm / (2 * parts)
    return affine
