from __future__ import annotations

import cc3d
import numpy as np
import pytest

from causalms.phantom.placement import Density, dilate26, grow, place, voxel_sizes
from causalms.trials import template_anatomy

SHAPE = (14, 15, 16)


def room() -> np.ndarray:
    allowed = np.ones(SHAPE, dtype=bool)
    for axis in range(3):
        np.moveaxis(allowed, axis, 0)[[0, -1]] = False
    return allowed.ravel()


def uniform() -> Density:
    voxels = np.flatnonzero(room())
    return Density(voxels, np.full(len(voxels), 1 / len(voxels)))


def test_lesions_placed_apart_do_not_touch_even_at_a_corner():
    rng = np.random.default_rng(1)
    lesions = place(uniform(), np.array([1, 5, 20, 3, 9, 2] * 4), room(), SHAPE, rng, apart=True)
    mask = np.zeros(SHAPE, bool)
    mask.ravel()[np.concatenate(lesions)] = True
    assert cc3d.connected_components(mask, connectivity=26).max() == len(lesions)


def test_a_full_brain_takes_fewer_lesions_than_asked():
    lesions = place(uniform(), np.full(3000, 4), room(), SHAPE, np.random.default_rng(2), apart=True)
    assert 50 < len(lesions) < 3000


@pytest.mark.parametrize("voxels", [2, 7, 40, 150])
def test_a_lesion_is_one_piece_of_the_size_asked(voxels):
    seed = np.ravel_multi_index((7, 7, 7), SHAPE)
    lesion = grow(int(seed), voxels, room(), SHAPE, np.random.default_rng(voxels))
    mask = np.zeros(SHAPE, bool)
    mask.ravel()[lesion] = True
    assert len(lesion) == voxels
    assert cc3d.connected_components(mask, connectivity=6).max() == 1


def test_rounding_to_voxels_keeps_the_mean_volume():
    """100,000 volumes of 100 mm3 in voxels of 64 mm3: SE of the mean .5 * 64 / sqrt(1e5) = .1 mm3."""
    voxels = voxel_sizes(np.full(100_000, 100.0), 64.0, np.random.default_rng(3))
    assert set(voxels) == {1, 2}
    assert voxels.mean() * 64 == pytest.approx(100, abs=0.4)


def test_dilation_reaches_corners():
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    assert dilate26(mask).sum() == 27


def test_placement_follows_its_density():
    """One lesion a time from a density of 1:3 on two halves; SE of the share of 2,000 draws .0097."""
    voxels = np.flatnonzero(room())
    upper = voxels >= np.prod(SHAPE) / 2
    weight = np.where(upper, 3.0 / upper.sum(), 1.0 / (~upper).sum())
    density, rng = Density(voxels, weight / weight.sum()), np.random.default_rng(4)
    drawn = [place(density, np.array([1]), room(), SHAPE, rng, apart=True)[0][0] for _ in range(2000)]
    assert (np.array(drawn) >= np.prod(SHAPE) / 2).mean() == pytest.approx(0.75, abs=4 * 0.0097)


def test_location_intensity_is_a_probability_inside_the_brain(trial):
    for pid in trial.participants["participant_id"][:5]:
        intensity = trial.truth.location_intensity(pid)
        assert intensity.shape == trial.space.shape
        assert intensity.sum() == pytest.approx(1.0)
        assert intensity.min() >= 0
        assert intensity[~trial.mask(pid, "brain")].sum() == 0
        assert intensity[trial.mask(pid, "T2")].sum() == 0


def test_patient_s_own_location_law_beats_the_average_by_more_than_a_third_of_a_nat(trial):
    """Where lesions come is seen in a patient's own scan: divergence of the own law from the average law, in nats a lesion."""
    laws = np.array([trial.truth.location_intensity(pid).ravel() for pid in trial.participants["participant_id"][:60]])
    average = laws.mean(axis=0)
    gained = [(law[law > 0] * np.log(law[law > 0] / average[law > 0])).sum() for law in laws]
    assert np.mean(gained) > 0.33


def test_lesions_favour_the_surroundings_of_the_ventricles(trial):
    """Share of lesions within 8 mm of the ventricles above that of white matter, by far."""
    anatomy = template_anatomy(trial.space)
    near = (anatomy.distance_to_ventricles_mm < 8).ravel()
    white = (anatomy.white > 0.5).ravel()
    hits = [near[v].mean() for pid in trial.participants["participant_id"][:40] for v in trial.truth.lesions_of(pid).voxels]
    assert np.mean(hits) > 1.5 * near[white].mean()


def test_lesions_have_the_sizes_of_the_log_normal_law(trial):
    """Voxels of about 3,500 placed lesions against the law rounded to voxels: growth is hardly ever cut short by lack of room."""
    sizes = np.array([len(v) for pid in trial.participants["participant_id"] for v in trial.truth.lesions_of(pid).voxels])
    rng = np.random.default_rng(6)
    volumes = np.minimum(48 * np.exp(1.2 * rng.standard_normal(200_000)), 4000)
    law = voxel_sizes(volumes, trial.space.voxel_volume_mm3, rng)
    assert len(sizes) > 1500
    for voxels in (1, 2, 4, 8):
        share = (law <= voxels).mean()
        assert (sizes <= voxels).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(sizes)) + 0.005)
