"""A trial in memory: one table of participants, one grid, images that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.trials.native import NativeGrid
from causalms.trials.space import Space

#: Baseline images, by BIDS suffix; ``ceT1w`` is the T1-weighted image with gadolinium.
MODALITIES = ("T1w", "T2w", "FLAIR", "ceT1w")
#: Masks: brain, T2 lesions and enhancing lesions at baseline; new and enlarging T2 lesions at follow-up.
MASKS = ("brain", "T2", "Gd", "NET2")


class ImageSource(Protocol):
    """Where a trial's images come from: a BIDS folder, or a simulator."""

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image on the trial's grid, float32, or None if it was not acquired."""

    def mask(self, participant_id: str, kind: str, week: int) -> np.ndarray | None:
        """Mask on the trial's grid, bool, or None if there is none."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial, or several pooled.

    Parameters
    ----------
    name : str
    participants : DataFrame
        The participants table with observed outcomes as ``net2_lesions_week48`` and the like.
    space : Space
        The grid of the images; where patients lie on grids of their own, that of the first (:meth:`space_of` gives each).
    weeks : tuple of int
        Follow-up weeks that have NET2 masks.
    source : ImageSource
    notes : tuple of str
        What had to be filled in or derived on reading, in words.

    Examples
    --------
    >>> from causalms.phantom import simulate_trial
    >>> trial = simulate_trial("lifelike", patients=8, seed=1)
    >>> len(trial), trial.weeks, trial.arms[0] in set(trial.participants["arm"])
    (8, (24, 48, 96), True)
    """

    name: str
    participants: pd.DataFrame
    space: Space
    weeks: tuple[int, ...]
    source: ImageSource = field(repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.participants)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that somebody was given, in order of first appearance."""
        return tuple(self.participants["arm"].dropna().unique())

    def space_of(self, participant_id: str) -> Space:
        """The grid on which a participant's images and masks are given."""
        own = getattr(self.source, "space", None)  # of the sources only folders have a grid for each patient
        data = own(participant_id) if callable(own) else None
        return self.space if data is None else data

    def native_of(self, participant_id: str) -> NativeGrid | None:
        """The grid that a participant's scan was taken on, where ``causalms register`` moved it; else None."""
        own = getattr(self.source, "native", None)
        return own(participant_id) if callable(own) else None

    def image(self, participant_id: str, modality: str) -> np.ndarray | None:
        """Baseline image, float32 on the participant's grid; None if it was not acquired.

        Raises
        ------
        UsageError
            If the modality is not one of :data:`MODALITIES`.
        InputError
            If the participant is unknown or the file cannot be read.
        """
        if modality not in MODALITIES:
            raise UsageError(f"no modality is called {modality!r}; choose one of {', '.join(MODALITIES)}")
        self._known(participant_id)
        return self.source.image(participant_id, modality)

    def mask(self, participant_id: str, kind: str, week: int = 0) -> np.ndarray | None:
        """Mask, bool on the participant's grid; None if there is none.

        Raises
        ------
        UsageError
            If the kind is not one of :data:`MASKS`.
        InputError
            If the participant is unknown or the file cannot be read.
        """
        if kind not in MASKS:
            raise UsageError(f"no mask is called {kind!r}; choose one of {', '.join(MASKS)}")
        self._known(participant_id)
        return self.source.mask(participant_id, kind, week)

    def place(self, participant_id: str) -> str:
        """Where a participant's images stand, for messages: the first file, or the participant where they are in memory."""
        place = getattr(self.source, "place", None)  # of the sources only folders have files
        return participant_id if place is None else str(place(participant_id))

    def row(self, participant_id: str) -> dict[str, Any]:
        """A participant's row of the table.

        Raises
        ------
        InputError
            If the participant is unknown.
        """
        self._known(participant_id)
        return dict(zip(self.participants.columns, self.participants.iloc[self._ids[participant_id]].tolist(), strict=True))

    def subset(self, participant_ids: Sequence[str]) -> Trial:
        """The same trial with some of its participants, in the order given.

        Raises
        ------
        InputError
            If one of them is unknown.
        """
        for participant_id in participant_ids:
            self._known(participant_id)
        rows = self.participants.set_index("participant_id", drop=False).loc[list(participant_ids)].reset_index(drop=True)
        return replace(self, participants=rows)

    def _known(self, participant_id: str) -> None:
        if participant_id not in self._ids:
            raise InputError(f"{self.name}: no participant {participant_id!r}; participants.tsv names them")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.participants["participant_id"])}
