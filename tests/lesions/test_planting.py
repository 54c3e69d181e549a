"""Known lesions: planted with their volume, their fate in a count, and what unsteady outlines do to it."""

import numpy as np
import pandas as pd
import pytest

from causalms.errors import UsageError
from causalms.lesions import LesionRule, fates, injection_table, lesion_volumes, plant_lesions
from causalms.lesions.planting import MEAN_LOG_MM3, SD_LOG_MM3, flicker


def test_lesions_are_planted_with_their_volume_where_they_may_lie():
    where = np.zeros((60, 60, 30), dtype=bool)
    where[5:55, 5:55, 5:25] = True
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    volumes = np.array([3.0, 60.0, 300.0])
    labels = plant_lesions(where, affine, volumes, np.random.default_rng(2))
    assert not labels[~where].any()
    assert (np.abs(np.bincount(labels.ravel(), minlength=4)[1:] * 3 - volumes) <= 1.5).all()  # half a voxel
    with pytest.raises(UsageError, match="no voxel of `where` may hold a lesion"):
        plant_lesions(~np.ones((3, 3, 3), bool), np.eye(4), volumes, np.random.default_rng(1))


def test_volumes_follow_the_published_law():
    logs = np.log(lesion_volumes(4000, np.random.default_rng(3)))
    assert logs.min() >= np.log(3)
    # Cut at 3 mm3 (2.5 spreads below the mean) the law loses 0.7% of its lesions; 4,000 logs have a standard error of 0.02.
    assert abs(np.median(logs) - MEAN_LOG_MM3) < 0.08
    assert abs(logs.std() - SD_LOG_MM3) < 0.08


def test_two_lesions_that_touch_are_merged_and_one_below_the_rule_is_lost():
    planted = np.zeros((12, 12, 12), dtype=np.int32)
    planted[1:3, 1:3, 1:3], planted[3:5, 3:5, 3:5], planted[9:11, 9:11, 9:11], planted[8, 1, 1] = 1, 2, 3, 4
    points = np.argwhere(planted)
    counted = LesionRule.default().label(planted > 0, 1.0)
    found = fates(planted[tuple(points.T)], counted[tuple(points.T)], 4)
    assert found.tolist() == ["merged", "merged", "alone", "lost"]


def test_outlines_apart_count_old_lesions_as_new_and_dilute_the_ratio():
    rng = np.random.default_rng(4)
    new, old = np.full(20_000, 5), np.full(20_000, 40)
    # means 5 (1 - v) and 5 (1 - v) + 40 v (1 - v); the standard error of a mean of 20,000 is below 0.02
    assert abs(flicker(new, old, 0.25, False, rng).mean() - 3.75) < 0.1
    assert abs(flicker(new, old, 0.25, True, rng).mean() - 11.25) < 0.1
    assert (flicker(new, old, 0.0, True, rng) == new).all()


def test_the_table_has_every_grid_size_and_share_with_its_interval():
    lesions = pd.DataFrame(
        {
            "participant_id": ["a"] * 6 + ["b"] * 4,
            "size": ["3 to 10 mm3"] * 5 + ["10 to 30 mm3"] * 5,
            "own grid": ["alone"] * 9 + ["lost"],
        }
    )
    table = injection_table(lesions, {"a": 30, "b": 50, "c": 0}, seed=1)
    alone = table[(table["analysis"] == "alone") & (table["group"] == "all")].iloc[0]
    assert (alone["estimate"], alone["lesions"]) == (0.9, 10)
    assert alone["lower"] < 0.9 < alone["upper"]
    count = table[table["analysis"] == "count a patient"].set_index(["where", "group"])["estimate"]
    assert count["side by side", "0% vanish"] == pytest.approx(10 / 3)
    ratio = table[table["analysis"] == "ratio seen of 0.5"].set_index(["where", "group"])["estimate"]
    assert abs(ratio["side by side", "50% vanish"] - 0.5) < 0.05
    assert ratio["apart, subtracted", "50% vanish"] > 0.85  # (1.67 / 2 + 6.67) / (1.67 + 6.67) = 0.9
    pd.testing.assert_frame_equal(table, injection_table(lesions, {"a": 30, "b": 50, "c": 0}, seed=1))
