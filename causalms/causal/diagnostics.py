"""What every counterfactual run must show before it is believed, with thresholds that turn it into a warning or a refusal.

Reconstruction alone certifies nothing: an exactly reversible scheme can have a wrong counterfactual law.  So the noise, the
marginal, the reverse trip and the randomised arms are looked at as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy import stats

from causalms.causal.cohort import Running
from causalms.causal.evidence import factual_outcome
from causalms.causal.interventions import Intervention
from causalms.causal.mechanism import Mechanism
from causalms.causal.query import Query
from causalms.causal.round_trips import RoundTrips, figure_points, frailty_alone, round_trips
from causalms.causal.worlds import Randomisation
from causalms.errors import InputError, RefusalError
from causalms.stats import keyed_generator
from causalms.tables import ResultRow, contrast_population, net2_column, results_table, significant


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


VERDICT_COLUMNS = (
    "diagnostic",
    "arm",
    "value",
    "p_value",
    "n",
    "lower",
    "upper",
    "reference",
    "reference_lower",
    "reference_upper",
    "particles",
    "verdict",
    "threshold_warning",
    "threshold_refusal",
    "words",
)

#: Documented in docs/causal/diagnostics.md; a change here is a change of what causalms believes.
THRESHOLDS = {
    "composition": Threshold(0.01, 0.10, "above", "error of count or volume pushed back in the factual world / factual mean"),
    "composition of masks": Threshold(0.02, 0.20, "above", "share of factual lesion voxels that differ when pushed back"),
    "reversibility": Threshold(0.75, np.inf, "above", "mean |A -> B -> A - factual| against mean |independent redraw - factual|"),
    "persistence": Threshold(1.5, np.inf, "above", "mean twin against what the fact's frailty leaves under the other arm"),
    "effectiveness": Threshold(1e-2, 1e-6, "below", "p of mean do(B) against the observed mean of patients randomised to B"),
    "noise": Threshold(1e-3, 1e-9, "below", "smallest p of abducted noise against N(0, 1), Bonferroni over components"),
    "marginal": Threshold(1e-2, 1e-6, "below", "p of counterfactual against interventional counts, labels swapped in patients"),
    "invariance": Threshold(0.0, 0.0, "above", "largest change of anything before treatment between do and not"),
    "overlap": Threshold(0.999, -1.0, "below", "share of patients whose trial randomises both arms (below 1: transported)"),
}


def diagnose(
    mechanism: Mechanism,
    trial: Any,
    query: Query,
    participants: Sequence[str],
    patients: int = 40,
    particles: int | None = None,
    running: Running = Running(),
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
        threshold_refusal, words, particles; of composition, reversibility and persistence also ``lower`` and ``upper`` (95%,
        bootstrap over patients) and the ``reference`` value, with where 95% of right runs of this size lie;
        ``attrs["points"]`` holds what a figure draws.

    Raises
    ------
    RefusalError
        If no patient has evidence.
    """
    mechanism = mechanism.for_coupling(query.coupling)
    particles = particles or (1 if "mask" in mechanism.capabilities else 4)
    randomisation = Randomisation.of(trial.participants, mechanism.arms)
    chosen = _with_evidence(mechanism, trial, query, sorted(participants), patients)
    rows, points = [], []
    for world in query.interventions:
        task = joblib.delayed(round_trips)
        calls = [task(mechanism, trial, randomisation, query, p, world, particles) for p in chosen]
        checks = running.over(calls, len(chosen), f"diagnostics, {world.name}")
        observed = _observed(checks, trial, world, query.weeks[-1])
        rows += [{"arm": world.name, **row} for row in _judged(checks, trial, query, world, observed)]
        points.append(figure_points(checks, observed).assign(arm=world.name))
    table = pd.DataFrame(rows)[[*VERDICT_COLUMNS]]
    table.attrs["points"] = pd.concat(points, ignore_index=True).to_dict("list")
    return table


def _with_evidence(mechanism: Mechanism, trial: Any, query: Query, participants: Sequence[str], patients: int) -> list[str]:
    """As many patients with a factual outcome as asked for, in the order of a key, looking at no more than needed."""
    order = keyed_generator("diagnose", query.seed).permutation(len(participants))
    chosen: list[int] = []
    for k in order:
        if len(chosen) == patients:
            break
        if _has_evidence(mechanism, trial, participants[k], query):
            chosen.append(int(k))
    if not chosen:
        raise RefusalError("no patient has evidence, so nothing can be diagnosed; give observed outcomes or ask for do()")
    return [participants[k] for k in sorted(chosen)]


def diagnostics_table(twins: pd.DataFrame) -> pd.DataFrame:
    """One table of a counterfactual run's diagnostics: a row a verdict, then the points that its figure draws.

    Parameters
    ----------
    twins : DataFrame
        From :meth:`CausalModel.counterfactual`, with its attrs.

    Raises
    ------
    InputError
        If the run looked at no diagnostics.
    """
    if not twins.attrs.get("diagnostics"):
        raise InputError("these twins carry no diagnostics; ask counterfactual() with checked_patients above 0")
    verdicts, points = pd.DataFrame(twins.attrs["diagnostics"]), pd.DataFrame(twins.attrs["diagnostic_points"])
    return pd.concat([verdicts, points], ignore_index=True)


def to_results(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Diagnostics as rows of the results table (analysis "diagnostics", rung 3)."""
    return results_table(
        ResultRow(
            analysis="diagnostics",
            population="patients with evidence",
            arm=str(row["arm"]),
            measure=str(row["diagnostic"]),
            estimand=f"{row['words']}: {row['verdict']}",
            estimator="diagnostic of the counterfactual run",
            estimate=float(row["value"]),
            lower=float(row["lower"]),
            upper=float(row["upper"]),
            level=0.95,
            p_value=float(row["p_value"]),
            n=float(row["n"]),
            randomised=False,
            rung=3,
        )
        for row in diagnostics.to_dict("records")
    )


def act_on(diagnostics: pd.DataFrame) -> None:
    """Warn of what is doubtful and refuse what is broken.

    Raises
    ------
    RefusalError
        Naming the first diagnostic beyond its refusal threshold.
    """
    for row in diagnostics[diagnostics["verdict"] == "refusal"].itertuples():
        raise RefusalError(
            f"counterfactuals under {row.arm!r} fail the diagnostic {row.diagnostic!r} ({row.words}: "
            f"{significant(row.value, 3)}, refused beyond {row.threshold_refusal:g}); the model does not explain these "
            "patients: calibrate it or ask for do()"
        )
    for row in diagnostics[diagnostics["verdict"] == "warning"].itertuples():
        message = f"{row.diagnostic} under {row.arm}: {row.words} = {significant(row.value, 3)}"
        message += f" (warned beyond {row.threshold_warning:g})"
        warnings.warn(message, stacklevel=3)


def _judged(
    checks: list[RoundTrips], trial: Any, query: Query, world: Intervention, observed: np.ndarray
) -> list[dict[str, Any]]:
    values: dict[str, tuple[float, float]] = {"composition": (_composition(checks), np.nan)}
    values["composition of masks"] = (_finite_mean([c.mask_mismatch for c in checks]), np.nan)
    values["reversibility"] = (_reversibility(checks), np.nan)
    values["persistence"] = (_persistence(checks), np.nan)
    values["effectiveness"] = _effectiveness(checks, observed)
    values["noise"] = _noise_normality(checks)
    values["marginal"] = _marginal(checks, query.seed)
    values["invariance"] = (max((c.invariance for c in checks), default=np.nan), np.nan)
    values["overlap"] = (_overlap(checks, trial, world), np.nan)
    intervals = {name: _over_patients(statistic, checks, query.seed) for name, statistic in _BY_PATIENT.items()}
    references = {
        "composition": (0.0, 0.0, 0.0),
        "persistence": (1.0, np.nan, np.nan),
        "reversibility": frailty_alone(checks, query.seed),
    }
    rows = []
    for name, (value, p) in values.items():
        lower, upper = intervals.get(name, (np.nan, np.nan))
        reference, reference_lower, reference_upper = references.get(name, (np.nan, np.nan, np.nan))
        threshold = THRESHOLDS[name]
        verdict = threshold.judge(value)
        if name == "reversibility" and query.correlation < 1:
            verdict = "not checked"  # a redrawn world does not lead back, by construction
        if name == "noise" and query.abduction == "deterministic":
            verdict = "not checked"  # one representative noise a patient is no draw of the posterior
        rows.append(
            {
                "diagnostic": name, "value": value, "p_value": p, "n": len(checks), "verdict": verdict, "words": threshold.words,
                "threshold_warning": threshold.warning, "threshold_refusal": threshold.refusal, "lower": lower, "upper": upper,
                "reference": reference, "reference_lower": reference_lower, "reference_upper": reference_upper,
                "particles": len(checks[0].composed),
            }
        )  # fmt: skip
    return rows


def _composition(checks: list[RoundTrips]) -> float:
    counts = np.mean([np.abs(c.composed - c.factual).mean() for c in checks])
    volumes = np.mean([c.volume_error_ml.mean() for c in checks])
    by_count = counts / max(float(np.mean([c.factual for c in checks])), 0.1)
    return float(max(by_count, volumes / max(float(np.mean([c.factual_volume_ml for c in checks])), 0.01)))


def _reversibility(checks: list[RoundTrips]) -> float:
    returned = np.mean([np.abs(c.returned - c.factual).mean() for c in checks])
    redrawn = np.mean([np.abs(c.redrawn - c.factual).mean() for c in checks])
    return float(returned / redrawn) if redrawn > 0 else np.nan


def _persistence(checks: list[RoundTrips]) -> float:
    r"""Mean twin over its expectation :math:`(k + n)/(k + m_A)\, m_B` given the fact n; missing without laws or a better arm.

    A count model with gamma frailty has it near 1; an abduction whose noise clings to the factual lesions is above.
    """
    known = [c for c in checks if c.laws is not None and c.laws[1].lesions < c.laws[0].lesions]
    if not known:
        return np.nan
    left = []
    for c in known:
        own, other = c.laws  # type: ignore[misc]
        size = 1 / max(own.dispersion, 1e-6)
        left.append((size + c.factual) / (size + own.lesions) * other.lesions)
    return float(np.mean([c.counterfactual.mean() for c in known]) / max(float(np.mean(left)), 0.1))


_BY_PATIENT = {"composition": _composition, "reversibility": _reversibility, "persistence": _persistence}


def _over_patients(
    statistic: Callable[[list[RoundTrips]], float], checks: list[RoundTrips], seed: int, resamples: int = 400
) -> tuple[float, float]:
    """95% percentile interval of a diagnostic over resampled patients."""
    rng = keyed_generator("diagnostics over patients", seed)
    values = [statistic([checks[k] for k in rng.integers(0, len(checks), len(checks))]) for _ in range(resamples)]
    finite = [value for value in values if np.isfinite(value)]
    return (float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))) if finite else (np.nan, np.nan)


def _effectiveness(checks: list[RoundTrips], seen: np.ndarray) -> tuple[float, float]:
    """Interventional counts of the checked patients against the observed ones of those randomised to the arm, same trials."""
    simulated = np.concatenate([c.interventional for c in checks])
    if len(seen) < 8:
        return np.nan, np.nan
    # patients with several draws are not independent: one draw a patient enters the test
    first = np.array([c.interventional[0] for c in checks])
    if seen.std() == 0 and simulated.std() == 0:
        return float(seen.mean() == simulated.mean()), np.nan
    p = _permutation_p(first, seen)
    return p, p


def _observed(checks: list[RoundTrips], trial: Any, world: Intervention, week: float) -> np.ndarray:
    """Observed counts of those randomised to the world's arm in the trials of the checked patients."""
    column, table = net2_column(int(week)), trial.participants
    if column not in table:
        return np.array([])
    trials = set(table.loc[table["participant_id"].isin([c.participant_id for c in checks]), "trial"])
    counts = table.loc[(table["arm"] == world.name) & table["trial"].isin(trials), column]
    return np.sort(counts.dropna().to_numpy(float))


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


def _noise_normality(checks: list[RoundTrips]) -> tuple[float, float]:
    names = list(checks[0].scores) if checks else []
    p_values = []
    for name in names:
        values = np.concatenate([c.scores[name] for c in checks])
        p_values.append(float(stats.kstest(values, "norm").pvalue))
    smallest = min(1.0, min(p_values) * len(p_values)) if p_values else np.nan
    return smallest, smallest


def _marginal(checks: list[RoundTrips], seed: int) -> tuple[float, float]:
    """Counterfactual against interventional counts: under the model a patient's two labels are exchangeable (sign flips)."""
    difference = np.log1p([c.counterfactual[0] for c in checks]) - np.log1p([c.interventional[0] for c in checks])
    if not np.any(difference):
        return 1.0, 1.0
    rng = keyed_generator("marginal", seed)
    signs = rng.choice([-1.0, 1.0], size=(4999, len(difference)))
    flipped, observed = np.abs((signs * difference).mean(1)), abs(difference.mean())
    p = float((flipped >= observed - 1e-12).sum() + 1) / 5000
    if p <= 2 / 5000:
        p = float(min(p, 2 * stats.norm.sf(observed / np.sqrt((difference**2).sum()) * len(difference))))
    return p, p


def _overlap(checks: list[RoundTrips], trial: Any, world: Intervention) -> float:
    """Share of the checked patients in trials that randomised both their own arm and the world's."""
    people = trial.participants
    if not (people["arm"] == world.name).any():
        return 0.0 if world.kind == "value" else np.nan
    rows = people.set_index("participant_id").loc[[c.participant_id for c in checks]]
    trials = {own: contrast_population(people, world.name, own).trials for own in rows["arm"].unique()}
    return float(np.mean([str(name) in trials[own] for name, own in zip(rows["trial"], rows["arm"], strict=True)]))


def _finite_mean(values: list[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else np.nan


def _has_evidence(mechanism: Mechanism, trial: Any, participant_id: str, query: Query) -> bool:
    assert query.evidence_week is not None
    try:
        factual_outcome(mechanism, trial, participant_id, query.evidence_week)
    except RefusalError:
        return False
    return True
