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
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    sampled = _sampled_template(moved)
    grey, gradient = np.clip(sampled[:, 0], 0, _LEVELS), sampled[:, 1:]
    level = np.minimum(grey.astype(int), _LEVELS - 1)
    weights, row = np.zeros((len(grey), _LEVELS + 1), dtype=np.float32), np.arange(len(grey))
    weights[row, level] = 1 - (grey - level)
    weights[row, level + 1] = grey - level
    gram = (weights.T @ weights).astype(float) + 1e-3 * np.eye(_LEVELS + 1)
    coefficients = np.linalg.solve(gram, weights.T @ values)
    residuals = values - weights @ coefficients.astype(np.float32)

    def equations() -> tuple[np.ndarray, np.ndarray]:
        x, y, z = (moved - np.array(CENTRE_MM)).astype(np.float32).T
        along_x, along_y, along_z = gradient.T
        turning = [y * along_z - z * along_y, z * along_x - x * along_z, x * along_y - y * along_x]
        moving = np.stack([along_x, along_y, along_z, *turning, along_x * x, along_y * y, along_z * z], axis=1)
        hessian, slope = np.zeros((9, 9)), np.zeros(9)
        for image in range(values.shape[1]):
            rise = np.diff(coefficients[:, image]).astype(np.float32)
            jacobian = moving * rise[level, None]
            shared = weights.T @ jacobian
            hessian += jacobian.T @ jacobian - shared.T @ np.linalg.solve(gram, shared)
            slope += jacobian.T @ residuals[:, image]
        return hessian, slope

    return float((residuals**2).sum()), equations


def _sampled_template(world: np.ndarray) -> np.ndarray:
    """Grey level of the template, 0 outside its brain, and its gradient (per mm) at points: shape (N, 4), linear."""
    corners, shape, to_voxel = _template()
    at = np.clip(world @ to_voxel[:3, :3].T + to_voxel[:3, 3], 0, np.array(shape) - 1.001)
    low = at.astype(np.intp)
    found = corners.take((low[:, 0] * shape[1] + low[:, 1]) * shape[2] + low[:, 2], axis=0)
    for axis, above in enumerate((at - low).astype(np.float32).T):
        share = above.reshape(-1, *[1] * (3 - axis))
        found = found[:, 0] + share * (found[:, 1] - found[:, 0])
    return np.asarray(found)


@lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """Grey levels 1 to 8 of equal counts and their gradient on the 4 mm grid, its shape, and world coordinates to its voxels.

    Of every voxel there are the values of the eight that it is the first corner of, shape (voxels, 2, 2, 2, 4).
    """
    space = mni_space("4mm")
    anatomy = template_anatomy(space)
    bounds = np.quantile(anatomy.t1[anatomy.brain], np.linspace(0, 1, _LEVELS))
    grey = np.where(anatomy.brain, np.interp(anatomy.t1, bounds, np.arange(1, _LEVELS + 1)), 0.0)
    volumes = np.stack([grey, *np.gradient(grey, *space.voxel_sizes_mm)], axis=-1).astype(np.float32)
    wide = np.pad(volumes, [(0, 1)] * 3 + [(0, 0)])
    corners = np.lib.stride_tricks.sliding_window_view(wide, (2, 2, 2), axis=(0, 1, 2))
    in_order = np.ascontiguousarray(np.moveaxis(corners, 3, -1)).reshape(-1, 2, 2, 2, 4)
    return in_order, grey.shape, np.linalg.inv(space.affine)
