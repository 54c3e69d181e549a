from __future__ import annotations

import cc3d
import numpy as np
import pytest

from causalms.phantom import PhantomTrial, load_design, simulate_trial
from causalms.phantom.lesion_laws import COORDINATES, SizeLaw
from causalms.phantom.patient import mask_of, patient_anatomy
from causalms.phantom.place_law import Sizes, at_sites, coordinates, log_linear, sizes_by_place
from causalms.phantom.placement import Density, baseline_density, dilate26, place, rim_growth
from causalms.trials import mni_space, template_anatomy

SPACE = mni_space("4mm")


@pytest.fixture(scope="module")
def lifelike() -> PhantomTrial:
    return simulate_trial("lifelike", patients=120, seed=7)


def test_left_and_right_have_the_same_coordinates():
    left, right = (coordinates(np.array([4.0]), np.array([20.0]), np.array([[x], [10.0], [30.0]])) for x in (-25.0, 25.0))
    assert tuple(left) == COORDINATES
    assert {name: value[0] for name, value in left.items()} == {name: value[0] for name, value in right.items()}


def test_a_log_linear_law_multiplies_the_density_by_its_exponential():
    """Against tissue alone: log ratio of density is the law, up to one constant."""
    anatomy = patient_anatomy(3, 0, SPACE)
    law = {"at_ventricle": 1.0, "near_ventricle*up*up": -2.0}
    density = baseline_density(anatomy, law)
    ratio = np.log(density.probability / anatomy.tissue) - log_linear(law, at_sites(anatomy))
    assert density.probability.sum() == pytest.approx(1.0)
    assert np.ptp(ratio) < 1e-9


def test_sizes_by_place_have_the_median_and_spread_of_their_place():
    """20,000 lesions at one site: SE of the log median 1.25 sd / sqrt(n) = .010, of the log SD sd / sqrt(2 n) = .006."""
    anatomy, rng = patient_anatomy(3, 0, SPACE), np.random.default_rng(1)
    law = SizeLaw(
        median_volume_mm3=64_000,
        log_sd=0.8,
        largest_volume_mm3=100_000,
        log_median_by_place={"up": -1.0},
        log_sd_by_place={"near_ventricle": 0.4},
    )
    sizes = sizes_by_place(law, 0.5, 20_000, anatomy, at_sites(anatomy), rng)
    here = len(anatomy.voxels) // 3
    at = at_sites(anatomy)
    spread = 0.8 + 0.4 * at["near_ventricle"][here]
    voxels = [sizes.at(number, int(anatomy.voxels[here])) for number in range(20_000)]
    assert np.log(np.median(voxels)) == pytest.approx(np.log(500.0) - at["up"][here], abs=4 * 1.25 * spread / 20_000**0.5)
    assert max(voxels) <= np.ceil(100_000 / 64)
    below = np.log(np.array(voxels, dtype=float)) < np.log(500.0) - at["up"][here] - spread
    assert below.mean() == pytest.approx(0.1587, abs=4 * (0.1587 * 0.8413 / 20_000) ** 0.5)


def test_enlarging_lesions_keep_to_the_rim():
    """A lesion of 12 voxels that starts on the rim of a cube of 5: nearly all on the rim, as against about half without."""
    shape = (24, 24, 24)
    t2 = np.zeros(shape, bool)
    t2[9:14, 9:14, 9:14] = True
    rim = (dilate26(t2) & ~t2).ravel()
    allowed = np.zeros(shape, bool)
    allowed[1:-1, 1:-1, 1:-1] = True
    free = allowed.ravel() & ~t2.ravel()
    start = Density(np.flatnonzero(rim), np.full(rim.sum(), 1 / rim.sum()))

    def on_rim(growth):
        rng = np.random.default_rng(5)
        return np.mean(
            [rim[place(start, np.array([12]), free, shape, rng, apart=True, growth=growth)[0]].mean() for _ in range(100)]
        )

    assert on_rim(rim_growth(t2, 0.8)) > 0.8
    assert on_rim(rim_growth(t2, 0.8)) > on_rim(None) + 0.15


def test_separate_lifelike_lesions_never_touch_and_lower_arms_keep_a_subset(lifelike):
    truth = lifelike.truth
    for pid in lifelike.participants["participant_id"][:30]:
        every = mask_of(truth.lesions_of(pid).voxels, lifelike.space.shape)
        assert cc3d.connected_components(every, connectivity=26).max() == len(truth.lesions_of(pid).voxels)
        placebo, drug = (truth.potential_mask(pid, arm, 96) for arm in ("placebo", "ocrelizumab"))
        assert not (drug & ~placebo).any()


def test_lifelike_intensity_is_a_probability_off_existing_lesions(lifelike):
    for pid in lifelike.participants["participant_id"][:5]:
        intensity = lifelike.truth.location_intensity(pid)
        assert intensity.sum() == pytest.approx(1.0)
        assert intensity[lifelike.mask(pid, "T2")].sum() == 0


def test_lifelike_patients_have_the_load_of_trial_patients(lifelike):
    """Published means 12.6 to 13.7 mL, SD 13.8 (ASCLEPIOS); SE of 120 patients about 1.2 mL."""
    volume = lifelike.participants["t2_volume_ml"]
    assert 9.0 < volume.mean() < 17.0
    assert 8.0 < volume.std() < 20.0


def test_most_lifelike_volume_lies_at_the_ventricles_and_most_lesions_do_not(lifelike):
    """Public masks: lesions that come within 6 mm of the ventricles are 15% of lesions and 79% of volume."""
    near = template_anatomy(SPACE).distance_to_ventricles_mm <= 6
    lesions, volume, total = [], [], 0
    for pid in lifelike.participants["participant_id"]:
        labels = cc3d.connected_components(lifelike.mask(pid, "T2"), connectivity=26)
        sizes = np.bincount(labels.ravel())[1:]
        touching = np.isin(np.arange(1, len(sizes) + 1), labels[near])
        lesions += touching.tolist()
        volume += (touching * sizes).tolist()
        total += sizes.sum()
    assert np.mean(lesions) < 0.25
    assert sum(volume) / total > 0.55


def test_lifelike_has_the_trials_and_effects_of_pooled():
    ours, theirs = load_design("lifelike"), load_design("pooled")
    for part in ("rate_ratio", "rate", "counts", "follow_up", "missing_modality", "weeks"):
        assert getattr(ours, part) == getattr(theirs, part)
    assert [(trial.arms, trial.rate_ratio) for trial in ours.trials] == [
        (trial.arms, trial.rate_ratio) for trial in theirs.trials
    ]


def test_sizes_of_no_lesions_are_empty():
    anatomy = patient_anatomy(3, 0, SPACE)
    law = load_design("lifelike").lesions
    sizes = sizes_by_place(law, 1.0, 0, anatomy, at_sites(anatomy), np.random.default_rng(0))
    assert isinstance(sizes, Sizes)
    assert len(sizes) == 0
