"""Treatment effects on tables: estimands, estimators, variances, contrasts.

A trial statistician without images starts at :func:`analyse` or :func:`estimate`; no image or deep-learning library is loaded.
"""

from __future__ import annotations

from causalms.effects.adam import bds_table, read_adam, write_xpt
from causalms.effects.analysis_results_data import reporting_event, results_data
from causalms.effects.any_table import Effects, estimate
from causalms.effects.borrowed_effect import LogRates, borrow, conflict_words, log_rates, operating_characteristics
from causalms.effects.borrowing import (
    PRIORS,
    ControlSource,
    control_prior,
    historical_sources,
    meta_analytic_predictive,
    simulated_source,
)
from causalms.effects.carried_columns import recomputation
from causalms.effects.columns import independent_columns
from causalms.effects.comparisons import METHODS as MULTIPLICITY_METHODS
from causalms.effects.comparisons import compare_arms
from causalms.effects.contrasts import transformed
from causalms.effects.covariance import influence_values
from causalms.effects.custom import custom_contrast, weighted_contrast
from causalms.effects.data import Design
from causalms.effects.design import CHOICES, COEFFICIENTS, Method, MissingOutcomes, grouped_arguments
from causalms.effects.draws import is_draws_table, patient_effects, patient_means, taking_the_model_for_true
from causalms.effects.estimands import MEASURES, Estimand, Measure, measure_named
from causalms.effects.external_controls import external_control
from causalms.effects.intercurrent import STRATEGY_NAMES, IntercurrentEvents, patients_with_strategy, with_strategy
from causalms.effects.margins import CLAIMS, margin_tests
from causalms.effects.missing import STRATEGIES, effects_with_missing_outcomes
from causalms.effects.observed import Analysis, analyse
from causalms.effects.own_counts import counts_against_draws, own_counts_words
from causalms.effects.planning import NULL_VARIANCES, Planning, Schedule, prospective_power, sample_size, scan_schedules
from causalms.effects.printing import interval, model_error_words, number, page, simulated_page, simulated_words, text_columns
from causalms.effects.prognostic import cross_fitted, savings
from causalms.effects.programs import ProgramInput, r_program
from causalms.effects.publication import write_publication
from causalms.effects.reference_imputation import ASSUMPTIONS, VisitImputation, impute_visits, tipping_point
from causalms.effects.sas_programs import sas_program
from causalms.effects.sensitivity import ZERO_MODELS, zero_sensitivity
from causalms.effects.simulated import analyse_draws, given_model, mean_variances
from causalms.effects.transport import transport_weights, transported_effect
from causalms.effects.variance import coefficient_covariance
from causalms.effects.visit_data import Visits
from causalms.effects.visits import VISIT_CHOICES, VisitMethod, analyse_visits

__all__ = [
    "ASSUMPTIONS",
    "CHOICES",
    "CLAIMS",
    "COEFFICIENTS",
    "MEASURES",
    "MULTIPLICITY_METHODS",
    "NULL_VARIANCES",
    "PRIORS",
    "STRATEGIES",
    "STRATEGY_NAMES",
    "VISIT_CHOICES",
    "ZERO_MODELS",
    "Analysis",
    "ControlSource",
    "Design",
    "Effects",
    "Estimand",
    "IntercurrentEvents",
    "LogRates",
    "Measure",
    "Method",
    "MissingOutcomes",
    "Planning",
    "ProgramInput",
    "Schedule",
    "VisitImputation",
    "VisitMethod",
    "Visits",
    "analyse",
    "analyse_draws",
    "analyse_visits",
    "bds_table",
    "borrow",
    "coefficient_covariance",
    "compare_arms",
    "conflict_words",
    "control_prior",
    "counts_against_draws",
    "cross_fitted",
    "custom_contrast",
    "effects_with_missing_outcomes",
    "estimate",
    "external_control",
    "given_model",
    "grouped_arguments",
    "historical_sources",
    "impute_visits",
    "independent_columns",
    "influence_values",
    "interval",
    "is_draws_table",
    "log_rates",
    "margin_tests",
    "mean_variances",
    "measure_named",
    "meta_analytic_predictive",
    "model_error_words",
    "number",
    "operating_characteristics",
    "own_counts_words",
    "page",
    "patient_effects",
    "patient_means",
    "patients_with_strategy",
    "prospective_power",
    "r_program",
    "read_adam",
    "recomputation",
    "reporting_event",
    "results_data",
    "sample_size",
    "sas_program",
    "savings",
    "scan_schedules",
    "simulated_page",
    "simulated_source",
    "simulated_words",
    "taking_the_model_for_true",
    "text_columns",
    "tipping_point",
    "transformed",
    "transport_weights",
    "transported_effect",
    "weighted_contrast",
    "with_strategy",
    "write_publication",
    "write_xpt",
    "zero_sensitivity",
]
