"""CDISC Dataset-JSON 1.1: written and read back whole, other versions and cut files refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.tables import read_table, write_table

TABLE = pd.DataFrame({"USUBJID": ["a", "b", None], "AVAL": [1.5, np.nan, 3.0], "N": [1, 2, 3], "FL": [True, False, True]})


@pytest.mark.parametrize("name", ["adsl.json", "adsl.ndjson"])
def test_a_table_comes_back_with_its_types_and_labels(tmp_path: Path, name: str) -> None:
    labelled = TABLE.copy()
    labelled.attrs = {"labels": {"USUBJID": "Unique Subject Identifier"}}
    again = read_table(write_table(labelled, tmp_path / name))
    assert again["USUBJID"].tolist()[:2] == ["a", "b"]
    assert again["USUBJID"].isna().tolist() == [False, False, True]
    pd.testing.assert_frame_equal(again.drop(columns="USUBJID"), TABLE.drop(columns="USUBJID"))
    assert again["AVAL"].dtype == float
    assert again.attrs["labels"]["USUBJID"] == "Unique Subject Identifier"


def test_the_file_is_as_the_standard_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    about = json.loads(write_table(TABLE, tmp_path / "adsl.json").read_text(encoding="utf-8"))
    assert {"datasetJSONCreationDateTime", "datasetJSONVersion", "itemGroupOID", "records", "name", "label", "columns"} <= set(
        about
    )
    assert (about["datasetJSONCreationDateTime"], about["itemGroupOID"], about["records"]) == (
        "1970-01-01T00:00:00",
        "IG.ADSL",
        3,
    )
    assert [column["dataType"] for column in about["columns"]] == ["string", "double", "integer", "boolean"]
    assert about["rows"][1] == ["b", None, 2, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about | {"datasetJSONVersion": "1.0.0"}, "found '1.0.0', expected a Dataset-JSON of version 1.1"),
        (lambda about: about | {"rows": about["rows"][:2]}, "holds 2 of 3 rows; the file is cut"),
        (lambda about: about | {"rows": [*about["rows"][:2], ["c"]]}, "row 3: found 1 cells, expected 4"),
        (lambda about: {"a": 1}, "no datasetJSONVersion"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, change: object, words: str) -> None:
    place = write_table(TABLE, tmp_path / "adsl.json")
    place.write_text(json.dumps(change(json.loads(place.read_text()))))  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        read_table(place)
