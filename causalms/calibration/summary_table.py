"""A judgement at a glance: one line a group."""

from __future__ import annotations

import pandas as pd

#: Column of the summary: measure and column of the results table.
_CELLS = {
    "patients": ("CRPS", "n"),
    "observed / predicted": ("observed / predicted mean count", "estimate"),
    "lower": ("observed / predicted mean count", "lower"),
    "upper": ("observed / predicted mean count", "upper"),
    "p PIT": ("largest deviation of the PIT histogram from 1", "p_value"),
    "CRPS": ("CRPS", "estimate"),
    "p CRPS": ("CRPS", "p_value"),
    "MCB": ("miscalibration of counts (CRPS)", "estimate"),
    "p MCB": ("miscalibration of counts (CRPS)", "p_value"),
    "DSC": ("discrimination of counts (CRPS)", "estimate"),
    "UNC": ("uncertainty of counts (CRPS)", "estimate"),
    "log score": ("log score", "estimate"),
    "Brier": ("Brier score of activity", "estimate"),
    "p activity": ("miscalibration of activity (Brier)", "p_value"),
    "in 90%": ("coverage of 90% prediction intervals", "estimate"),
    "p 90%": ("coverage of 90% prediction intervals", "p_value"),
}


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row an analysis and group of :func:`causalms.calibration.assess`'s results.

    Returns
    -------
    DataFrame
        ``analysis``, ``group``, ``patients``, ``observed / predicted`` mean count with interval, p of the PIT band, CRPS = MCB
        (miscalibration) - DSC (discrimination) + UNC (uncertainty) with p of CRPS and of MCB, log score, Brier score and p of
        activity, and the share of patients in their 90% prediction interval with its p.

    Examples
    --------
    >>> from causalms.calibration import Pairs, assess
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([0.5, 2.0] * 20, [0.8] * 40)
    >>> frame = pd.DataFrame({"arm": "placebo", "observed": [0, 0, 0, 1, 1, 2, 0, 5] * 5})
    >>> found = summary(assess(Pairs(frame, law, law.activity, 48), repetitions=19).results)
    >>> found[["group", "patients", "observed / predicted"]].round(2).values.tolist()
    [['all', 40.0, 0.9]]
    """
    rows = []
    for (analysis, group), part in results.groupby(["analysis", "subgroup"], sort=False):
        by = {
            column: part.set_index("measure")[column].astype(float) for column in ("estimate", "lower", "upper", "p_value", "n")
        }
        cells = {name: float(by[column][measure]) for name, (measure, column) in _CELLS.items()}
        rows.append({"analysis": analysis, "group": group, **cells})
    return pd.DataFrame(rows)
