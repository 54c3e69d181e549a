"""What a query reads from a trial: one patient's row and the factual outcome; a bare participants table counts as a trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError, RefusalError
from causalms.scm.mechanism import Outcome
from causalms.tables import REGIONS, net2_column, validate


@dataclass(frozen=True)
class TableTrial:
    """A trial of which only the participants table is known: enough for mechanisms that need no images.

    Attributes
    ----------
    participants : DataFrame
    name : str
    """

    participants: pd.DataFrame = field(repr=False)
    name: str = "participants"


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
    causalms.errors.InputError: participants: no column 'trial'; add it (columns found: participant_id)
    """
    if isinstance(trial, pd.DataFrame):
        return TableTrial(validate(trial, "participants", "participants"))
    if not hasattr(trial, "participants"):
        raise InputError(f"a trial or a participants table is needed, found {type(trial).__name__}; load it with load_trial")
    return trial


def participant_ids(trial: Any) -> list[str]:
    """Participant ids in the order of the table."""
    return [str(p) for p in trial.participants["participant_id"]]


def participant_row(trial: Any, participant_id: str) -> dict[str, Any]:
    """One patient's row of the participants table.

    Raises
    ------
    InputError
        If nobody has this id.
    """
    table = trial.participants
    found = np.flatnonzero((table["participant_id"] == participant_id).to_numpy())
    if len(found) == 0:
        raise InputError(f"participants: nobody is called {participant_id!r}; check the participant id")
    return dict(zip(table.columns, table.iloc[int(found[0])].tolist(), strict=True))


def factual_outcome(trial: Any, participant_id: str, week: float, with_mask: bool) -> Outcome:
    """What the patient was seen to have at a visit.

    Parameters
    ----------
    with_mask : bool
        Read the NET2 mask too (for mechanisms that explain masks).

    Raises
    ------
    RefusalError
        If the visit was missed: a counterfactual needs its evidence.
    """
    row = participant_row(trial, participant_id)
    mask = trial.mask(participant_id, "NET2", int(week)) if with_mask and hasattr(trial, "mask") else None
    if with_mask and mask is None:
        raise RefusalError(
            f"participant {participant_id}: no NET2 mask at week {week:g}, so there is no evidence to condition on; "
            "leave such patients out with missing='skip' or ask for do()"
        )
    lesions = row.get(net2_column(int(week)))
    if lesions is None or pd.isna(lesions):
        if mask is None:
            raise RefusalError(
                f"participant {participant_id}: no {net2_column(int(week))!r}, so there is no evidence to condition on; "
                "leave such patients out with missing='skip' or ask for do()"
            )
        lesions = np.nan
    volume = row.get(net2_column(int(week), "net2_volume_ml"))
    regions = [row.get(net2_column(int(week), f"net2_lesions_{region}")) for region in REGIONS]
    known = all(r is not None and not pd.isna(r) for r in regions)
    return Outcome(
        float(lesions),
        float(volume) if volume is not None and not pd.isna(volume) else float("nan"),
        tuple(int(r) for r in regions if r is not None) if known else None,
        mask,
    )
