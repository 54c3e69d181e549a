"""What the verbs that go through a cohort share: which patients, in how many processes, on which device, and who is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd

from causalms.cli.paths import OutputFolder
from causalms.errors import InputError, UsageError
from causalms.shards import Shard, Skipped
from causalms.tables import counted, write_table

#: Exit code of a run that finished and left patients out.
SKIPPED_SOME = 3
_Verb = TypeVar("_Verb", bound=Callable[..., Any])


@dataclass(frozen=True)
class Cohort:
    """The options of :func:`cohort_options`."""

    participants: tuple[str, ...]
    shard: Shard | None
    workers: int = 1
    device: str = "cpu"
    skip_bad: bool = False
    dask: str | None = None

    def cluster(self) -> AbstractContextManager[object]:
        """The Dask cluster that patients go to, as a block; nothing without --dask.

        Raises
        ------
        UsageError
            If a number of workers is given for a cluster that has its own.
        """
        if self.dask is None:
            return nullcontext()
        from causalms.cluster import LOCAL, on_dask

        if self.dask != LOCAL and self.workers != 1:
            raise UsageError(f"--workers and --dask {self.dask}: the cluster has its own workers; leave out --workers")
        return on_dask(self.dask, self.workers)

    def chosen(self, everyone: Sequence[str]) -> list[str]:
        """The patients named, or all; of them the part that the shard holds.

        Raises
        ------
        InputError
            If one is unknown.
        """
        if unknown := [name for name in self.participants if name not in set(everyone)]:
            raise InputError(f"no participant {unknown[0]!r}; the participants table names them")
        people = list(self.participants) or list(everyone)
        return people if self.shard is None else self.shard.part(people)


def cohort_options(
    *, skip_bad: bool = True, device: str = "cpu", scans: bool = True, dask: bool = True
) -> Callable[[_Verb], _Verb]:
    """Options of a verb that goes through the patients of a folder; without ``scans`` who they are and how many processes."""
    options = [
        click.option("--participant", "participants", multiple=True, metavar="ID",
                     help="Only this one; repeat for several.  [default: everyone]"),
        click.option("--shard", metavar="K/N", callback=_shard,
                     help="Only part K of N of the patients; 'causalms merge' puts the parts together."),
    ]  # fmt: skip
    options.append(
        click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1),
                     help="Processes; the numbers stay the same.")
    )  # fmt: skip
    options += [] if not dask else [
        click.option("--dask", metavar="ADDRESS|local",
                     help="A Dask cluster does it: its scheduler (tcp://host:8786), or 'local': --workers of this machine.")
    ]  # fmt: skip
    options += [] if not scans else [
        click.option("--device", default=device, show_default=True, type=click.Choice(["auto", "cpu", "cuda"]),
                     help="Where the model runs; a GPU rounds otherwise in the last digits."),
    ]  # fmt: skip
    if scans and skip_bad:
        options.append(
            click.option("--skip-bad", is_flag=True,
                         help=f"Leave out and list patients whose files cannot be used; exit code {SKIPPED_SOME}.")
        )  # fmt: skip

    def declare(verb: _Verb) -> _Verb:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return declare


@dataclass(frozen=True)
class Kept:
    """The options of :func:`kept_options`."""

    parts: Path | None
    keep_only: bool

    def folder(self, out: Path) -> Path:
        """Where finished patients are kept until ``out`` is written."""
        return out.with_name(f"{out.name}.parts") if self.parts is None else self.parts


def kept_options(verb: _Verb) -> _Verb:
    """Options of a verb that keeps finished patients until the whole is written."""
    verb = click.option(
        "--keep-only", is_flag=True, help="Only answer and keep; the same command without it (and --shard) writes OUT of all."
    )(verb)
    return click.option("--parts", type=OutputFolder(fill=True), help="Where finished patients are kept.  [default: OUT.parts]")(
        verb
    )


resample_option = click.option(
    "--resample",
    is_flag=True,
    help="Bring scans on another grid (1 mm, say) onto that of the model; else they are refused.",
)


cache_option = click.option(
    "--cache",
    type=OutputFolder(fill=True),
    help="With --expected: folder that keeps what each scan says of the count, for later queries.",
)


def write_skipped(skipped: Sequence[Skipped], place: Path) -> int:
    """List who was left out, on the terminal and in a table; the exit code of the run."""
    if not skipped:
        return 0
    write_table(pd.DataFrame([vars(one) for one in skipped]), place)
    for one in skipped[:10]:
        reason = one.reason.removeprefix(f"{one.participant_id}: ")
        click.echo(f"left out: {one.participant_id}: {reason}", err=True)
    more = ", the first 10 above" if len(skipped) > 10 else ""
    were, reasons = ("was", "the reason") if len(skipped) == 1 else ("were", "all reasons")
    who = f"{counted(len(skipped), 'patient')} {were} left out{more}"
    click.echo(f"{who}; {reasons} in {place} (exit code {SKIPPED_SOME})", err=True)
    return SKIPPED_SOME


def _shard(context: click.Context, parameter: click.Parameter, value: str | None) -> Shard | None:
    if value is None:
        return None
    try:
        return Shard.read(value)
    except UsageError as error:
        raise UsageError(str(error).replace("`shard=", "--shard ").replace("`", "")) from None
