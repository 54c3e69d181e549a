"""Counterfactual queries and treatment effects for multiple-sclerosis imaging trials.

What would this patient, this arm, this subgroup have had under another drug?  Not for clinical use.
"""

from __future__ import annotations

import importlib
from typing import Any

from causalms.errors import optional_packages

__version__ = "0.1.0"

_ROOMS = (
    "tables",
    "stats",
    "lesions",
    "trials",
    "phantom",
    "generator",
    "effects",
    "causal",
    "calibration",
    "subgroups",
    "benefit",
    "agreement",
    "report",
)
_NAMES = {
    "LesionRule": "causalms.lesions",
    "Space": "causalms.trials",
    "Trial": "causalms.trials",
    "load_trial": "causalms.trials",
    "simulate_trial": "causalms.phantom",
    "CausalModel": "causalms.causal",
}

__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    """Load a room or a public name when it is first used, so that ``import causalms`` stays fast."""
    with optional_packages():
        if name in _ROOMS:
            return importlib.import_module(f"causalms.{name}")
        if name in _NAMES:
            return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'causalms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
