"""Draws of the shards of one query put together, after a look at whether they are all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.shards import Shard, refuse_incomplete

#: What two records may differ in when they are of one query.
_OF_A_SHARD = ("shard", "participants_answered", "participants_skipped", "participants_with_missing_inputs")
#: What is named first where two queries differ.
_NAMED_FIRST = (
    "seed",
    "model_checksum",
    "model_digest",
    "mechanism",
    "draws",
    "weeks",
    "intervention",
    "trial",
    "participants_digest",
)


def merge_draws(parts: Sequence[tuple[str, pd.DataFrame, Mapping[str, Mapping[str, Any]]]]) -> pd.DataFrame:
    """The draws (or expected) table of a query from those of its shards, with the record of the whole.

    The result is what one process gives for all patients.

    Parameters
    ----------
    parts : sequence of (name, table, records)
        Each shard's file name, for messages, its table, and the content of its ``.queries.json``.

    Returns
    -------
    DataFrame
        ``attrs["queries"]`` holds the record, ``attrs["skipped"]`` who was left out.

    Raises
    ------
    InputError
        If a part has no record of a shard, is cut short, is of another seed, model or question, or holds a patient that another
        holds.
    UsageError
        If a shard is missing or given twice.
    """
    shards = sorted(
        ((_shard(name, records), name, table, records) for name, table, records in parts), key=lambda one: one[0].number
    )
    first_id, first = next(iter(shards[0][3].items()))
    people: dict[str, str] = {}
    for _, name, table, records in shards:
        query_id, record = next(iter(records.items()))
        _refuse_other_query(shards[0][1], first_id, first, name, query_id, record)
        _refuse_damaged(name, table, record)
        own = [str(person) for person in table["participant_id"].unique()]
        if len(own) != record["participants_answered"] or set(table["query_id"].astype(str)) != {query_id}:
            answered = record["participants_answered"]
            raise InputError(
                f"{name}: holds {len(own)} patients, its record says {answered} of query {query_id}; run its shard again"
            )
        for person in own:
            if person in people:
                raise InputError(f"{name}: participant {person!r} also stands in {people[person]}; give each patient once")
            people[person] = name
    refuse_incomplete([(name, shard) for shard, name, _, _ in shards])
    merged = pd.concat([table for _, _, table, _ in shards], ignore_index=True)
    every = [next(iter(records.values())) for _, _, _, records in shards]
    skipped = [one for record in every for one in record.get("participants_skipped", [])]
    merged.attrs = {"queries": {first_id: _whole(every)}, **({"skipped": skipped} if skipped else {})}
    return merged


def joined(tables: Sequence[pd.DataFrame | dict[str, Any]]) -> pd.DataFrame:
    """All patients' rows; where every patient's are columns the frame is made once, which takes a tenth of a frame for each."""
    of_columns: list[dict[str, Any]] = [table for table in tables if not isinstance(table, pd.DataFrame)]
    if len(of_columns) < len(tables):
        return pd.concat([pd.DataFrame(table) for table in tables], ignore_index=True)
    columns: dict[str, list[Any]] = {}
    done = 0
    for table in of_columns:
        rows = len(table["arm"])
        for name, values in table.items():
            own = columns.setdefault(name, [None] * done)
            own.extend(values if isinstance(values, list | np.ndarray) else [values] * rows)
        done += rows
        for own in columns.values():
            own.extend([None] * (done - len(own)))
    return pd.DataFrame(columns)


def _shard(name: str, records: Mapping[str, Mapping[str, Any]]) -> Shard:
    if len(records) != 1 or "shard" not in next(iter(records.values())):
        raise InputError(f"{name}: its record names no shard; merge tables that were written with `shard`")
    return Shard.read(str(next(iter(records.values()))["shard"]))


def _refuse_damaged(name: str, table: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Refuse a table that lost a column, holds a row twice, or lacks rows of a patient."""
    keys = ["participant_id", "arm", "visit_week", "query_id", *(["draw"] if "draw" in table else [])]
    if lost := [key for key in keys if key not in table]:
        raise InputError(f"{name}: no column {lost[0]!r}; run its shard again")
    if (twice := table.duplicated(keys)).any():
        row = table[twice].iloc[0]
        at = f"participant {row['participant_id']!r} under {row['arm']}, row {int(twice.to_numpy().argmax()) + 1}"
        raise InputError(f"{name}: {at}: stands twice; run its shard again")
    rows = table["participant_id"].value_counts(sort=False)
    if record.get("query") == "interventional" and rows.nunique() > 1:
        few = str(rows.idxmin())
        raise InputError(f"{name}: {rows.min()} rows of participant {few!r}, {rows.max()} of others; run its shard again")


def _refuse_other_query(
    first_name: str, first_id: str, first: Mapping[str, Any], name: str, query_id: str, record: Mapping[str, Any]
) -> None:
    if query_id == first_id:
        return
    keys = [key for key in (*_NAMED_FIRST, *sorted(first)) if key not in _OF_A_SHARD and first.get(key) != record.get(key)]
    what = keys[0] if keys else "query"
    own, other = record.get(what, query_id), first.get(what, first_id)
    raise InputError(f"{name}: {what} is {own}, in {first_name} {other}; merge the shards of one query")


def _whole(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = {key: value for key, value in records[0].items() if key not in _OF_A_SHARD}
    whole["participants_answered"] = sum(int(record["participants_answered"]) for record in records)
    skipped = [one for record in records for one in record.get("participants_skipped", [])]
    missing: Counter[str] = Counter()
    for record in records:
        missing.update(record.get("participants_with_missing_inputs", {}))
    whole |= {"participants_skipped": skipped} if skipped else {}
    return whole | ({"participants_with_missing_inputs": dict(missing)} if missing else {})
