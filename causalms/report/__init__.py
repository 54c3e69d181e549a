"""Reports: figures in one style, results tables that say where every number comes from, one self-contained HTML file."""

from __future__ import annotations

import importlib
from typing import Any

from causalms.report.credibility import (
    DEMONSTRATION,
    CredibilityPlan,
    Criterion,
    Judgement,
    Plan,
    Verdict,
    judge,
    read_credibility,
)
from causalms.report.document import Report
from causalms.report.methods import assumptions, methods_paragraphs

__all__ = [
    "DEMONSTRATION",
    "CredibilityPlan",
    "Criterion",
    "Judgement",
    "Plan",
    "Report",
    "Verdict",
    "assumptions",
    "figures",
    "judge",
    "methods_paragraphs",
    "read_credibility",
]


def __getattr__(name: str) -> Any:
    """Load the figures, and with them matplotlib, when they are first used."""
    if name == "figures":
        return importlib.import_module("causalms.report.figures")
    raise AttributeError(f"module 'causalms.report' has no attribute {name!r}")
