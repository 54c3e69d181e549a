from __future__ import annotations

from dataclasses import replace

import cc3d
import numpy as np
import pytest

from causalms.phantom import load_design, load_truth, simulate_trial, write_simulated_trial
from causalms.phantom.acquisition import Annotation, Scanner
from causalms.phantom.images import render
from causalms.phantom.patient import patient_anatomy, simulate_patient
from causalms.phantom.roster import enrol
from causalms.trials import mni_space

SPACE = mni_space("4mm")
WEEKS = (24, 48, 96)


@pytest.fixture(scope="module")
def trial():
    return simulate_trial("scanners", patients=120, seed=3)


def seen_on(**scanner):
    design = load_design("scanners")
    enrolled = replace(enrol(design, 8, seed=2)[3], scanner=Scanner(name="X", **scanner) if scanner else None)
    who = simulate_patient(design, enrolled, 2, SPACE)
    anatomy = patient_anatomy(2, enrolled.index, SPACE)
    white = np.zeros(int(np.prod(SPACE.shape)), bool)
    white[anatomy.head] = anatomy.white > 0.95
    return render(who, anatomy, "T1w", 2).ravel(), white, anatomy


def test_sites_are_dealt_evenly_and_a_site_has_one_scanner(trial):
    table = trial.participants.assign(scanner=trial.truth.scanners.to_numpy())
    assert (table.groupby("site")["scanner"].nunique() == 1).all()
    sites = table.groupby("site")["scanner"].first().value_counts()
    assert set(sites.index) == set("ABCD")
    assert sites.max() <= 5


def test_a_scanner_held_out_sees_nobody_and_the_patients_stay():
    design = load_design("scanners")
    without = design.model_copy(update={"held_out_scanner": "D"})
    ours, theirs = (enrol(law, 60, seed=3) for law in (without, design))
    assert {one.scanner.name for one in ours} == set("ABC")
    assert [(one.site, one.arm) for one in ours] == [(one.site, one.arm) for one in theirs]


def test_a_neutral_scanner_changes_nothing():
    plain, _, _ = seen_on()
    neutral, _, _ = seen_on(gain=1.0)
    assert np.allclose(plain, neutral, rtol=1e-6)


def test_gain_multiplies_and_noise_and_blur_change_the_spread_of_white_matter():
    plain, white, _ = seen_on()
    bright, _, _ = seen_on(gain=2.0)
    noisy, _, _ = seen_on(noise=3.0)
    assert np.median(bright[white] / plain[white]) == pytest.approx(2.0, rel=1e-4)
    assert noisy[white].std() > 1.3 * plain[white].std()


def test_contrast_above_1_darkens_grey_matter_against_white():
    def ratio(image, white, anatomy):
        grey = np.zeros_like(white)
        grey[anatomy.head] = anatomy.grey > 0.9
        return np.median(image[grey]) / np.median(image[white])

    assert ratio(*seen_on(contrast=1.4)) < ratio(*seen_on()) - 0.05


def test_blur_lowers_the_step_between_neighbours():
    def roughness(image, white, anatomy):
        volume = image.reshape(SPACE.shape)
        inside = anatomy.brain[1:] & anatomy.brain[:-1]
        return np.abs(np.diff(volume, axis=0))[inside].mean()

    assert roughness(*seen_on(blur_mm=8.0, noise=0.05)) < 0.8 * roughness(*seen_on(noise=0.05))


def test_readers_miss_their_share_and_add_their_number_and_the_truth_stays_clean(trial):
    """Expected seen = .7 true + .5 a visit; the noise is Poisson and binomial, within 4 SE."""
    clean = simulate_trial(trial.truth.design.model_copy(update={"annotation": Annotation()}), patients=120, seed=3)
    assert clean.truth.table.equals(trial.truth.table)
    for week in WEEKS:
        true = clean.participants[f"net2_lesions_week{week}"].dropna()
        read = trial.participants[f"net2_lesions_week{week}"].dropna()
        assert len(true) == len(read)
        expected, variance = 0.7 * true.sum() + 0.5 * len(true), 0.21 * true.sum() + 0.5 * len(true)
        assert read.sum() == pytest.approx(expected, abs=4 * variance**0.5)


def test_the_count_read_is_the_count_of_the_mask(trial):
    for row in trial.participants.head(40).itertuples():
        for week in WEEKS:
            mask = trial.mask(row.participant_id, "NET2", week)
            count = getattr(row, f"net2_lesions_week{week}")
            assert (mask is None) == np.isnan(count)
            if mask is not None:
                assert cc3d.connected_components(mask, connectivity=26).max() == count
                assert mask.sum() * 0.064 == pytest.approx(getattr(row, f"net2_volume_ml_week{week}"))


def test_scanners_are_known_from_the_folder_too(tmp_path):
    write_simulated_trial(tmp_path / "trial", "scanners", patients=6, seed=3)
    assert load_truth(tmp_path / "trial").scanners.equals(simulate_trial("scanners", patients=6, seed=3).truth.scanners)


def test_a_design_without_scanners_knows_none():
    assert simulate_trial("pooled", patients=4, seed=1).truth.scanners.isna().all()
