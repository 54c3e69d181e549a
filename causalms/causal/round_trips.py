"""Round trips of one patient between worlds, particle by particle, and the points that the diagnostics page draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.causal.cohort import on_one_thread
from causalms.causal.evidence import factual_outcome
from causalms.causal.interventions import Intervention
from causalms.causal.mechanism import Expected, Mechanism, Noise, Outcome, Subject
from causalms.causal.query import Query
from causalms.causal.worlds import Randomisation, Tie, Worlds, world_seed
from causalms.stats import keyed_generator


@dataclass(frozen=True)
class RoundTrips:
    """What one patient adds to the diagnostics: counts by particle after each trip.

    Attributes
    ----------
    composed : array
        Pushed back in the factual world.
    returned : array
        After A -> B -> A.
    redrawn : array
        Under the factual arm with fresh noise.
    counterfactual, interventional : array
        Under the other arm given the fact, and by do().
    scores : mapping of str to array
        Some elements of every component of the first particle's noise.
    invariance : float
        Largest change of anything before treatment.
    laws : pair of Expected, optional
        Of the count under the patient's own arm and under the other, where the mechanism gives them.
    """

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
    laws: tuple[Expected, Expected] | None = None


def round_trips(
    mechanism: Mechanism,
    trial: Any,
    randomisation: Randomisation,
    query: Query,
    participant_id: str,
    world: Intervention,
    particles: int,
) -> RoundTrips:
    """Composition, reverse trip, redraw and noise of one patient, on one thread (a joblib task)."""
    from causalms.causal.graph import largest_change_before_treatment

    with on_one_thread():
        subject, week = mechanism.prepare(trial, participant_id), query.weeks[-1]
        assert query.evidence_week is not None
        fact = factual_outcome(mechanism, trial, participant_id, query.evidence_week)
        trips = [_particle(mechanism, subject, query, fact, world, k) for k in range(particles)]
        first = query.interventions[0].assign(subject, [0], query.seed)[0]
        worlds = Worlds(np.array([[randomisation.arms.index(first)]]), np.array([week]))
        invariance = largest_change_before_treatment(mechanism, subject, randomisation, worlds, query.seed)
        laws = None
        if "expect" in mechanism.capabilities and isinstance(subject.arm_randomised, str):
            own = subject.arm_randomised
            laws = mechanism.expect(subject, own, query.evidence_week), mechanism.expect(subject, first, query.evidence_week)
    counts = np.array([[o.lesions for o in trip.outcomes] for trip in trips], dtype=float)
    composed, returned, redrawn, counterfactual, interventional = counts.T
    mismatches = [trip.mask_mismatch for trip in trips if np.isfinite(trip.mask_mismatch)]
    return RoundTrips(
        participant_id=participant_id,
        factual=fact.lesions,
        factual_volume_ml=fact.volume_ml,
        composed=composed,
        volume_error_ml=np.array([abs(trip.outcomes[0].volume_ml - fact.volume_ml) for trip in trips], dtype=float),
        returned=returned,
        redrawn=redrawn,
        counterfactual=counterfactual,
        interventional=interventional,
        scores={name: _spread(values) for name, values in trips[0].noise.normals.items()},
        mask_mismatch=float(np.mean(mismatches)) if mismatches else np.nan,
        invariance=invariance,
        laws=laws,
    )


def frailty_alone(checks: Sequence[RoundTrips], seed: int, redraws: int = 400) -> tuple[float, float, float]:
    """Reversibility of twins that share their patient's frailty and nothing else: its value, and where 95% of such runs lie.

    Counts are Poisson given a gamma frailty, which is abducted from the fact, carried to the other arm, abducted there from the
    twin's count and carried back; as many patients and particles as the run has.  Missing where a mechanism gives no laws.
    """
    laws = [check.laws for check in checks if check.laws is not None]
    if len(laws) < len(checks) or not laws:
        return np.nan, np.nan, np.nan
    (own, own_size), (other, other_size) = (
        (np.array([pair[side].lesions for pair in laws]), 1 / np.maximum([pair[side].dispersion for pair in laws], 1e-6))
        for side in (0, 1)
    )
    rng, ratios, particles = keyed_generator("frailty alone", seed), [], len(checks[0].composed)
    for _ in range(redraws):
        fact = rng.poisson(rng.gamma(own_size) / own_size * own, (1, len(own)))
        there = rng.poisson(rng.gamma(own_size + fact, size=(particles, len(own))) / (own_size + own) * other)
        back = rng.poisson(rng.gamma(other_size + there) / (other_size + other) * own)
        fresh = rng.poisson(rng.gamma(own_size, size=back.shape) / own_size * own)
        ratios.append((np.abs(back - fact).mean(), np.abs(fresh - fact).mean()))
    away, apart = np.array(ratios).T
    if not apart.any():
        return np.nan, np.nan, np.nan
    low, high = np.quantile(away[apart > 0] / apart[apart > 0], (0.025, 0.975))
    return float(away.mean() / apart.mean()), float(low), float(high)


@dataclass(frozen=True)
class _Particle:
    """One particle's outcomes (composed, returned, redrawn, counterfactual, interventional) and its noise."""

    noise: Noise
    outcomes: tuple[Outcome, ...]
    mask_mismatch: float


def _particle(mechanism: Mechanism, subject: Subject, query: Query, fact: Outcome, world: Intervention, k: int) -> _Particle:
    assert subject.arm_randomised is not None
    assert query.evidence_week is not None
    own, seen, week, seed = subject.arm_randomised, query.evidence_week, query.weeks[-1], query.seed

    def tied(noise: Noise, factual: str, other: str, seed: int) -> Noise:
        tie = Tie(query.coupling, query.correlation, factual)
        return tie.noise(noise, other, lambda: mechanism.noise(subject, k, world_seed(seed, other)))

    u = mechanism.abduct(subject, own, seen, fact, k, seed, query.abduction)
    arm = world.assign(subject, [k], seed)[0]
    composed = mechanism.push(subject, own, seen, u)
    there = tied(u, own, arm, seed)
    twin = mechanism.push(subject, arm, week, there)
    twin_at = twin if week == seen else mechanism.push(subject, arm, seen, there)
    back = tied(mechanism.abduct(subject, arm, seen, twin_at, k, seed + 1, query.abduction), arm, own, seed + 1)
    fresh = mechanism.noise(subject, k, seed + 2)
    pushed = (
        composed,
        mechanism.push(subject, own, seen, back),
        mechanism.push(subject, own, seen, fresh),
        twin,
        mechanism.push(subject, arm, week, fresh),
    )
    mismatch = np.nan
    if fact.mask is not None and composed.mask is not None:
        mismatch = float((fact.mask != composed.mask).sum()) / max(float(fact.mask.sum()), 1.0)
    return _Particle(u, pushed, mismatch)


def _spread(values: np.ndarray, most: int = 64) -> np.ndarray:
    """Evenly spaced elements of a noise component: enough for a test, not so many that neighbours decide."""
    flat = values.ravel()
    return flat if len(flat) <= 4 else flat[np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(int)]


POINT_COLUMNS = ("diagnostic", "series", "x", "y", "n")


def figure_points(checks: Sequence[RoundTrips], observed: np.ndarray) -> pd.DataFrame:
    """Points of every panel, counted where they coincide.

    Parameters
    ----------
    checks : sequence of RoundTrips
    observed : array
        Observed counts of the patients randomised to the other arm.

    Returns
    -------
    DataFrame
        diagnostic, series, x, y, n: factual count against pushed-back count (composition) and against the count after
        A -> B -> A and after a redraw (reversibility); share of patients with at most x lesions (marginal, effectiveness);
        quantile of N(0, 1) against quantile of the abducted noise, by component (noise).
    """
    fact = np.concatenate([np.full(len(c.composed), c.factual) for c in checks])

    def pooled(name: str) -> np.ndarray:
        return np.concatenate([getattr(c, name) for c in checks])

    parts = [
        _pairs("composition", "pushed back", fact, pooled("composed")),
        _pairs("reversibility", "there and back", fact, pooled("returned")),
        _pairs("reversibility", "independent redraw", fact, pooled("redrawn")),
        _shares("marginal", "counterfactual", pooled("counterfactual")),
        _shares("marginal", "do()", pooled("interventional")),
        _shares("effectiveness", "do(), model", pooled("interventional")),
        _shares("effectiveness", "randomised, observed", observed),
    ]
    for name in checks[0].scores if checks else ():
        parts.append(_quantiles(name, np.concatenate([c.scores[name] for c in checks])))
    return pd.concat(parts, ignore_index=True)


def _table(diagnostic: str, series: str, x: np.ndarray, y: np.ndarray, n: Any) -> pd.DataFrame:
    return pd.DataFrame({"diagnostic": diagnostic, "series": series, "x": x, "y": y, "n": n}, columns=list(POINT_COLUMNS))


def _pairs(diagnostic: str, series: str, x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    points, n = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    return _table(diagnostic, series, points[:, 0], points[:, 1], n)


def _shares(diagnostic: str, series: str, counts: np.ndarray) -> pd.DataFrame:
    values, n = np.unique(counts, return_counts=True)
    return _table(diagnostic, series, values, np.cumsum(n) / max(n.sum(), 1), n)


def _quantiles(component: str, values: np.ndarray) -> pd.DataFrame:
    shares = (np.arange(1, 40)) / 40
    return _table("noise", component, stats.norm.ppf(shares), np.quantile(values, shares), len(values))
