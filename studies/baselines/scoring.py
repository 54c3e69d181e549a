"""Scores of places and masks of a forecaster, patient by patient, with bootstrap intervals over patients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from causalms.generator.inputs import PatientArrays
from causalms.generator.train.data import lesion_centres
from causalms.lesions import LesionRule, match_lesions
from causalms.trials import Space
from studies.baselines.climatology import Climatology
from studies.baselines.protocol import Forecaster


@dataclass(frozen=True)
class SeenPatient:
    """A held-out patient with the mask seen under the arm received."""

    arrays: PatientArrays
    arm: str
    mask: np.ndarray


def judge_places(
    forecaster: Forecaster, patients: list[SeenPatient], prior: Climatology, space: Space, repetitions: int = 500, seed: int = 0
) -> pd.DataFrame:
    r"""Nats a lesion gained over the template prior, :math:`\sum_v \log p(v) - \log p_0(v)` over lesion centres ``v``, by lesion.

    Parameters
    ----------
    forecaster : Forecaster
        With the capability ``place``.
    patients : list of SeenPatient
    prior : Climatology
        Its map is the template prior.
    space : Space
    repetitions : int
        Bootstrap samples of patients.
    seed : int

    Returns
    -------
    DataFrame
        One row: ``measure``, ``arm``, ``estimate``, ``lower``, ``upper``, ``patients``.
    """
    gains, lesions = np.zeros(len(patients)), np.zeros(len(patients))
    rule, volume_mm3 = LesionRule.default(), float(space.voxel_volume_mm3)
    for row, patient in enumerate(tqdm(patients, desc=f"{forecaster.name}: places", unit="patient", disable=None)):
        centres = lesion_centres(patient.mask, rule, volume_mm3)
        centres = centres[patient.arrays.masks[0].ravel()[centres]]
        if len(centres):
            own = forecaster.log_place(forecaster.encode_arrays(patient.arrays), patient.arm).ravel()[centres]
            template = prior.log_place(prior.encode_arrays(patient.arrays), patient.arm).ravel()[centres]
            gains[row], lesions[row] = float((own - template).sum()), len(centres)

    def a_lesion(rows: np.ndarray) -> float:
        return float(gains[rows].sum() / max(lesions[rows].sum(), 1))

    measure = "location, nats a lesion above the template prior"
    return pd.DataFrame([_bootstrapped(measure, a_lesion, len(patients), repetitions, seed)])


def judge_masks(
    forecaster: Forecaster, patients: list[SeenPatient], week: float, space: Space, repetitions: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Sampled masks beside the seen ones: lesion-volume distance, detection F1, mean count and seconds a draw.

    One draw a patient, under the arm received.  The F1 is over all lesions of all patients (found lesions of either side);
    the seconds are of sampling alone, the scan being encoded.

    Returns
    -------
    DataFrame
        Rows with ``measure``, ``arm``, ``estimate``, ``lower``, ``upper``, ``patients``.
    """
    rule, volume_mm3 = LesionRule.default(), float(space.voxel_volume_mm3)
    lesions: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    spent = 0.0
    for patient in tqdm(patients, desc=f"{forecaster.name}: masks", unit="patient", disable=None):
        scan = forecaster.encode_arrays(patient.arrays)
        begin = time.process_time()
        mask = forecaster.sample(scan, patient.arm, week, 0, seed)
        spent += time.process_time() - begin
        match = match_lesions(patient.mask, mask, volume_mm3)
        sizes = [np.bincount(rule.label(m, volume_mm3).ravel())[1:] * volume_mm3 for m in (mask, patient.mask)]
        lesions.append((sizes[0], sizes[1], sum(match.test_confirmed), sum(match.reference_found)))
    drawn, real = [f[0] for f in lesions], [f[1] for f in lesions]
    confirmed, hit = np.array([f[2] for f in lesions]), np.array([f[3] for f in lesions])
    sampled, seen = np.array([len(v) for v in drawn]), np.array([len(v) for v in real])

    def distance(rows: np.ndarray) -> float:
        own, true = np.concatenate([drawn[i] for i in rows]), np.concatenate([real[i] for i in rows])
        return float(stats.ks_2samp(own, true).statistic) if len(own) and len(true) else float("nan")

    def f1(rows: np.ndarray) -> float:
        return float((confirmed[rows].sum() + hit[rows].sum()) / max(sampled[rows].sum() + seen[rows].sum(), 1))

    measures: dict[str, Callable[[np.ndarray], float]] = {
        "lesion-volume KS distance": distance,
        "detection F1 of one draw": f1,
        "sampled / seen mean count": lambda rows: float(sampled[rows].sum() / max(seen[rows].sum(), 1)),
    }
    table = [_bootstrapped(name, of, len(patients), repetitions, seed) for name, of in measures.items()]
    seconds = {"measure": "CPU seconds a draw", "arm": "", "estimate": spent / len(patients), "patients": len(patients)}
    return pd.DataFrame([*table, seconds])


def _bootstrapped(
    measure: str, function: Callable[[np.ndarray], float], patients: int, repetitions: int, seed: int
) -> dict[str, object]:
    samples = np.random.default_rng(seed).integers(patients, size=(repetitions, patients))
    lower, upper = np.nanquantile([function(rows) for rows in samples], [0.025, 0.975])
    estimate = function(np.arange(patients))
    return {"measure": measure, "arm": "", "estimate": estimate, "lower": lower, "upper": upper, "patients": patients}
