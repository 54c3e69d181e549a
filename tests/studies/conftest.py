"""The trials and models that studies are tested on are those of the rooms they study."""

from __future__ import annotations

from tests.causal.conftest import big_table, gaussian, gaussian_table, make_outcomes, make_participants, table, truth
from tests.effects.conftest import trial

__all__ = ["big_table", "gaussian", "gaussian_table", "make_outcomes", "make_participants", "table", "trial", "truth"]
