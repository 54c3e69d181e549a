"""Which motion brings a brain onto the MNI152 template: nonlinear least squares on a few thousand points, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation

from causalms.trials.space import mni_space
from causalms.trials.template import template_anatomy

#: Rotations and scales are about this point, the middle of the template's brain (mm).
CENTRE_MM = (0.0, -20.0, 8.0)
_LEVELS = 8
_STEPS, _SMALL_MM, _SMALL = 15, 0.3, 0.006


def onto_template(values: np.ndarray, points: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Shift, rotation and three scales that bring images onto the template, whatever their contrasts.

    Each image v_j is regressed on linear interpolation weights B of the template's grey levels at the moved points, and the sum
    of squares is minimised over the motion M by Levenberg-Marquardt steps, with the coefficients projected out:

        sum_j min_c |v_j - B(t(M x)) c|^2 / var(v_j)

    Parameters
    ----------
    values : array, shape (N, images)
    points : array, shape (N, 3)
        World coordinates (mm).
    start : array, shape (4, 4)

    Returns
    -------
    array, shape (4, 4)
        World coordinates of the scan to those of the template.

    References
    ----------
    Kaufman L. A variable projection method for solving separable nonlinear least squares problems. BIT 1975.
    """
    spread = np.maximum(values.std(axis=0), 1e-9)
    standard = ((values - values.mean(axis=0)) / (spread * np.sqrt(len(values)))).astype(np.float32)
    motion, damping = start, 0.01
    left, equations = _normal_equations(standard, points, motion)
    hessian, slope = equations()
    for _ in range(_STEPS):
        step = np.linalg.solve(hessian + np.diag(damping * np.diag(hessian) + 1e-12), slope)
        tried = _motion(step) @ motion
        there = _normal_equations(standard, points, tried)
        if there[0] >= left:
            damping *= 10
            if damping > 1e3:
                break
            continue
        motion, left, damping = tried, there[0], max(damping / 5, 1e-4)
        if np.abs(step[:3]).max() < _SMALL_MM and np.abs(step[3:]).max() < _SMALL:
            break
        hessian, slope = there[1]()
    return motion


def rigid_motion_mm(motion: np.ndarray, points: np.ndarray) -> float:
    """How far the shift and the rotation of a motion move points (mm), root mean square; its scales are left out.

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 3.0
    >>> rigid_motion_mm(shift, np.array([[0.0, -20.0, 8.0], [40.0, 0.0, 30.0]]))
    3.0
    """
    left, _, right = np.linalg.svd(motion[:3, :3])
    rotation = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    centre = np.array(CENTRE_MM)
    shift = motion[:3, :3] @ centre + motion[:3, 3] - centre
    apart = (points - centre) @ rotation.T + centre + shift - points
    return float(np.sqrt((apart**2).sum(axis=1).mean()))


def _motion(step: np.ndarray) -> np.ndarray:
    """Three shifts (mm), a rotation vector and three log scales about the middle of the brain."""
    matrix, centre = np.eye(4), np.array(CENTRE_MM)
    matrix[:3, :3] = Rotation.from_rotvec(step[3:6]).as_matrix() @ np.diag(np.exp(step[6:]))
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + step[:3]
    return matrix


def _normal_equations(
    values: np.ndarray, points: np.ndarray, motion: np.ndarray
) -> tuple[float, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Sum of squares, with the grey levels' coefficients projected out, and what gives its Gauss-Newton matrix and slope.

    The slope is minus half the gradient.
    """
    moved = motion[:3, :3] @ points.T + motion[:3, [3]]
    grey_there, gradient_there, _ = _template()
    corners = _corners(moved)
    grey = np.clip(_interpolated(grey_there, corners), 0, _LEVELS)
    level, row = np.minimum(grey.astype(np.intp), _LEVELS - 1), np.arange(len(grey))
    above = grey - level
    weights = np.zeros((_LEVELS + 1, len(grey)), dtype=np.float32)
    weights[level, row], weights[level + 1, row] = 1 - above, above
    gram = (weights @ weights.T).astype(float) + 1e-3 * np.eye(_LEVELS + 1)
    coefficients = np.linalg.solve(gram, weights @ values)
    residuals = values - weights.T @ coefficients.astype(np.float32)

    def equations() -> tuple[np.ndarray, np.ndarray]:
        x, y, z = (moved - np.array(CENTRE_MM)[:, None]).astype(np.float32)
        along = along_x, along_y, along_z = [_interpolated(part, corners) for part in gradient_there]
        turning = [y * along_z - z * along_y, z * along_x - x * along_z, x * along_y - y * along_x]
        moving = np.stack([*along, *turning, along_x * x, along_y * y, along_z * z])
        rise = np.diff(coefficients, axis=0)  # the jacobian of image j is moving times the rise_j of the point's level
        steep = rise.astype(np.float32)[level]
        hessian, slope = (moving * (steep**2).sum(axis=1)) @ moving.T, moving @ (steep * residuals).sum(axis=1)
        beside = np.zeros((_LEVELS, len(level)), dtype=np.float32)
        beside[level, row] = above
        of_upper = moving @ beside.T
        beside[level, row] = 1 - above
        of_lower = moving @ beside.T
        shared = np.zeros((_LEVELS + 1, values.shape[1], 9))
        shared[:-1] += rise[:, :, None] * of_lower.T[:, None]
        shared[1:] += rise[:, :, None] * of_upper.T[:, None]
        projected = np.linalg.solve(gram, shared.reshape(_LEVELS + 1, -1))
        return hessian - shared.reshape(-1, 9).T @ projected.reshape(-1, 9), slope.astype(float)

    return float((residuals**2).sum()), equations


def _corners(world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (8, N) of the template's voxels around points (3, N), and how far (3, N) each lies from the first of them."""
    _, _, to_voxel = _template()
    wide, high, deep = mni_space("4mm").shape
    at = to_voxel[:3, :3] @ world + to_voxel[:3, [3]]
    for axis, size in zip(at, (wide, high, deep), strict=True):
        np.clip(axis, 0, size - 1.001, out=axis)
    low = at.astype(np.intp)
    first = (low[0] * high + low[1]) * deep + low[2]
    ahead = np.add.outer(np.add.outer([0, high * deep], [0, deep]), [0, 1]).ravel()
    return first + ahead[:, None], (at - low).astype(np.float32)


def _interpolated(volume: np.ndarray, corners: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """A flat volume of the template (voxels,) between its voxels, (N,)."""
    numbers, above = corners
    found = volume.take(numbers)
    for share in above:
        half = len(found) // 2
        found = found[:half] + share * (found[half:] - found[:half])
    return np.asarray(found[0])


@lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey levels 1 to 8 of equal counts (voxels,), 0 outside the brain, their gradient per mm (3, voxels) on the 4 mm grid.

    The last is the matrix from world coordinates to voxels.
    """
    space = mni_space("4mm")
    anatomy = template_anatomy(space)
    bounds = np.quantile(anatomy.t1[anatomy.brain], np.linspace(0, 1, _LEVELS))
    grey = np.where(anatomy.brain, np.interp(anatomy.t1, bounds, np.arange(1, _LEVELS + 1)), 0.0)
    gradient = np.stack([*np.gradient(grey, *space.voxel_sizes_mm)]).astype(np.float32)
    return grey.astype(np.float32).ravel(), gradient.reshape(3, -1), np.linalg.inv(space.affine)
