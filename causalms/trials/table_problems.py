"""A problem of a trial's folder in one line, and the problems of its tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.tables import LARGEST_VALUES, PARTICIPANTS_COLUMNS, counted, validate
from causalms.trials.bids import LESIONS, week_of_session
from causalms.trials.columns import outcome_week, unit_hint
from causalms.trials.participants import full_name, near_columns, respell_sex

Rank = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do.

    Attributes
    ----------
    where : str
        A file or a participant.
    what : str
        With row and column where it is about a cell.
    mend : str
    rank : {"error", "warning"}
        An error stops the verbs that read the trial; a warning does not, but is most often a slip.

    Examples
    --------
    >>> print(Problem("participants.tsv", "row 3, column 'age': found 564", "correct it"))
    error: participants.tsv: row 3, column 'age': found 564; correct it
    """

    where: str
    what: str
    mend: str
    rank: Rank = "error"

    def __str__(self) -> str:
        return f"{self.rank}: {self.where}: {self.what}; {self.mend}"


def as_problem(error: Exception) -> Problem:
    """An error of a reader (``where: what; mend``) as a problem."""
    where, _, rest = str(error).partition(": ")
    what, _, mend = rest.rpartition("; ")
    return Problem(where, what or rest, mend if what else "correct it")


#: Cells of one column that are named one by one; then they are counted.
_MOST_CELLS = 20


def table_problems(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    """Ids that are missing or stand twice, cells that cannot be, arms of one patient, columns that are not read."""
    yield from _identity(table, file)
    for column in [name for name in PARTICIPANTS_COLUMNS if name in table and name != "participant_id"]:
        yield from _cells(table[column], column, file)
    yield from _outcomes(table, file)
    if {"age", "disease_duration"} <= set(table.columns):
        age, ill = (pd.to_numeric(table[name], errors="coerce") for name in ("age", "disease_duration"))
        for row in np.flatnonzero(ill > age)[:_MOST_CELLS]:
            what = f"row {row + 1}, column 'disease_duration': found {ill.iloc[row]:g} years at age {age.iloc[row]:g}"
            yield Problem(file, what, "correct one of them (both are in years)", "warning")
    if "arm" not in table:
        yield Problem(file, "no column 'arm'", "add it; without arms there is no contrast", "warning")
    else:
        for arm, patients in table["arm"].dropna().value_counts().items():
            if patients == 1:
                row = int(np.flatnonzero(table["arm"] == arm)[0]) + 1
                mend = "correct it if it is misspelt; an effect needs two or more, so merge or leave out the arm"
                yield Problem(file, f"row {row}, column 'arm': arm {arm!r} has one patient", mend, "warning")
    for name, meant in near_columns(table).items():
        yield Problem(file, f"column {name!r} is not read", f"did you mean {meant!r}? rename it", "warning")


def _identity(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    ids = table["participant_id"]
    for row in np.flatnonzero(ids.isna()):
        yield Problem(file, f"row {row + 1}, column 'participant_id': empty", "fill it in")
    named = ids.map(full_name, na_action="ignore")
    for row in np.flatnonzero(named.duplicated() & named.notna()):
        first = int(np.flatnonzero(named == named.iloc[row])[0]) + 1
        what = f"row {row + 1}, column 'participant_id': participant {ids.iloc[row]!r} stands twice (also in row {first})"
        yield Problem(file, what, "keep one row a participant")


def _cells(values: pd.Series, column: str, file: str) -> Iterator[Problem]:
    """Every cell of a column that does not fit the schema of the participants table."""
    known = (respell_sex(values) if column == "sex" else values).astype(object).reset_index(drop=True)
    for _ in range(_MOST_CELLS):
        try:
            validate(_alone(known, column), "participants", file)
        except InputError as error:
            problem = as_problem(error)
            row = re.search(r"\brow (\d+)", problem.what)
            place = "" if row is None else f"row {row[1]}, column {column!r}: "
            named = re.escape(repr(column))
            what = re.sub(rf"column {named}(, row \d+)?: |row \d+(, column {named})?: ", "", problem.what)
            hint = unit_hint(column, values, LARGEST_VALUES.get(column, np.inf))
            yield Problem(file, f"{place or f'column {column!r}: '}{what}", hint or problem.mend)
            if row is None or hint:
                return
            known[int(row[1]) - 1] = None
        else:
            return
    yield Problem(file, f"column {column!r}: more cells than the {_MOST_CELLS} above cannot be", "correct the column")


def _alone(values: pd.Series, column: str) -> pd.DataFrame:
    """A participants table of this column alone; what is missing in it fits."""
    frame = pd.DataFrame({name: pd.Series([None] * len(values), dtype=object) for name in PARTICIPANTS_COLUMNS})
    frame["participant_id"] = [f"sub-{row}" for row in range(len(values))]
    frame["trial"] = "t"
    frame[column] = values.fillna("t") if column == "trial" else values
    return frame.assign(**{column: frame[column].infer_objects()})


def _outcomes(table: pd.DataFrame, file: str) -> Iterator[Problem]:
    """Observed outcomes that are no numbers, negative, or counts that are not whole."""
    for column in [name for name in table.columns if outcome_week(str(name)) is not None]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        counts = "volume" not in str(column)
        wrong = table[column].notna() & (numbers.isna() | (numbers < 0) | np.isinf(numbers) | (counts & (numbers % 1 != 0)))
        expected = "a whole number of lesions" if counts else "a volume of 0 or more"
        for row in np.flatnonzero(wrong)[:_MOST_CELLS]:
            value = table[column].iloc[row]
            shown = repr(value) if isinstance(value, str) else f"{value:.15g}"
            yield Problem(file, f"row {row + 1}, column {column!r}: found {shown}, expected {expected}", "correct it")


def has_folder(root: Path, participant_id: str) -> bool:
    """Whether a participant has a folder of images or of masks."""
    return (root / participant_id).is_dir() or (root / LESIONS / participant_id).is_dir()


def folder_problems(root: Path, file: str, seen: Mapping[str, frozenset[str]]) -> Iterator[Problem]:
    """Participants without a folder, folders without a row, and sessions that tell no week."""
    for row, name in enumerate(seen):
        if not has_folder(root, name):
            what = f"participant {name} (row {row + 1}) has no folder"
            yield Problem(file, what, f"add {root / name} with its images, or remove the row")
    folders = {entry.name for base in (root, root / LESIONS) if base.is_dir() for entry in base.glob("sub-*") if entry.is_dir()}
    for name in sorted(folders - set(seen)):
        yield Problem(str(root / name), f"{name} has no row in participants.tsv, so it is not read", "add its row", "warning")


def week_problems(file: str, table: pd.DataFrame, later: Counter[str]) -> Iterator[Problem]:
    """Follow-up sessions that name no week, and weeks of the table that no session has."""
    weeks = {week for session in later if (week := week_of_session(session))}
    for session, patients in sorted(later.items()):
        if week_of_session(session) is None:
            what = f"names no week, so its masks are not read ({counted(patients, 'participant')})"
            yield Problem(session, what, "name it after its week (ses-w48)", "warning")
    columns = [str(name) for name in table.columns if outcome_week(str(name)) is not None and table[name].notna().any()]
    for column in columns:
        week = outcome_week(column)
        if weeks and week not in weeks:
            there = ", ".join(str(one) for one in sorted(weeks))
            what = f"column {column!r} is of week {week}, the follow-up sessions are of week {there}"
            yield Problem(file, what, "name both after the same week, or add the sessions", "warning")
