"""What training reads: every patient's baseline, arm, visits with their counts, and the place of every new lesion."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
from joblib import delayed
from tqdm import tqdm

from causalms.errors import InputError, RefusalError
from causalms.generator.configurations import TrainingConfig
from causalms.generator.inputs import Anatomy, anatomy_of, patient_arrays
from causalms.generator.train.cache import cache_file, keep, read_kept
from causalms.generator.train.distributed import Processes
from causalms.generator.train.patients import TrainingPatient, Visit
from causalms.lesions import LesionRule
from causalms.shards import Shard, Skipped
from causalms.trials import Trial
from causalms.workers import results_in_order


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
    return np.asarray(np.ravel_multi_index(tuple(corner.T), mask.shape))


def _one_patient(trial: Trial, participant_id: str, arm: str, of_trial: str, rule: LesionRule) -> TrainingPatient | None:
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
    return TrainingPatient(arrays, arm, tuple(visits), centres, float(last_mask.sum()) * volume / 1000, of_trial)


def _many_patients(
    trial: Trial, rows: list[tuple[str, str, str]], rule: LesionRule, cache: Path | None, skip_bad: bool
) -> list[TrainingPatient | Skipped | None]:
    answers: list[TrainingPatient | Skipped | None] = []
    for participant_id, arm, of_trial in rows:
        try:
            answers.append(_kept_or_read(trial, participant_id, arm, of_trial, rule, cache))
        except (InputError, RefusalError) as error:
            if not skip_bad:
                raise
            answers.append(Skipped(participant_id, str(error)))
    return answers


def _kept_or_read(
    trial: Trial, participant_id: str, arm: str, of_trial: str, rule: LesionRule, cache: Path | None
) -> TrainingPatient | None:
    if cache is None:
        return _one_patient(trial, participant_id, arm, of_trial, rule)
    file = cache_file(cache, trial, participant_id, rule)
    known = read_kept(file)
    patient = _one_patient(trial, participant_id, arm, of_trial, rule) if known is None else known
    if known is None and patient is not None:
        keep(file, patient)
    return patient


def training_set(
    trial: Trial,
    rule: LesionRule,
    workers: int = 1,
    cache: Path | None = None,
    least: int = 4,
    skipped: list[Skipped] | None = None,
) -> list[TrainingPatient]:
    """Read every patient of a trial that has an arm and at least one follow-up mask, from ``cache`` where they are kept.

    Patients whose files cannot be used are an error; where a list ``skipped`` is given, they are added to it instead.

    Raises
    ------
    InputError
        If fewer than ``least`` such patients are there; it says how many lack an arm and how many a mask.
    """
    table = trial.participants.dropna(subset=["arm"])
    rows = list(zip(table["participant_id"], table["arm"], table["trial"].astype(str), strict=True))
    chunks = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    jobs = (delayed(_many_patients)(trial, chunk, rule, cache, skipped is not None) for chunk in chunks)
    answers: list[TrainingPatient | Skipped | None] = []
    with tqdm(total=len(rows), desc="reading patients", unit="patient", disable=None) as bar:
        for part in results_in_order(jobs, workers, "no step of the training is lost: the same command goes on where it stopped"):
            bar.update(len(part))
            answers += part
    bad = [answer for answer in answers if isinstance(answer, Skipped)]
    patients = [answer for answer in answers if isinstance(answer, TrainingPatient)]
    if skipped is not None:
        skipped += bad
    if len(patients) < least:
        lacking = {
            "have no arm (column `arm` of participants.tsv)": len(trial) - len(table),
            "have an arm and no NET2 mask at any follow-up (label-L_desc-NET2_mask of a later session)": answers.count(None),
            "have files that cannot be used": len(bad),
        }
        why = "; ".join(f"{count} {words}" for words, count in lacking.items() if count)
        if not trial.weeks and not answers.count(None):
            why += "; nobody has a NET2 mask at any follow-up (label-L_desc-NET2_mask of a later session)"
        raise InputError(
            f"{trial.name}: {len(patients)} of {len(trial)} patients have an arm and a NET2 mask, training needs at least {least}"
            + (f"; {why}" if why else "; add patients")
        )
    return patients


def fill_cache(trial: Trial, cache: Path, shard: Shard, workers: int = 1, skipped: list[Skipped] | None = None) -> int:
    """Read a shard's patients into a cache of training patients; how many of them training will use."""
    own = trial.subset(shard.part([str(name) for name in trial.participants["participant_id"]]))
    return len(training_set(own, LesionRule.default(), workers, cache, 0, skipped))


@dataclass(frozen=True)
class Material:
    """What training reads: patients, those of them that steps learn from, arms as the trial has them, range of weeks, anatomy."""

    patients: list[TrainingPatient]
    training: list[TrainingPatient]
    validation: list[TrainingPatient]
    arms: tuple[str, ...]
    weeks: tuple[float, float]
    anatomy: Anatomy
    shape: tuple[int, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all that is learned from: a killed run goes on only with the same."""
        digest = hashlib.sha256(repr((self.arms, self.weeks, self.anatomy.voxel_ml, self.shape)).encode())
        for patient in self.patients:
            own = patient.arrays
            digest.update(
                repr((own.participant_id, own.missing, patient.arm, [(v.week, v.lesions) for v in patient.visits])).encode()
            )
            for values in (own.images, own.masks, own.covariates, *(visit.packed_mask for visit in patient.visits)):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def read_material(
    trial: Trial, recipe: TrainingConfig, seed: int, workers: int, processes: Processes, cache: Path | None = None
) -> Material:
    """Read a trial for training; the seed alone says who is kept for the validation of steps.

    Of several processes with a cache each reads the scans of its own share, and the others' patients from the cache.
    """
    if processes.world > 1 and cache is not None and len(trial) >= processes.world:
        fill_cache(trial, cache, Shard(processes.rank + 1, processes.world), workers, [])
        processes.wait()
    skipped: list[Skipped] | None = [] if recipe.skip_bad else None
    patients = training_set(trial, LesionRule.default(), workers, cache, skipped=skipped)
    present = {p.arm for p in patients}
    weeks = [float(v.week) for p in patients for v in p.visits]
    order = np.random.default_rng([seed, 0, 9]).permutation(len(patients))
    kept_out = max(1, round(recipe.validation_share * len(patients)))
    return Material(
        patients=patients,
        training=[patients[i] for i in order[kept_out:]],
        validation=[patients[i] for i in order[:kept_out]],
        arms=tuple(arm for arm in trial.arms if arm in present),
        weeks=(min(weeks), max(weeks)),
        anatomy=anatomy_of(trial.space).to(processes.device),
        shape=tuple(trial.space.shape),
        skipped=tuple(skipped or ()),
    )
