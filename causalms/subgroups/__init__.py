"""Treatment effects in prespecified subgroups: forest, interaction, shrinkage."""

from __future__ import annotations

from causalms.subgroups.interaction import Interaction, interaction_test
from causalms.subgroups.shrinkage import shrink
from causalms.subgroups.simulated import simulated_forest
from causalms.subgroups.subgroup_effects import Forest, forest

__all__ = [
    "Forest",
    "Interaction",
    "forest",
    "interaction_test",
    "shrink",
    "simulated_forest",
]
