"""Read ``participants.tsv`` into the participants table, saying what was missing or respelt."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

import pandas as pd

from causalms.errors import InputError
from causalms.tables import LARGEST_VALUES, PARTICIPANTS_COLUMNS, counted, named_in_full, read_table, validate
from causalms.trials.columns import in_own_units, outcome_week, unit_hint

_TEXT = ("participant_id", "trial", "site", "arm", "sex")
#: Under which first words a column also goes.
_ALSO = {
    "age": ("age", "age_at"),
    "sex": ("gender",),
    "arm": ("treatment", "therapy", "drug", "dmt", "group", "trt"),
    "site": ("centre", "center", "hospital"),
    "edss": ("edss",),
    "disease_duration": ("duration", "ms_duration", "years_since_onset"),
    "relapses_prior_year": ("relapses", "arr", "relapse_count"),
    "gd_lesions": ("gd", "gad", "n_gd", "gdel", "cel"),
    "t2_lesions": ("t2_lesion", "t2_count", "n_t2", "t2_number"),
    "t2_volume_ml": ("lesion_volume", "t2_vol", "t2lv", "lesion_load"),
}
_SEX = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def read_raw_participants(root: Path) -> pd.DataFrame:
    """The table as it stands in the file: text columns as text, ``n/a`` as missing, known columns under their own name.

    Column names are known in any case and with blanks, points or hyphens (``Age``, ``Disease duration``); what was respelt stands
    in ``attrs["respelt"]``.

    Raises
    ------
    InputError
        If the folder or file is missing, is no table, is empty or has no ``participant_id``.
    """
    file = root / "participants.tsv"
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds participants.tsv")
    if not file.is_file():
        other = next(
            (one.name for one in sorted(root.iterdir()) if one.stem.lower() == "participants" and one.suffix != ".json"), None
        )
        mend = f"; save {other} with tabs between its columns under that name" if other else ""
        raise InputError(f"{file}: no such file; a trial needs a participants table (BIDS){mend}")
    table = _known_columns(read_table(file), root)
    if "participant_id" not in table:
        present = ", ".join(map(str, table.columns[:10]))
        raise InputError(f"{file}: no column 'participant_id'; add it as the first one (columns found: {present})")
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
    notes: list[str] = table.attrs.pop("respelt")
    if respelt_ids := identify(table, file):
        notes.append(f"{respelt_ids} of participant_id hold blanks or capitals and are read without")
    if "sex" in table:
        respelt = respell_sex(table["sex"])
        changed = int((respelt.notna() & (respelt != table["sex"])).sum())
        table["sex"] = respelt
        if changed:
            notes.append(f"sex of {counted(changed, 'participant')} was spelt otherwise and is read as F or M")
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
    near = near_columns(table.drop(columns=absent, errors="ignore"))
    notes += [f"column {name!r} is not read as a covariate; did you mean {meant}?" for name, meant in near.items()]
    more = [str(name) for name in others if str(name) not in near and outcome_week(str(name)) is None]
    if more:
        columns = "columns" if len(more) > 1 else "column"
        notes.append(f"no covariates of the model: {columns} {', '.join(more[:12])}{', ...' if len(more) > 12 else ''}")
    try:
        return validate(table[[*PARTICIPANTS_COLUMNS, *others]], "participants", str(file)), notes
    except InputError as error:
        named = [name for name in LARGEST_VALUES if repr(name) in str(error)]
        hints = [hint for name in named if (hint := unit_hint(name, table[name], LARGEST_VALUES[name]))]
        if hints:
            raise InputError(str(error).removesuffix("correct it") + hints[0]) from None
        raise


def full_name(participant_id: object) -> str:
    """An id with its ``sub-`` and without blanks around it.

    Examples
    --------
    >>> [full_name(name) for name in ("01", "sub-01", "SUB-01 ")]
    ['sub-01', 'sub-01', 'sub-01']
    """
    name = str(participant_id).strip()
    return f"sub-{name[4:] if name[:4].lower() == 'sub-' else name}"


def identify(table: pd.DataFrame, file: Path) -> int:
    """Refuse a missing or repeated participant id; how many were spelt otherwise than without ``sub-``."""
    ids = table["participant_id"]
    if ids.isna().any():
        raise InputError(f"{file}: row {int(ids.isna().argmax()) + 1} has no participant_id; fill it in")
    table["participant_id"] = ids.map(full_name)
    twice = table["participant_id"].duplicated()
    if twice.any():
        row = int(twice.argmax())
        name = table["participant_id"].iloc[row]
        raise InputError(f"{file}: row {row + 1}: participant {name!r} stands twice; keep one row a participant")
    return int((~ids.isin(table["participant_id"]) & ~("sub-" + ids).isin(table["participant_id"])).sum())


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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(name).strip().lower()).strip("_")


def _known_columns(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The table with the columns that differ from a known name only in case, blanks, points or hyphens under that name.

    Columns in another unit are converted.
    """
    renamed = {
        name: _plain(name)
        for name in table.columns
        if _plain(name) not in table.columns and (_plain(name) in PARTICIPANTS_COLUMNS or outcome_week(_plain(name)) is not None)
    }
    once = {name: plain for name, plain in renamed.items() if list(renamed.values()).count(plain) == 1}
    table = named_in_full(table.rename(columns=once), list(_TEXT))
    table, converted = in_own_units(table, root)
    table.attrs["respelt"] = [f"column {name!r} is read as {plain}" for name, plain in once.items()] + converted
    return table


def near_columns(table: pd.DataFrame) -> dict[str, str]:
    """Columns that are not read and look like one that is missing, each with the one that may be meant.

    Examples
    --------
    >>> near_columns(pd.DataFrame({"participant_id": ["sub-1"], "t2_lesion": [3], "net2_lesion_week48": [1], "smoker": [0]}))
    {'t2_lesion': 't2_lesions', 'net2_lesion_week48': 'net2_lesions_week48'}
    >>> near_columns(pd.DataFrame({"participant_id": ["sub-1"], "Gender": ["F"], "EDSS_score": [2], "onset_age": [30]}))
    {'Gender': 'sex', 'EDSS_score': 'edss'}
    """
    absent = [name for name in PARTICIPANTS_COLUMNS if name not in table]
    near: dict[str, str] = {}
    for name in map(str, table.columns):
        if name in PARTICIPANTS_COLUMNS or outcome_week(name) is not None:
            continue
        number = re.search(r"\d+$", name)
        outcomes = [f"{kind}_week{number[0]}" for kind in ("net2_lesions", "net2_volume_ml")] if number else []
        wanted = [one for one in [*outcomes, *absent] if one not in table]
        match = difflib.get_close_matches(_plain(name), wanted, 1, 0.75) or [
            meant for meant, words in _ALSO.items() if meant in wanted and re.match(rf"({'|'.join(words)})(_|$)", _plain(name))
        ]
        if match:
            near[name] = match[0]
    return near


def _but_trial(absent: list[str]) -> str:
    return " (trial: with the name of the data set)" if "trial" in absent else ""
