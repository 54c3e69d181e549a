"""What every counterfactual run must show before it is believed, with thresholds that turn it into a warning or a refusal.

Reconstruction alone certifies nothing: an exactly reversible scheme can have a wrong counterfactual law.  So the noise, the
marginal, the reverse trip and the randomised arms are looked at as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from scipy import stats

from causalms.errors import RefusalError
from causalms.scm.graph import Randomisation, Tie, Worlds, evidence_of, intervened, net2_model, run, world_seed
from causalms.scm.mechanism import Mechanism, Noise, Outcome, Subject, keyed_generator
from causalms.scm.query import Query
from causalms.scm.tables_in import factual_counts, factual_mask
from causalms.tables import net2_column, results_table


@dataclass(frozen=True)
class Threshold:
    """Where a diagnostic becomes a warning and where a refusal; ``value`` beyond either.

    Attributes
    ----------
    warning, refusal : float
    side : {"above", "below"}
        On which side of the threshold trouble lies.
    words : str
        What is measured.
    """

    warning: float
    refusal: float
    side: str
    words: str

    def judge(self, value: float) -> str:
        """Give the verdict: ok, warning, refusal, or not checked (missing value)."""
        if not np.isfinite(value):
            return "not checked"
        sign = 1 if self.side == "above" else -1
        if sign * value > sign * self.refusal:
            return "refusal"
        return "warning" if sign * value > sign * self.warning else "ok"


#: Documented in docs/causal/diagnostics.md; a change here is a change of what causalms believes.
THRESHOLDS = {
    "composition": Threshold(0.01, 0.10, "above", "error of count or volume pushed back in the factual world / factual mean"),
    "composition of masks": Threshold(0.02, 0.20, "above", "share of factual lesion voxels that differ when pushed back"),
    "reversibility": Threshold(0.75, np.inf, "above", "mean |A -> B -> A - factual| against mean |independent redraw - factual|"),
    "effectiveness": Threshold(1e-2, 1e-6, "below", "p of mean do(B) against the observed mean of patients randomised to B"),
    "noise": Threshold(1e-3, 1e-9, "below", "smallest p of abducted noise against N(0, 1), Bonferroni over components"),
    "marginal": Threshold(1e-2, 1e-6, "below", "p of counterfactual against interventional counts, labels swapped in patients"),
    "invariance": Threshold(0.0, 0.0, "above", "largest change of anything before treatment between do and not"),
    "overlap": Threshold(0.999, -1.0, "below", "share of patients whose trial randomises both arms (below 1: transported)"),
}


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


def diagnose(
    mechanism: Mechanism,
    trial: Any,
    query: Query,
    participants: Sequence[str],
    patients: int = 40,
    particles: int | None = None,
    workers: int | None = None,
) -> pd.DataFrame:
    """Diagnostics of a counterfactual query on a sample of its patients, one row a check and world.

    Parameters
    ----------
    patients : int
        How many patients, chosen by key (the same ones for the same query).
    particles : int, optional
        Particles a patient; by default 4, or 1 where each is a sampled mask.

    Returns
    -------
    DataFrame
        diagnostic, arm, value, p_value, n, verdict ("ok", "warning", "refusal", "not checked"), threshold_warning,
        threshold_refusal, words.
    """
    mechanism = mechanism.for_coupling(query.coupling)
    particles = particles or (1 if "mask" in mechanism.capabilities else 4)
    randomisation = Randomisation.of(trial.participants, mechanism.arms)
    with_evidence = [p for p in participants if _fact(mechanism, trial, p, query) is not None]
    order = keyed_generator("diagnose", query.seed).permutation(len(with_evidence))
    chosen = [with_evidence[k] for k in np.sort(order[:patients])]
    rows = []
    for world in query.interventions:
        week = query.weeks[-1]
        task = joblib.delayed(check_patient)
        found = joblib.Parallel(n_jobs=workers)(
            task(mechanism, trial, randomisation, query, p, world, week, particles) for p in chosen
        )
        rows += [{"arm": world.name, **row} for row in _judged(found, trial, randomisation, query, world, week)]
    table = pd.DataFrame(rows)
    return table[["diagnostic", "arm", "value", "p_value", "n", "verdict", "threshold_warning", "threshold_refusal", "words"]]


def check_patient(
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
    torch.set_num_threads(1)
    subject = mechanism.prepare(trial, participant_id)
    fact = _fact(mechanism, trial, participant_id, query)
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


def to_results(diagnostics: pd.DataFrame, randomised: bool = False) -> pd.DataFrame:
    """Diagnostics as rows of the results table (analysis "diagnostics", rung 3)."""
    rows = [
        {
            "analysis": "diagnostics", "population": "patients with evidence", "arm": row.arm, "measure": str(row.diagnostic),
            "estimand": f"{row.words}: {row.verdict}", "estimator": "diagnostic of the counterfactual run", "estimate": row.value,
            "p_value": row.p_value, "n": row.n, "randomised": randomised, "rung": 3,
        }
        for row in diagnostics.itertuples()
    ]  # fmt: skip
    return results_table(rows)


def act_on(diagnostics: pd.DataFrame) -> None:
    """Warn of what is doubtful and refuse what is broken.

    Raises
    ------
    RefusalError
        Naming the first diagnostic beyond its refusal threshold.
    """
    for row in diagnostics[diagnostics["verdict"] == "refusal"].itertuples():
        raise RefusalError(
            f"counterfactuals under {row.arm!r} fail the diagnostic {row.diagnostic!r} ({row.words}: {row.value:.3g}, "
            f"refused beyond {row.threshold_refusal:g}); the model does not explain these patients: calibrate it or ask for do()"
        )
    for row in diagnostics[diagnostics["verdict"] == "warning"].itertuples():
        message = f"{row.diagnostic} under {row.arm}: {row.words} = {row.value:.3g} (warned beyond {row.threshold_warning:g})"
        warnings.warn(message, stacklevel=3)


def _judged(
    found: list[PatientCheck], trial: Any, randomisation: Randomisation, query: Query, world: Any, week: float
) -> list[dict[str, Any]]:
    values: dict[str, tuple[float, float]] = {"composition": (_composition(found), np.nan)}
    values["composition of masks"] = (_finite_mean([c.mask_mismatch for c in found]), np.nan)
    values["reversibility"] = (_reversibility(found), np.nan)
    values["effectiveness"] = _effectiveness(found, trial, world, week)
    values["noise"] = _noise_normality(found)
    values["marginal"] = _marginal(found, query.seed)
    values["invariance"] = (max((c.invariance for c in found), default=np.nan), np.nan)
    values["overlap"] = (_overlap(found, trial, randomisation, world), np.nan)
    rows = []
    for name, (value, p) in values.items():
        threshold = THRESHOLDS[name]
        verdict = threshold.judge(value)
        if name == "reversibility" and query.rho < 1:
            verdict = "not checked"  # a redrawn world does not lead back, by construction
        rows.append(
            {
                "diagnostic": name, "value": value, "p_value": p, "n": len(found), "verdict": verdict, "words": threshold.words,
                "threshold_warning": threshold.warning, "threshold_refusal": threshold.refusal,
            }
        )  # fmt: skip
    return rows


def _composition(found: list[PatientCheck]) -> float:
    counts = np.mean([np.abs(c.composed - c.factual).mean() for c in found])
    volumes = np.mean([c.volume_error_ml.mean() for c in found])
    by_count = counts / max(float(np.mean([c.factual for c in found])), 0.1)
    return float(max(by_count, volumes / max(float(np.mean([c.factual_volume_ml for c in found])), 0.01)))


def _reversibility(found: list[PatientCheck]) -> float:
    returned = np.mean([np.abs(c.returned - c.factual).mean() for c in found])
    redrawn = np.mean([np.abs(c.redrawn - c.factual).mean() for c in found])
    return float(returned / redrawn) if redrawn > 0 else np.nan


def _effectiveness(found: list[PatientCheck], trial: Any, world: Any, week: float) -> tuple[float, float]:
    """Interventional counts of the checked patients against the observed ones of those randomised to the arm, same trials."""
    column = net2_column(int(week))
    table = trial.participants
    if column not in table:
        return np.nan, np.nan
    trials = set(table.loc[table["participant_id"].isin([c.participant_id for c in found]), "trial"])
    seen = table.loc[(table["arm"] == world.name) & table["trial"].isin(trials), column].dropna().to_numpy(float)
    simulated = np.concatenate([c.interventional for c in found])
    if len(seen) < 8:
        return np.nan, np.nan
    # patients with several draws are not independent: one draw a patient enters the test
    first = np.array([c.interventional[0] for c in found])
    if seen.std() == 0 and simulated.std() == 0:
        return float(seen.mean() == simulated.mean()), np.nan
    p = _permutation_p(first, seen)
    return p, p


def _permutation_p(one: np.ndarray, other: np.ndarray, permutations: int = 4999) -> float:
    """Two-sided p of a difference of mean log(1 + count), by relabelling; far tails continued by the normal."""
    one, other = np.log1p(one), np.log1p(other)
    pooled, n = np.concatenate([one, other]), len(one)
    rng = np.random.default_rng(20_260_101)
    shuffled = np.array([rng.permutation(pooled)[:n].mean() for _ in range(permutations)])
    observed, centre, spread = one.mean(), pooled.mean(), shuffled.std()
    extreme = float((np.abs(shuffled - centre) >= abs(observed - centre) - 1e-12).sum() + 1) / (permutations + 1)
    if extreme > 2 / (permutations + 1) or spread == 0:
        return extreme
    return float(min(extreme, 2 * stats.norm.sf(abs(observed - centre) / spread)))


def _noise_normality(found: list[PatientCheck]) -> tuple[float, float]:
    names = list(found[0].scores) if found else []
    p_values = []
    for name in names:
        values = np.concatenate([c.scores[name] for c in found])
        p_values.append(float(stats.kstest(values, "norm").pvalue))
    smallest = min(1.0, min(p_values) * len(p_values)) if p_values else np.nan
    return smallest, smallest


def _marginal(found: list[PatientCheck], seed: int) -> tuple[float, float]:
    """Counterfactual against interventional counts: under the model a patient's two labels are exchangeable (sign flips)."""
    difference = np.log1p([c.counterfactual[0] for c in found]) - np.log1p([c.interventional[0] for c in found])
    if not np.any(difference):
        return 1.0, 1.0
    rng = keyed_generator("marginal", seed)
    signs = rng.choice([-1.0, 1.0], size=(4999, len(difference)))
    flipped, observed = np.abs((signs * difference).mean(1)), abs(difference.mean())
    p = float((flipped >= observed - 1e-12).sum() + 1) / 5000
    if p <= 2 / 5000:
        p = float(min(p, 2 * stats.norm.sf(observed / np.sqrt((difference**2).sum()) * len(difference))))
    return p, p


def _overlap(found: list[PatientCheck], trial: Any, randomisation: Randomisation, world: Any) -> float:
    if world.name not in randomisation.arms:
        return np.nan
    rows = trial.participants.set_index("participant_id").loc[[c.participant_id for c in found]]
    column = randomisation.arms.index(world.name)
    return float(
        np.mean([float(randomisation.arm_shares[randomisation.trials.index(str(t)), column]) > 0 for t in rows["trial"]])
    )


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


def _fact(mechanism: Mechanism, trial: Any, participant_id: str, query: Query) -> Outcome | None:
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


def _finite_mean(values: list[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else np.nan
