"""Read ``participants.tsv`` into the participants table, saying what was missing or respelt."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from causalms.errors import InputError
from causalms.tables import PARTICIPANTS_COLUMNS, validate

_TEXT = ("participant_id", "trial", "site", "arm", "sex")
_MISSING = ["", "n/a", "N/A", "NA", "nan", "NaN"]
_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def read_raw_participants(root: Path) -> pd.DataFrame:
    """The table as it stands in the file: text columns as text, ``n/a`` as missing.

    Raises
    ------
    InputError
        If the folder or file is missing, is no table, is empty or has no ``participant_id``.
    """
    file = root / "participants.tsv"
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds participants.tsv")
    if not file.is_file():
        raise InputError(f"{file}: no such file; a trial needs a participants table (BIDS)")
    try:
        kinds = dict.fromkeys(_TEXT, str)
        table = pd.read_csv(file, sep="\t", dtype=kinds, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not a readable tab-separated table ({reason}); export it again") from error
    if "participant_id" not in table:
        found = ", ".join(map(str, table.columns[:10]))
        raise InputError(f"{file}: no column 'participant_id'; add it as the first one (columns found: {found})")
    if table.empty:
        raise InputError(f"{file}: holds no participants; add one row a participant")
    return table


def read_participants(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The checked participants table and what had to be filled or respelt, in words.

    Raises
    ------
    InputError
        If the table cannot be read, an id is missing or stands twice, or a column does not fit its schema.
    """
    file = root / "participants.tsv"
    table = read_raw_participants(root)
    notes: list[str] = []
    identify(table, file)
    if "sex" in table:
        respelt = respell_sex(table["sex"])
        changed = int((respelt.notna() & (respelt != table["sex"])).sum())
        table["sex"] = respelt
        if changed:
            notes.append(f"sex of {changed} participants was spelt otherwise and is read as F or M")
    absent = [name for name in PARTICIPANTS_COLUMNS if name not in table]
    if "trial" in absent:
        table["trial"] = dataset_name(root)
    for name in absent:
        if name != "trial":
            table[name] = pd.Series([None] * len(table), dtype=object if name in _TEXT else float)
    if absent:
        notes.append(f"participants.tsv has no column {', '.join(absent)}: filled with missing values" + _but_trial(absent))
    table["trial"] = table["trial"].fillna(dataset_name(root))
    others = [name for name in table.columns if name not in PARTICIPANTS_COLUMNS]
    return validate(table[[*PARTICIPANTS_COLUMNS, *others]], "participants", str(file)), notes


def identify(table: pd.DataFrame, file: Path) -> None:
    """Refuse a missing or repeated participant id; put ``sub-`` before ids that lack it."""
    ids = table["participant_id"]
    if ids.isna().any():
        raise InputError(f"{file}: row {int(ids.isna().argmax()) + 1} has no participant_id; fill it in")
    table["participant_id"] = ids.where(ids.str.startswith("sub-"), "sub-" + ids)
    twice = table["participant_id"].duplicated()
    if twice.any():
        row = int(twice.argmax())
        name = table["participant_id"].iloc[row]
        raise InputError(f"{file}: row {row + 1}: participant {name!r} stands twice; keep one row a participant")


def respell_sex(sex: pd.Series) -> pd.Series:
    """Known spellings as F and M; others stay as they are, for the schema to refuse."""
    return sex.map(lambda value: value if pd.isna(value) else _SEX.get(str(value).strip().lower(), value))


def dataset_name(root: Path) -> str:
    """Name in ``dataset_description.json``, or that of the folder."""
    file = root / "dataset_description.json"
    try:
        name = json.loads(file.read_text(encoding="utf-8")).get("Name")
    except (OSError, ValueError, AttributeError):
        name = None
    return str(name) if name else root.resolve().name


def _but_trial(absent: list[str]) -> str:
    return " (trial: with the name of the data set)" if "trial" in absent else ""
