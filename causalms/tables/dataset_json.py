"""CDISC Dataset-JSON 1.1 in and out: one file (.json), or a line a record (.ndjson)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError

SUFFIXES = (".json", ".ndjson")
_VERSION, _NUMBERS = "1.1.0", ("integer", "float", "double", "decimal")
_MEND = "export it again as Dataset-JSON 1.1"


def read_dataset_json(path: Path) -> pd.DataFrame:
    """Read a dataset; labels of its variables stand in ``attrs["labels"]``.

    Raises
    ------
    InputError
        Another version or kind of JSON, or a number of rows or cells other than it says.

    References
    ----------
    CDISC (2024), Dataset-JSON 1.1.
    """
    text = path.read_text(encoding="utf-8-sig")
    try:
        if path.suffix.lower() == ".ndjson":
            about, *rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            about = json.loads(text)
            rows = about.get("rows", []) if isinstance(about, dict) else []
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); {_MEND}") from None
    if not isinstance(about, dict) or not str(about.get("datasetJSONVersion", "")).startswith("1.1"):
        found = about.get("datasetJSONVersion", "no datasetJSONVersion") if isinstance(about, dict) else "a list"
        raise InputError(f"{path}: found {found!r}, expected a Dataset-JSON of version 1.1; {_MEND}")
    columns = about.get("columns")
    if not isinstance(columns, list) or not all(isinstance(one, dict) and {"name", "dataType"} <= set(one) for one in columns):
        raise InputError(f"{path}: no columns with name and dataType; {_MEND}")
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            size = len(row) if isinstance(row, list) else "no list of"
            raise InputError(
                f"{path}: row {place}: found {size} cells, expected {len(columns)}; the file is cut or damaged; {_MEND}"
            )
    if about.get("records", len(rows)) != len(rows):
        raise InputError(f"{path}: holds {len(rows)} of {about['records']} rows; the file is cut or damaged; {_MEND}")
    table = pd.DataFrame(rows, columns=[one["name"] for one in columns], dtype=object)
    for one in columns:
        values = table[one["name"]]
        if one["dataType"] in _NUMBERS:
            table[one["name"]] = pd.to_numeric(values, errors="coerce")
        elif one["dataType"] == "boolean":
            table[one["name"]] = values.astype(bool) if values.notna().all() else values
        else:
            table[one["name"]] = values.where(values != "", None)
    table.attrs["labels"] = {one["name"]: one.get("label", one["name"]) for one in columns}
    return table


def dataset_json(table: pd.DataFrame, path: Path) -> str:
    """The text of a dataset named by the file, by the ending of ``path`` in one object or a line a record.

    Numbers that are missing are null.  The creation time is now, or that of ``SOURCE_DATE_EPOCH``.
    """
    name, labels = path.stem.upper(), dict(table.attrs.get("labels", {}))
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    when = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    from causalms import __version__

    about: dict[str, Any] = {
        "datasetJSONCreationDateTime": when.strftime("%Y-%m-%dT%H:%M:%S"),
        "datasetJSONVersion": _VERSION,
        "originator": "causalms",
        "sourceSystem": {"name": "causalms", "version": __version__},
        "itemGroupOID": f"IG.{name}",
        "records": len(table),
        "name": name,
        "label": str(table.attrs.get("label", name)),
        "columns": [_column(table[one], name, labels) for one in table.columns],
    }
    cells = [[_cell(value) for value in table[one].tolist()] for one in table.columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    if path.suffix.lower() == ".ndjson":
        return "\n".join(json.dumps(one, ensure_ascii=False) for one in (about, *rows)) + "\n"
    return json.dumps(about | {"rows": rows}, ensure_ascii=False) + "\n"


def _column(values: pd.Series, dataset: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Description of a variable."""
    name = str(values.name)
    found: dict[str, Any] = {"itemOID": f"IT.{dataset}.{name}", "name": name, "label": labels.get(name, name)}
    if pd.api.types.is_bool_dtype(values):
        return found | {"dataType": "boolean"}
    if pd.api.types.is_integer_dtype(values):
        return found | {"dataType": "integer"}
    if pd.api.types.is_numeric_dtype(values):
        return found | {"dataType": "double"}
    longest = max((len(str(value)) for value in values.dropna()), default=1)
    return found | {"dataType": "string", "length": max(longest, 1)}


def _cell(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, np.generic):
        return _cell(value.item())
    return value if isinstance(value, (bool, int, float, str)) else str(value)
