"""``causalms merge``: the shards of a query or of a forecast put together, after a look at whether they are all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from causalms.cli.calibrate import OF_A_PART, Judgement, Options
from causalms.cli.cohort import write_skipped
from causalms.cli.paths import InputPath, OutputFolder, OutputPath, Verb
from causalms.errors import InputError, UsageError
from causalms.shards import Skipped


class _Merged(OutputFolder):
    """A new folder, or a table with its record."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = (".queries.json", ".skipped.csv")

    def refuse_unwritable(self, option: str, value: Any) -> None:
        """As for a table where the name has an ending, else as for a folder."""
        if Path(value).suffix:
            OutputPath(beside=self.beside).refuse_unwritable(option, value)
        else:
            super().refuse_unwritable(option, value)


@click.command(cls=Verb)
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=InputPath())
@click.option("--out", required=True, type=_Merged(), help="Table, or new folder where the parts are folders of forecasts.")
def command(parts: tuple[Path, ...], out: Path) -> int:
    """Put together what runs with --shard wrote: tables of `query`, folders of `forecast`, or parts of `calibrate`.

    Where --out has no ending, tables of draws (.parquet) become a folder of Parquet files by trial and arm, in a fixed memory:
    draws of any number, which `effects`, `agree` and `calibrate` read as they read a table.

    The result has the bytes that one run over everybody has. A missing or doubled shard, a doubled patient, and parts of another
    seed, model or question are refused. Exit code 3 says that patients were left out by --skip-bad.

    \b
    Example:
      causalms query trial --do placebo --shard 1/2 --out one.parquet
      causalms query trial --do placebo --shard 2/2 --out two.parquet
      causalms merge one.parquet two.parquet --out draws.parquet
      causalms merge one.parquet two.parquet --out draws
    """  # noqa: D301
    folders = [part for part in parts if part.is_dir()]
    if folders and len(folders) < len(parts):
        other = next(part for part in parts if not part.is_dir())
        raise UsageError(f"{other} is no folder and {folders[0]} is one; merge tables with tables and forecasts with forecasts")
    if folders and out.suffix:
        raise UsageError(f"--out {out}: the parts are folders; name a folder")
    if folders:
        from causalms.cli.forecast_folder import merge_folders

        return merge_folders(folders, out)
    return _tables(parts, out) if out.suffix else _partitioned(parts, out)


def _partitioned(parts: tuple[Path, ...], out: Path) -> int:
    """Draws of any number as a folder by trial and arm; of shards, all must be there."""
    from causalms.shards import Shard, refuse_incomplete
    from causalms.tables import partition_draws

    known = [(part, next(iter(_records(part).values()))) for part in parts if part.with_suffix(".queries.json").is_file()]
    if numbered := [(str(part), Shard.read(str(record["shard"]))) for part, record in known if "shard" in record]:
        refuse_incomplete(numbered)
    partition_draws(parts, out)
    click.echo(f"{out}: draws of {len(parts)} tables by trial and arm")
    return 0


def _judged(parts: tuple[Path, ...], out: Path) -> int:
    """Judge what ``calibrate --shard`` wrote, after a look at whether it is all of it and of one judgement."""
    import pandas as pd

    from causalms.calibration import Sources
    from causalms.shards import Shard, refuse_incomplete
    from causalms.tables import read_table, write_table

    read = sorted(((_part(part), part) for part in parts), key=lambda one: Shard.read(one[0]["shard"]).number)
    (first, first_part), tables, seen = read[0], [], []
    refuse_incomplete([(str(part), Shard.read(record["shard"])) for record, part in read])
    for record, part in read:
        if other := next((key for key in first if key not in _OF_A_SHARD and first[key] != record.get(key)), None):
            of_first = f"in {first_part} {first[other]}; merge the parts of one judgement"
            raise InputError(f"{part}: {other} is {record.get(other)}, {of_first}")
        tables.append(read_table(part))
        seen.append(read_table(part.with_suffix(OF_A_PART[1])))
        if (found := (len(tables[-1]), len(seen[-1]))) != (wanted := (record["rows"], record["patients"])):
            words = "{} rows of {} patients"
            raise InputError(f"{part}: {words.format(*found)}, written were {words.format(*wanted)}; run its shard again")
    judgement = Judgement(
        pd.concat(tables, ignore_index=True), Sources(first["draws"], first["observed"]), Options.of_part(first)
    )
    assessment = judgement.assess(judgement.pair(pd.concat(seen, ignore_index=True)))
    write_table(assessment.results, out)
    click.echo(repr(assessment))
    return 0


#: What parts of one judgement may differ in.
_OF_A_SHARD = ("shard", "patients", "rows", "draws")


def _part(part: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(part.with_suffix(OF_A_PART[0]).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{part}: no record of 'causalms calibrate --shard' beside it ({error}); keep its three files together"
        ) from error


def _records(part: Path) -> dict[str, Any]:
    """The record beside a table of a query."""
    beside = part.with_suffix(".queries.json")
    if not beside.is_file():
        raise InputError(f"{part}: its record {beside.name} is missing; keep both files of a query together")
    try:
        records: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{beside}: cannot be read ({error}); run the shard again") from error
    return records


def _tables(parts: tuple[Path, ...], out: Path) -> int:
    if parts[0].with_suffix(OF_A_PART[0]).is_file():
        return _judged(parts, out)
    from causalms.causal import merge_draws, write_draws
    from causalms.tables import counted, read_table

    merged = merge_draws([(str(part), read_table(part), _records(part)) for part in parts])
    write_draws(merged, out)
    people = counted(merged["participant_id"].nunique(), "patient")
    click.echo(f"{out}: {people} of {counted(len(parts), 'shard')}; wrote also {out.with_suffix('.queries.json').name}")
    return write_skipped([Skipped(**one) for one in merged.attrs.get("skipped", [])], out.with_suffix(".skipped.csv"))
