"""Intercurrent events on the command line: their columns, and a strategy for each kind of event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from causalms.effects import STRATEGY_NAMES, Design, IntercurrentEvents, Visits, patients_with_strategy, with_strategy
from causalms.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


@dataclass(frozen=True)
class Events:
    """Columns of intercurrent events, and the strategies for them: one for all, or ``EVENT=STRATEGY`` for each kind."""

    time: str | None
    event: str | None
    strategy: tuple[str, ...]
    composite_count: float | None
    since: str | None = None
    until: str | None = None

    @property
    def named(self) -> bool:
        """Whether a column of events was given."""
        return self.time is not None or self.event is not None

    def chosen(self) -> list[IntercurrentEvents]:
        """The strategies in the order given; treatment policy where none is."""
        if not self.named:
            rest = (self.strategy, self.composite_count, self.since, self.until)
            if any(value not in (None, ()) for value in rest):
                raise UsageError("--strategy and what goes with it need the column of the events: --event-time, or --event")
            return []
        parts = [text.rpartition("=") for text in self.strategy or ("treatment-policy",)]
        kinds = [kind.strip() for kind, _, _ in parts]
        if len(set(kinds)) < len(kinds) or (len(kinds) > 1 and "" in kinds) or (any(kinds) and self.event is None):
            raise UsageError(
                "--strategy: give one strategy for all events, or EVENT=STRATEGY for each kind, with --event naming their column"
            )
        for _, _, name in parts:
            if name not in STRATEGY_NAMES:
                raise UsageError(f"--strategy: found {name!r}, expected one of {', '.join(STRATEGY_NAMES)}, or EVENT=STRATEGY")
        if self.composite_count is not None and all(name != "composite" for _, _, name in parts):
            raise UsageError("--composite-count is the least outcome after the event, of --strategy composite")
        return [
            IntercurrentEvents(
                strategy=name,
                time=self.time,
                event=self.event,
                only=kind or None,
                since=self.since,
                until=self.until,
                composite_count=self.composite_count if name == "composite" else None,
            )
            for kind, (_, _, name) in zip(kinds, parts, strict=True)
        ]

    def includes(self, strategy: str) -> bool:
        """Whether a strategy is among those named."""
        return any(one.strategy == strategy for one in self.chosen())

    def of_patients(
        self, patients: pd.DataFrame, outcome: str, exposure: str | None, design: Design, handles_missing: bool
    ) -> tuple[pd.DataFrame, Design]:
        """One row a patient as the strategies have it, and the design with the strategies in words."""
        if self.includes("hypothetical") and not handles_missing:
            raise UsageError(
                "--strategy hypothetical sets outcomes after the event missing; say how they are had with --missing (ipw, "
                "multiple-imputation or jump-to-reference)"
            )
        return self._each(
            patients, design, lambda table, one: patients_with_strategy(table, outcome, exposure, one, design.source)
        )

    def of_visits(
        self, patients: pd.DataFrame, outcome: str, visits: Visits, design: Design, imputes: bool
    ) -> tuple[pd.DataFrame, Design]:
        """A long table as the strategies have it, and the design with the strategies in words."""
        if self.includes("hypothetical") and not imputes:
            raise UsageError(
                "--strategy hypothetical sets counts after the event missing; say how they are had with --impute or --ipcw-given"
            )
        return self._each(patients, design, lambda table, one: with_strategy(table, outcome, visits, one, design.source))

    def _each(
        self,
        patients: pd.DataFrame,
        design: Design,
        applied: Callable[[pd.DataFrame, IntercurrentEvents], tuple[pd.DataFrame, str]],
    ) -> tuple[pd.DataFrame, Design]:
        """The table after every strategy in turn, and the design with the strategies in words."""
        words = []
        for one in self.chosen():
            patients, sentence = applied(patients, one)
            words.append(sentence)
        return patients, replace(design, intercurrent_events="; ".join(words)) if words else design


def event_options(one_row: bool) -> Callable[[_Verb], _Verb]:
    """Options of :class:`Events`; of a table of one row a patient also dates and outcomes until the event."""

    def declare(verb: _Verb) -> _Verb:
        options = [
            click.option("--composite-count", type=float, help="With --strategy composite: least outcome after the event."),
            click.option("--strategy", multiple=True, metavar="STRATEGY",
                         help=f"How intercurrent events are handled (ICH E9(R1)): {', '.join(STRATEGY_NAMES)}; or EVENT=STRATEGY "
                              "for each kind.  [default: treatment-policy]"),
            click.option("--event", help="Column that names the intercurrent event, empty where there was none."),
            click.option("--event-time", "time", help="Column with the time of a patient's intercurrent event, empty if none."),
        ]  # fmt: skip
        if one_row:
            options = [
                click.option("--until-event", "until", help="Of while-on-treatment: column of the outcome until the event."),
                click.option("--event-since", "since", help="Column of the date of randomisation, if --event-time holds dates."),
                *options,
            ]
        for option in options:
            verb = option(verb)
        return verb

    return declare
