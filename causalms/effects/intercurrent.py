"""Intercurrent events of a long table, by the strategies of ICH E9(R1) under the names of ICH M11."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.visit_data import Visits, long_table
from causalms.errors import InputError, UsageError
from causalms.tables import name_of

STRATEGY_NAMES = ("treatment-policy", "hypothetical", "while-on-treatment", "composite")


@dataclass(frozen=True, kw_only=True)
class IntercurrentEvents:
    """A strategy for intercurrent events, such as stopping treatment or taking another drug.

    Attributes
    ----------
    strategy : {"treatment-policy", "hypothetical", "while-on-treatment", "composite"}
        ``treatment-policy``: counts are used whatever happened. ``hypothetical``: counts after the event are missing, to be
        imputed as if it had not happened. ``while-on-treatment``: time after the event is not at risk. ``composite``: a visit
        after the event counts at least ``composite_count``.
    time : str
        Column with the time of a patient's event, on the scale of the visits; empty for patients without one.
    event : str, optional
        Column that names the event.
    composite_count : float, optional

    Examples
    --------
    >>> IntercurrentEvents(strategy="hypothetical", time="stopped_week").event is None
    True
    """

    strategy: str = "treatment-policy"
    time: str
    event: str | None = None
    composite_count: float | None = None


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
    if events.strategy not in STRATEGY_NAMES:
        raise UsageError(f"`strategy`: found {events.strategy!r}, expected one of {', '.join(STRATEGY_NAMES)}")
    if (events.strategy == "composite") != (events.composite_count is not None):
        raise UsageError("`composite_count` is the count of a visit after the event, of `strategy=composite` and of no other")
    given = columns.column(table, events.time, source)
    known = np.flatnonzero(given.notna().to_numpy())
    times = np.full(len(table), np.inf)
    times[known] = columns.numbers(given, known, events.time, source)
    if (times < 0).any():
        row = int(np.flatnonzero(times < 0)[0])
        raise InputError(
            f"{source}: column {events.time!r}, row {row + 1}: found {name_of(times[row])}, expected a time of at least 0"
        )
    long = long_table(table, visits, source)
    if "\x00stop" not in long:
        raise UsageError("`visit` holds names; intercurrent events need visits as times, such as weeks since randomisation")
    after = long["\x00stop"].to_numpy() > times
    patients = int(long.loc[np.isfinite(times), "\x00patient"].nunique())
    what = "intercurrent event"
    if events.event is not None:
        named = columns.column(table, events.event, source)[np.isfinite(times)].dropna()
        what = " or ".join(sorted(map(name_of, named.unique()))) or what
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
    name = {"composite": "composite variable"}.get(events.strategy, events.strategy.replace("-", " "))
    return changed, f"{what} ({patients} patients): {name} strategy, {how}"
