"""Probability of benefit and harm over the strength of the coupling, inside the bounds that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from causalms.causal.bounds import Law, activity_harm_bounds, benefit_bounds, harm_bounds
from causalms.causal.graph import Randomisation, Tie, Worlds, evidence_of, intervened, run
from causalms.causal.mechanism import Mechanism, Subject
from causalms.causal.query import refuse_arms
from causalms.causal.tables_in import as_trial, participant_ids
from causalms.errors import RefusalError, UsageError
from causalms.generator.threads import one_thread

MEASURES = ("benefit", "harm", "activity harm")


def rho_sweep(
    model: Any,
    trial: Any,
    arm: str,
    reference: str,
    week: float = 48,
    rhos: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 0.9, 1.0),
    draws: int = 64,
    seed: int = 0,
    participants: Sequence[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Let the coupling run from mirrored over independent to shared noise, beside the bounds that hold for every coupling.

    Facts are drawn from the model too, so that the estimate lies inside the bounds up to Monte-Carlo error: what varies over rho
    is the assumption alone.  With few draws the laws behind the bounds are taken from expectations where the mechanism has them.

    Parameters
    ----------
    model : CausalModel
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
    trial = as_trial(trial)
    mechanism: Mechanism = model.mechanism.for_coupling("rho")
    refuse_arms((arm, reference), mechanism)
    if arm == reference:
        raise RefusalError(f"arm and reference are both {arm!r}; name two arms")
    randomisation = Randomisation.of(trial.participants, mechanism.arms)
    chosen = participant_ids(trial) if participants is None else list(participants)
    if draws < 1 or not rhos or any(not -1 <= rho <= 1 for rho in rhos):
        raise UsageError(f"draws is {draws} and rhos {list(rhos)}; give at least one draw and correlations from -1 to 1")
    task = joblib.delayed(_patient)
    shown = tqdm(chosen, desc="sweep over rho", unit="patient", disable=None if progress else True)
    found = joblib.Parallel(n_jobs=workers)(
        task(mechanism, trial, randomisation, p, arm, reference, float(week), tuple(rhos), draws, seed) for p in shown
    )
    probability = np.array([p for p, _ in found])  # patients, rhos, measures
    bounds = np.array([b for _, b in found]).mean(0)  # measures, sides
    spread = np.sqrt((probability * (1 - probability)).sum(0) / draws) / len(chosen)
    rows = [
        (rho, measure, probability[:, r, m].mean(), spread[r, m], bounds[m, 0], bounds[m, 1], len(chosen))
        for r, rho in enumerate(rhos)
        for m, measure in enumerate(MEASURES)
    ]
    names = ["rho", "measure", "estimate", "se_monte_carlo", "lower_bound", "upper_bound", "n"]
    return pd.DataFrame(rows, columns=names).assign(arm=arm, reference=reference, week=float(week))


def _patient(
    mechanism: Mechanism,
    trial: Any,
    randomisation: Randomisation,
    participant_id: str,
    arm: str,
    reference: str,
    week: float,
    rhos: tuple[float, ...],
    draws: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rhos, measures) and bounds (measures, sides) of one patient."""
    with one_thread():
        return _swept(mechanism, mechanism.prepare(trial, participant_id), randomisation, arm, reference, week, rhos, draws, seed)


def _swept(
    mechanism: Mechanism,
    subject: Subject,
    randomisation: Randomisation,
    arm: str,
    reference: str,
    week: float,
    rhos: tuple[float, ...],
    draws: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    size = 2 if "mask" in mechanism.capabilities else 256
    blocks = [range(d, min(d + size, draws)) for d in range(0, draws, size)]

    def counts(world: str, rho: float) -> np.ndarray:
        arms = torch.tensor([[randomisation.arms.index(world)]])
        model = intervened(Worlds(arms, torch.tensor([week])), evidence_of(subject, randomisation))
        tie = Tie("rho", rho, factual_arm=reference)
        found = [run(model, mechanism, subject, randomisation, block, seed, tie)["net2_lesions"].numpy() for block in blocks]
        return np.asarray(np.concatenate(found, axis=1)[0])

    zero = counts(reference, 1.0)  # the world that keeps its own noise is the same for every rho
    probability, pooled = [], []
    for rho in rhos:
        one = counts(arm, rho)
        pooled.append(np.stack([zero, one]))
        probability.append([(one < zero).mean(), (one > zero).mean(), ((one > 0) & (zero == 0)).mean()])
    if "expect" in mechanism.capabilities:
        laws = [mechanism.expect(subject, a, week) for a in (reference, arm)]
        zero_law, one_law = (Law.negative_binomial(e.lesions, e.dispersion) for e in laws)
    else:
        zero_law, one_law = (Law.of_draws(np.concatenate(pooled, axis=1)[k]) for k in (0, 1))
    active = [1 - float(law.at_most(0.0)) for law in (zero_law, one_law)]
    benefit, harm = benefit_bounds(zero_law, one_law), harm_bounds(zero_law, one_law)
    onset = [float(x) for x in activity_harm_bounds(*active)]
    return np.array(probability), np.array([[benefit.lower, benefit.upper], [harm.lower, harm.upper], onset])
