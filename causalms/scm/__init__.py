"""Causal queries over an outcome mechanism: rung 2, rung 3 with its bounds, and their diagnostics."""

from causalms.scm import against_truth, axioms, truth
from causalms.scm.bounds import Bounds, Law, activity_harm_bounds, benefit_bounds, frechet_hoeffding, harm_bounds, makarov
from causalms.scm.contrasts import Contrast, contrast, contrasts_with_reference
from causalms.scm.counts import NegativeBinomialMechanism
from causalms.scm.diagnostics import THRESHOLDS, diagnose, diagnostics_table
from causalms.scm.individual import benefit_and_harm, individual_effects, rung_three_results
from causalms.scm.interventions import Intervention, distribution, policy, read_policy, shift, value
from causalms.scm.mechanism import COUPLINGS, Expected, Mechanism, MechanismBase, Noise, Outcome, Subject
from causalms.scm.model import CausalModel, write_draws
from causalms.scm.population import common_noise_factor, patient_effects, policy_values, population_effect
from causalms.scm.recalibration import Recalibration, recalibrate
from causalms.scm.sweep import rho_sweep
from causalms.scm.transport import (
    covariate_overlap,
    refuse_without_support,
    support,
    trial_effect_benchmark,
    unmeasured_trial_effect,
)

__all__ = [
    "COUPLINGS",
    "THRESHOLDS",
    "Bounds",
    "CausalModel",
    "Contrast",
    "Expected",
    "Intervention",
    "Law",
    "Mechanism",
    "MechanismBase",
    "NegativeBinomialMechanism",
    "Noise",
    "Outcome",
    "Recalibration",
    "Subject",
    "activity_harm_bounds",
    "against_truth",
    "axioms",
    "benefit_and_harm",
    "benefit_bounds",
    "common_noise_factor",
    "contrast",
    "contrasts_with_reference",
    "covariate_overlap",
    "diagnose",
    "diagnostics_table",
    "distribution",
    "frechet_hoeffding",
    "harm_bounds",
    "individual_effects",
    "makarov",
    "patient_effects",
    "policy",
    "policy_values",
    "population_effect",
    "read_policy",
    "recalibrate",
    "refuse_without_support",
    "rho_sweep",
    "rung_three_results",
    "shift",
    "support",
    "trial_effect_benchmark",
    "truth",
    "unmeasured_trial_effect",
    "value",
    "write_draws",
]
