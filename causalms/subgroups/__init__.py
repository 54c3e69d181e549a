"""For whom does treatment work?  Prespecified subgroups, interaction, shrinkage, and who benefits."""

from causalms.subgroups.forest import Forest, forest
from causalms.subgroups.interaction import Interaction, holm, interaction_test
from causalms.subgroups.simulated import simulated_forest

__all__ = ["Forest", "Interaction", "forest", "holm", "interaction_test", "simulated_forest"]
