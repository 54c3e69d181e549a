"""Draws beyond memory: Parquet partitioned by trial and arm, and its sufficient statistics, a row a patient and arm.

Effects, agreement and calibration of counts need of a patient's ``D`` draws only how often each count came (``tally``), and,
because the arms of a draw share their noise, the sums of products of the counts of two arms (``products``) and of both being
active (``both_active``).  All are whole numbers, so that the statistics are exact, in any order of the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.files import whole_folder

#: Column that makes a table one of tallied draws: how many draws of the cell had each count, as JSON.
TALLY = "tally"
_OUTCOME = "net2_lesions"
_KEYS = ("participant_id", "trial", "visit_week", "query", "query_id", "arm")
_WORDS = (*(key for key in _KEYS if key != "visit_week"), "arm_randomised", "model_error", "missing_inputs")
#: Rows whose counts are held at once, and rows of a row group.
_ROWS, _GROUP = 20_000_000, 1_000_000


def is_stored_draws(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of draws as :func:`partition_draws` writes it."""
    return Path(path).is_dir() and next(Path(path).glob("trial=*/arm=*/*.parquet"), None) is not None


def partition_draws(parts: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Write Parquet files of draws as one folder, ``trial=T/arm=A/*.parquet``, whole or not at all, in a fixed memory.

    Raises
    ------
    InputError
        If a part is no Parquet table of sampled draws with columns ``trial`` and ``arm``.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    folder = Path(out)
    with whole_folder(folder) as beside:
        for number, part in enumerate(parts):
            data = _dataset(part)
            for name in ("participant_id", "trial", "arm", "draw"):
                if name not in data.schema.names:
                    raise InputError(f"{part}: no column {name!r}; give a table of sampled draws")
            words = [name for name in _WORDS if name in data.schema.names]
            whole = data.schema.field("draw").type in (pa.int32(), pa.int64())
            ds.write_dataset(
                data.scanner(batch_size=_GROUP // 8, use_threads=False),
                beside,
                format="parquet",
                partitioning=_by_trial_and_arm(),
                basename_template=f"part-{number:04d}-{{i}}.parquet",
                existing_data_behavior="overwrite_or_ignore",
                use_threads=False,
                max_rows_per_group=_GROUP,
                file_options=ds.ParquetFileFormat().make_write_options(
                    compression="zstd",
                    use_dictionary=[*words, _OUTCOME],
                    column_encoding={"draw": "DELTA_BINARY_PACKED"} if whole else None,
                ),
            )
    return folder


def tallied_draws(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Sufficient statistics of a folder of draws: a row for each patient, arm, visit and query; arms in the order of their names.

    Parameters
    ----------
    path : path-like
        Folder of :func:`partition_draws`, or one Parquet file of draws.

    Returns
    -------
    DataFrame
        The key columns, what else the first draw of a cell holds (the model's error, missing inputs), ``draws``, and as JSON
        ``tally`` (count: how many draws), ``products`` and ``both_active`` (arm: sum over draws).

    Raises
    ------
    InputError
        If a column is missing, a count is none, or a patient lacks a draw that others have, or has one twice.
    """
    data = _dataset(path)
    columns = [name for name in data.schema.names if name == _OUTCOME or not name.startswith("net2_")]
    outcome = _OUTCOME if _OUTCOME in columns or "count" not in columns else "count"
    for name in ("participant_id", "arm", "draw", outcome):
        if name not in columns:
            raise InputError(f"{path}: no column {name!r}; give sampled draws (columns found: {', '.join(columns[:12])})")
    rows: dict[str, int] = {}
    for batch in data.scanner(columns=["participant_id"], use_threads=False).to_batches():
        names, codes = _coded(batch.column(0))
        for name, count in zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True):
            rows[str(name)] = rows.get(str(name), 0) + count
    groups = [group for fragment in data.get_fragments() for group in fragment.split_by_row_group()]
    parts = [
        _Chunk(people, str(path), outcome).cells(_overlapping(groups, people), data.schema, columns) for people in _chunks(rows)
    ]
    return pd.concat(parts, ignore_index=True)


def tally_of(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Counts (rows, M) and how many draws had them (rows, M) of a column :data:`TALLY`; padded with zeros."""
    parsed = [{int(count): number for count, number in json.loads(cell).items()} for cell in cells]
    most = max(len(cell) for cell in parsed)
    counts, numbers = np.zeros((len(parsed), most), np.int64), np.zeros((len(parsed), most), np.int64)
    for row, cell in enumerate(parsed):
        counts[row, : len(cell)], numbers[row, : len(cell)] = list(cell), list(cell.values())
    return counts, numbers


class _Chunk:
    """Some patients' draws, as counts of cells (patient, trial, visit, query, arm) by draw."""

    def __init__(self, people: Sequence[str], path: str, outcome: str) -> None:
        self._people, self._path, self._outcome = set(people), path, outcome
        self._numbers: dict[tuple[Any, ...], int] = {}  # of cells, as they are first met

    def cells(self, groups: Sequence[Any], schema: Any, columns: list[str]) -> pd.DataFrame:
        """The rows of the table of tallies."""
        keys = [name for name in _KEYS if name in columns]
        tables = (group.to_table(schema=schema, columns=columns, use_threads=False) for group in groups)
        parts = [part for table in tables if (part := self._own(table, keys)) is not None]
        cell, draws, counts = (np.concatenate([part[k] for part in parts]) for k in range(3))
        draw, values = pd.factorize(draws)
        place = cell * len(values) + draw
        filled = np.bincount(place, minlength=len(self._numbers) * len(values))
        if (filled != 1).any():
            wrong = int(np.flatnonzero(filled != 1)[0])
            key = dict(zip(keys, list(self._numbers)[wrong // len(values)], strict=True))
            what = "lacks a draw that others have" if filled[wrong] == 0 else "has a draw twice"
            raise InputError(
                f"{self._path}: participant {key['participant_id']!r} under arm {key['arm']!r} {what} "
                f"(draw {values[wrong % len(values)]}); give every arm the same draws once"
            )
        cube = np.empty(len(filled), np.int32)
        cube[place] = counts
        first = pd.concat([part[3] for part in parts]).drop_duplicates("cell")
        table = pd.DataFrame(list(self._numbers), columns=keys).assign(cell=np.arange(len(self._numbers)), draws=len(values))
        table = table.merge(first, on="cell", how="left").sort_values(keys)
        return _summed(table, cube.reshape(-1, len(values)), keys)

    def _own(self, table: Any, keys: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame] | None:
        """Cell, draw and count of the chunk's rows, and what else the first row of each cell holds."""
        frame = {name: table.column(name).combine_chunks() for name in table.column_names}
        names, person = _coded(frame["participant_id"])
        ours = np.array([str(name) in self._people for name in names])
        rows: Any = slice(None) if ours.all() else np.flatnonzero(ours[person])
        code, labels = np.zeros(len(person[rows]), np.int64), []
        if not len(code):
            return None
        for name in keys:
            known, own = _coded(frame[name])
            if len(known) > 1:
                code = code * len(known) + own[rows]
            labels.append([float(label) if name == "visit_week" else str(label) for label in known])
        local, codes = pd.factorize(code)
        start = np.empty(len(codes), np.int64)
        start[local[::-1]] = np.arange(len(local))[::-1]
        places = zip(*np.unravel_index(codes, [len(part) for part in labels]), strict=True)
        cells = [tuple(part[i] for part, i in zip(labels, place, strict=True)) for place in places]
        numbers = np.array([self._numbers.setdefault(cell, len(self._numbers)) for cell in cells])
        counts = frame[self._outcome].to_numpy(zero_copy_only=False)[rows]
        if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts % 1 == 0).all() and counts.max() < 2**31):
            raise InputError(f"{self._path}: column {self._outcome!r} holds values that are no counts; correct them")
        held = [name for name in frame if name not in (*keys, "draw", self._outcome)]
        at = np.arange(len(person))[rows][start]
        first = pd.DataFrame({name: frame[name].take(at).to_pylist() for name in held}).assign(cell=numbers)
        return numbers[local], frame["draw"].to_numpy(zero_copy_only=False)[rows], counts.astype(np.int32), first


def _summed(table: pd.DataFrame, cube: np.ndarray, keys: list[str]) -> pd.DataFrame:
    """The table of cells with their tallies and the sums of products with the other arms of the same patient."""
    texts: dict[str, dict[int, str]] = {TALLY: {}, "products": {}, "both_active": {}}
    for _, own in table.groupby([key for key in keys if key != "arm"], sort=False):
        counts = cube[own["cell"]].astype(float)
        active = (counts > 0).astype(float)
        for name, sums in (("products", counts @ counts.T), ("both_active", active @ active.T)):
            for row, cell in enumerate(own["cell"]):
                texts[name][cell] = json.dumps(dict(zip(own["arm"], map(int, sums[row]), strict=True)))
        for cell in own["cell"]:
            tally = np.bincount(cube[cell])
            texts[TALLY][cell] = json.dumps({str(y): int(tally[y]) for y in np.flatnonzero(tally)})
    return table.assign(**{name: table["cell"].map(text) for name, text in texts.items()}).drop(columns="cell")


def _coded(column: Any) -> tuple[list[Any], np.ndarray]:
    """Values of a column and which of them each row has."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False)


def _chunks(rows: dict[str, int]) -> Iterator[list[str]]:
    """Patients in the order of their names, in chunks of about :data:`_ROWS` rows."""
    chunk: list[str] = []
    total = 0
    for name in sorted(rows):
        if chunk and total + rows[name] > _ROWS:
            yield chunk
            chunk, total = [], 0
        chunk.append(name)
        total += rows[name]
    yield chunk


def _overlapping(groups: Sequence[Any], people: list[str]) -> list[Any]:
    """Row groups that may hold one of some patients."""
    chosen = []
    for group in groups:
        known = group.row_groups[0].statistics or {}
        ends = known.get("participant_id")
        if ends is None or (str(ends["min"]) <= people[-1] and str(ends["max"]) >= people[0]):
            chosen.append(group)
    return chosen


def _dataset(path: str | os.PathLike[str]) -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    folder = Path(path).is_dir()
    try:
        names = ds.dataset(str(path), format="parquet").schema
        words = [name for name in _WORDS if name in names.names and pa.types.is_string(names.field(name).type)]
        reading = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=words))
        return ds.dataset(str(path), format=reading, partitioning=_by_trial_and_arm() if folder else None)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet ({' '.join(str(error).split())[:120]}); write it again") from error


def _by_trial_and_arm() -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    return ds.partitioning(pa.schema([("trial", pa.string()), ("arm", pa.string())]), flavor="hive")
