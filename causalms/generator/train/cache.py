"""Patients as training reads them, kept on disk: memory-mapped, one file each, under a name that tells what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np

from causalms.errors import UsageError
from causalms.files import whole_file
from causalms.generator.inputs import PatientArrays
from causalms.generator.train.patients import TrainingPatient, Visit
from causalms.lesions import LesionRule
from causalms.trials import Trial


def cache_file(folder: Path, trial: Trial, participant_id: str, rule: LesionRule) -> Path:
    """Where a patient is kept: another name for other scans, row, grid, weeks, rule or version.

    Raises
    ------
    UsageError
        If the trial is in memory, where nothing tells whether it is the same.
    """
    from causalms import __version__

    stamp = getattr(trial.source, "stamp", None)
    scans = "" if stamp is None else stamp(participant_id)
    if not scans:
        raise UsageError("`cache` is for trials in folders; this one is in memory: leave it out")
    row = trial.participants.loc[trial.participants["participant_id"] == participant_id].to_csv(index=False)
    made_from = (scans, row, trial.space.describe(), trial.weeks, repr(rule), __version__)
    return folder / f"{quote(participant_id, safe='')}.{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.safetensors"


def read_kept(file: Path) -> TrainingPatient | None:
    """The patient that was kept; None where there is none, or the disk spoilt it."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="np") as kept:
            arrays = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - no mapping
            kept_patient = json.loads(kept.metadata()["patient"])
        own = PatientArrays(
            kept_patient["id"],
            arrays["images"],
            arrays["masks"].astype(bool),
            arrays["covariates"],
            tuple(kept_patient["missing"]),
        )
        packed = zip(kept_patient["weeks"], kept_patient["lesions"], arrays["packed"], strict=True)
        visits = tuple(Visit(week, lesions, mask) for week, lesions, mask in packed)
        return TrainingPatient(
            own, kept_patient["arm"], visits, arrays["centres"], kept_patient["volume_ml"], kept_patient["trial"]
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None


def keep(file: Path, patient: TrainingPatient) -> None:
    """Write a patient whole, or not at all."""
    from safetensors.numpy import save

    own = patient.arrays
    kept_patient = {
        "id": own.participant_id,
        "missing": list(own.missing),
        "arm": patient.arm,
        "trial": patient.trial,
        "volume_ml": patient.volume_ml,
        "weeks": [visit.week for visit in patient.visits],
        "lesions": [visit.lesions for visit in patient.visits],
    }
    arrays = {
        "images": own.images,
        "masks": own.masks.astype(np.uint8),
        "covariates": own.covariates,
        "centres": patient.centres,
        "packed": np.stack([visit.packed_mask for visit in patient.visits]),
    }
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    with whole_file(file) as beside:
        beside.write_bytes(save(contiguous, metadata={"patient": json.dumps(kept_patient)}))
