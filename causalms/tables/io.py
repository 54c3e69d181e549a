"""The one reader and the one writer of tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from causalms.errors import InputError, UsageError, named_arguments
from causalms.files import whole_file


def refuse_repeated_columns(file: Path) -> None:
    """Refuse a text table whose header names a column twice: pandas would rename the second one without a word."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    header = pd.read_csv(file, sep=separator, header=None, nrows=1, dtype=str).iloc[0].dropna()
    repeated = header[header.duplicated()]
    if len(repeated):
        raise InputError(f"{file}: column {repeated.iloc[0]!r} stands twice in the header; rename or remove one of them")


@named_arguments
def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read a table by its suffix: .csv, .tsv, .parquet, .xpt or .sas7bdat.

    Raises
    ------
    InputError
        If the file is missing, unreadable, empty or of another kind.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = file.write_text("x,y\n1,2\n")
    >>> read_table(file)
       x  y
    0  1  2
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file; check the path")
    try:
        match file.suffix.lower():
            case ".csv":
                table = pd.read_csv(file, dtype={"participant_id": str})
            case ".tsv":
                table = pd.read_csv(file, sep="\t", na_values=["n/a"], dtype={"participant_id": str})
            case ".parquet":
                table = pd.read_parquet(file)
            case ".xpt":
                import pyreadstat

                table = pyreadstat.read_xport(file)[0]
            case ".sas7bdat":
                import pyreadstat

                table = pyreadstat.read_sas7bdat(file)[0]
            case other:
                raise InputError(
                    f"{file}: a table of kind {other!r} cannot be read; give .csv, .tsv, .parquet, .xpt or .sas7bdat"
                )
    except InputError:
        raise
    except Exception as error:  # every reader has its own error classes; all of them mean that the file is not a table
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: not a readable {file.suffix[1:]} table ({reason}); export it again") from error
    if file.suffix.lower() in (".csv", ".tsv"):
        refuse_repeated_columns(file)
    if table.empty:
        raise InputError(f"{file}: holds no rows; give a table with at least one row")
    return table


@named_arguments
def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table as .csv, .tsv or .parquet, whole or not at all.

    Examples
    --------
    >>> import tempfile, pathlib, pandas as pd
    >>> write_table(pd.DataFrame({"x": [1]}), pathlib.Path(tempfile.mkdtemp()) / "a.csv").name
    'a.csv'
    """
    file = Path(path)
    if file.suffix not in (".csv", ".tsv", ".parquet"):
        raise UsageError(f"{file}: tables are written as .csv, .tsv or .parquet; choose one of these suffixes")
    with whole_file(file) as beside:
        if file.suffix == ".parquet":
            table.to_parquet(beside, index=False)
        else:
            table.to_csv(
                beside, index=False, sep="," if file.suffix == ".csv" else "\t", na_rep="" if file.suffix == ".csv" else "n/a"
            )
    return file


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
        return table
    if isinstance(table, str | os.PathLike):
        return read_table(table)
    import narwhals

    try:
        frame = narwhals.from_native(table)
    except TypeError:
        raise InputError(f"found {type(table).__name__}, expected a pandas, polars or arrow table, or the path of one") from None
    frame = frame.collect() if isinstance(frame, narwhals.LazyFrame) else frame
    return frame.to_pandas()
