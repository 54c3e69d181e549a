"""The study of a scanner that was not seen: its degraded copies, its three ways, at a toy size."""

import numpy as np
import pytest
import torch

from studies.held_out_scanner import WAYS, blurred, degraded, judged, read, within_scanner


def test_a_blur_keeps_a_constant_and_nothing_comes_in_from_outside():
    brain = torch.zeros(9, 9, 9)
    brain[2:7, 2:7, 2:7] = 1
    images = torch.full((4, 9, 9, 9), 50.0)
    images[:, 2:7, 2:7, 2:7] = 3.0
    inside = blurred(images, brain, 0.8)[:, brain > 0]
    torch.testing.assert_close(inside, torch.full_like(inside, 3.0))


def test_a_degraded_copy_has_median_0_and_interquartile_range_1_and_keeps_what_is_missing():
    brain = torch.ones(12, 12, 12)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 12, 12, 12), dtype=np.float32))
    images[2] = 0
    copy = degraded(images, brain, np.random.default_rng(1))
    quartiles = torch.quantile(copy[0].flatten(), torch.tensor([0.25, 0.5, 0.75]))
    assert float(quartiles[1]) == pytest.approx(0, abs=1e-3)
    assert float(quartiles[2] - quartiles[0]) == pytest.approx(1, abs=1e-3)
    assert not copy[2].any()


def test_every_way_is_judged_on_the_scanner_held_out_and_on_the_others(tmp_path):
    train, test = read(4001, 60, 2, tmp_path), read(4242, 24, 0, tmp_path)
    for way in WAYS:
        row = judged(train, test, "D", way)
        assert row["learned_from"] == (train["scanner"] != "D").sum()
        assert row["gap"] == pytest.approx(row["others_r2"] - row["held_out_r2"])
        assert row["gap_lower"] <= row["gap_upper"]
    own = within_scanner(train)["signals"][train["scanner"] == "B"]
    known = np.isfinite(own).all(axis=0) & (own.std(axis=0) > 0.5)
    assert own[:, known].mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert own[:, known].std(axis=0) == pytest.approx(1)
