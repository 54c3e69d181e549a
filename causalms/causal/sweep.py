"""Probability of benefit and harm over the strength of the coupling, inside the bounds that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from causalms.causal.bounds import Law, activity_harm_bounds, benefit_bounds, harm_bounds
from causalms.causal.cohort import Running, kept_or_made, on_one_thread
from causalms.causal.evidence import as_trial, chosen_participants
from causalms.causal.interventions import value
from causalms.causal.mechanism import Mechanism, Subject
from causalms.causal.model import CausalModel
from causalms.causal.query import Query, QueryRecord, record_of, refuse_arms
from causalms.causal.worlds import Randomisation, Tie, Worlds, WorldsRun
from causalms.errors import RefusalError, UsageError

MEASURES = ("benefit", "harm", "activity harm")


def rho_sweep(
    model: CausalModel,
    trial: Any,
    arms: tuple[str, str],
    week: float = 48,
    rhos: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 0.9, 1.0),
    draws: int = 64,
    seed: int = 0,
    participants: Sequence[str] | None = None,
    running: Running = Running(),
) -> pd.DataFrame:
    """Let the coupling run from mirrored over independent to shared noise, beside the bounds that hold for every coupling.

    Facts are drawn from the model too, so that the estimate lies inside the bounds up to Monte-Carlo error: what varies over rho
    is the assumption alone.  With few draws the laws behind the bounds are taken from expectations where the mechanism has them.

    Parameters
    ----------
    model : CausalModel
    arms : tuple of str
        The arm and its reference.
    rhos : sequence of float
        Correlations of the normal scores of U in the two worlds, from -1 (who does well in one does badly in the other) over
        0 (unrelated) to 1 (shared).
    draws : int
        Draws a patient and rho, the same noise for every rho.

    Returns
    -------
    DataFrame
        Tidy: rho, measure ("benefit", "harm", "activity harm"), estimate, se_monte_carlo, lower_bound, upper_bound, n, arm,
        reference, week.  Benefit is fewer lesions under the arm, activity harm any lesion under the arm only.
    """
    trial, (arm, reference) = as_trial(trial), arms
    mechanism: Mechanism = model.mechanism.for_coupling("rho")
    refuse_arms(arms, mechanism)
    if arm == reference:
        raise RefusalError(f"arm and reference are both {arm!r}; name two arms")
    if draws < 1 or not rhos or any(not -1 <= rho <= 1 for rho in rhos):
        raise UsageError(f"`draws` is {draws} and `rhos` {list(rhos)}; give at least one draw and correlations from -1 to 1")
    randomisation = Randomisation.of(trial.participants, mechanism.arms)
    chosen = chosen_participants(trial, participants)
    folder = None
    if running.parts is not None:
        query = Query((value(arm), value(reference)), (float(week),), draws, seed, coupling="rho", rho=0.0)
        of_all = record_of(query, mechanism, trial.participants, str(getattr(trial, "name", "trial"))).content
        folder = Path(running.parts) / QueryRecord({**of_all, "rhos": list(rhos)}).query_id
    sweep = _Sweep(mechanism, randomisation, arm, reference, float(week), tuple(rhos), draws, seed, folder)
    task = joblib.delayed(sweep.of_patient)
    patients = running.over([task(trial, p) for p in chosen], len(chosen), "sweep over rho")
    probability = np.array([table[: len(rhos)] for table in patients])  # patients, rhos, measures
    bounds = np.array([table[len(rhos) :].T for table in patients]).mean(0)  # measures, sides
    spread = np.sqrt((probability * (1 - probability)).sum(0) / draws) / len(chosen)
    rows = [
        (rho, measure, probability[:, r, m].mean(), spread[r, m], bounds[m, 0], bounds[m, 1], len(chosen))
        for r, rho in enumerate(rhos)
        for m, measure in enumerate(MEASURES)
    ]
    names = ["rho", "measure", "estimate", "se_monte_carlo", "lower_bound", "upper_bound", "n"]
    return pd.DataFrame(rows, columns=names).assign(arm=arm, reference=reference, week=float(week))


@dataclass(frozen=True)
class _Sweep:
    """A sweep over the coupling, patient by patient."""

    mechanism: Mechanism
    randomisation: Randomisation
    arm: str
    reference: str
    week: float
    rhos: tuple[float, ...]
    draws: int
    seed: int
    folder: Path | None = None

    def of_patient(self, trial: Any, participant_id: str) -> np.ndarray:
        """Probabilities of one patient by rho and measure, and in two rows more the lower and the upper bounds."""
        rows = kept_or_made(self.folder, trial, participant_id, lambda: self._made(trial, participant_id))
        return pd.DataFrame(rows).to_numpy()

    def _made(self, trial: Any, participant_id: str) -> pd.DataFrame:
        with on_one_thread():
            subject = self.mechanism.prepare(trial, participant_id)
            zero = self._counts(subject, self.reference, 1.0)  # the world that keeps its own noise is the same for every rho
            ones = [self._counts(subject, self.arm, rho) for rho in self.rhos]
            if "expect" in self.mechanism.capabilities:
                expected = [self.mechanism.expect(subject, world, self.week) for world in (self.reference, self.arm)]
                laws = [Law.negative_binomial(e.lesions, e.dispersion) for e in expected]
            else:
                laws = [Law.of_draws(np.tile(zero, len(ones))), Law.of_draws(np.concatenate(ones))]
        benefit, harm = benefit_bounds(*laws), harm_bounds(*laws)
        onset = [float(x) for x in activity_harm_bounds(*(1 - float(law.at_most(0.0)) for law in laws))]
        probability = [[(one < zero).mean(), (one > zero).mean(), ((one > 0) & (zero == 0)).mean()] for one in ones]
        bounds = [[benefit.lower, harm.lower, onset[0]], [benefit.upper, harm.upper, onset[1]]]
        return pd.DataFrame([*probability, *bounds], columns=list(MEASURES), dtype=float)

    def _counts(self, subject: Subject, world: str, rho: float) -> np.ndarray:
        from causalms.causal.graph import sample_worlds

        size = 2 if "mask" in self.mechanism.capabilities else 256
        worlds = Worlds(np.array([[self.randomisation.arms.index(world)]]), np.array([self.week]))
        tie = Tie("rho", rho, factual_arm=self.reference)
        blocks = [range(d, min(d + size, self.draws)) for d in range(0, self.draws, size)]
        run = WorldsRun(self.mechanism, subject, self.randomisation, worlds, blocks[0], self.seed, tie)
        parts = [sample_worlds(replace(run, draws=block)) for block in blocks]
        return np.asarray(np.concatenate([part["net2_lesions"] for part in parts], axis=1)[0])
