"""The one reader and the one writer of tables."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalms.errors import DataNote, InputError, UsageError, named_arguments
from causalms.files import whole_file
from causalms.tables.cells import settled
from causalms.tables.dataset_json import SUFFIXES as DATASET_JSON
from causalms.tables.dataset_json import dataset_json, read_dataset_json
from causalms.tables.sas_files import read_transport
from causalms.tables.spreadsheets import mark_formulas, quoting, unmark_formulas
from causalms.tables.stored_draws import is_stored_draws, tallied_draws
from causalms.tables.text_files import TextFormat, read_text

#: Kinds of text tables and the separator that each has where none is named.
_TEXT = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_BINARY = (".parquet", ".xpt", ".sas7bdat", ".xlsx", ".dta", ".sav", *DATASET_JSON)
_KINDS = ".csv, .tsv, .txt (each also .gz), .parquet, .xpt, .sas7bdat, .xlsx, .dta, .sav, or Dataset-JSON (.json, .ndjson)"


@named_arguments
def read_table(
    path: str | os.PathLike[str],
    *,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str | None = None,
    na: Sequence[str] = (),
) -> pd.DataFrame:
    r"""Read a table by its suffix: text (.csv, .tsv, .txt, each also .gz), .parquet, .xpt, .sas7bdat, .xlsx, .dta, .sav, .json.

    Cells are settled by one rule in every format: blank is missing; marks such as ``.``, ``NA`` and ``ND`` are missing among
    numbers, and names among words; numbers with a leading zero are codes. A folder of draws
    (:func:`partition_draws`) is read as its tallies. What was decided is said in a warning
    (:class:`causalms.errors.DataNote`). A pipe, ``/dev/stdin`` or ``-`` is read as text.

    Parameters
    ----------
    path : path-like
    separator : str, optional
        Of a text table: by default a comma in .csv, a tab in .tsv and .txt.
    decimal : {".", ","}
        Decimal sign of a text table.
    encoding : str, optional
        Of a text table, by default UTF-8.
    na : sequence of str
        Words that mean missing in every column, such as ``["NA", "unknown"]``.

    Raises
    ------
    InputError
        If the file is missing, unreadable, cut, empty or of another kind.
    UsageError
        For a separator, decimal sign or encoding that there is not.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = file.write_text("x;y\n1,5;2\n")
    >>> read_table(file, separator=";", decimal=",")
         x  y
    0  1.5  2
    """
    file, form = Path(path), TextFormat(separator, decimal, encoding)
    if str(path) == "-":
        file = Path("/dev/stdin")
    if not file.exists():
        raise InputError(f"{file}: no such file; check the path")
    if is_stored_draws(file):
        return tallied_draws(file)
    if file.is_dir():
        raise InputError(f"{file}: a folder; give the table in it")
    kind = file.with_suffix("").suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()
    if not file.is_file():
        kind = kind if kind in _TEXT else ".csv"  # a pipe
    if kind not in _TEXT and (kind not in _BINARY or file.suffix.lower() == ".gz"):
        raise InputError(f"{file}: a table of kind {file.suffix!r} cannot be read; give {_KINDS}")
    try:
        table = read_text(file.read_bytes(), str(file), _TEXT[kind], form) if kind in _TEXT else _binary(file, kind)
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:  # every reader has its own error classes; all of them mean that the file is not a table
        reason = " ".join(str(error).split()) if str(error) else type(error).__name__
        raise InputError(f"{file}: not a readable {kind[1:]} table ({reason[:160]}); export it again") from error
    if table.empty:
        raise InputError(f"{file}: holds no rows; give a table with at least one row")
    if kind in _TEXT or kind == ".xlsx":
        table = unmark_formulas(table)
    words = (*na, "n/a", "N/A") if kind == ".tsv" else na  # BIDS writes n/a
    return _settled(table, words, str(file))


def _binary(file: Path, kind: str) -> pd.DataFrame:
    """A table of a kind that carries its own types."""
    if kind == ".parquet":
        return pd.read_parquet(file)
    if kind == ".xpt":
        return read_transport(file)
    if kind in DATASET_JSON:
        return read_dataset_json(file)
    if kind == ".xlsx":
        return _sheet(file)
    if kind == ".dta":
        return _words(pd.read_stata(file))
    import pyreadstat

    if kind == ".sav":
        table, about = pyreadstat.read_sav(file, apply_value_formats=True)
    else:
        table, about = pyreadstat.read_sas7bdat(file)
    if about.number_rows is not None and about.number_rows != len(table):
        raise InputError(f"{file}: holds {len(table)} of {about.number_rows} rows; the file is cut or damaged; copy it again")
    return _words(table)


def _sheet(file: Path) -> pd.DataFrame:
    """The first sheet of a workbook."""
    codes = {"participant_id": str, "query_id": str}
    sheets = pd.read_excel(file, sheet_name=None, keep_default_na=False, na_values=[""], dtype=codes)
    first = next(iter(sheets))
    if sum(not sheet.empty for sheet in sheets.values()) > 1:
        warnings.warn(DataNote(f"{file}: sheet {first!r} is read, the other sheets are not"), stacklevel=4)
    return sheets[first]


def _words(table: pd.DataFrame) -> pd.DataFrame:
    """Value labels as the words they stand for."""
    labelled = [name for name in table.columns if isinstance(table[name].dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(labelled, object))


def _settled(table: pd.DataFrame, na: Sequence[str], source: str) -> pd.DataFrame:
    """The table with its cells settled; what was decided is a warning."""
    out, notes = settled(table, na)
    for note in notes:
        warnings.warn(DataNote(f"{source}: {note}"), stacklevel=4)
    return out


@named_arguments
def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as .csv, .tsv, .parquet, or CDISC Dataset-JSON 1.1 (.json, .ndjson), whole or not at all.

    Examples
    --------
    >>> import tempfile, pathlib, pandas as pd
    >>> write_table(pd.DataFrame({"x": [1]}), pathlib.Path(tempfile.mkdtemp()) / "a.csv").name
    'a.csv'
    """
    file = Path(path)
    if file.suffix not in (".csv", ".tsv", ".parquet", *DATASET_JSON):
        raise UsageError(f"{file}: tables are written as .csv, .tsv, .parquet, .json or .ndjson; choose one of these suffixes")
    with whole_file(file) as beside:
        if file.suffix == ".parquet":
            _write_parquet(table, beside)
        elif file.suffix in DATASET_JSON:
            beside.write_text(dataset_json(table, file), encoding="utf-8")
        else:
            separator, missing = (",", "") if file.suffix == ".csv" else ("\t", "n/a")
            marked = mark_formulas(table)
            marked.to_csv(beside, index=False, sep=separator, na_rep=missing, quoting=quoting(marked))
    return file


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write what ``DataFrame.to_parquet`` writes, but to the same bytes however the rows were put together.

    A column joined of pieces is kept in pieces, where else pages of the file would end.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.Table.from_pandas(table, preserve_index=False).combine_chunks()
    attributes = {"PANDAS_ATTRS": json.dumps(table.attrs)} if table.attrs else {}
    pq.write_table(whole.replace_schema_metadata({**whole.schema.metadata, **attributes}), path)


def as_frame(table: Any) -> pd.DataFrame:
    """A table in pandas, whatever it came as: a pandas, polars or arrow frame, or the path of a file.

    Parameters
    ----------
    table : DataFrame, path-like, or any frame that narwhals knows

    Raises
    ------
    InputError
        If it is no table.

    Examples
    --------
    >>> import pandas as pd, pyarrow as pa
    >>> as_frame(pa.table({"x": [1, 2]}))["x"].tolist()
    [1, 2]
    """
    if isinstance(table, pd.DataFrame):
        return _settled(table, (), "table")
    if isinstance(table, str | os.PathLike):
        return read_table(table)
    import narwhals

    try:
        frame = narwhals.from_native(table)
    except TypeError:
        raise InputError(f"found {type(table).__name__}, expected a pandas, polars or arrow table, or the path of one") from None
    frame = frame.collect() if isinstance(frame, narwhals.LazyFrame) else frame
    return _settled(frame.to_pandas(), (), "table")
