"""A folder of forecasts, a valid BIDS derivative: each patient made whole and kept, then put together; shards merged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from causalms.cli.bids_output import OUTSIDE, describe_dataset, write_sidecars
from causalms.cli.cohort import write_skipped
from causalms.errors import InputError, RefusalError
from causalms.files import whole_file, whole_folder
from causalms.shards import Shard, Skipped, refuse_incomplete
from causalms.tables import counted, name_of, write_table

if TYPE_CHECKING:
    import pandas as pd

    from causalms.trials import Trial

RECORD = "forecast.json"
TABLE = "forecast.csv"
NOTES = "notes.txt"
_KEPT_TABLE, _KEPT_NOTES = "forecast.parquet", "notes.json"


@dataclass(frozen=True)
class Question:
    """What is forecast for every patient; checksum and digest are those of the model (:attr:`Generator.digest`)."""

    model: str
    checksum: str
    digest: str
    arms: tuple[str, ...]
    week: float
    draws: int
    masks: bool
    seed: int
    device: str = "cpu"

    @property
    def key(self) -> str:
        """Tells whether a patient who was finished earlier had the same question."""
        from causalms import __version__

        return hashlib.sha256(repr((replace(self, model="", device=""), __version__)).encode()).hexdigest()[:12]

    def record(self, participants: Sequence[str]) -> dict[str, Any]:
        """What the folder's record says; ``participants`` are those of the whole cohort."""
        from causalms import __version__

        kept = {key: value for key, value in asdict(self).items() if key not in ("model", "device")}
        digest = hashlib.sha256("\n".join(participants).encode()).hexdigest()[:16]
        return {
            **kept,
            "arms": list(self.arms),
            "participants": len(participants),
            "participants_digest": digest,
            "version": __version__,
        }


def forecast_kept(question: Question, trial: Trial, participant_id: str, parts: Path, skip_bad: bool) -> Path | Skipped:
    """Forecast one patient into a folder that is kept until all are done; nothing is done again for one who is there.

    Returns
    -------
    Path or Skipped
        The patient's folder, or, with ``skip_bad``, why there is none.
    """
    own = trial.subset([participant_id])
    stamp = getattr(trial.source, "stamp", None)
    row = own.participants.to_csv(index=False)
    scans = hashlib.sha256((row + ("" if stamp is None else stamp(participant_id))).encode()).hexdigest()[:12]
    kept = parts / question.key / f"{quote(participant_id, safe='')}.{scans}"
    if kept.is_dir():
        return kept
    try:
        with whole_folder(kept) as folder:
            _forecast(question, own, participant_id, folder)
    except (InputError, RefusalError) as error:
        if not skip_bad:
            raise
        return Skipped(participant_id, str(error))
    return kept


def forget(parts: Path, question: Question) -> None:
    """Remove what was kept of this question; a folder that holds nothing else goes too."""
    shutil.rmtree(parts / question.key, ignore_errors=True)
    with contextlib.suppress(OSError):
        parts.rmdir()


def _forecast(question: Question, own: Trial, participant_id: str, folder: Path) -> None:
    """Maps, sidecars, picture, table and notes of one patient."""
    from causalms.generator import MapFolder, forecast_patient, loaded_once
    from causalms.report import figures

    generator = loaded_once(question.model, question.device)
    session = folder / participant_id / f"ses-w{question.week:02.0f}"
    maps = MapFolder(session / "anat", question.masks)
    forecast = forecast_patient(
        generator, own, participant_id, question.arms, question.week, question.draws, question.seed, maps=maps
    )
    write_sidecars(session / "anat", generator, question.arms, question.week, question.seed, _sources(own, participant_id))
    flair = own.image(participant_id, "FLAIR")
    background = flair if flair is not None else own.image(participant_id, "T1w")
    if background is not None:
        sizes, title = own.space_of(participant_id).voxel_sizes_mm[:2], f"{participant_id}, week {name_of(question.week)}"
        figure = figures.risk_maps(background, forecast.risks, voxel_mm=(sizes[0], sizes[1]), title=title)
        (folder / participant_id / "figures").mkdir()
        figures.save_figure(figure, folder / participant_id / "figures" / f"{participant_id}_risk.png", dpi=130)
    forecast.table.to_parquet(folder / _KEPT_TABLE, index=False)
    (folder / _KEPT_NOTES).write_text(json.dumps(list(forecast.notes)), encoding="utf-8")


def _sources(trial: Trial, participant_id: str) -> list[str]:
    """The patient's files as BIDS names them; what lies outside the folder by its place."""
    layout = getattr(trial.source, "layout", None)
    if layout is None:
        return []
    files = layout.files(participant_id)
    root = layout.root
    return [
        f"bids:raw:{file.relative_to(root).as_posix()}" if file.is_relative_to(root) else file.resolve().as_uri()
        for file in files
    ]


def put_together(kept: Sequence[Path], out: Path, record: dict[str, Any], name: str, source: dict[str, Any]) -> pd.DataFrame:
    """The folder of all patients that are kept, made whole."""
    import pandas as pd

    table = pd.concat([pd.read_parquet(part / _KEPT_TABLE) for part in kept], ignore_index=True)
    notes = [note for part in kept for note in json.loads((part / _KEPT_NOTES).read_text(encoding="utf-8"))]
    with whole_folder(out) as folder:
        for part in kept:
            for own in sorted(part.glob("sub-*")):
                shutil.copytree(own, folder / own.name, copy_function=linked)
        _finish(folder, table, notes, record, name, source)
    return table


def merge_folders(parts: Sequence[Path], out: Path) -> int:
    """Merge folders that ``forecast --shard`` wrote; the exit code.

    Raises
    ------
    InputError, UsageError
        If one is no such folder, is of another question, or a shard or patient is missing or doubled.
    """
    import pandas as pd

    from causalms.tables import read_table

    shards = sorted(((_record(part), part) for part in parts), key=lambda one: Shard.read(one[0]["shard"]).number)
    first, first_part = shards[0]
    people: dict[str, Path] = {}
    for record, part in shards:
        other = next((key for key in first if key not in ("shard", "skipped") and first[key] != record.get(key)), None)
        if other is not None:
            raise InputError(
                f"{part}: {other} is {record.get(other)}, in {first_part} {first[other]}; merge the shards of one forecast"
            )
        for own in sorted(part.glob("sub-*")):
            if own.name in people:
                raise InputError(f"{part}: participant {own.name!r} also stands in {people[own.name]}; give each patient once")
            people[own.name] = part
    refuse_incomplete([(str(part), Shard.read(record["shard"])) for record, part in shards])
    skipped = [one for record, _ in shards for one in record["skipped"]]
    if len(people) + len(skipped) != first["participants"]:
        raise InputError(
            f"{first_part}: {first['participants']} patients were asked for, the parts hold {len(people)}; run them again"
        )
    table = pd.concat([read_table(part / TABLE) for _, part in shards], ignore_index=True)
    notes = [note for _, part in shards for note in (part / NOTES).read_text(encoding="utf-8").splitlines()[1:]]
    whole = {key: value for key, value in first.items() if key != "shard"} | {"skipped": skipped}
    described = json.loads((first_part / "dataset_description.json").read_text(encoding="utf-8"))
    name, source = described["Name"].removesuffix(": forecasts"), {key: described[key] for key in ("Authors", "DatasetLinks")}
    with whole_folder(out) as folder:
        for own_name, part in people.items():
            shutil.copytree(part / own_name, folder / own_name, copy_function=linked)
        _finish(folder, table, notes, whole, name, source)
    click.echo(f"{out}: {counted(len(people), 'patient')} of {counted(len(parts), 'shard')}")
    return write_skipped([Skipped(**one) for one in skipped], out.with_name(f"{out.name}.skipped.csv"))


def _finish(
    folder: Path, table: pd.DataFrame, notes: Sequence[str], record: dict[str, Any], name: str, source: dict[str, Any]
) -> None:
    from causalms.report import figures

    write_table(table, folder / TABLE)
    distances = [name for name in table if str(name).startswith("distance_")]
    if (table[distances] > 1).any(axis=None) and (drawn := figures.counterfactual_pages(table)) is not None:
        figures.save_figure(drawn[0][0][0], folder / OUTSIDE, dpi=130)
    lines = ["Not for clinical use.", *dict.fromkeys(notes)]
    (folder / NOTES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    with whole_file(folder / RECORD) as beside:
        beside.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    describe_dataset(folder, name, record["checksum"], source)


def _record(part: Path) -> dict[str, Any]:
    try:
        record = dict(json.loads((part / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{part}: holds no {RECORD} that can be read ({error}); give folders that causalms forecast wrote"
        ) from error
    if "shard" not in record:
        raise InputError(f"{part}: is no shard but a whole forecast; merge folders that were written with --shard")
    return record


def linked(source: str, target: str) -> str:
    """A second name for a file, or a copy where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
