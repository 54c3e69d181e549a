"""Which of a verb's options are files it reads and which it writes; clashes are refused before any work.

A verb declares its files by :class:`InputPath` and :class:`OutputPath` and is a :class:`Verb`, which looks at all of them before
it runs: an output that is an input or another output, however it is spelt, or that cannot be written, is refused.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from causalms.errors import UsageError
from causalms.files import refuse_taken_folder, refuse_unwritable, sweep

#: Endings of the tables that are written.
TABLES = (".csv", ".tsv", ".parquet")
#: Endings of results and ADaM tables, also CDISC Dataset-JSON.
RESULTS = (*TABLES, ".json", ".ndjson")


class InputPath(click.Path):
    """A file or folder that a verb reads.

    Parameters
    ----------
    kind : type
        ``Path`` or ``str``, what the verb is given.
    or_name : bool
        Whether a value without an ending is no file but the name of something that ships.
    beside : tuple of str
        Endings of files that are read with it, such as a record.
    """

    def __init__(self, kind: type = Path, or_name: bool = False, beside: tuple[str, ...] = ()) -> None:
        super().__init__(path_type=kind)
        self.or_name, self.beside = or_name, beside

    def files(self, value: Any) -> list[Path]:
        """The files that a value of the option means."""
        place = Path(value)
        if self.or_name and not place.suffix:
            return []
        return [place, *(place.with_suffix(ending) for ending in self.beside)]


class CaptionedPath(InputPath):
    """A file with its caption, as one text ``FILE=CAPTION``."""

    def __init__(self) -> None:
        super().__init__(str)

    def files(self, value: Any) -> list[Path]:
        """The file before the sign of equality."""
        return [Path(str(value).partition("=")[0])]


class OutputPath(click.Path):
    """A file that a verb writes.

    Parameters
    ----------
    endings : tuple of str
        What its name may end in, which chooses the format.
    beside : tuple of str
        Endings, in place of its own, of the files that may be written beside it.
    after : tuple of str
        Endings, after its own, of what may be written beside it.
    what : str
        The beginning of the sentence that names the endings.
    """

    def __init__(
        self,
        endings: tuple[str, ...] = TABLES,
        beside: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
        what: str = "tables are written",
    ) -> None:
        super().__init__(path_type=Path, readable=False)
        self.endings, self.beside, self.after, self.what = endings, beside, after, what

    def files(self, value: Any) -> list[Path]:
        """The file and all that may be written beside it."""
        place = Path(value)
        return [
            place,
            *(place.with_suffix(ending) for ending in self.beside),
            *(Path(f"{place}{ending}") for ending in self.after),
        ]

    def refuse_unwritable(self, option: str, value: Any) -> None:
        """Refuse a format that is not written, and a place where no file can be made."""
        if Path(value).suffix not in self.endings:
            *most, last = self.endings
            choice = f"{', '.join(most)} or {last}; choose one of these suffixes" if most else f"{last}; name it so"
            raise UsageError(f"{option} {value}: {self.what} as {choice}")
        for file in self.files(value)[: 1 + len(self.beside)]:
            refuse_unwritable(file)


class OutputFolder(OutputPath):
    """A folder that a verb makes whole, so that nothing may be in it yet, or (``fill``) one that it writes files into."""

    def __init__(self, fill: bool = False) -> None:
        super().__init__(())
        self.fill = fill

    def refuse_unwritable(self, option: str, value: Any) -> None:
        """Refuse a place where no folder can be made, or where one stands that would be replaced."""
        refuse_unwritable(value, as_folder=True)
        if not self.fill:
            refuse_taken_folder(value)


class Verb(click.Command):
    """A verb of the command line, whose files are looked at together before it runs."""

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse clashes and impossible outputs, sweep what killed runs left there, then run the verb."""
        inputs, outputs = [*_places(ctx, InputPath)], [*_places(ctx, OutputPath)]
        _refuse_clashes(inputs, outputs)
        for place in outputs:
            if place.main:
                place.type.refuse_unwritable(place.option, place.file)
                sweep(Path(os.path.realpath(place.file)).parent)
        return super().invoke(ctx)


@dataclass(frozen=True)
class _Place:
    """A file of an option: the one that it names (``main``), or one that belongs beside it."""

    option: str
    file: Path
    type: Any
    main: bool

    def __str__(self) -> str:
        return f"{self.option} {self.file}" if self.main else f"{self.option} (with it {self.file})"


def _places(ctx: click.Context, kind: type[InputPath | OutputPath]) -> Iterator[_Place]:
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if not isinstance(parameter.type, kind) or value is None:
            continue
        option = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name.strip(".")
        for one in value if isinstance(value, tuple) else (value,):
            for number, file in enumerate(parameter.type.files(one)):
                yield _Place(option, file, parameter.type, number == 0)


def _refuse_clashes(inputs: list[_Place], outputs: list[_Place]) -> None:
    for number, output in enumerate(outputs):
        for read in inputs:
            if _one_file(output.file, read.file):
                raise UsageError(f"{output}: is the same file as {read}, which is read; name another file for what is made of it")
            if _part_of_folder(output.file, read.file):
                raise UsageError(f"{output}: is a part of {read}, which is read; name another file")
        for other in outputs[:number]:
            inside = isinstance(other.type, OutputFolder) and _inside(output.file, other.file)
            around = isinstance(output.type, OutputFolder) and _inside(other.file, output.file)
            if inside or around or _one_file(output.file, other.file):
                raise UsageError(f"{output}: {other} is written there too; give each a place of its own")


def _one_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by links, spelling, or (as on many disks) letters of either case."""
    return bool(_identities(one) & _identities(other))


def _identities(path: Path) -> set[object]:
    """What stands at a path, if anything does, and its folder with its name regardless of case."""
    real = Path(os.path.realpath(path))
    name = unicodedata.normalize("NFC", real.name).casefold()
    folder: object = None if real.parent == real else (_inode(real.parent) or frozenset(_identities(real.parent)))
    return {(folder, name), *filter(None, [_inode(real)])}


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        here = path.stat()
    except OSError:
        return None
    return here.st_dev, here.st_ino


def _inside(file: Path, folder: Path) -> bool:
    real = Path(os.path.realpath(file))
    return any(_one_file(place, folder) for place in (real, *real.parents))


def _part_of_folder(file: Path, folder: Path) -> bool:
    """Whether a file is one of those that a BIDS folder is read from; others may lie in it."""
    if not folder.is_dir():
        return False
    if any(_one_file(file, table) for table in folder.glob("participants.*")):
        return True
    there, root = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    if not (there.is_file() and there.is_relative_to(root)):
        return False
    first, *rest = there.relative_to(root).parts
    return bool(rest) and (first.startswith("sub-") or first == "sourcedata" or (first, rest[0]) == ("derivatives", "lesions"))
