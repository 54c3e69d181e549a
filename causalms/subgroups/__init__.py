"""Treatment effects in prespecified subgroups: forest, interaction, shrinkage."""

from __future__ import annotations

from causalms.subgroups.global_model import MainEffects
from causalms.subgroups.interaction import interaction_test
from causalms.subgroups.observed import SubgroupAnalysis, forest, simulated_forest
from causalms.subgroups.shrinkage import Shrinkage, ShrinkageModel, shrink
from causalms.subgroups.table import Forest

__all__ = [
    "Forest",
    "MainEffects",
    "Shrinkage",
    "ShrinkageModel",
    "SubgroupAnalysis",
    "forest",
    "interaction_test",
    "shrink",
    "simulated_forest",
]
