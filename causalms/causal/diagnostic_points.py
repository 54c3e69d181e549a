"""What the one-page figure of a counterfactual run draws, as a small tidy table: points, not judgements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.causal.patient_check import PatientCheck

POINT_COLUMNS = ("diagnostic", "series", "x", "y", "n")


def figure_points(found: Sequence[PatientCheck], observed: np.ndarray) -> pd.DataFrame:
    """Points of every panel, counted where they coincide.

    Parameters
    ----------
    found : sequence of PatientCheck
    observed : array
        Observed counts of the patients randomised to the other arm.

    Returns
    -------
    DataFrame
        diagnostic, series, x, y, n: factual count against pushed-back count (composition) and against the count after
        A -> B -> A and after a redraw (reversibility); share of patients with at most x lesions (marginal, effectiveness);
        quantile of N(0, 1) against quantile of the abducted noise, by component (noise).
    """
    fact = np.concatenate([np.full(len(c.composed), c.factual) for c in found])

    def pooled(name: str) -> np.ndarray:
        return np.concatenate([getattr(c, name) for c in found])

    parts = [
        _pairs("composition", "pushed back", fact, pooled("composed")),
        _pairs("reversibility", "there and back", fact, pooled("returned")),
        _pairs("reversibility", "independent redraw", fact, pooled("redrawn")),
        _shares("marginal", "counterfactual", pooled("counterfactual")),
        _shares("marginal", "do()", pooled("interventional")),
        _shares("effectiveness", "do(), model", pooled("interventional")),
        _shares("effectiveness", "randomised, observed", observed),
    ]
    for name in found[0].scores if found else ():
        parts.append(_quantiles(name, np.concatenate([c.scores[name] for c in found])))
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
