"""Treatment effects in prespecified subgroups: forest, interaction, shrinkage."""

from __future__ import annotations

from causalms.subgroups.forest import Forest, forest
from causalms.subgroups.interaction import Interaction, interaction_test
from causalms.subgroups.simulated import simulated_forest

__all__ = [
    "Forest",
    "Interaction",
    "forest",
    "interaction_test",
    "simulated_forest",
]
