"""What the verbs share: the tables they read."""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from causalms.errors import InputError
from causalms.tables import read_table, validate

#: Which session of a BIDS folder is baseline, for every verb that reads scans.
baseline_option = click.option(
    "--baseline", metavar="SESSION", help="Session of the baseline scans.  [default: told by names, dates or numbers, and said]"
)


def read_draws(path: str) -> pd.DataFrame:
    """A draws table, sampled or expected, checked."""
    table = read_table(path)
    return validate(table, "draws" if "draw" in table.columns else "expected", path)


def read_observed(path: str) -> pd.DataFrame:
    """Participants with observed outcomes: a table, or the participants.tsv of a BIDS folder."""
    place = Path(path)
    return read_table(place / "participants.tsv" if place.is_dir() else place)


def table_at(place: str | Path) -> Path:
    """The table that a path means: the file itself, or participants.tsv of a BIDS folder.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(place)
    if path.is_dir():
        if not (path / "participants.tsv").is_file():
            raise InputError(f"{path}: a folder without participants.tsv; give a BIDS folder or the table itself")
        return path / "participants.tsv"
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give a table, or a BIDS folder that holds participants.tsv")
    return path


def of_trial(rows: pd.DataFrame, trial: str | None, source: str) -> pd.DataFrame:
    """The rows of one trial, or all where none is named."""
    if trial is None:
        return rows
    if "trial" not in rows or trial not in set(rows["trial"].astype(str)):
        found = ", ".join(sorted(rows["trial"].astype(str).unique())) if "trial" in rows else "no column of trials"
        raise InputError(f"{source}: no trial {trial!r}; trials found: {found}")
    return rows[rows["trial"].astype(str) == trial].reset_index(drop=True)
