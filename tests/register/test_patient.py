"""Registration against known motions of a simulated patient, and a raw head through the network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from causalms.errors import RefusalError
from causalms.phantom import simulate_trial
from causalms.register import Scan, register_images
from causalms.trials import Layout, Space

MOVED = np.array([[0.98, -0.17, 0.05, 12], [0.16, 0.97, 0.17, -20], [-0.08, -0.15, 0.98, 15], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def patient() -> dict[str, Scan]:
    """Two images of a simulated patient in MNI152 space, without a skull."""
    trial = simulate_trial("lifelike", patients=6, seed=2)
    for name in trial.participants["participant_id"]:
        images = {kind: trial.image(name, kind) for kind in ("T1w", "FLAIR")}
        if all(image is not None for image in images.values()):
            brain = np.asarray(trial.mask(name, "brain"))
            return {kind: Scan(image * brain, trial.space) for kind, image in images.items() if image is not None}
    raise AssertionError


def _brain(scan: Scan) -> Scan:
    """Brains of the phantom have the size of the template's, larger than a living one, so the mask is given."""
    return Scan(scan.values > 0, scan.space)


def test_a_known_motion_is_undone_and_the_images_meet(patient: dict[str, Scan]) -> None:
    """Truth: the patient lay in MNI152 space before the motion. Tolerance: half a voxel of 4 mm between the images."""
    jump = np.eye(4)
    jump[:3, 3] = (3, -2, 4)  # between the two images
    flair = patient["FLAIR"]
    cut = Space((flair.space.shape[0] - 1, *flair.space.shape[1:]), flair.space.affine)
    scans = {"T1w": patient["T1w"].moved(MOVED), "FLAIR": Scan(flair.values[:-1], cut).moved(jump @ MOVED)}
    found = register_images("sub-1", scans, brain=_brain(scans["T1w"]))
    points = np.column_stack([flair.space.world(np.argwhere(flair.values > 0)), np.ones((flair.values > 0).sum())])
    home = {"T1w": MOVED, "FLAIR": jump @ MOVED}
    where = {name: points @ (found.to_template[name] @ home[name]).T for name in scans}
    apart = np.sqrt(((where["T1w"] - where["FLAIR"])[:, :3] ** 2).sum(axis=1).mean())
    assert apart < 2  # the images meet: half a voxel
    # The patient's own brain is not the template's: an affine fit moves it by up to some millimetres from where it was simulated.
    assert np.sqrt(((where["T1w"] - points)[:, :3] ** 2).sum(axis=1).mean()) < 5
    assert found.position.motion_mm < 3


def test_a_transform_from_elsewhere_is_judged_as_well(patient: dict[str, Scan]) -> None:
    moved = {"T1w": patient["T1w"].moved(MOVED)}
    found = register_images("sub-1", moved, _brain(moved["T1w"]), np.linalg.inv(MOVED))
    assert found.position.similarity > 0.7
    with pytest.raises(RefusalError, match="could not be registered: not in MNI152 space"):
        register_images("sub-1", moved, _brain(moved["T1w"]), MOVED)  # the wrong way round


@pytest.mark.slow
def test_the_network_sees_the_brain_of_a_raw_head() -> None:
    """Raw FLAIR with its skull: between 1.0 and 1.6 litres of brain, and it comes to lie in MNI152 space."""
    if "CAUSALMS_OPEN_MS" not in os.environ:
        pytest.skip("CAUSALMS_OPEN_MS is not set")
    layout = Layout(Path(os.environ["CAUSALMS_OPEN_MS"]), {"sub-lg01": "ses-01"})
    own = layout.own_image("sub-lg01", "FLAIR")
    assert own is not None
    found = register_images("sub-lg01", {"FLAIR": Scan(*own)})
    assert 1.0e6 < found.brain.values.sum() * own[1].voxel_volume_mm3 < 1.6e6
    assert found.position.similarity > 0.7
