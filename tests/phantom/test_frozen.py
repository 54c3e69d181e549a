"""The pooled designs and lifelike are what shipped models were trained on: their patients must not change."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from causalms.phantom.design import load_design
from causalms.phantom.images import MODALITIES, render
from causalms.phantom.patient import mask_of, patient_anatomy, simulate_patient
from causalms.phantom.roster import enrol
from causalms.trials import mni_space

# design, grid, place in a roster of 60 with seed 11; arm, T2 lesions, enhancing lesions, potential lesions;
# digests of the T2, NET2 and brain masks; log rate on placebo; mean of the four images inside the brain
FROZEN = [
    (
        ("pooled", "4mm", 17, "laquinimod", 55, 0, 19),
        ("39b96ab187bfca06", "d1331d8ef3db6251", "a2baaad2d773feb7"),
        2.295870126753427,
        (329.1954040527344, 383.69891357421875, 399.24609375, 402.103271484375),
    ),
    (
        ("pooled", "4mm", 33, "placebo", 53, 17, 57),
        ("029b3c987ed292c9", "9ecb89ce8cec30cb", "bcce47f03a153554"),
        3.4172311796618287,
        (419.8402404785156, 447.4687194824219, 324.47149658203125, 347.013916015625),
    ),
    (
        ("pooled", "3mm", 59, "ocrelizumab", 53, 0, 1),
        ("5c1d2c1521805c58", "38681ac6a1ced6d0", "671d27b1d68de88c"),
        2.5851159590956065,
        (336.8410949707031, 387.6604309082031, 357.41253662109375, 374.8233947753906),
    ),
    (
        ("pooled-2131", "4mm", 33, "dimethyl-fumarate", 53, 17, 61),
        ("029b3c987ed292c9", "000e9c8494ac77f2", "bcce47f03a153554"),
        3.4965195568252563,
        (419.8402404785156, 447.4687194824219, 324.47149658203125, 347.013916015625),
    ),
    (
        ("lifelike", "4mm", 17, "laquinimod", 70, 0, 21),
        ("64a99252f2152c44", "20bb1619a165dbeb", "a2baaad2d773feb7"),
        2.378934991960585,
        (328.22027587890625, 385.13458251953125, 401.4443054199219, 400.92559814453125),
    ),
    (
        ("lifelike", "3mm", 59, "ocrelizumab", 76, 0, 2),
        ("6e538dab335721e9", "a9a48ce056f001ce", "671d27b1d68de88c"),
        2.7093034404469,
        (336.44378662109375, 388.1302490234375, 358.0381774902344, 374.4251403808594),
    ),
]


@pytest.mark.parametrize(("who", "digests", "log_rate", "means"), FROZEN)
def test_patients_of_the_designs_models_learn_from_are_frozen(who, digests, log_rate, means):
    name, grid, place, arm, t2, gd, potential = who
    design, space = load_design(name), mni_space(grid)
    patient = simulate_patient(design, enrol(design, 60, seed=11)[place], 11, space)
    anatomy = patient_anatomy(11, place, space)
    assert (patient.arm, patient.t2_count, len(patient.gd_lesions), len(patient.potential.u)) == (arm, t2, gd, potential)
    masks = (mask_of(patient.t2_lesions, space.shape), mask_of(patient.potential.voxels, space.shape), anatomy.brain)
    assert tuple(hashlib.sha256(mask.tobytes()).hexdigest()[:16] for mask in masks) == digests
    assert float(patient.rates.log_rate[0]) == pytest.approx(log_rate, rel=1e-12)
    # means of single-precision images: another processor may round the last bit of a voxel otherwise
    images = [render(patient, anatomy, modality, 11)[anatomy.brain].mean() for modality in MODALITIES]
    assert images == pytest.approx(means, rel=1e-5)
    assert all(np.isfinite(image) for image in images)
