"""The benchmark's patients: simulated by seed, then verified by SHA-256 before anything is fitted or scored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from causalms.errors import InputError
from causalms.phantom import PhantomTrial, simulate_trial
from causalms.tables import net2_column

#: Scores of different versions are of different patients and are never shown beside each other.
VERSION, DESIGN, WEEK = 2, "lifelike", 96
#: Patients and seed of the training and of the test trial.
TRAINING, TEST = (600, 9001), (200, 9002)
#: SHA-256 of the tables, the masks of baseline and follow-up, and the true rates of each trial.
SHA256 = {
    "training": "c9abd96bdfac2fb888eb43b9af7f318af7598a82b95c1c97694b14b17b02f770",
    "test": "115e8f726ca7f4e88b4905bd61bfb50a503aa47d64394d161f393427accf751c",
}


def version() -> str:
    """Version of the benchmark and its patients, in words.

    Examples
    --------
    >>> version()
    'version 2: 600 patients of the design lifelike to learn from, 200 to be scored on'
    """
    return f"version {VERSION}: {TRAINING[0]} patients of the design {DESIGN} to learn from, {TEST[0]} to be scored on"


@dataclass(frozen=True)
class FrozenTrials:
    """The two trials: ``training``, whose observed arms and visits may be learned from, and ``test`` with its truth."""

    training: PhantomTrial
    test: PhantomTrial


def frozen_trials(training: int | None = None, test: int | None = None) -> FrozenTrials:
    """Simulate and verify the frozen trials, or the first patients of both for a rehearsal.

    Parameters
    ----------
    training, test : int, optional
        Patients of each; all by default.  A part is cut from the whole, whose digest was verified.

    Raises
    ------
    InputError
        If a trial is not the frozen one: another version of the phantom, or of a library that draws its numbers.
    """
    trials = {}
    for name, (patients, seed), first in (("training", TRAINING, training), ("test", TEST, test)):
        trial = simulate_trial(DESIGN, patients, seed)
        if (found := digest(trial)) != SHA256[name]:
            raise InputError(
                f"the {name} trial of the benchmark is not the frozen one (sha256 {found[:16]}, expected "
                f"{SHA256[name][:16]}); use the versions of requirements.lock"
            )
        if first is not None:
            trial = cast(PhantomTrial, trial.subset(list(trial.participants["participant_id"][:first])))
        trials[name] = trial
    return FrozenTrials(trials["training"], trials["test"])


def digest(trial: PhantomTrial, masks: int = 20) -> str:
    """SHA-256 of the table (six digits), the true log rates (nine digits) and the masks of the first patients.

    Images are single precision and may differ by a bit between processors, so they are not in it; they are made from what is.
    """
    taken = hashlib.sha256()
    people = trial.participants
    for column in people:
        values = people[column]
        words = values.map("{:.6g}".format) if values.dtype.kind == "f" else values.astype(str)
        taken.update(f"{column}:{','.join(words)};".encode())
    rates = trial.truth.rates(WEEK).to_numpy()
    taken.update(np.round(np.log(rates), 9).astype("<f8").tobytes())
    for name in people["participant_id"][:masks]:
        for kind, week in (("brain", 0), ("T2", 0), ("Gd", 0), *(("NET2", week) for week in trial.weeks)):
            mask = trial.mask(name, kind, week)
            taken.update(b"none" if mask is None else np.packbits(mask).tobytes())
    return taken.hexdigest()


def observed(trial: PhantomTrial) -> list[str]:
    """Patients with a count at a visit, from whom an entrant may learn."""
    counts = trial.participants[[net2_column(week) for week in trial.weeks]]
    return list(trial.participants.loc[counts.notna().any(axis=1), "participant_id"])
