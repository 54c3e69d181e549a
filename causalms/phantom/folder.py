"""A simulated trial as a BIDS folder, with its truth under ``sourcedata/truth``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from joblib import delayed
from tqdm import tqdm

from causalms.errors import InputError
from causalms.files import whole_folder
from causalms.phantom.design import Design, load_design
from causalms.phantom.images import render
from causalms.phantom.patient import patient_anatomy, simulate_patient
from causalms.phantom.roster import Enrolled, enrol
from causalms.phantom.trial import lesion_list, observed_mask, participants_row, participants_table, trial_name
from causalms.phantom.truth import TRUTH_COLUMNS, LesionList, PhantomTruth, truth_rows
from causalms.tables import read_table
from causalms.trials import MODALITIES, Space, TrialWriter, mni_space
from causalms.workers import results_in_order

TRUTH = Path("sourcedata") / "truth"
_PATIENTS_A_ROW_GROUP = 64
_TRUTH_TYPES = pa.schema(
    [(name, pa.string()) for name in TRUTH_COLUMNS[:3]]
    + [("visit_week", pa.int64())]
    + [(name, pa.float64()) for name in TRUTH_COLUMNS[4:7]]
    + [("true_lesions", pa.int64()), ("true_volume_ml", pa.float64())]
)
_LESION_TYPES = pa.schema(
    [
        ("participant_id", pa.string()),
        ("lesion", pa.int64()),
        ("u", pa.float64()),
        ("onset_week", pa.float64()),
        ("voxels", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Written:
    """What was written: one line for the user.

    Attributes
    ----------
    root : Path
    patients : int
    dropped : int
        Potential lesions that found no room in the brain; 0 unless rates are extreme.
    """

    root: Path
    patients: int
    dropped: int


@dataclass(frozen=True)
class _Rows:
    participant: dict[str, Any]
    truth: list[tuple[object, ...]]
    lesions: LesionList
    dropped: int


def write_simulated_trial(
    out: str | os.PathLike[str],
    design: str | os.PathLike[str] | Design = "lifelike",
    patients: int = 300,
    seed: int = 1,
    grid: str = "4mm",
    workers: int = 1,
) -> Written:
    """Simulate a trial into a BIDS folder; the same bytes for any number of workers.

    The trial itself (:func:`causalms.load_trial`) holds what a real trial would. ``sourcedata/truth`` holds the rest
    (:func:`load_truth`): ``truth.parquet``, ``lesions.parquet`` with every potential lesion's voxels, ``design.yaml`` and
    ``truth.json``. Patients are written as they are made, so memory does not grow with their number.

    Parameters
    ----------
    out : path-like
        A new or empty folder.
    design, patients, seed, grid, workers
        As :func:`causalms.simulate_trial`.

    Raises
    ------
    UsageError, InputError
        As :func:`causalms.simulate_trial`; also if the folder exists or cannot be written. Nothing is left behind then.

    Examples
    --------
    >>> import tempfile
    >>> from causalms.trials import load_trial
    >>> written = write_simulated_trial(Path(tempfile.mkdtemp()) / "trial", "pooled", patients=4)
    >>> len(load_trial(written.root)), load_truth(written.root).potential_mask("sub-0001", "placebo", 96).shape
    (4, (40, 48, 40))
    """
    law, space = load_design(design), mni_space(grid)
    roster = enrol(law, patients, seed)
    with whole_folder(out) as beside:
        writer = TrialWriter(beside, space, trial_name(law, patients, seed), law.weeks)
        (beside / TRUTH).mkdir(parents=True)
        made = _patients(writer, law, roster, seed, workers)
        # one iterator for all batches: a progress bar closes what it walks over when its own iterator ends
        shown = iter(tqdm(made, total=len(roster), desc="simulate", unit="patient", disable=None))
        rows, dropped = _store(beside / TRUTH, shown)
        if len(rows) != len(roster):
            raise RuntimeError(f"{len(rows)} of {len(roster)} patients were written")
        writer.finish(participants_table(law, rows), readme=_README.format(design=law.name, patients=len(roster), seed=seed))
        _describe(beside / TRUTH, law, {"patients": patients, "seed": seed, "grid": grid, "lesions_without_room": dropped})
    return Written(Path(out), len(roster), dropped)


def load_truth(path: str | os.PathLike[str]) -> PhantomTruth:
    """Read the truth that stands beside a simulated trial.

    Parameters
    ----------
    path : path-like
        The trial's folder.

    Raises
    ------
    InputError
        If there is no truth there, or a file of it is damaged.
    """
    folder = Path(path) / TRUTH
    if not folder.is_dir():
        raise InputError(f"{path}: holds no sourcedata/truth; only trials written by 'causalms simulate' have a known truth")
    try:
        record = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        seed, grid, patients = int(record["seed"]), str(record["grid"]), int(record["patients"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'truth.json'}: damaged ({error}); simulate the trial again") from error
    law, space = load_design(folder / "design.yaml"), mni_space(grid)
    roster = enrol(law, patients, seed)
    table = read_table(folder / "truth.parquet")
    expected = patients * len(law.arms) * len(law.weeks)
    if tuple(table.columns) != TRUTH_COLUMNS or len(table) != expected:
        raise InputError(f"{folder / 'truth.parquet'}: {len(table)} rows, expected {expected}; simulate the trial again")

    @lru_cache(maxsize=1)
    def lesions_of(participant_id: str) -> LesionList:
        return _read_lesions(folder / "lesions.parquet", participant_id)

    return PhantomTruth(law, seed, space, roster, table, lesions_of)


def _patients(writer: TrialWriter, design: Design, roster: tuple[Enrolled, ...], seed: int, workers: int) -> Iterator[_Rows]:
    """Write every patient's images and give its rows, in the order of the roster."""
    calls = (delayed(_write_patient)(writer, design, enrolled, seed) for enrolled in roster)
    return results_in_order(
        calls, workers, "nothing was left behind; run the same command again, with fewer `workers` if memory is short"
    )


def _write_patient(writer: TrialWriter, design: Design, enrolled: Enrolled, seed: int) -> _Rows:
    space: Space = writer.space
    patient = simulate_patient(design, enrolled, seed, space)
    anatomy = patient_anatomy(seed, enrolled.index, space)
    acquired = [modality for modality in MODALITIES if modality not in patient.missing]
    images = {modality: render(patient, anatomy, modality, seed) for modality in acquired}
    wanted = [("brain", 0), ("T2", 0), ("Gd", 0), *(("NET2", week) for week in design.weeks)]
    masks = {key: observed_mask(design, patient, anatomy, *key) for key in wanted}
    seen = {key: mask for key, mask in masks.items() if mask is not None}
    writer.write_patient(patient.participant_id, images, seen)
    volume = space.voxel_volume_mm3
    participant = participants_row(design, patient, volume)
    return _Rows(participant, truth_rows(design, patient, volume), lesion_list(patient), patient.potential.dropped)


def _store(folder: Path, made: Iterator[_Rows]) -> tuple[list[dict[str, Any]], int]:
    """Write the truth as patients come; give the participants' rows and how many lesions found no room."""
    participants: list[dict[str, Any]] = []
    dropped = 0
    with (
        pq.ParquetWriter(folder / "truth.parquet", _TRUTH_TYPES) as truth,
        pq.ParquetWriter(folder / "lesions.parquet", _LESION_TYPES) as lesions,
    ):
        while batch := list(islice(made, _PATIENTS_A_ROW_GROUP)):
            columns = list(zip(*[row for rows in batch for row in rows.truth], strict=True))
            truth.write_table(pa.table([list(column) for column in columns], schema=_TRUTH_TYPES))
            lesions.write_table(_lesion_table(batch))
            participants += [rows.participant for rows in batch]
            dropped += sum(rows.dropped for rows in batch)
    return participants, dropped


def _lesion_table(batch: list[_Rows]) -> pa.Table:
    rows = [
        (row.participant["participant_id"], number, float(u), float(onset), voxels)
        for row in batch
        for number, (u, onset, voxels) in enumerate(
            zip(row.lesions.u, row.lesions.onset_week, row.lesions.voxels, strict=True), start=1
        )
    ]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _LESION_TYPES]
    return pa.table(columns, schema=_LESION_TYPES)


def _read_lesions(path: Path, participant_id: str) -> LesionList:
    try:
        table = pq.read_table(path, filters=[("participant_id", "==", participant_id)])
        u, onset = (table.column(name).to_numpy() for name in ("u", "onset_week"))
        voxels = tuple(np.asarray(entry.values.to_numpy(), dtype=np.int32) for entry in table.column("voxels"))
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged or missing ({reason}); simulate the trial again") from error
    return LesionList(u, onset, voxels)


def _describe(folder: Path, design: Design, record: dict[str, Any]) -> None:
    from causalms import __version__

    content = yaml.safe_dump(design.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (folder / "design.yaml").write_text(content, encoding="utf-8")
    text = json.dumps({"causalms": __version__, "design": design.name, **record}, indent=2)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


_README = (
    "A simulated trial: design {design}, {patients} patients, seed {seed}. No real person is in it.\n\n"
    "What no trial can observe (true rates, potential outcomes under every arm) stands in sourcedata/truth and is read only "
    "by causalms.phantom.load_truth."
)
