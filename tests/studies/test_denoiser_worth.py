"""Scores of whole masks and laws of lesions, and the whole study on a handful of patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from causalms.trials import mni_space
from studies.denoiser_worth import denoising
from studies.denoiser_worth.__main__ import main
from studies.denoiser_worth.counterfactual import amplification, compared, effectiveness, f1
from studies.denoiser_worth.patterns import LAWS, counted, distance_of_sizes, energy_score, variogram_score
from studies.denoiser_worth.samplers import lesions_of, region_map
from studies.denoiser_worth.table import OURS

SPACE = mni_space("4mm")


def _rows(rng: np.random.Generator, lesions: int, length: int, highest: int = 34) -> np.ndarray:
    """Lesions of ``length`` voxels in a row, at random places below ``highest``."""
    mask = np.zeros(SPACE.shape, dtype=bool)
    for x, y, z in rng.integers(4, highest, (lesions, 3)):
        mask[x : x + length, y, z] = True
    return mask


def test_scores_are_best_for_the_law_that_made_the_mask() -> None:
    """Lesions in the lower half of the grid, forecast there or in the upper half, and as many or eight times as many."""
    rng = np.random.default_rng(0)
    for score in (energy_score, variogram_score):
        right = elsewhere = many = 0.0
        for _ in range(20):
            true = _rows(rng, 8, 2, 18)
            right += score(np.stack([_rows(rng, 8, 2, 18) for _ in range(4)]), true)
            elsewhere += score(np.stack([_rows(rng, 8, 2, 18)[::-1] for _ in range(4)]), true)
            many += score(np.stack([_rows(rng, 64, 2, 18) for _ in range(4)]), true)
        assert right < min(elsewhere, many)


def test_the_variogram_score_does_not_depend_on_the_number_of_draws() -> None:
    rng = np.random.default_rng(1)
    scores = {
        draws: np.array(
            [variogram_score(np.stack([_rows(rng, 6, 2) for _ in range(draws)]), _rows(rng, 6, 2)) for _ in range(60)]
        )
        for draws in (2, 8)
    }
    error = np.sqrt(sum(values.var(ddof=1) / len(values) for values in scores.values()))
    assert abs(scores[2].mean() - scores[8].mean()) < 4 * error


def test_enlarging_lesions_touch_a_baseline_lesion() -> None:
    t2, mask = np.zeros(SPACE.shape, dtype=bool), np.zeros(SPACE.shape, dtype=bool)
    t2[20, 20, 20] = True
    mask[21:24, 20, 20] = True  # touches with one of three voxels
    mask[20, 20, 20] = True  # and has a fourth inside
    mask[20, 30, 20] = True
    sums = {**counted(mask[None], t2, SPACE), "masks": np.array(1.0)}
    assert LAWS["lesions a patient"](sums) == 2
    assert LAWS["share enlarging"](sums) == 0.5
    assert LAWS["contact of enlarging lesions"](sums) == 0.25
    assert LAWS["voxels inside baseline lesions"](sums) == 0.2
    assert LAWS["voxels a lesion"](sums) == 2.5
    assert [len(lesion) for lesion in lesions_of(mask, 64.0)] == [4, 1]
    assert all(distance_of_sizes(sums, sums, region) == 0 for region in range(3))
    assert set(np.unique(region_map(SPACE))) == {0, 1, 2}


def test_a_counterfactual_mask_that_is_the_true_one_has_every_lesion_and_the_whole_change() -> None:
    seen, true = np.zeros(SPACE.shape, dtype=bool), np.zeros(SPACE.shape, dtype=bool)
    seen[10, 10, 10] = seen[20, 20, 20] = seen[30, 30, 30] = true[10, 10, 10] = True
    right, none = compared(true, true, seen, 64.0), compared(true, np.zeros_like(true), seen, 64.0)
    assert (f1(right), effectiveness(right), amplification(right)) == (1, 1, 0)
    assert (f1(none), effectiveness(none)) == (0, 1)
    assert amplification(none) == pytest.approx(np.sqrt(1 / 2))


@pytest.mark.slow
def test_the_study_of_the_denoiser_runs_on_a_few_patients(tmp_path: Path) -> None:
    toy = ["--patients", "24", "--test", "4", "--slow", "2", "--twins", "2", "--minutes", "0.02", "--matched", "2"]
    models = "seeing,blind,independent,by_region,segmentation"
    ran = CliRunner().invoke(main, ["--out", str(tmp_path), *toy, "--only", models], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    table = pd.read_csv(tmp_path / "denoiser_worth.csv")
    assert set(table["model"]) >= {OURS, "denoiser that does not", "independent lesions"}
    assert table.loc[table["model"] != OURS, "gap"].notna().all()
    assert (tmp_path / "denoiser_worth.png").stat().st_size > 10_000


def test_a_denoiser_is_judged_part_by_part(tmp_path: Path) -> None:
    """The same model twice differs by nothing, and at the least noise it finds the voxels that are there."""
    arguments = ["one=reference", "two=reference", "--patients", "4", "--out", str(tmp_path)]
    ran = CliRunner().invoke(denoising.main, arguments)
    assert ran.exit_code == 0, ran.output
    rows = pd.read_csv(tmp_path / "denoiser_denoising.csv")
    assert len(rows) == len(denoising.LEVELS) * 2 * 6
    assert (rows["nats_less_first"] == 0).all()
    clear = rows[(rows["level"] == min(denoising.LEVELS)) & (rows["part"] == "brain")]
    assert (clear["expected"] / clear["voxels"]).to_numpy() == pytest.approx(1.0, abs=0.1)
