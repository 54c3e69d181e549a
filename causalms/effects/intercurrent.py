"""Intercurrent events by the strategies of ICH E9(R1), under the names of ICH M11: of a long table, or of one row a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.visit_data import Visits, long_table
from causalms.errors import InputError, UsageError
from causalms.stats import Array
from causalms.tables import name_of, names_of

STRATEGY_NAMES = ("treatment-policy", "hypothetical", "while-on-treatment", "composite")
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, kw_only=True)
class IntercurrentEvents:
    """A strategy for intercurrent events, such as stopping treatment or taking another drug.

    Attributes
    ----------
    strategy : {"treatment-policy", "hypothetical", "while-on-treatment", "composite"}
        ``treatment-policy``: outcomes are used whatever happened. ``hypothetical``: outcomes after the event are missing, to be
        imputed or weighted as if it had not happened. ``while-on-treatment``: time after the event is not at risk. ``composite``:
        an outcome after the event counts at least ``composite_count``.
    time : str, optional
        Column with the time of a patient's event, empty for patients without one: on the scale of the visits or of the time at
        risk, or a date where ``since`` is named.
    event : str, optional
        Column that names the event; one row a patient needs no ``time`` beside it, but for ``while-on-treatment``.
    only : str, optional
        The strategy is for events of this name; others are left as they are.
    since : str, optional
        Column with the date of randomisation; ``time`` then holds dates, read as years since.
    until : str, optional
        Of ``while-on-treatment`` and one row a patient: column with the outcome until the event.
    composite_count : float, optional

    Examples
    --------
    >>> IntercurrentEvents(strategy="hypothetical", time="stopped_week").event is None
    True
    """

    strategy: str = "treatment-policy"
    time: str | None = None
    event: str | None = None
    only: str | None = None
    since: str | None = None
    until: str | None = None
    composite_count: float | None = None


def _checked(events: IntercurrentEvents) -> None:
    if events.strategy not in STRATEGY_NAMES:
        raise UsageError(f"`strategy`: found {events.strategy!r}, expected one of {', '.join(STRATEGY_NAMES)}")
    if (events.strategy == "composite") != (events.composite_count is not None):
        raise UsageError("`composite_count` is the least outcome after the event, of `strategy=composite` and of no other")
    if events.time is None and events.event is None:
        raise UsageError("intercurrent events need their column: name `time`, or `event`")


def _event_times(table: pd.DataFrame, events: IntercurrentEvents, source: str) -> tuple[Array, np.ndarray, str]:
    """Times of the events (infinite where there is none, NaN where unknown), who has one, and what it is called."""
    named = None if events.event is None else names_of(columns.column(table, events.event, source))
    if events.time is None:
        assert named is not None
        times = np.where(named.notna(), np.nan, np.inf)
    else:
        times = _times(table, events.time, events.since, source)
        if named is not None and (without := named.notna().to_numpy() & ~np.isfinite(times)).any():
            row = int(np.flatnonzero(without)[0])
            raise InputError(f"{source}: row {row + 1}: has the event {named.iloc[row]!r} and no {events.time}; give its time")
    if named is not None and events.only is not None:
        if events.only not in (kinds := set(named.dropna())):
            raise InputError(f"{source}: column {events.event!r} has no {events.only!r}; it has {', '.join(sorted(kinds))}")
        times = np.where(named == events.only, times, np.inf)
    happened = times < np.inf
    happened |= np.isnan(times)
    called = sorted(set(named[happened].dropna())) if named is not None else []
    return times, happened, " or ".join(called) or "intercurrent event"


def _times(table: pd.DataFrame, name: str, since: str | None, source: str) -> Array:
    """Numbers of a column, infinite where it is empty; years since randomisation where it holds dates."""
    given = columns.column(table, name, source)
    known = np.flatnonzero(given.notna().to_numpy())
    times = np.full(len(table), np.inf)
    if since is None:
        times[known] = columns.numbers(given, known, name, source)
    else:
        start = columns.column(table, since, source)
        for row in known:
            try:
                days = float((pd.Timestamp(str(given.iloc[row])) - pd.Timestamp(str(start.iloc[row]))).days)
            except ValueError:
                raise InputError(
                    f"{source}: row {row + 1}: found {name} {given.iloc[row]!r} and {since} {start.iloc[row]!r}, expected dates "
                    "such as 2026-03-31"
                ) from None
            times[row] = days / DAYS_PER_YEAR
    if (times < 0).any():
        below = int(np.flatnonzero(times < 0)[0])
        raise InputError(
            f"{source}: column {name!r}, row {below + 1}: found {name_of(times[below])}, expected a time of at least 0"
        )
    return times


def _in_words(strategy: str, what: str, patients: int, how: str) -> str:
    name = {"composite": "composite variable"}.get(strategy, strategy.replace("-", " "))
    return f"{what} ({patients} patients): {name} strategy, {how}"


def patients_with_strategy(
    table: pd.DataFrame, outcome: str, exposure: str | None, events: IntercurrentEvents, source: str
) -> tuple[pd.DataFrame, str]:
    """The table of one row a patient as the strategy has it, and the strategy in the words of an estimand.

    An event at or after the end of the time at risk changes nothing.

    Raises
    ------
    UsageError
        An unknown strategy, a composite without its count, or ``while-on-treatment`` without times and outcomes until the event.
    InputError
        A time below 0, or an event without one.

    References
    ----------
    ICH E9(R1) (2019); ICH M11 (2025), Clinical electronic structured harmonised protocol, section 3.

    Examples
    --------
    >>> table = pd.DataFrame({"y": [4.0, 2], "years": [2.0, 2], "stopped": [0.5, None], "before": [1.0, None]})
    >>> events = IntercurrentEvents(strategy="while-on-treatment", time="stopped", until="before")
    >>> patients_with_strategy(table, "y", "years", events, "table")[0][["y", "years"]].values.tolist()
    [[1.0, 0.5], [2.0, 2.0]]
    """
    _checked(events)
    times, happened, what = _event_times(table, events, source)
    if exposure is not None:
        followed = pd.to_numeric(columns.column(table, exposure, source), errors="coerce").to_numpy(float)
        happened &= ~(times >= np.nan_to_num(followed, nan=np.inf))
    values = columns.column(table, outcome, source)
    changed, patients = table.copy(), int(happened.sum())
    if events.strategy == "hypothetical":
        changed[outcome] = values.where(~happened)
        return changed, _in_words(events.strategy, what, patients, "as if it had not happened; these outcomes are not used")
    if events.strategy == "composite":
        least = float(events.composite_count or 0)
        rows = np.flatnonzero(happened & values.notna().to_numpy())
        counted = np.full(len(table), least)
        counted[rows] = np.maximum(columns.numbers(values, rows, outcome, source), least)
        changed[outcome] = values.where(~happened, counted)
        return changed, _in_words(events.strategy, what, patients, f"an outcome after it counts at least {name_of(least)}")
    if events.strategy == "while-on-treatment":
        if events.until is None or events.time is None:
            raise UsageError("`strategy=while-on-treatment` needs each event's `time`, and the outcome before it: name `until`")
        changed[outcome] = values.where(~happened, columns.column(table, events.until, source))
        if exposure is not None:
            changed[exposure] = changed[exposure].where(~happened, np.where(times > 0, times, np.nan))
        return changed, _in_words(events.strategy, what, patients, "outcomes until the event")
    return changed, _in_words(events.strategy, what, patients, "outcomes used whatever happened")


def with_strategy(
    table: pd.DataFrame, outcome: str, visits: Visits, events: IntercurrentEvents, source: str
) -> tuple[pd.DataFrame, str]:
    """The long table as the strategy has it, and the strategy in the words of an estimand.

    A row whose interval holds the event is one after it: its count cannot be divided.

    Raises
    ------
    UsageError
        An unknown strategy, a composite without its count, or visits that are names.
    InputError
        A time below 0.

    References
    ----------
    ICH E9(R1) (2019); ICH M11 (2025), Clinical electronic structured harmonised protocol, section 3.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": ["a"] * 3, "visit_week": [12, 24, 36], "y": [1.0, 2, 5], "stopped": [20.0] * 3})
    >>> events = IntercurrentEvents(strategy="while-on-treatment", time="stopped")
    >>> with_strategy(table, "y", Visits(), events, "table")[0]["y"].tolist()
    [1.0]
    """
    _checked(events)
    if events.time is None or events.until is not None or events.since is not None:
        raise UsageError(
            "visits need the `time` of each event as the visits have it; `until` and `since` are for one row a patient"
        )
    times, _, what = _event_times(table, events, source)
    long = long_table(table, visits, source)
    if "\x00stop" not in long:
        raise UsageError("`visit` holds names; intercurrent events need visits as times, such as weeks since randomisation")
    after = long["\x00stop"].to_numpy() > times
    patients = int(long.loc[np.isfinite(times), "\x00patient"].nunique())
    changed = table.copy()
    if events.strategy == "while-on-treatment":
        changed = table[~after].reset_index(drop=True)
        how = "counts until the event"
    elif events.strategy == "hypothetical":
        changed[outcome] = columns.column(table, outcome, source).where(~after)
        how = "as if it had not happened; counts after it are not used"
    elif events.strategy == "composite":
        least = float(events.composite_count or 0)
        counted = columns.column(table, outcome, source)
        changed[outcome] = counted.where(~after, np.maximum(counted.astype(float).fillna(0.0), least))
        how = f"a visit after the event counts at least {name_of(least)}"
    else:
        how = "counts used whatever happened"
    return changed, _in_words(events.strategy, what, patients, how)
