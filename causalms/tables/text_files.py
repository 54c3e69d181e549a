"""Tables of text: separators, decimal signs and encodings, told by the file or named, and proposed where they do not fit."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalms.errors import InputError, UsageError

#: Option of pandas by which numbers are read to their last digit; from 3.1 on they always are, and the option is gone.
EXACT_NUMBERS: dict[str, Any] = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
#: From here on a float no longer tells every whole number from the next.
_LARGEST_EXACT = 2.0**53
_SEPARATORS = {",": "','", ";": "';'", "\t": "'\\t'", "|": "'|'"}
_CODES = re.compile(r"(?:^|[,;\t|\n\"])0[0-9]")


@dataclass(frozen=True)
class TextFormat:
    """How a table of text is written.

    Parameters
    ----------
    separator : str, optional
        One character; by default a comma in .csv, a tab in .tsv and .txt.
    decimal : {".", ","}
    encoding : str, optional
        By default UTF-8, with or without byte-order mark, or what the mark says.

    Raises
    ------
    UsageError
        For a separator of more than one character, one that is the decimal sign, or an unknown encoding.
    """

    separator: str | None = None
    decimal: str = "."
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator in ("\\t", "tab"):
            object.__setattr__(self, "separator", "\t")
        if self.separator is not None and (len(self.separator) != 1 or self.separator == self.decimal):
            raise UsageError(f"`separator={self.separator!r}`: give one character that is not the decimal sign, such as ';'")
        if self.decimal not in (".", ","):
            raise UsageError(f"`decimal={self.decimal!r}`: the decimal sign is '.' or ','")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UsageError(f"`encoding={self.encoding!r}`: no such encoding; known are utf-8, latin-1, utf-16") from None


def read_text(content: bytes, source: str, usual_separator: str, form: TextFormat) -> pd.DataFrame:
    """Parse the bytes of a table of text; cells that are no number stay text, blank cells are missing.

    Raises
    ------
    InputError
        Naming the line at fault, or proposing the separator or encoding that fits.
    """
    text = _decoded(_unzipped(content, source), source, form.encoding)
    if not text.strip():
        raise InputError(f"{source}: the file is empty; export it again")
    if "\x00" in text:
        raise InputError(f"{source}: not a table of text (it holds NUL bytes); export it again, or name its `encoding`")
    separator = form.separator or usual_separator
    header = next(csv.reader([text.lstrip("\r\n").splitlines()[0]], delimiter=separator))
    if len(header) == 1:
        for other, shown in _SEPARATORS.items():
            if other != separator and header[0].count(other) > 0:
                raise InputError(f"{source}: the header holds one column, {header[0][:60]!r}; add `separator={shown}`")
    repeated = [name for at, name in enumerate(header) if name and name in header[:at]]
    if repeated:
        raise InputError(f"{source}: column {repeated[0]!r} stands twice in the header; rename or remove one of them")
    _refuse_long_rows(text, separator, len(header), source)
    kinds: dict[str, type] = {"participant_id": str, "query_id": str}
    options: dict[str, Any] = {
        "sep": separator,
        "decimal": form.decimal,
        "keep_default_na": False,
        "na_values": [""],
        **EXACT_NUMBERS,
    }
    if _CODES.search(text):
        as_text = pd.read_csv(io.StringIO(text), dtype=str, low_memory=False, **options)
        kinds |= {str(name): str for name in as_text if as_text[name].str.fullmatch(r"\s*0[0-9]+\s*").any()}
    table: pd.DataFrame = pd.read_csv(io.StringIO(text), dtype=kinds, index_col=False, low_memory=False, **options)
    large = {str(name): str for name in table.select_dtypes("float") if table[name].abs().max() >= _LARGEST_EXACT}
    if large:  # identifiers of 16 digits and more, which a float would round
        as_text = pd.read_csv(io.StringIO(text), dtype=large, index_col=False, low_memory=False, **options)
        for name in large:
            whole = as_text[name].str.fullmatch(r"\s*[0-9]+\s*")
            if whole[as_text[name].notna()].all():
                table[name] = as_text[name].str.strip()
    blank = [name for name in table.columns if str(name).startswith("Unnamed: ") and table[name].isna().all()]
    return table.drop(columns=blank)


def _refuse_long_rows(text: str, separator: str, columns: int, source: str) -> None:
    """A row with more cells than the header would lose its last ones, or shift the others."""
    if max(line.count(separator) for line in text.splitlines()) < columns:
        return
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    for row in rows:
        if any(cell.strip() for cell in row[columns:]):
            raise InputError(
                f"{source}: line {rows.line_num} has {len(row)} cells, the header {columns}; quote a cell that holds "
                f"{_SEPARATORS.get(separator, repr(separator))}, or correct the line"
            )


def _unzipped(content: bytes, source: str) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source}: the gzip stream is broken or cut short; copy or compress the file again") from error


def _decoded(content: bytes, source: str, encoding: str | None) -> str:
    if encoding is None:
        for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
            if content.startswith(mark):
                encoding = name
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        line = content[:at].count(b"\n") + 1
        proposed = "utf-16" if content[:200].count(b"\x00") > 20 else "latin-1"
        raise InputError(
            f"{source}: line {line} is not {encoding or 'UTF-8'}; save it as UTF-8, or read it with `encoding={proposed}`"
        ) from error
