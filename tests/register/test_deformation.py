"""A deformation of the template is found again, and images, lesions and maps follow it both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.lesions import LesionRule, count_lesions
from causalms.register import Scan
from causalms.register.greedy import deform
from causalms.trials import Deformation, NativeGrid, mni_space, resample_back, resample_lesions, template_anatomy, write_native
from causalms.trials.native import native_path, read_native

SPACE = mni_space("4mm")
WORLD = SPACE.world(np.indices(SPACE.shape).reshape(3, -1).T)


def _bend(world: np.ndarray) -> np.ndarray:
    """Where a point of the template lies in the bent brain: up to 5 mm away, over 80 mm."""
    return np.asarray(world + 5 * np.sin(2 * np.pi * world[:, [1, 2, 0]] / 160))


@pytest.fixture(scope="module")
def bent() -> Deformation:
    """The bend and, by fixed-point iteration, its inverse."""
    back = WORLD.copy()
    for _ in range(30):
        back -= _bend(back) - WORLD
    return Deformation(SPACE, *((points - WORLD).reshape(*SPACE.shape, 3) for points in (_bend(WORLD), back)))


def test_each_field_undoes_the_other_and_no_space_folds(bent: Deformation) -> None:
    inside = WORLD[template_anatomy(SPACE).brain.ravel()]
    assert np.abs(bent.into_scan(bent.into_template(inside)) - inside).max() < 0.1
    assert 0.3 < bent.least_volume_ratio() < 1


def test_a_known_deformation_of_the_template_is_found(bent: Deformation) -> None:
    pytest.importorskip("picsl_greedy")
    anatomy = template_anatomy(SPACE)
    template = Scan(anatomy.t1 * anatomy.brain, SPACE)
    moving = Scan(resample_back(template.values, SPACE, SPACE, through=bent.into_template), SPACE)
    found = deform(template, moving, np.eye(4), same_contrast=True)
    inside = WORLD[anatomy.brain.ravel()]
    apart = np.sqrt(((found.into_scan(inside) - _bend(inside)) ** 2).sum(axis=1).mean())
    before = np.sqrt(((inside - _bend(inside)) ** 2).sum(axis=1).mean())
    assert apart < before / 3, (apart, before)  # what has no contrast cannot be told
    assert np.sqrt(((found.into_template(found.into_scan(inside)) - inside) ** 2).sum(axis=1).mean()) < 0.3
    assert found.least_volume_ratio() > 0


def test_lesions_follow_the_deformation_and_keep_their_volume(bent: Deformation) -> None:
    scan = np.zeros(SPACE.shape, dtype=bool)
    scan[14:17, 28:31, 20:23], scan[26, 14, 24] = True, True
    moved = resample_lesions(scan, SPACE, SPACE, bent.into_template)
    counted = [count_lesions(mask, SPACE.voxel_volume_mm3, LesionRule.default()) for mask in (scan, moved)]
    assert counted[0].lesions == counted[1].lesions == 2
    assert scan.sum() == moved.sum()
    middle = SPACE.world(np.array([[15, 29, 21]]))
    there = SPACE.world(np.argwhere(moved & (np.indices(SPACE.shape)[0] < 20)).mean(axis=0, keepdims=True))
    assert np.abs(there - bent.into_template(middle)).max() < 2  # half a voxel


def test_a_map_comes_home_through_the_deformation_that_was_kept(bent: Deformation, tmp_path: Path) -> None:
    path = native_path("sub-1", None, tmp_path)
    path.parent.mkdir(parents=True)
    write_native(path, NativeGrid(SPACE, np.eye(4), "FLAIR", bent))
    kept = read_native(path)
    assert kept is not None
    brain = template_anatomy(SPACE).brain.astype(np.float32)
    home = resample_back(brain, SPACE, kept.in_template, through=kept.through)
    again = resample_back(home, SPACE, SPACE, through=bent.into_scan) > 0.5
    assert 2 * (again & (brain > 0)).sum() / (again.sum() + brain.sum()) > 0.98  # two interpolations of a brain's edge
    assert np.abs(home - brain).mean() > 0.01  # it was bent on the way
