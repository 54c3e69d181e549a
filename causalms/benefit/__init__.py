"""Who benefits: predicted benefit, and what randomisation says of it."""

from __future__ import annotations

from causalms.benefit.benefit_results import who_benefits
from causalms.benefit.cross_fitting import cross_fit, cross_fitted_benefit
from causalms.benefit.heterogeneity import benefit_curves, benefit_groups, best_linear_predictor, ranking
from causalms.benefit.policy import Policies, policy_value
from causalms.benefit.predict import Benefit, Comparison, benefit, predict_from_draws
from causalms.benefit.statistics import Inference
from causalms.benefit.treatment_choice import choose_treatment

__all__ = [
    "Benefit",
    "Comparison",
    "Inference",
    "Policies",
    "benefit",
    "benefit_curves",
    "benefit_groups",
    "best_linear_predictor",
    "choose_treatment",
    "cross_fit",
    "cross_fitted_benefit",
    "policy_value",
    "predict_from_draws",
    "ranking",
    "who_benefits",
]
