"""One row of the results table of a statistic of predicted benefit."""

from __future__ import annotations

from typing import Any

from causalms.benefit.predict import Benefit


def benefit_row(data: Benefit, analysis: str, measure: str, estimand: str, variance: str, **numbers: Any) -> dict[str, Any]:
    """What every such row shares, and its own numbers (``estimate``, ``se``, ``lower``, ...)."""
    return {
        "analysis": f"benefit: {analysis}",
        "population": data.population,
        "subgroup": "all",
        "arm": data.drug,
        "reference": data.reference,
        "measure": measure,
        "estimand": estimand,
        "estimator": "augmented inverse-probability scores, predictions held out",
        "variance": variance,
        "n": data.n,
        "se_patient": numbers.get("se"),
        "randomised": True,
        "rung": 2,
        **numbers,
    }
