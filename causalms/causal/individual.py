"""Rung 3 summaries: every patient's twin, probabilities of benefit and harm, and the sharp bounds beside each of them.

The estimate depends on the coupling, which no data can check; the bounds hold under every coupling with the same marginals.
A bound is never part of a confidence interval: it has rows and columns of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.bounds import Bounds, Law, benefit_bounds, frechet_hoeffding, harm_bounds, twin_mean_bounds
from causalms.causal.graph import Randomisation
from causalms.errors import InputError, RefusalError
from causalms.tables import results_table

#: Rung-3 numbers of one patient or a population, in words.
MEASURES = {
    "benefit": "probability of fewer lesions",
    "harm": "probability of more lesions",
    "active": "probability of any lesion",
    "lesions": "mean lesion count",
}


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
        raise InputError(f"the marginals have no interventional rows at week {week:g}; ask do() for the arms at that week")
    if "expected_net2_lesions" in rows:
        if outcome != "net2_lesions":
            raise InputError("an expected table gives the law of counts only; give do() draws for the law of volumes")
        values = rows[["participant_id", "arm", "expected_net2_lesions", "dispersion"]].itertuples(index=False)
        return {(str(p), str(a)): Law.negative_binomial(float(m), float(d)) for p, a, m, d in values}
    return {(str(p), str(a)): Law.of_draws(group[outcome]) for (p, a), group in rows.groupby(["participant_id", "arm"])}


def individual_effects(
    twins: pd.DataFrame, marginals: pd.DataFrame, week: float | None = None, outcome: str = "net2_lesions"
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

    Returns
    -------
    DataFrame
        One row a patient and other arm: factual, lesions (mean of the twin), benefit, harm, active, each with ``_lower``,
        ``_upper`` and ``_se_monte_carlo``.
    """
    week = _single_week(twins) if week is None else week
    laws = patient_laws(marginals, week, outcome)
    seen = twins[twins["query"] == "observed"]
    if (seen["visit_week"] != week).any():
        raise InputError(
            f"the facts were seen at week {seen['visit_week'].iloc[0]:g} and the twins are of week {week:g}: benefit compares "
            "with the fact; ask for twins at the visit of the evidence"
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
        p = _event_probability(reference, fact)
        values = draws[outcome].to_numpy(float)
        numbers: dict[str, tuple[Any, Bounds]] = {
            "benefit": (values < fact, _given(p, float(other.below(fact)))),
            "harm": (values > fact, _given(p, 1 - float(other.at_most(fact)))),
            "active": (values > 0, _given(p, 1 - float(other.at_most(0.0)))),
            "lesions": (values, twin_mean_bounds(other, p) if p > 0 else Bounds(0.0, np.inf)),
        }
        row: dict[str, Any] = {"participant_id": participant_id, "arm_randomised": own, "arm": arm, "factual": fact}
        row |= {"factual_probability": p, "particles": len(values)}
        for name, (particles, bounds) in numbers.items():
            row |= {name: float(np.mean(particles)), f"{name}_lower": bounds.lower, f"{name}_upper": bounds.upper}
            row[f"{name}_se_monte_carlo"] = float(np.std(particles, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
        rows.append(row)
    if not rows:
        raise InputError("the twins hold no world other than the factual one; ask for another arm")
    return pd.DataFrame(rows)


def benefit_and_harm(
    twins: pd.DataFrame,
    marginals: pd.DataFrame,
    arm: str,
    reference: str,
    randomised: bool,
    coupling: str,
    week: float | None = None,
    outcome: str = "net2_lesions",
) -> pd.DataFrame:
    """Probabilities of benefit and harm of an arm for the patients randomised to the reference, with sharp bounds.

    The estimate averages the twins of those patients; the bounds are of each patient's two marginals given covariates, averaged
    over the same patients (narrower than bounds of the averaged marginals).

    Parameters
    ----------
    coupling : str
        Of the twins; it stands in every row, for the estimate is an assumption and not a finding.

    Returns
    -------
    DataFrame
        Results rows of rung 3: the estimate, and rows of their own for the lower and the upper bound.
    """
    week = _single_week(twins) if week is None else week
    effects = individual_effects(twins[twins["arm_randomised"] == reference], marginals, week, outcome)
    effects = effects[(effects["arm_randomised"] == reference) & (effects["arm"] == arm)]
    if effects.empty:
        raise RefusalError(f"nobody randomised to {reference!r} has a twin under {arm!r}; ask counterfactual() for that arm")
    laws = patient_laws(marginals, week, outcome)
    pairs = [(_law(laws, p, reference), _law(laws, p, arm)) for p in effects["participant_id"]]
    active = [(1 - float(a.at_most(0.0)), 1 - float(b.at_most(0.0))) for a, b in pairs]
    onset = [[float(x) for x in frechet_hoeffding(q, 1 - p)] for p, q in active]
    by_measure = {
        "benefit": [benefit_bounds(*pair) for pair in pairs],
        "harm": [harm_bounds(*pair) for pair in pairs],
        "activity harm": [Bounds(*pair) for pair in onset],
    }
    quiet = (effects["factual"] == 0).to_numpy()
    estimates = {
        "benefit": effects["benefit"].to_numpy(),
        "harm": effects["harm"].to_numpy(),
        "activity harm": np.where(quiet, effects["active"].to_numpy(), 0.0),
    }
    errors = {
        "benefit": effects["benefit_se_monte_carlo"].to_numpy(),
        "harm": effects["harm_se_monte_carlo"].to_numpy(),
        "activity harm": np.where(quiet, effects["active_se_monte_carlo"].to_numpy(), 0.0),
    }
    rows = []
    for name, bounds in by_measure.items():
        shared = _row(name, arm, reference, coupling, randomised, len(effects), outcome, week)
        rows.append({**shared, **_mean(estimates[name], errors[name])})
        for side in ("lower", "upper"):
            value = float(np.mean([getattr(b, side) for b in bounds]))
            words = {"measure": f"{shared['measure']}, sharp {side} bound", "estimator": _BOUND_OF[name], "variance": None}
            rows.append({**shared, **words, "estimate": value})
    return results_table(rows)


_BOUND_OF = {
    "benefit": "Makarov bound given covariates, averaged over patients; holds under every coupling",
    "harm": "Makarov bound given covariates, averaged over patients; holds under every coupling",
    "activity harm": "Frechet-Hoeffding bound given covariates, averaged over patients; holds under every coupling",
}
_WORDS = {
    "benefit": ("probability of benefit", "fewer"),
    "harm": ("probability of harm", "more"),
    "activity harm": ("probability of activity under the arm only", "any (and none under the reference)"),
}


def _row(
    name: str, arm: str, reference: str, coupling: str, randomised: bool, n: int, outcome: str, week: float
) -> dict[str, Any]:
    measure, comparison = _WORDS[name]
    unit = "NET2 lesions" if outcome == "net2_lesions" else "NET2 lesion volume"
    return {
        "analysis": "counterfactual",
        "population": f"patients randomised to {reference}",
        "subgroup": "all",
        "arm": arm,
        "reference": reference,
        "measure": measure,
        "estimand": f"probability of {comparison} {unit} by week {week:g} given {arm} instead of {reference}",
        "estimator": f"twins given the factual outcome, coupling {coupling} (an assumption)",
        "variance": "patients and particles",
        "n": n,
        "n_reference": n,
        "randomised": randomised,
        "rung": 3,
    }


def _mean(values: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    n = len(values)
    together = float(np.var(values, ddof=1) / n) if n > 1 else np.nan
    monte_carlo = float(np.sum(errors**2)) / n**2  # missing with one particle a patient: nothing shows its scatter
    se = float(np.sqrt(np.maximum(together, np.nan_to_num(monte_carlo))))
    estimate = float(np.mean(values))
    patient = float(np.sqrt(np.maximum(together - monte_carlo, 0.0)))
    return {
        "estimate": estimate,
        "se": se,
        "lower": float(np.maximum(estimate - 1.959964 * se, 0.0)),
        "upper": float(np.minimum(estimate + 1.959964 * se, 1.0)),
        "level": 0.95,
        "se_patient": patient,
        "se_monte_carlo": float(np.sqrt(monte_carlo)),
    }


def rung_three_results(
    model: Any, trial: Any, twins: pd.DataFrame, workers: int | None = None, progress: bool = False
) -> pd.DataFrame:
    """All rung-3 rows of a counterfactual run: benefit and harm of every arm against every randomised arm, and the diagnostics.

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
    twins : DataFrame
        From ``model.counterfactual`` on that trial, with its attrs.
    """
    from causalms.causal.diagnostics import to_results
    from causalms.causal.tables_in import as_trial

    trial = as_trial(trial)
    (record,) = twins.attrs["queries"].values()
    coupling = record["coupling"] if record["coupling"] != "rho" else f"rho {record['rho']:g}"
    randomisation = Randomisation.of(trial.participants, model.mechanism.arms)
    chosen = [str(p) for p in twins["participant_id"].unique()]
    others = [str(a) for a in twins.loc[twins["query"] == "counterfactual", "arm"].unique() if a in model.mechanism.arms]
    owns = sorted(str(a) for a in twins["arm_randomised"].unique())
    tables = []
    for week in sorted(twins.loc[twins["query"] == "counterfactual", "visit_week"].unique()):
        if week != record["evidence"]["week"]:
            continue  # benefit compares with the fact, which was seen at the visit of the evidence
        arms = list(dict.fromkeys([*others, *owns]))
        running = {"participants": chosen, "workers": workers, "progress": progress}
        marginals = _marginals(model, trial, arms, float(week), int(record["draws"]), int(record["seed"]), running)
        for arm in others:
            for own in (o for o in owns if o != arm):
                both = randomisation.randomised(arm, own)
                tables.append(benefit_and_harm(twins, marginals, arm, own, both, coupling, float(week)))
    if "diagnostics" in twins.attrs:
        tables.append(to_results(pd.DataFrame(twins.attrs["diagnostics"])))
    if not tables:
        raise RefusalError("no twin under another arm at the visit of the evidence; ask for another arm, or for that week")
    return pd.concat(tables, ignore_index=True)


def _marginals(
    model: Any, trial: Any, arms: Sequence[str], week: float, draws: int, seed: int, running: dict[str, Any]
) -> pd.DataFrame:
    """Laws by one evaluation where the mechanism can, else by draws."""
    if "expect" in model.mechanism.capabilities:
        found = model.do(trial, list(arms), week, expected=True, **running)
    else:
        found = model.do(trial, list(arms), week, max(draws, 200), seed + 1, **running)
    return pd.DataFrame(found)


def _law(laws: dict[tuple[str, str], Law], participant_id: str, arm: str) -> Law:
    if (participant_id, arm) not in laws:
        raise InputError(f"the marginals lack participant {participant_id} under {arm!r}; ask do() for that arm and patient")
    return laws[participant_id, arm]


def _event_probability(law: Law, fact: float) -> float:
    return float(law.at_most(fact) - law.below(fact))


def _given(p: float, q: float) -> Bounds:
    if p <= 0:
        return Bounds(0.0, 1.0)
    low, high = frechet_hoeffding(min(p, 1.0), min(max(q, 0.0), 1.0))
    return Bounds(float(low) / p, min(float(high) / p, 1.0))


def _single_week(table: pd.DataFrame) -> float:
    weeks = table.loc[table["query"] != "observed", "visit_week"].unique()
    if len(weeks) != 1:
        raise InputError(f"the table has visits at weeks {sorted(weeks)}; name one with week=")
    return float(weeks[0])
