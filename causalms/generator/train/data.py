"""What training reads: every patient's baseline, arm, visits with their counts, and the place of every new lesion."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from causalms.errors import InputError
from causalms.generator.inputs import PatientArrays, patient_arrays
from causalms.lesions import LesionRule
from causalms.trials import Trial


@dataclass(frozen=True)
class Visit:
    """One follow-up visit: week, lesions by the rule, and the NET2 mask as packed bits."""

    week: int
    lesions: int
    packed_mask: np.ndarray

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """The NET2 mask, bool of the grid's shape."""
        bits = np.unpackbits(self.packed_mask, count=int(np.prod(shape)))
        return bits.reshape(shape).astype(bool)


@dataclass(frozen=True)
class TrainingPatient:
    """One patient as training sees it; ``centres`` are flat voxel indices of the lesions at the last visit."""

    arrays: PatientArrays
    arm: str
    visits: tuple[Visit, ...]
    centres: np.ndarray
    volume_ml: float

    @property
    def last(self) -> Visit:
        """The last visit that was imaged."""
        return self.visits[-1]


def lesion_centres(mask: np.ndarray, rule: LesionRule, voxel_volume_mm3: float) -> np.ndarray:
    """Flat index of the voxel nearest to each lesion's centre of mass.

    Examples
    --------
    >>> mask = np.zeros((4, 4, 4), dtype=bool)
    >>> mask[1, 2, 3] = True
    >>> lesion_centres(mask, LesionRule.default(), 64.0)
    array([27])
    """
    labels = rule.label(mask, voxel_volume_mm3)
    count = int(labels.max())
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    centroids = cc3d.statistics(labels.astype(np.uint32))["centroids"][1 : count + 1]
    corner = np.clip(np.rint(centroids).astype(np.int64), 0, np.asarray(mask.shape) - 1)
    return np.ravel_multi_index(tuple(corner.T), mask.shape)


def _one_patient(trial: Trial, participant_id: str, arm: str, rule: LesionRule) -> TrainingPatient | None:
    visits, last_mask = [], None
    volume = float(trial.space.voxel_volume_mm3)
    for week in trial.weeks:
        mask = trial.mask(participant_id, "NET2", week)
        if mask is None:
            continue
        last_mask = mask
        visits.append(Visit(int(week), int(rule.label(mask, volume).max()), np.packbits(mask)))
    if last_mask is None:
        return None
    centres = lesion_centres(last_mask, rule, volume)
    arrays = patient_arrays(trial, participant_id)
    return TrainingPatient(arrays, arm, tuple(visits), centres, float(last_mask.sum()) * volume / 1000)


def _many_patients(trial: Trial, rows: list[tuple[str, str]], rule: LesionRule) -> list[TrainingPatient | None]:
    return [_one_patient(trial, participant_id, arm, rule) for participant_id, arm in rows]


def training_set(trial: Trial, rule: LesionRule, workers: int = 1) -> list[TrainingPatient]:
    """Read every patient of a trial that has an arm and at least one follow-up mask.

    Raises
    ------
    InputError
        If fewer than four such patients are there.
    """
    table = trial.participants.dropna(subset=["arm"])
    rows = list(zip(table["participant_id"], table["arm"], strict=True))
    chunks = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    jobs = (delayed(_many_patients)(trial, chunk, rule) for chunk in chunks)
    found: list[TrainingPatient] = []
    with tqdm(total=len(rows), desc="reading patients", unit="patient", disable=None) as bar:
        for part in Parallel(n_jobs=workers, return_as="generator")(jobs):
            bar.update(len(part))
            found += [patient for patient in part if patient is not None]
    if len(found) < 4:
        raise InputError(f"{trial.name}: {len(found)} patients have an arm and a NET2 mask; training needs at least 4")
    return found
