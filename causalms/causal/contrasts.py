"""One contrast and what must stand beside it: is it randomised, and if not, what it assumes and what would erase it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalms.causal.population import population_effect
from causalms.causal.transport import (
    BASELINE,
    Sensitivity,
    Support,
    covariate_overlap,
    support,
    trial_effect_benchmark,
    unmeasured_trial_effect,
)
from causalms.errors import UsageError
from causalms.tables import net2_column


@dataclass(frozen=True)
class Contrast:
    """A rung-2 contrast and its support.

    Attributes
    ----------
    results : DataFrame
        The ratio of means; for a transported contrast also the E-values of estimate and interval.
    support : Support
    overlap : DataFrame or None
        Covariate overlap of the two arms' patients; None for a randomised contrast.
    sensitivity : Sensitivity or None
        None for a randomised contrast.
    """

    results: pd.DataFrame
    support: Support
    overlap: pd.DataFrame | None = field(default=None, repr=False)
    sensitivity: Sensitivity | None = None


def contrast(
    table: pd.DataFrame,
    participants: pd.DataFrame,
    arm: str,
    reference: str,
    week: float | None = None,
    outcome: str = "net2_lesions",
    columns: Sequence[str] = BASELINE,
    assignment: str = "randomised",
) -> Contrast:
    """Ratio of means of two arms of a draws (or expected) table, with transport said where no trial randomises both.

    Parameters
    ----------
    table : DataFrame
        From ``do`` for both arms.
    participants : DataFrame
        The patients with their randomised arms, trials, baseline columns and (for the benchmark) observed outcomes.
    outcome : {"net2_lesions", "net2_volume_ml", "any"}
    columns : sequence of str
        Baseline columns that overlap and benchmark adjust for.
    assignment : {"randomised", "registry"}
        Under ``registry`` (arms chosen, not randomised) no contrast counts as randomised.

    Raises
    ------
    RefusalError
        If nobody was given an arm, or a contrast that is not randomised has no overlap.
    """
    found = support(participants, arm, reference, assignment)
    row = population_effect(table, arm, reference, found.randomised, week, outcome, "ratio")
    if found.randomised:
        return Contrast(row, found)
    overlap = covariate_overlap(participants, arm, reference, columns)
    ratio, lower, upper = (float(row[c].iloc[0]) for c in ("estimate", "lower", "upper"))
    observed = net2_column(int(row_week(table, week)))
    sensitivity = unmeasured_trial_effect(ratio, lower, upper, _benchmark(participants, observed, columns, assignment))
    row = row.assign(estimand=f"{row['estimand'].iloc[0]}; transported: {found.assumption}")
    return Contrast(pd.concat([row, _beside(row, overlap, sensitivity)], ignore_index=True), found, overlap, sensitivity)


def contrasts_with_reference(
    table: pd.DataFrame,
    participants: pd.DataFrame,
    reference: str,
    outcome: str = "net2_lesions",
    columns: Sequence[str] = BASELINE,
    assignment: str = "randomised",
) -> pd.DataFrame:
    """Results of every world of a table against one of its arms, at every visit, each with what must stand beside it.

    A treatment policy is never a randomised contrast: no trial randomised it.

    Parameters
    ----------
    table, participants, outcome, columns, assignment
        As for :func:`contrast`.
    reference : str
        A world of the table.

    Raises
    ------
    UsageError
        If the table holds no world but the reference.
    """
    rows = table[table["query"] != "observed"]
    others = [str(a) for a in rows["arm"].unique() if a != reference]
    if not others:
        raise UsageError(f"the table holds no world to compare with {reference!r}; set another arm or policy too")
    tables, arms = [], set(participants["arm"].dropna())
    for week in sorted(rows["visit_week"].unique()):
        for other in others:
            if {other, reference} <= arms:
                found = contrast(table, participants, other, reference, week, outcome, columns, assignment).results
            else:
                found = population_effect(table, other, reference, False, week, outcome, "ratio")
                found = found.assign(estimand=f"{found['estimand'].iloc[0]}; {_POLICY}")
            tables.append(found.assign(population=f"all patients of the table, week {week:g}"))
    return pd.concat(tables, ignore_index=True)


_POLICY = "not randomised by any trial: assumes that the model's count given covariates holds under every arm the policy gives"


def row_week(table: pd.DataFrame, week: float | None) -> float:
    """The visit of a contrast: the one named, else the table's own."""
    return float(table["visit_week"].iloc[0] if week is None else week)


def _benchmark(participants: pd.DataFrame, observed: str, columns: Sequence[str], assignment: str) -> float:
    if observed not in participants or assignment == "registry":
        return np.nan
    ratios = trial_effect_benchmark(participants, observed, columns)["ratio"].to_numpy(float)
    return float(np.max(np.maximum(ratios, 1 / ratios))) if len(ratios) else np.nan


def _beside(row: pd.DataFrame, overlap: pd.DataFrame, sensitivity: Sensitivity) -> pd.DataFrame:
    """Rows of overlap and sensitivity beside a contrast that is not randomised."""
    propensity = overlap.iloc[-1]
    common = "share of the patients of the two arms in the range of the propensity that both hold"
    effective = "effective sample size of the smaller arm after weighting by inverse propensity, as a share of its patients"
    values = [
        ("E-value", sensitivity.e_value, sensitivity.words, "sensitivity to an unmeasured trial effect"),
        ("E-value of the interval", sensitivity.e_value_interval, sensitivity.words, "sensitivity to an unmeasured trial effect"),
        ("covariate overlap, share in common", propensity["share_in_common"], common, "overlap of baseline covariates"),
        ("covariate overlap, effective share", propensity["effective_share"], effective, "overlap of baseline covariates"),
    ]
    names = ("measure", "estimate", "estimand", "estimator")
    empty = ("se", "lower", "upper", "level", "p_value", "se_patient", "se_monte_carlo")
    columns = {name: [value[k] for value in values] for k, name in enumerate(names)}
    return pd.concat([row] * len(values), ignore_index=True).assign(**columns, **dict.fromkeys(empty, np.nan))
