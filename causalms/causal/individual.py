"""Rung 3 summaries: every patient's twin, probabilities of benefit and harm, and the sharp bounds beside each of them.

The estimate depends on the coupling, which no data can check; the bounds hold under every coupling with the same marginals.
A bound is never part of a confidence interval: it has rows and columns of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.bounds import ROUNDING, Law
from causalms.causal.cohort import Running
from causalms.causal.contrasts import support
from causalms.causal.diagnostics import to_results
from causalms.causal.evidence import as_trial
from causalms.causal.law_error import (
    JOINT,
    TWIN,
    count_laws,
    event_probability,
    joint_bounds,
    joint_directions,
    own_errors,
    twin_bounds,
    twin_directions,
)
from causalms.causal.model import CausalModel
from causalms.errors import InputError, RefusalError
from causalms.stats import normal_quantile
from causalms.tables import ResultRow, name_of, one_week, results_table


def patient_laws(marginals: pd.DataFrame, week: float, outcome: str = "net2_lesions") -> dict[tuple[str, str], Law]:
    """Law of the outcome of every patient under every arm, from an expected table (negative binomial) or from do() draws.

    Parameters
    ----------
    marginals : DataFrame
        An expected table (counts only) or a draws table of interventional rows.
    week : float
    outcome : {"net2_lesions", "net2_volume_ml"}

    Returns
    -------
    dict
        From (participant_id, arm).
    """
    rows = marginals[(marginals["visit_week"] == week) & (marginals["query"] == "interventional")]
    if rows.empty:
        raise InputError(f"the marginals have no interventional rows at week {name_of(week)}; ask do() for the arms at that week")
    if "expected_net2_lesions" in rows:
        if outcome != "net2_lesions":
            raise InputError("an expected table gives the law of counts only; give do() draws for the law of volumes")
        values = rows[["participant_id", "arm", "expected_net2_lesions", "dispersion"]].itertuples(index=False)
        return {(str(p), str(a)): Law.negative_binomial(float(m), float(d)) for p, a, m, d in values}
    return {(str(p), str(a)): Law.of_draws(group[outcome]) for (p, a), group in rows.groupby(["participant_id", "arm"])}


def individual_effects(
    twins: pd.DataFrame,
    marginals: pd.DataFrame,
    week: float | None = None,
    outcome: str = "net2_lesions",
    coupling: str = "monotone",
) -> pd.DataFrame:
    r"""What every patient would have had under another arm, given what was seen, with bounds that hold under every coupling.

    For the factual event :math:`E = \{Y_a = y\}` of probability p and an event of the other world of probability q, both from the
    patient's own marginals: :math:`\max(0, p+q-1)/p \le P(\cdot \mid E) \le \min(p, q)/p`; for the twin's mean, trimming.
    Rare facts leave their twins nearly unbounded, and the table shows it; a fact of probability 0 (a volume, which is
    continuous) bounds nothing: 0 to infinity.

    Parameters
    ----------
    twins : DataFrame
        From :meth:`CausalModel.counterfactual`.
    marginals : DataFrame
        Expected table or do() draws with the factual and the other arms, for the same patients and week.
    coupling : str
        Of the twins: whether an error of the factual world's law reaches the twin.

    Returns
    -------
    DataFrame
        One row a patient and other arm: factual, lesions (mean of the twin), benefit, harm, active, each with ``_lower``,
        ``_upper`` (bounds), ``_se_monte_carlo``, and the model's own error ``_se_generator``, ``_lower_se_generator``,
        ``_upper_se_generator`` (missing where it is unknown: draws as marginals, a model without it, volumes).
    """
    week = one_week(twins[twins["query"] != "observed"], week, "twins")
    laws = patient_laws(marginals, week, outcome)
    known = count_laws(marginals, week) if outcome == "net2_lesions" else {}
    seen = twins[twins["query"] == "observed"]
    if (seen["visit_week"] != week).any():
        raise InputError(
            f"the facts were seen at week {name_of(seen['visit_week'].iloc[0])} and the twins are of week {name_of(week)}: "
            "benefit compares with the fact; ask for twins at the visit of the evidence"
        )
    facts = {str(p): (float(y), str(a)) for p, y, a in seen[["participant_id", outcome, "arm"]].itertuples(index=False)}
    rows = []
    others = twins[
        (twins["query"] == "counterfactual") & (twins["visit_week"] == week) & (twins["arm"] != twins["arm_randomised"])
    ]
    for (participant_id, arm), draws in others.groupby(["participant_id", "arm"], sort=False):
        if str(participant_id) not in facts:
            raise InputError(f"the twins lack the observed row of participant {participant_id}; keep rows of query 'observed'")
        fact, own = facts[str(participant_id)]
        reference, other = _law(laws, str(participant_id), own), _law(laws, str(participant_id), str(arm))
        values = draws[outcome].to_numpy(float)
        particles_of = {"benefit": values < fact, "harm": values > fact, "active": values > 0, "lesions": values}
        p, all_bounds = event_probability(reference, fact), twin_bounds(reference, other, fact)
        row: dict[str, Any] = {"participant_id": participant_id, "arm_randomised": own, "arm": arm, "factual": fact}
        row |= {"factual_probability": p, "particles": len(values)}
        for name, particles in particles_of.items():
            bounds = all_bounds[name]
            row |= {name: float(np.mean(particles)), f"{name}_lower": bounds.lower, f"{name}_upper": bounds.upper}
            row[f"{name}_se_monte_carlo"] = float(np.std(particles, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
        rows.append(row | own_errors(known, (str(participant_id), own, str(arm)), fact, coupling))
    if not rows:
        raise InputError("the twins hold no world other than the factual one; ask for another arm")
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Measure:
    """A rung-3 probability: its words, and which bound it has."""

    name: str
    comparison: str
    bound: str


_MAKAROV = "Makarov bound given covariates, averaged over patients; holds under every coupling"
_FRECHET = "Frechet-Hoeffding bound given covariates, averaged over patients; holds under every coupling"
_MEASURES = {
    "benefit": _Measure("probability of benefit", "fewer", _MAKAROV),
    "harm": _Measure("probability of harm", "more", _MAKAROV),
    "active": _Measure("probability of activity under the arm only", "any (and none under the reference)", _FRECHET),
}


def benefit_and_harm(
    twins: pd.DataFrame,
    marginals: pd.DataFrame,
    arm: str,
    reference: str,
    coupling: str,
    week: float | None = None,
    outcome: str = "net2_lesions",
    together: str = "",
) -> pd.DataFrame:
    """Probabilities of benefit and harm of an arm for the patients randomised to the reference, with sharp bounds.

    The estimate averages the twins of those patients; the bounds are of each patient's two marginals given covariates, averaged
    over the same patients (narrower than bounds of the averaged marginals).

    Parameters
    ----------
    coupling : str
        Of the twins; it stands in every row, for the estimate is an assumption and not a finding.
    together : str
        In which trial both arms were randomised together, for the estimand's words.

    Returns
    -------
    DataFrame
        Results rows of rung 3: the estimate, and rows of their own for the lower and the upper bound.
    """
    week = one_week(twins[twins["query"] != "observed"], week, "twins")
    theirs = twins[(twins["arm_randomised"] == reference) & ((twins["query"] == "observed") | (twins["arm"] == arm))]
    if arm == reference or not (theirs["query"] == "counterfactual").any():
        raise RefusalError(f"nobody randomised to {reference!r} has a twin under {arm!r}; ask counterfactual() for that arm")
    effects = individual_effects(theirs, marginals, week, outcome, coupling)
    laws = patient_laws(marginals, week, outcome)
    bounds = [joint_bounds(_law(laws, p, reference), _law(laws, p, arm)) for p in effects["participant_id"]]
    wrong = _OwnError.of(effects, marginals, week, outcome, coupling)
    unit = "NET2 lesions" if outcome == "net2_lesions" else "NET2 lesion volume"
    rows = []
    for name, measure in _MEASURES.items():
        counted = np.ones(len(effects), dtype=bool) if name != "active" else (effects["factual"] == 0).to_numpy()
        words = f"probability of {measure.comparison} {unit} by week {name_of(week)} given {arm} instead of {reference}"
        shared = ResultRow(
            analysis="simulated counterfactual",
            population=f"patients randomised to {reference}",
            subgroup="all",
            arm=arm,
            reference=reference,
            measure=measure.name,
            estimand=f"{words}; {together}" if together else words,
            estimator=f"twins given the factual outcome, coupling {coupling} (an assumption)",
            variance=f"patients and particles{wrong.words}",
            n=len(effects),
            n_reference=len(effects),
            randomised=False,
            rung=3,
        )
        values, errors = effects[name].to_numpy(float), effects[f"{name}_se_monte_carlo"].to_numpy(float)
        values, errors = np.where(counted, values, 0.0), np.where(counted, errors, 0.0)
        rows.append(_with_mean(shared, values, errors, wrong.of_twins(name, counted)))
        for side in ("lower", "upper"):
            of_bound = replace(
                shared,
                measure=f"{measure.name}, sharp {side} bound",
                estimator=measure.bound,
                variance=f"patients{wrong.words}; of this end only",
            )
            values = np.array([getattr(b[name], side) for b in bounds])
            rows.append(_with_mean(of_bound, values, np.zeros(len(values)), wrong.of_bound(name, side)))
    return results_table(rows)


@dataclass(frozen=True)
class _OwnError:
    """The model's own error of what is averaged over the patients; NaN where it is unknown for one of them.

    Errors of patients are added along the model's directions before they are squared: they are common to all patients.
    """

    twins: list[Any] | None
    joint: list[Any] | None
    source: str = ""

    @classmethod
    def of(cls, effects: pd.DataFrame, marginals: pd.DataFrame, week: float, outcome: str, coupling: str) -> _OwnError:
        """From the marginals of the patients of a table of individual effects."""
        known = count_laws(marginals, week) if outcome == "net2_lesions" else {}
        keys = [(str(r.participant_id), str(r.arm_randomised), str(r.arm)) for r in effects.itertuples()]
        twins = [twin_directions(known, key, fact, coupling) for key, fact in zip(keys, effects["factual"], strict=True)]
        joint = [joint_directions(known, key) for key in keys]
        if any(one is None for one in (*twins, *joint)):
            return cls(None, None)
        return cls(twins, joint, known[keys[0][:2]].source)

    @property
    def words(self) -> str:
        """What stands behind "patients" in the variance."""
        if self.twins is None:
            return "; model error unknown: no interval"
        return f" + the model's own error ({self.source}), for trials like those"

    def of_twins(self, name: str, counted: np.ndarray) -> float:
        """Error of a probability averaged over patients, those not counted at 0."""
        return self._mean(self.twins, TWIN.index(name), counted)

    def of_bound(self, name: str, side: str) -> float:
        """Error of one end of a bound averaged over patients."""
        return self._mean(self.joint, JOINT.index((name, side)))

    @staticmethod
    def _mean(directions: list[Any] | None, number: int, counted: np.ndarray | float = 1.0) -> float:
        if directions is None:
            return np.nan
        rows = np.array([one[number] for one in directions])
        return float(np.linalg.norm((rows * np.reshape(counted, (-1, 1))).mean(axis=0)))


def _with_mean(row: ResultRow, values: np.ndarray, errors: np.ndarray, generator: float, level: float = 0.95) -> ResultRow:
    """The row with the mean of its patients' values, its three errors, and an interval inside 0 to 1 where all are known."""
    n = len(values)
    together = float(np.var(values, ddof=1) / n) if n > 1 else np.nan
    monte_carlo = float(np.sum(errors**2)) / n**2  # missing with one particle a patient: nothing shows its scatter
    estimate, patient = float(np.mean(values)), np.maximum(together - monte_carlo, 0.0)
    se = float(np.sqrt(np.fmax(together, monte_carlo) + generator**2))
    if not np.any(values) and se <= ROUNDING:
        se, generator = 0.0, 0.0
        row = replace(row, variance=f"{row.variance}; 0 in every patient")
    half = normal_quantile((1 + level) / 2) * se
    return replace(
        row,
        estimate=estimate,
        se=se,
        lower=float(np.clip(estimate - half, 0.0, 1.0)),
        upper=float(np.clip(estimate + half, 0.0, 1.0)),
        level=level,
        se_patient=float(np.sqrt(patient)),
        se_generator=generator,
        se_monte_carlo=float(np.sqrt(monte_carlo)),
    )


def rung_three_results(
    model: CausalModel,
    trial: Any,
    twins: pd.DataFrame,
    running: Running = Running(),
    participants: Sequence[str] | None = None,
) -> pd.DataFrame:
    """All rung-3 rows of a counterfactual run: benefit and harm of every arm against every randomised arm, and the diagnostics.

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
    twins : DataFrame
        From ``model.counterfactual`` on that trial, with its attrs.
    running : Running
        For the marginals that the bounds need; of a shard they are kept in its parts, and there are no rows.
    participants : sequence of str, optional
        Whom the run was asked about, where that are more than have twins: of these are the marginals.

    Returns
    -------
    DataFrame
        In the schema of the results table; empty for a shard.
    """
    trial = as_trial(trial)
    (record,) = twins.attrs["queries"].values()
    coupling = record["coupling"] if record["coupling"] != "rho" else f"rho {name_of(record['rho'])}"
    worlds = twins[twins["query"] == "counterfactual"]
    others = [str(a) for a in worlds["arm"].unique() if a in model.mechanism.arms]
    owns = sorted(str(a) for a in twins["arm_randomised"].unique())
    week = float(record["evidence"]["week"])  # benefit compares with the fact, which was seen at this visit
    tables = []
    if week in worlds["visit_week"].unique():
        people = [str(p) for p in (twins["participant_id"].unique() if participants is None else participants)]
        marginals = _marginals(model, trial, record, people, others, week, running)
        if running.shard is not None:
            return results_table([])
        for arm in others:
            for own in (o for o in owns if o != arm):
                together = support(trial.participants, arm, own).words
                tables.append(benefit_and_harm(twins, marginals, arm, own, coupling, week, together=together))
    if "diagnostics" in twins.attrs:
        tables.append(to_results(pd.DataFrame(twins.attrs["diagnostics"])))
    if not tables:
        raise RefusalError("no twin under another arm at the visit of the evidence; ask for another arm, or for that week")
    return pd.concat(tables, ignore_index=True)


def _marginals(
    model: CausalModel, trial: Any, record: Any, people: list[str], others: list[str], week: float, running: Running
) -> pd.DataFrame:
    """Laws of these arms and of everybody's own: by one evaluation where the mechanism can, else by draws."""
    table = trial.participants
    owns = {str(arm) for arm in table.loc[table["participant_id"].isin(people), "arm"]} & set(model.mechanism.arms)
    arms = list(dict.fromkeys([*others, *sorted(owns)]))
    running = replace(running, participants=people)
    if "expect" in model.mechanism.capabilities:
        return model.do(trial, arms, week, expected=True, running=running)
    draws, seed = max(int(record["draws"]), 200), int(record["seed"]) + 1
    return model.do(trial, arms, week, draws, seed, running=running)


def _law(laws: dict[tuple[str, str], Law], participant_id: str, arm: str) -> Law:
    if (participant_id, arm) not in laws:
        raise InputError(f"the marginals lack participant {participant_id} under {arm!r}; ask do() for that arm and patient")
    return laws[participant_id, arm]
