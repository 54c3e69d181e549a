"""What the judging verbs share: reading draws and the observed trial they are judged by."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from causalms.tables import read_table, validate


def read_draws(path: str) -> pd.DataFrame:
    """A draws table, sampled or expected, checked."""
    table = read_table(path)
    return validate(table, "draws" if "draw" in table.columns else "expected", path)


def read_observed(path: str) -> pd.DataFrame:
    """Participants with observed outcomes: a table, or the participants.tsv of a BIDS folder."""
    place = Path(path)
    return read_table(place / "participants.tsv" if place.is_dir() else place)
