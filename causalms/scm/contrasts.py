"""One contrast and what must stand beside it: is it randomised, and if not, what it assumes and what would erase it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalms.scm.population import population_effect
from causalms.scm.transport import (
    BASELINE,
    Sensitivity,
    Support,
    covariate_overlap,
    support,
    trial_effect_benchmark,
    unmeasured_trial_effect,
)
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

    Raises
    ------
    RefusalError
        If nobody was randomised to an arm, or a transported contrast has no overlap.
    """
    found = support(participants, arm, reference)
    row = population_effect(table, arm, reference, found.randomised, week, outcome, "ratio")
    if found.randomised:
        return Contrast(row, found)
    overlap = covariate_overlap(participants, arm, reference, columns)
    benchmark = np.nan
    observed = net2_column(int(table["visit_week"].iloc[0] if week is None else week))
    if observed in participants:
        ratios = trial_effect_benchmark(participants, observed, columns)["ratio"].to_numpy(float)
        benchmark = float(np.max(np.maximum(ratios, 1 / ratios))) if len(ratios) else np.nan
    ratio, lower, upper = (float(row[c].iloc[0]) for c in ("estimate", "lower", "upper"))
    sensitivity = unmeasured_trial_effect(ratio, lower, upper, benchmark)
    row = row.assign(estimand=f"{row['estimand'].iloc[0]}; transported: {found.assumption}")
    values = [("E-value", sensitivity.e_value), ("E-value of the interval", sensitivity.e_value_interval)]
    e_values = pd.concat([row] * 2, ignore_index=True).assign(
        measure=[name for name, _ in values],
        estimate=[value for _, value in values],
        estimand=sensitivity.words,
        estimator="sensitivity to an unmeasured trial effect",
        **dict.fromkeys(("se", "lower", "upper", "level", "p_value", "se_patient", "se_monte_carlo"), np.nan),
    )
    return Contrast(pd.concat([row, e_values], ignore_index=True), found, overlap, sensitivity)
