"""For whom treatment works: prespecified subgroups, interaction, shrinkage, and who benefits."""

from causalms.subgroups.benefit import Benefit, benefit, predict_from_draws
from causalms.subgroups.cross_fitting import cross_fit, cross_fitted_benefit
from causalms.subgroups.curves import benefit_curves
from causalms.subgroups.forest import Forest, forest
from causalms.subgroups.heterogeneity import benefit_groups, best_linear_predictor
from causalms.subgroups.interaction import Interaction, holm, interaction_test
from causalms.subgroups.policy import policy_value, who_is_treated
from causalms.subgroups.ranking import ranking
from causalms.subgroups.simulated import simulated_forest
from causalms.subgroups.treatment_choice import Choice, choose_treatment
from causalms.subgroups.who_benefits import benefit_results, who_benefits

__all__ = [
    "Benefit",
    "Choice",
    "Forest",
    "Interaction",
    "benefit",
    "benefit_curves",
    "benefit_groups",
    "benefit_results",
    "best_linear_predictor",
    "choose_treatment",
    "cross_fit",
    "cross_fitted_benefit",
    "forest",
    "holm",
    "interaction_test",
    "policy_value",
    "predict_from_draws",
    "ranking",
    "simulated_forest",
    "who_benefits",
    "who_is_treated",
]
