"""Baselines are trained on the same handful of phantom patients as the tiny generator they are compared with."""

from __future__ import annotations

from tests.generator.conftest import _one_thread, tiny, trial

__all__ = ["_one_thread", "tiny", "trial"]
