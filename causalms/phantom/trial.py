"""A simulated trial in memory: the table at once, images when they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from joblib import delayed

from causalms.errors import named_arguments
from causalms.phantom.anatomy import PatientAnatomy
from causalms.phantom.design import Design, load_design
from causalms.phantom.images import render
from causalms.phantom.patient import PhantomPatient, mask_of, patient_anatomy, simulate_patient
from causalms.phantom.roster import Enrolled, enrol
from causalms.phantom.truth import TRUTH_COLUMNS, LesionList, PhantomTruth, truth_rows
from causalms.tables import PARTICIPANTS_COLUMNS, WEEKS_PER_YEAR, net2_column
from causalms.trials import Space, Trial, mni_space
from causalms.workers import results_in_order


@dataclass(frozen=True, eq=False)
class PhantomTrial(Trial):
    """A trial that knows its potential outcomes.

    Attributes
    ----------
    truth : PhantomTruth
    """

    truth: PhantomTruth = field(kw_only=True, repr=False)


class PatientSource:
    """Images of simulated patients, made when asked for; the last patient is kept.

    Parameters
    ----------
    design : Design
    roster : tuple of Enrolled
    seed : int
    space : Space
    """

    #: Made in MNI152 space: nobody has to measure whether it lies there.
    made_in_place = True

    def __init__(self, design: Design, roster: tuple[Enrolled, ...], seed: int, space: Space) -> None:
        self._design, self._seed, self._space = design, seed, space
        self._roster = {enrolled.participant_id: enrolled for enrolled in roster}
        self._last: tuple[PhantomPatient, PatientAnatomy] | None = None

    def patient(self, participant_id: str) -> tuple[PhantomPatient, PatientAnatomy]:
        """The patient and the anatomy the images are made from."""
        if self._last is None or self._last[0].participant_id != participant_id:
            enrolled = self._roster[participant_id]
            patient = simulate_patient(self._design, enrolled, self._seed, self._space)
            self._last = (patient, patient_anatomy(self._seed, enrolled.index, self._space))
        return self._last

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image, float32; None if it was not acquired."""
        patient, anatomy = self.patient(participant_id)
        return None if modality in patient.missing else render(patient, anatomy, modality, self._seed)

    def mask(self, participant_id: str, kind: str, week: int) -> np.ndarray | None:
        """Mask, bool; None at a week that was not visited."""
        patient, anatomy = self.patient(participant_id)
        return observed_mask(self._design, patient, anatomy, kind, week)

    def lesions(self, participant_id: str) -> LesionList:
        """Potential lesions, for the truth."""
        return lesion_list(self.patient(participant_id)[0])


@named_arguments
def simulate_trial(
    design: str | os.PathLike[str] | Design = "lifelike",
    patients: int = 300,
    seed: int = 1,
    grid: str = "4mm",
    workers: int = 1,
) -> PhantomTrial:
    """Simulate a trial whose potential outcomes are all known.

    The patients are those that ``causalms simulate`` writes with the same arguments.

    Parameters
    ----------
    design : str or path-like or Design
        Name of a design that ships with the package, or a YAML file.
    patients : int
        Divided over trials and arms in proportion to their sizes in the design.
    seed : int
    grid : {"4mm", "3mm", "2mm", "1mm"}
    workers : int
        Processes; the trial is the same for any number.

    Returns
    -------
    PhantomTrial
        With ``truth``. Memory does not grow with images: they are made when asked for.

    Raises
    ------
    UsageError
        If design or grid is not known, or there are too few patients.
    InputError
        If the design file is wrong.

    Examples
    --------
    >>> trial = simulate_trial("lifelike", patients=4, seed=1)
    >>> len(trial), trial.weeks, trial.image("sub-0001", "FLAIR").shape
    (4, (24, 48, 96), (40, 48, 40))
    """
    law, space = load_design(design), mni_space(grid)
    roster = enrol(law, patients, seed)
    calls = (delayed(_rows)(law, enrolled, seed, space) for enrolled in roster)
    patients_rows = list(results_in_order(calls, workers, "simulate the trial again, with fewer `workers` if memory is short"))
    source = PatientSource(law, roster, seed, space)
    truth_table = pd.DataFrame([row for _, rows in patients_rows for row in rows], columns=list(TRUTH_COLUMNS))
    truth = PhantomTruth(law, seed, space, roster, truth_table, source.lesions)
    table = participants_table(law, [row for row, _ in patients_rows])
    return PhantomTrial(trial_name(law, patients, seed), table, space, law.weeks, source, truth=truth)


def trial_name(design: Design, patients: int, seed: int) -> str:
    """Name of a simulated trial."""
    return f"{design.name}-{patients}-seed{seed}"


def observed_mask(design: Design, patient: PhantomPatient, anatomy: PatientAnatomy, kind: str, week: int) -> np.ndarray | None:
    """A mask as the trial has it: NET2 under the patient's own arm, and nothing after the last visit."""
    shape = anatomy.shape
    if kind == "NET2":
        if week not in design.weeks or week > patient.last_week:
            return None
        return mask_of(patient.observed_lesions(design, week), shape)
    if week != 0:
        return None
    return {
        "brain": lambda: anatomy.brain,
        "T2": lambda: mask_of(patient.t2_lesions, shape),
        "Gd": lambda: mask_of(patient.gd_lesions, shape),
    }[kind]()


def lesion_list(patient: PhantomPatient) -> LesionList:
    """The patient's potential lesions as the truth keeps them."""
    return LesionList(patient.potential.u, patient.potential.onset_week, patient.potential.voxels)


def participants_row(design: Design, patient: PhantomPatient, voxel_volume_mm3: float) -> dict[str, Any]:
    """What the participants table says of one patient; outcomes after the last visit are missing."""
    baseline, enrolled = patient.baseline, patient.enrolled
    row: dict[str, Any] = {
        "participant_id": patient.participant_id,
        "trial": enrolled.trial.name,
        "site": enrolled.site,
        "arm": patient.arm,
        "age": baseline.age,
        "sex": baseline.sex,
        "edss": baseline.edss,
        "disease_duration": baseline.disease_duration,
        "relapses_prior_year": baseline.relapses_prior_year,
        "gd_lesions": len(patient.gd_lesions),
        "t2_lesions": patient.t2_count,
        "t2_volume_ml": patient.t2_volume_ml,
        "exposure_years": patient.last_week / WEEKS_PER_YEAR,
    }
    for week in design.weeks:
        seen = week <= patient.last_week
        lesions = patient.observed_lesions(design, week)
        volumes = np.array([len(voxels) for voxels in lesions], dtype=float) * voxel_volume_mm3 / 1000
        row[net2_column(week)] = float(len(lesions)) if seen else np.nan
        row[net2_column(week, "net2_volume_ml")] = float(volumes.sum()) if seen else np.nan
    return row


def participants_table(design: Design, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The participants table: covariates, then counts, then volumes."""
    outcomes = [net2_column(week, kind) for kind in ("net2_lesions", "net2_volume_ml") for week in design.weeks]
    return pd.DataFrame(rows, columns=[*PARTICIPANTS_COLUMNS, *outcomes])


def _rows(design: Design, enrolled: Enrolled, seed: int, space: Space) -> tuple[dict[str, Any], list[tuple[object, ...]]]:
    patient = simulate_patient(design, enrolled, seed, space)
    volume = space.voxel_volume_mm3
    return participants_row(design, patient, volume), truth_rows(design, patient, volume)
