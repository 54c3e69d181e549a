"""Simulated trials whose potential outcomes are all known."""

from __future__ import annotations

from causalms.phantom.design import Design, load_design

__all__ = ["Design", "load_design"]
