from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causalms.phantom import load_design
from causalms.phantom.images import render
from causalms.phantom.patient import mask_of, patient_anatomy, simulate_patient
from causalms.phantom.roster import enrol
from causalms.trials import mni_space


@pytest.fixture(scope="module")
def patient():
    space, design = mni_space("4mm"), load_design("pooled")
    roster = enrol(design, 60, seed=11)
    return simulate_patient(design, roster[33], 11, space), patient_anatomy(11, 33, space)


def level(image, mask):
    return float(np.median(image[mask]))


def test_lesions_are_bright_on_flair_dark_on_t1_and_enhancing_ones_bright_with_gadolinium(patient):
    who, anatomy = patient
    t2, gd = (mask_of(lesions, anatomy.shape) for lesions in (who.t2_lesions, who.gd_lesions))
    white = np.zeros(anatomy.shape, bool)
    white.ravel()[anatomy.head] = anatomy.white > 0.9
    healthy = white & ~t2
    images = {m: render(who, anatomy, m, 11) for m in ("T1w", "T2w", "FLAIR", "ceT1w")}
    for modality in ("FLAIR", "T2w"):
        assert level(images[modality], t2) > 1.5 * level(images[modality], healthy)
    assert level(images["T1w"], t2) < 0.9 * level(images["T1w"], healthy)
    assert level(images["ceT1w"], gd) > 1.3 * level(images["ceT1w"], healthy)
    assert level(images["ceT1w"], t2 & ~gd) < 0.9 * level(images["ceT1w"], healthy)


def test_images_are_positive_inside_the_brain_and_zero_outside(patient):
    who, anatomy = patient
    image = render(who, anatomy, "T1w", 11)
    assert image[anatomy.brain].min() >= 1
    assert not image[~anatomy.brain].any()


@pytest.mark.parametrize(
    ("marker", "seen", "unseen"),
    [("dirty_white_matter", ("FLAIR", "T2w"), ("T1w",)), ("black_holes", ("T1w",), ("FLAIR", "T2w"))],
)
def test_image_markers_change_only_the_images_that_show_them(patient, marker, seen, unseen):
    who, anatomy = patient
    other = replace(who, baseline=replace(who.baseline, **{marker: getattr(who.baseline, marker) + 2.0}))
    for modality in seen:
        assert not np.array_equal(render(who, anatomy, modality, 11), render(other, anatomy, modality, 11))
    for modality in unseen:
        assert np.array_equal(render(who, anatomy, modality, 11), render(other, anatomy, modality, 11))


def test_dirty_white_matter_can_be_measured_from_flair(trial):
    """Correlation of FLAIR contrast of periventricular against deep white matter with the marker, over 60 patients."""
    from causalms.phantom.trial import PatientSource

    source = trial.source
    assert isinstance(source, PatientSource)
    contrast, marker = [], []
    for pid in trial.participants["participant_id"][:60]:
        who, anatomy = source.patient(pid)
        if "FLAIR" in who.missing:
            continue
        image = source.image(pid, "FLAIR").ravel()[anatomy.head]
        clean = (anatomy.white > 0.85) & ~mask_of(who.t2_lesions, anatomy.shape).ravel()[anatomy.head]
        near, far = clean & (anatomy.head_ventricle_mm < 10), clean & (anatomy.head_ventricle_mm > 25)
        contrast.append(np.log(image[near].mean() / image[far].mean()))
        marker.append(who.baseline.dirty_white_matter)
    # SE of Fisher's z is 1/sqrt(57); 0.7 stands far from 0
    assert np.corrcoef(contrast, marker)[0, 1] > 0.7


def test_heads_differ_in_shape_within_bounds(trial):
    volumes = [trial.mask(pid, "brain").sum() for pid in trial.participants["participant_id"][:30]]
    assert 0.005 < np.std(volumes) / np.mean(volumes) < 0.2
