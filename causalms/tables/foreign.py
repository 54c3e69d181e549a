"""Draws of any simulator: participant, arm, draw and count are enough; the rest is filled in or named in one error."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.tables.cells import plain_numbers, refuse_words_among_numbers, shown
from causalms.tables.keys import name_of, names_of, participant_key
from causalms.tables.schema import DRAWS_KEYS, LARGEST_COUNT
from causalms.tables.stored_draws import TALLY

#: What a simulator's draws must hold; ``count`` may be called ``net2_lesions``.
_NEEDED = ("participant_id", "arm", "draw", "count")
_OBSERVED = re.compile(r"net2_lesions_week(\d+)")
#: Visit week of draws that name none.
NO_VISIT = float("inf")


def is_foreign(table: pd.DataFrame) -> bool:
    """Whether a table is of draws, one row a patient, arm and draw, without the columns that causalms itself writes."""
    counts = {"count", "net2_lesions"} & set(table.columns)
    return {"participant_id", "arm", "draw"} <= set(table.columns) and bool(counts) and not set(DRAWS_KEYS) <= set(table.columns)


def completed_draws(
    draws: pd.DataFrame, participants: pd.DataFrame | None = None, week: float | None = None, source: str = "draws"
) -> pd.DataFrame:
    """A draws table with every key column, made of the draws of any simulator; a complete table is returned as it is.

    Parameters
    ----------
    draws : DataFrame
        ``participant_id``, ``arm``, ``draw`` and ``count`` (or ``net2_lesions``); ``visit_week``, ``trial`` and
        ``arm_randomised`` where known.  Expected tables are left alone.
    participants : DataFrame, optional
        Tells the arm each patient was randomised to, the trial, and the visit, if it holds one ``net2_lesions_week48``.
    week : float, optional
        The visit of all rows, where the draws name none.
    source : str
        Name of the draws in messages.

    Raises
    ------
    InputError
        Naming all columns that are missing, or the first ``count`` that is no count.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": ["a", "a"], "arm": ["p", "d"], "draw": 0, "count": [3, 1]})
    >>> completed_draws(rows, week=48)[["net2_lesions", "visit_week", "query"]].to_dict("records")[0]
    {'net2_lesions': 3, 'visit_week': 48.0, 'query': 'interventional'}
    >>> completed_draws(rows.drop(columns=["arm", "count"]), source="mine.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: mine.csv: no columns 'arm', 'count'; draws need participant_id, arm, draw and count
    """
    if "expected_net2_lesions" in draws or {*DRAWS_KEYS, "draw"} <= set(draws.columns):
        return draws
    named = draws if {"net2_lesions", TALLY} & set(draws) else _with_counts(draws, source)
    needed = () if TALLY in named else _NEEDED
    if missing := [name for name in needed if (name if name != "count" else "net2_lesions") not in named]:
        words = f"no column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
        raise InputError(f"{source}: {words}; draws need participant_id, arm, draw and count")
    people = None if participants is None or not {"participant_id", "arm"} <= set(participants.columns) else participants
    filled = {"query": "interventional", "query_id": "not given", "trial": "the trial"}
    table = named.assign(**{name: value for name, value in filled.items() if name not in named})
    if "visit_week" not in table:
        table = table.assign(visit_week=_visit(people, week, source))
    if people is not None:
        table = _of_people(table, people, "trial" not in named)
    return table if "arm_randomised" in table else table.assign(arm_randomised="not given")


def _with_counts(draws: pd.DataFrame, source: str) -> pd.DataFrame:
    """The draws with ``net2_lesions`` beside their ``count``, whose cells are judged here, under their owner's name for them."""
    if "count" not in draws:
        return draws
    refuse_words_among_numbers(draws["count"], source)
    counts = plain_numbers(draws["count"])
    wrong = ~((counts >= 0) & (counts <= LARGEST_COUNT) & (counts % 1 == 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        cell, at = draws["count"].iloc[row], f"{source}: column 'count', row {row + 1}"
        if pd.isna(cell):
            raise InputError(f"{at}: is empty, expected a value; fill it in or leave the row out")
        raise InputError(f"{at}: found {shown(cell)}, expected a whole number, 0 to {LARGEST_COUNT:,.0f}; correct it")
    return draws.assign(net2_lesions=draws["count"])


def columns_given(table: pd.DataFrame) -> list[str]:
    """Names of columns for a message: of counts that came as ``count``, that name and not the one they have here.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": ["a", "a"], "arm": ["p", "d"], "draw": 0, "count": [3, 1]})
    >>> columns_given(completed_draws(rows, week=48))[:4]
    ['participant_id', 'arm', 'draw', 'count']
    """
    renamed = {"count", "net2_lesions"} <= set(table.columns) and table["count"].equals(table["net2_lesions"])
    return [str(name) for name in table.columns if not (renamed and name == "net2_lesions")]


def _visit(people: pd.DataFrame | None, week: float | None, source: str) -> float:
    """The visit named, or the only one that was observed."""
    if week is not None or people is None:
        return NO_VISIT if week is None else float(week)
    weeks = sorted(int(match[1]) for name in people.columns if (match := _OBSERVED.fullmatch(str(name))))
    if len(weeks) == 1:
        return float(weeks[0])
    found = f"counts were observed at weeks {', '.join(map(str, weeks))}" if weeks else "no net2_lesions_week48 was observed"
    raise InputError(f"{source}: no column 'visit_week', and {found}; name the visit of the draws with `week`")


def _of_people(table: pd.DataFrame, people: pd.DataFrame, with_trial: bool) -> pd.DataFrame:
    """The arm that each patient was given and, where it is asked for and known, the trial."""
    keyed = people.assign(key=participant_key(people["participant_id"])).drop_duplicates("key").set_index("key")
    keys, values = participant_key(table["participant_id"]), {}
    if "arm_randomised" not in table:
        known = names_of(keyed["arm"]).reindex(keys).to_numpy(object)
        values["arm_randomised"] = np.where(pd.isna(known), "not given", known)
    if with_trial and "trial" in people:
        known = names_of(keyed["trial"]).reindex(keys).to_numpy(object)
        values["trial"] = np.where(pd.isna(known), "the trial", known)
    return table.assign(**values)


def of_one_trial(participants: pd.DataFrame) -> pd.DataFrame:
    """The same patients, of one trial where no column says of which.

    Examples
    --------
    >>> of_one_trial(pd.DataFrame({"participant_id": ["a"]}))["trial"].tolist()
    ['the trial']
    """
    return participants if "trial" in participants else participants.assign(trial="the trial")


def visit_words(week: float) -> str:
    """A visit in words.

    Examples
    --------
    >>> visit_words(48.0), visit_words(NO_VISIT)
    ('week 48', 'a visit that is not named')
    """
    return "a visit that is not named" if week == NO_VISIT else f"week {name_of(week)}"
