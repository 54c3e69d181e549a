"""Who is in the trial: every patient's trial, site and randomised arm, settled before anything else is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import UsageError
from causalms.phantom.acquisition import Scanner, deal
from causalms.phantom.design import Design, TrialDesign

#: Streams of random numbers: one a purpose, so that a change in one leaves the others as they were.
ROSTER, SITES, BASELINE, ANATOMY, OUTCOMES, FOLLOW_UP, IMAGES, ASSIGNMENT, SCANNERS, READINGS = range(10)


def generator(seed: int, stream: int, *keys: int) -> np.random.Generator:
    """Random numbers that depend on the seed, the purpose and the patient only, never on order or worker."""
    return np.random.default_rng([seed, stream, *keys])


@dataclass(frozen=True)
class Enrolled:
    """One line of the roster."""

    index: int
    participant_id: str
    trial: TrialDesign
    site: str
    site_log_rate: float
    arm: str
    scanner: Scanner | None = None


def enrol(design: Design, patients: int, seed: int) -> tuple[Enrolled, ...]:
    """Divide patients over trials, arms and sites.

    Trials and arms get their exact share (largest remainder); which patient has which arm is a random permutation within
    the trial, so arms are randomised. Under a registry the arm given here is only a place holder.

    Parameters
    ----------
    design : Design
    patients : int
    seed : int

    Raises
    ------
    UsageError
        If there are fewer patients than one a trial, or the seed is negative.

    Examples
    --------
    >>> from causalms.phantom import load_design
    >>> roster = enrol(load_design("pooled"), 100, seed=1)
    >>> [sum(p.trial.name == name for p in roster) for name in ("BRAVO", "DEFINE", "OPERA-I", "OPERA-II")]
    [35, 21, 22, 22]
    """
    if patients < len(design.trials):
        raise UsageError(f"patients is {patients}, the design has {len(design.trials)} trials; ask for at least one a trial")
    if seed < 0:
        raise UsageError(f"seed is {seed}; give a whole number of 0 or more")
    digits = max(4, len(str(patients)))
    sizes = _share(patients, [trial.size for trial in design.trials])
    roster: list[Enrolled] = []
    for number, (trial, size) in enumerate(zip(design.trials, sizes, strict=True)):
        rng = generator(seed, ROSTER, number)
        arms = np.repeat(list(trial.arms), _share(size, list(trial.arms.values())))
        rng.shuffle(arms)
        sites = rng.integers(trial.sites, size=size)
        effects = generator(seed, SITES, number).normal(0.0, 1.0, trial.sites) * design.rate.site_log_sd
        scanners = deal(design.scanners, design.held_out_scanner, trial.sites, generator(seed, SCANNERS, number))
        for arm, site in zip(arms, sites, strict=True):
            index = len(roster)
            roster.append(
                Enrolled(
                    index=index,
                    participant_id=f"sub-{index + 1:0{digits}d}",
                    trial=trial,
                    site=f"{trial.name}-{site + 1:02d}",
                    site_log_rate=float(effects[site]),
                    arm=str(arm),
                    scanner=scanners[site],
                )
            )
    return tuple(roster)


def _share(total: int, weights: list[float]) -> list[int]:
    """Whole numbers that sum to ``total`` in proportion to the weights (largest remainder)."""
    exact = np.asarray(weights, dtype=float) / sum(weights) * total
    whole = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - whole), kind="stable")[: total - whole.sum()]:
        whole[index] += 1
    return [int(n) for n in whole]
