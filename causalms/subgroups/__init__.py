"""Treatment effects in prespecified subgroups: forest, interaction, shrinkage."""

from __future__ import annotations

from causalms.subgroups.interaction import Interaction, interaction_test
from causalms.subgroups.observed import SubgroupAnalysis, forest
from causalms.subgroups.shrinkage import Shrinkage, ShrinkageModel, shrink
from causalms.subgroups.simulated import simulated_forest
from causalms.subgroups.table import Forest

__all__ = [
    "Forest",
    "Interaction",
    "Shrinkage",
    "ShrinkageModel",
    "SubgroupAnalysis",
    "forest",
    "interaction_test",
    "shrink",
    "simulated_forest",
]
