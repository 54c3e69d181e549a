"""Counterfactual queries and treatment effects for multiple-sclerosis imaging trials.

What would this patient, this arm, this subgroup have had under another drug?  Not for clinical use.

=====================================================  ==============================================================
Trials                                                 load_trial, simulate_trial, check_trial, Trial
Other drugs, same patients                             CausalModel, Running
Effects of arms                                        estimate, analyse, Design, Method, sample_size
Who has more of the effect                             forest, shrink, who_benefits
Are forecasts right                                    pair, assess, conformal
Are simulated effects those of randomised arms         agree, agree_published
What readers see                                       write_report, figures
Tables and lesions                                     read_table, write_table, LesionRule
=====================================================  ==============================================================

Everything else stands in the rooms, ``causalms.effects`` and its like, which load when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from causalms.errors import optional_packages

__version__ = "0.1.0"

__all__ = [
    "CausalModel",
    "Design",
    "LesionRule",
    "Method",
    "Running",
    "Trial",
    "agree",
    "agree_published",
    "analyse",
    "assess",
    "check_trial",
    "conformal",
    "estimate",
    "figures",
    "forest",
    "load_trial",
    "pair",
    "read_table",
    "sample_size",
    "shrink",
    "simulate_trial",
    "who_benefits",
    "write_report",
    "write_table",
]

#: The room of each public name.
_ROOM_OF_NAME = {
    **dict.fromkeys(("load_trial", "check_trial", "Trial"), "trials"),
    "simulate_trial": "phantom",
    **dict.fromkeys(("CausalModel", "Running"), "causal"),
    **dict.fromkeys(("estimate", "analyse", "Design", "Method", "sample_size"), "effects"),
    **dict.fromkeys(("forest", "shrink"), "subgroups"),
    "who_benefits": "benefit",
    **dict.fromkeys(("pair", "assess", "conformal"), "calibration"),
    **dict.fromkeys(("agree", "agree_published"), "agreement"),
    **dict.fromkeys(("write_report", "figures"), "report"),
    **dict.fromkeys(("read_table", "write_table"), "tables"),
    "LesionRule": "lesions",
}
_ROOMS = {*_ROOM_OF_NAME.values(), "stats", "generator"}


def __getattr__(name: str) -> Any:
    """Load a public name or a room when it is first used, so that ``import causalms`` stays fast."""
    with optional_packages():
        if name in _ROOM_OF_NAME:
            return getattr(importlib.import_module(f"causalms.{_ROOM_OF_NAME[name]}"), name)
        if name in _ROOMS:
            return importlib.import_module(f"causalms.{name}")
    raise AttributeError(f"module 'causalms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
