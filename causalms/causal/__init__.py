"""Causal queries over an outcome mechanism: rung 2, rung 3 with its bounds, and their diagnostics."""

from causalms.causal.bounds import Law, activity_harm_bounds, benefit_bounds, harm_bounds
from causalms.causal.cohort import Running
from causalms.causal.contrasts import contrast, contrasts_with_reference, support
from causalms.causal.controls import negative_controls
from causalms.causal.diagnostics import THRESHOLDS, diagnostics_table
from causalms.causal.evidence import as_trial
from causalms.causal.individual import benefit_and_harm, individual_effects, rung_three_results
from causalms.causal.interventions import Intervention, distribution, policy, read_policy, shift, value
from causalms.causal.mechanism import COUPLINGS, Expected, Mechanism, MechanismBase, Noise, Outcome, Subject
from causalms.causal.mechanisms.negative_binomial import NegativeBinomialMechanism
from causalms.causal.model import CausalModel, Twin, write_draws
from causalms.causal.population import common_noise_factor, patient_effects, policy_values
from causalms.causal.query import Query
from causalms.causal.recalibration import recalibrate, recalibrated
from causalms.causal.shards import merge_draws
from causalms.causal.sweep import rho_sweep
from causalms.causal.transport import covariate_overlap, trial_effect_benchmark, unmeasured_trial_effect
from causalms.causal.worlds import world_seed

__all__ = [
    "COUPLINGS",
    "THRESHOLDS",
    "CausalModel",
    "Expected",
    "Intervention",
    "Law",
    "Mechanism",
    "MechanismBase",
    "NegativeBinomialMechanism",
    "Noise",
    "Outcome",
    "Query",
    "Running",
    "Subject",
    "Twin",
    "activity_harm_bounds",
    "as_trial",
    "benefit_and_harm",
    "benefit_bounds",
    "common_noise_factor",
    "contrast",
    "contrasts_with_reference",
    "covariate_overlap",
    "diagnostics_table",
    "distribution",
    "harm_bounds",
    "individual_effects",
    "merge_draws",
    "negative_controls",
    "patient_effects",
    "policy",
    "policy_values",
    "read_policy",
    "recalibrate",
    "recalibrated",
    "rho_sweep",
    "rung_three_results",
    "shift",
    "support",
    "trial_effect_benchmark",
    "unmeasured_trial_effect",
    "value",
    "world_seed",
    "write_draws",
]
