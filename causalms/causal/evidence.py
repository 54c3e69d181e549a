"""What a query reads from a trial: a patient's row and the factual outcome; a bare participants table counts as a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal.mechanism import Mechanism, Outcome
from causalms.errors import InputError, RefusalError, UsageError, near_name
from causalms.tables import as_frame, name_of, net2_column, validate


@dataclass(frozen=True)
class TableTrial:
    """A trial of which only the participants table is known: enough for mechanisms that need no images.

    Attributes
    ----------
    participants : DataFrame
    name : str
    notes : tuple of str
        As of a trial with scans: what was filled or left out when it was read.
    """

    participants: pd.DataFrame = field(repr=False)
    name: str = "participants"
    notes: tuple[str, ...] = ()


def as_trial(trial: Any) -> Any:
    """Give a trial: a :class:`causalms.trials.Trial` as it is, a participants table wrapped.

    Raises
    ------
    InputError
        If a table does not have the participants schema.

    Examples
    --------
    >>> as_trial(pd.DataFrame({"participant_id": ["a"]}))
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: participants: no column 'arm'; add it (columns found: participant_id)
    """
    if hasattr(trial, "columns"):
        return TableTrial(validate(as_frame(trial), "participants", "participants"))
    if not hasattr(trial, "participants"):
        raise InputError(f"a trial or a participants table is needed, found {type(trial).__name__}; load it with load_trial")
    return trial


def participant_row(trial: Any, participant_id: str) -> dict[str, Any]:
    """One patient's row of the participants table.

    Raises
    ------
    InputError
        If there is no such participant_id.
    """
    table = trial.participants
    rows = np.flatnonzero((table["participant_id"] == participant_id).to_numpy())
    if len(rows) == 0:
        raise InputError(f"participants: unknown participant_id {participant_id!r}; check it")
    return dict(zip(table.columns, table.iloc[int(rows[0])].tolist(), strict=True))


def chosen_participants(trial: Any, participants: Sequence[str] | None = None) -> list[str]:
    """The participants of a query: those named, or everybody in the order of the table.

    Raises
    ------
    UsageError
        If an id is not in the table.
    """
    known = [str(p) for p in trial.participants["participant_id"]]
    if participants is None:
        return known
    unknown = [p for p in participants if p not in set(known)]
    if unknown:
        near = near_name(f"sub-{unknown[0].removeprefix('sub-')}", known)
        raise UsageError(f"unknown participant_id {unknown[0]!r}; {near or 'check `participants`'}")
    return list(participants)


def factual_outcome(mechanism: Mechanism, trial: Any, participant_id: str, week: float) -> Outcome:
    """The outcome that was seen at a visit: a measured mask where the mechanism knows masks, else count and volume.

    Raises
    ------
    RefusalError
        If there is none.
    """
    if "mask" in mechanism.capabilities:
        return mechanism.measure(factual_mask(trial, participant_id, week))
    return factual_counts(trial, participant_id, week)


def factual_mask(trial: Any, participant_id: str, week: float) -> npt.NDArray[np.bool_]:
    """The NET2 mask that was seen at a visit.

    Raises
    ------
    RefusalError
        If there is none: a counterfactual needs its evidence.
    """
    _whole_week(week)
    mask = trial.mask(participant_id, "NET2", int(week)) if hasattr(trial, "mask") else None
    if mask is None:
        raise RefusalError(f"participant {participant_id}: no NET2 mask at week {name_of(week)}, so {_NO_EVIDENCE}")
    return np.asarray(mask, dtype=bool)


def factual_counts(trial: Any, participant_id: str, week: float) -> Outcome:
    """The NET2 count and volume of the participants table at a visit.

    Raises
    ------
    RefusalError
        If either is missing: a counterfactual needs its evidence.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": ["a"], "net2_lesions_week48": [2.0], "net2_volume_ml_week48": [0.1]})
    >>> factual_counts(TableTrial(table), "a", 48)
    Outcome(lesions=2.0, volume_ml=0.1, region_lesions=None)
    """
    _whole_week(week)
    row = participant_row(trial, participant_id)
    outcomes = []
    for outcome in ("net2_lesions", "net2_volume_ml"):
        column = net2_column(int(week), outcome)
        value = row.get(column)
        if value is None or pd.isna(value):
            raise RefusalError(f"participant {participant_id}: no {column!r}, so {_NO_EVIDENCE}")
        outcomes.append(float(value))
        if not outcomes[-1] >= 0 or (outcome == "net2_lesions" and outcomes[-1] % 1):
            raise InputError(
                f"participants: participant {participant_id}: column {column!r} holds {value}; expected "
                f"{'a whole number' if outcome == 'net2_lesions' else 'a number'} at least 0: correct it"
            )
    return Outcome(outcomes[0], outcomes[1])


def _whole_week(week: float) -> None:
    if week != int(week):
        raise UsageError(
            f"evidence at week {name_of(week)}: visits are at whole weeks; give the week of a visit as evidence_week"
        )


_NO_EVIDENCE = "there is no evidence to condition on; leave such patients out (`missing=skip`) or ask for do()"
