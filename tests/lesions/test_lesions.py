"""Lesion tables and matching on masks whose answer is known by hand, and on real masks."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from causalms.errors import UsageError
from causalms.lesions import LesionRule, count_lesions, lesion_table, mask_summary, match_lesions
from causalms.lesions.rule import label_components
from causalms.tables import REGIONS
from causalms.trials.nifti import read_volume


def _mask(*boxes: tuple[slice, slice, slice], shape: tuple[int, int, int] = (12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def test_voxels_that_touch_at_a_corner_are_one_lesion_of_26_neighbours_and_two_of_6() -> None:
    mask = _mask(np.s_[1:3, 1:3, 1:3], np.s_[3:5, 3:5, 3:5])
    assert count_lesions(mask, 1.0, LesionRule.default()).lesions == 1
    assert count_lesions(mask, 1.0, LesionRule.msseg2()).lesions == 2


def test_smallest_lesion_is_three_mm3_by_default_and_more_than_three_by_msseg2() -> None:
    mask = _mask(np.s_[1:4, 1:2, 1:2])
    assert count_lesions(mask, 1.0, LesionRule.default()).lesions == 1
    assert count_lesions(mask, 1.0, LesionRule.msseg2()).lesions == 0
    assert count_lesions(mask, 0.9, LesionRule.default()).lesions == 0


def test_volume_and_centre_on_an_oblique_anisotropic_grid() -> None:
    turn = np.deg2rad(30)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.5, 0.5, 3.0])
    affine[:3, 3] = [10, -20, 5]
    row = lesion_table(_mask(np.s_[2:6, 3:5, 4:5]), affine).iloc[0]
    assert row["volume_mm3"] == pytest.approx(8 * 0.75)
    expected = affine @ [3.5, 3.5, 4.0, 1]
    assert [row["x_mm"], row["y_mm"], row["z_mm"]] == pytest.approx(expected[:3].tolist())


def test_region_is_that_of_most_voxels() -> None:
    regions = np.full((12, 12, 12), 3, dtype=np.uint8)
    regions[:3] = 1
    table = lesion_table(_mask(np.s_[1:4, 1:2, 1:2], np.s_[7:10, 7:8, 7:8]), np.eye(4), regions=regions)
    assert table["region"].tolist() == ["periventricular", "deep_white_matter"]
    summary = mask_summary(lesion_table(_mask(np.s_[1:4, 1:2, 1:2]), np.eye(4), regions=regions), by_region=True)
    assert [summary[f"lesions_{region}"] for region in REGIONS] == [1, 0, 0, 0]


def test_lesion_found_needs_more_than_a_tenth_covered() -> None:
    reference = _mask(np.s_[0:10, 0:2, 0:2])  # 40 voxels
    tenth = _mask(np.s_[0:1, 0:2, 0:2])  # exactly 4 of them
    assert match_lesions(reference, tenth, 1.0).reference_found == (False,)
    assert match_lesions(reference, _mask(np.s_[0:2, 0:2, 0:2]), 1.0).reference_found == (True,)


def test_test_lesion_that_lies_mostly_outside_does_not_count() -> None:
    reference = _mask(np.s_[0:4, 0:4, 0:1])  # 16 voxels
    overlapping = np.s_[0:2, 0:4, 0:1]  # 8 of them
    inside = _mask(overlapping, np.s_[0:2, 4:8, 0:1])  # half outside: below beta
    outside = _mask(overlapping, np.s_[0:2, 4:12, 0:2])  # four fifths outside: above beta
    assert match_lesions(reference, inside, 4.0).sensitivity == 1.0
    assert match_lesions(reference, outside, 4.0).sensitivity == 0.0


def test_identical_masks_agree_fully() -> None:
    mask = _mask(np.s_[1:4, 1:4, 1:4], np.s_[7:9, 7:9, 7:9])
    match = match_lesions(mask, mask, 1.0)
    assert (match.sensitivity, match.ppv, match.f1, match.dice) == (1.0, 1.0, 1.0, 1.0)


def test_empty_masks_follow_the_table() -> None:
    empty, some = _mask(), _mask(np.s_[1:4, 1:4, 1:4])
    both = match_lesions(empty, empty, 1.0)
    assert both.f1 == both.dice == 1.0
    assert math.isnan(both.sensitivity)
    assert match_lesions(empty, some, 1.0).ppv == 0.0
    assert match_lesions(some, empty, 1.0).sensitivity == 0.0


def test_bad_rules_and_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="connectivity 8 is not one of 6, 18, 26"):
        LesionRule(connectivity=8)
    with pytest.raises(UsageError, match="give both on one grid"):
        match_lesions(_mask(), _mask(shape=(3, 3, 3)), 1.0)


@pytest.mark.skipif("CAUSALMS_OPEN_MS" not in os.environ, reason="CAUSALMS_OPEN_MS does not name the real scans")
def test_real_masks_have_the_lesions_they_are_known_for() -> None:
    root = Path(os.environ["CAUSALMS_OPEN_MS"]) / "derivatives" / "lesions"
    baseline = sorted(root.rglob("*desc-T2_mask.nii.gz"))
    change = sorted(root.rglob("*desc-NET2_mask.nii.gz"))
    assert (len(baseline), len(change)) == (15, 10)
    volumes: list[float] = []
    for file in (*baseline, *change):
        values, space = read_volume(file)
        table = lesion_table(values > 0, space.affine)
        assert table["volume_mm3"].sum() <= (values > 0).sum() * space.voxel_volume_mm3 * (1 + 1e-6)
        assert len(table) > 0
        if file in change:
            volumes += table["volume_mm3"].tolist()
    # All 20 longitudinal patients: median 48 mm3 at 9 mm3 and above. These are ten of them: within a third.
    counted = [volume for volume in volumes if volume >= 9]
    assert np.median(counted) == pytest.approx(48, rel=0.33)


def test_every_small_mask_is_labelled_as_another_library_does():
    """Boxes of a few voxels, among them two lone voxels in a row, at which cc3d without a border stops."""
    rng = np.random.default_rng(0)
    for connectivity, order in ((6, 1), (18, 2), (26, 3)):
        rule = LesionRule(connectivity, 0.0)
        structure = ndimage.generate_binary_structure(3, order)
        for shape in ((3, 1, 1), (1, 1, 3), (1, 7, 7), (3, 3, 3), (5, 1, 3)):
            lattice = np.zeros(shape, bool)
            lattice[::2, ::2, ::2] = True
            for mask in (lattice, *(rng.random(shape) < share for share in (0.2, 0.4, 0.6))):
                labels, voxels = label_components(mask, rule, 1.0)
                assert (labels == ndimage.label(mask, structure)[0]).all()
                assert voxels.sum() == mask.sum()
