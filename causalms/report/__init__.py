"""Reports: figures in one style, results tables that say where every number comes from, one self-contained HTML file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from causalms.report.credibility import DEMONSTRATION, read_credibility
from causalms.report.document import Report
from causalms.report.recomputation import RECOMPUTE

if TYPE_CHECKING:
    from causalms.report import figures
    from causalms.report.page import write_report

__all__ = [
    "DEMONSTRATION",
    "RECOMPUTE",
    "Report",
    "figures",
    "read_credibility",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load the figures, and with them matplotlib, when they are first used."""
    if name == "figures":
        return importlib.import_module("causalms.report.figures")
    if name == "write_report":
        return importlib.import_module("causalms.report.page").write_report
    raise AttributeError(f"module 'causalms.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
