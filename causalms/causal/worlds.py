"""Worlds of one patient: who is randomised to which arm, and how the noise of two worlds is tied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal.mechanism import Mechanism, Noise, Subject

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Randomisation:
    """Who gets which arm: shares of trials, and of arms within each trial.

    Attributes
    ----------
    trials, arms : tuple of str
    trial_shares : array, shape (trials,)
    arm_shares : array, shape (trials, arms)
    """

    trials: tuple[str, ...]
    arms: tuple[str, ...]
    trial_shares: FloatArray
    arm_shares: FloatArray

    @classmethod
    def of(cls, participants: pd.DataFrame, arms: Sequence[str]) -> Randomisation:
        """Shares seen in a participants table; arms of the mechanism come first, arms that only the table has after them.

        Examples
        --------
        >>> table = pd.DataFrame({"trial": ["A", "A", "B"], "arm": ["placebo", "x", "x"]})
        >>> Randomisation.of(table, ["placebo", "x"]).arm_shares.tolist()
        [[0.5, 0.5], [0.0, 1.0]]
        """
        given = [str(a) for a in participants["arm"].dropna().unique()]
        names = tuple(dict.fromkeys([*arms, *sorted(given)]))
        trials = tuple(sorted(str(t) for t in participants["trial"].unique()))
        counts = np.zeros((len(trials), len(names)))
        for trial, arm in zip(participants["trial"], participants["arm"], strict=True):
            if isinstance(arm, str):
                counts[trials.index(str(trial)), names.index(arm)] += 1
        empty = counts.sum(1) == 0
        counts[empty] = 1.0  # a trial nobody was randomised in: any arm alike, and no query depends on it
        patients = participants["trial"].value_counts()
        shares = np.array([float(patients[t]) for t in trials])
        return cls(trials, names, shares / shares.sum(), counts / counts.sum(1, keepdims=True))


@dataclass(frozen=True)
class Tie:
    """How the noise of two worlds of one patient is tied.

    Attributes
    ----------
    coupling : {"monotone", "ancestral", "independent", "rho"}
    rho : float
        Correlation of normal scores between the factual world and another; 1 unless coupling is independent (0) or rho
        (-1 to 1).
    factual_arm : str or None
        The world that evidence came from keeps its own noise (consistency); None at rung 2.
    """

    coupling: str = "monotone"
    rho: float = 1.0
    factual_arm: str | None = None

    def noise(self, shared: Noise, arm: str, redraw: Callable[[], Noise]) -> Noise:
        """Noise of the world ``arm``; ``redraw`` gives that world's own noise when it is needed."""
        if arm == self.factual_arm or self.rho == 1.0:
            return shared
        return shared.mix(redraw(), self.rho)


@dataclass(frozen=True)
class Worlds:
    """The linear axis of scenarios: one arm (or one arm a draw, under a stochastic policy) and one week each.

    Attributes
    ----------
    arms : int array, shape (worlds, 1) or (worlds, draws)
        Index in :attr:`Randomisation.arms`.
    weeks : float array, shape (worlds,)
    """

    arms: npt.NDArray[np.integer[Any]]
    weeks: FloatArray


@dataclass(frozen=True)
class WorldsRun:
    """One run of the causal model: some draws of one patient in every world.

    Attributes
    ----------
    mechanism : Mechanism
    subject : Subject
    randomisation : Randomisation
    worlds : Worlds
    draws : sequence of int
    seed : int
    tie : Tie
    noises : sequence of Noise
        Particles of abducted noise, one a draw; empty where there is no evidence.
    """

    mechanism: Mechanism
    subject: Subject
    randomisation: Randomisation
    worlds: Worlds
    draws: Sequence[int]
    seed: int
    tie: Tie = Tie()
    noises: Sequence[Noise] = ()


def world_seed(seed: int, arm: str) -> int:
    """Seed of the noise that belongs to one arm's world alone, for couplings that redraw.

    Examples
    --------
    >>> world_seed(0, "placebo") != world_seed(0, "drug")
    True
    """
    return int.from_bytes(hashlib.sha256(f"world|{seed}|{arm}".encode()).digest()[:6], "big")
