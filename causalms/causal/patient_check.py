"""What one patient adds to the diagnostics of a counterfactual run: the trips between worlds, particle by particle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from causalms.causal.graph import Randomisation, Tie, Worlds, evidence_of, intervened, net2_model, run, world_seed
from causalms.causal.mechanism import Mechanism, Noise, Outcome, Subject
from causalms.causal.query import Query
from causalms.causal.tables_in import factual_counts, factual_mask
from causalms.errors import RefusalError
from causalms.generator.threads import one_thread


@dataclass(frozen=True)
class PatientCheck:
    """What one patient adds to the diagnostics, by particle."""

    participant_id: str
    factual: float
    factual_volume_ml: float
    composed: np.ndarray
    volume_error_ml: np.ndarray
    returned: np.ndarray
    redrawn: np.ndarray
    counterfactual: np.ndarray
    interventional: np.ndarray
    scores: dict[str, np.ndarray] = field(repr=False)
    mask_mismatch: float = np.nan
    invariance: float = 0.0


def _check_patient(
    mechanism: Mechanism,
    trial: Any,
    randomisation: Randomisation,
    query: Query,
    participant_id: str,
    world: Any,
    week: float,
    particles: int,
) -> PatientCheck:
    """Composition, reverse trip, redraw and noise of one patient."""
    subject = mechanism.prepare(trial, participant_id)
    fact = factual_outcome(mechanism, trial, participant_id, query)
    assert fact is not None
    assert subject.arm_randomised is not None
    assert query.evidence_week is not None
    own, seen = subject.arm_randomised, query.evidence_week
    tie, collected, mismatch = Tie(query.coupling, query.rho, own), [], []
    scores: dict[str, np.ndarray] = {}
    for k in range(particles):
        u = mechanism.abduct(subject, own, seen, fact, k, query.seed, query.abduction)
        arm = world.assign(subject, [k], query.seed)[0]
        composed = mechanism.push(subject, own, seen, u)
        twin = mechanism.push(subject, arm, week, tie.noise(u, arm, _redraw(mechanism, subject, k, query.seed, arm)))
        twin_at = (
            twin
            if week == seen
            else mechanism.push(subject, arm, seen, tie.noise(u, arm, _redraw(mechanism, subject, k, query.seed, arm)))
        )
        back_noise = mechanism.abduct(subject, arm, seen, twin_at, k, query.seed + 1, query.abduction)
        back = Tie(query.coupling, query.rho, arm).noise(back_noise, own, _redraw(mechanism, subject, k, query.seed + 1, own))
        fresh = mechanism.noise(subject, k, query.seed + 2)
        do = mechanism.push(subject, arm, week, fresh)
        pushed = [composed, mechanism.push(subject, own, seen, back), mechanism.push(subject, own, seen, fresh), twin, do]
        collected.append([*(o.lesions for o in pushed), abs(composed.volume_ml - fact.volume_ml)])
        if fact.mask is not None and composed.mask is not None:
            mismatch.append(float((fact.mask != composed.mask).sum()) / max(float(fact.mask.sum()), 1.0))
        if k == 0:
            scores = {name: _spread(values) for name, values in u.normals.items()}
    composed_lesions, returned, redrawn, counterfactual, interventional, volume_error = np.array(collected, dtype=float).T
    return PatientCheck(
        participant_id=participant_id,
        factual=fact.lesions,
        factual_volume_ml=fact.volume_ml,
        composed=composed_lesions,
        volume_error_ml=volume_error,
        returned=returned,
        redrawn=redrawn,
        counterfactual=counterfactual,
        interventional=interventional,
        scores=scores,
        mask_mismatch=float(np.mean(mismatch)) if mismatch else np.nan,
        invariance=_before_treatment(mechanism, subject, randomisation, query, week),
    )


def check_patient(*arguments: Any) -> PatientCheck:
    """Composition, reverse trip, redraw and noise of one patient, on one thread (a joblib task)."""
    with one_thread():
        return _check_patient(*arguments)


def _before_treatment(mechanism: Mechanism, subject: Subject, randomisation: Randomisation, query: Query, week: float) -> float:
    arms = torch.tensor([[randomisation.arms.index(query.interventions[0].assign(subject, [0], query.seed)[0])]])
    evidence = evidence_of(subject, randomisation)
    arguments = (mechanism, subject, randomisation, [0], query.seed)
    before = run(intervened_nowhere(evidence), *arguments)
    after = run(intervened(Worlds(arms, torch.tensor([week])), evidence), *arguments)
    sites = [s for s in before if s in ("trial", "arm", "covariates") or s.startswith("U.")]
    return max(
        float((before[s].double() - after[s].double()).abs().nan_to_num().max()) if before[s].numel() else 0.0 for s in sites
    )


def intervened_nowhere(evidence: dict[str, torch.Tensor]) -> Any:
    """Give the model as it is under the patient's own trial and arm."""
    from pyro import poutine

    return poutine.condition(net2_model, data=evidence)


def factual_outcome(mechanism: Mechanism, trial: Any, participant_id: str, query: Query) -> Outcome | None:
    """The outcome that was seen at the visit of the evidence, or None."""
    assert query.evidence_week is not None
    try:
        if "mask" in mechanism.capabilities:
            return mechanism.measure(factual_mask(trial, participant_id, query.evidence_week))
        return factual_counts(trial, participant_id, query.evidence_week)
    except RefusalError:
        return None


def _redraw(mechanism: Mechanism, subject: Subject, draw: int, seed: int, arm: str) -> Any:
    def redraw() -> Noise:
        return mechanism.noise(subject, draw, world_seed(seed, arm))

    return redraw


def _spread(values: np.ndarray, most: int = 64) -> np.ndarray:
    """Evenly spaced elements of a noise component: enough for a test, not so many that neighbours decide."""
    flat = values.ravel()
    return flat if len(flat) <= 4 else flat[np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(int)]
