"""Statistics that know nothing of trials or lesions: fits, laws of counts, scores, dispersion, bands, multiplicity."""

from __future__ import annotations

from causalms.stats.balancing import entropy_balance
from causalms.stats.batched import Batch, BatchFit, fit_batch
from causalms.stats.count_laws import CountLaw, DrawsLaw, NegativeBinomialLaw, TalliedLaw, interval_positions
from causalms.stats.firth import fit_firth, penalised_likelihood
from causalms.stats.gee import STRUCTURES, GeeFit, fit_gee
from causalms.stats.glm import FAMILIES, LOG_LINK, Array, Family, Fit, inverse_link, mean_slope, pearson_chi_square
from causalms.stats.lacking_inputs import Forecasts, LackingInputs, correction_for, fit_lacking_inputs
from causalms.stats.mixtures import NormalMixture
from causalms.stats.model_error import ColumnSummary, ErrorModel
from causalms.stats.model_error_fit import HeldOutCounts, fit_error_model
from causalms.stats.model_error_update import Update, update_error_model
from causalms.stats.multiplicity import METHODS as MULTIPLICITY_METHODS
from causalms.stats.multiplicity import (
    adjusted_p_values,
    graphical_p_values,
    probability_within,
    simultaneous_critical_value,
    with_adjusted_p_values,
)
from causalms.stats.negbin import FULL_WEIGHT, adjusted_alphas, log_likelihood, observed_information
from causalms.stats.normal import normal_cdf, normal_quantile
from causalms.stats.own_counts import OwnCounts, own_counts_test
from causalms.stats.quantiles import median, sorted_quantiles
from causalms.stats.recurrent import TIES, Intervals, fit_rates, mean_cumulative
from causalms.stats.resampling import (
    acceleration,
    bias_correction,
    bootstrap_ends,
    extreme_permutations,
    keyed_generator,
    mean_differences,
    permuted_labels,
    resampling_weights,
    welch_statistics,
)
from causalms.stats.scores import SCORES, moment_law, others_moments, pool_ranks, pool_scores, score
from causalms.stats.shared_frailty import FrailtyFit, fit_shared_frailty
from causalms.stats.single_fit import fit_model, fit_or_limit, goodness
from causalms.stats.zero_models import ZeroModel, fit_zero_model

__all__ = [
    "FAMILIES",
    "FULL_WEIGHT",
    "LOG_LINK",
    "MULTIPLICITY_METHODS",
    "SCORES",
    "STRUCTURES",
    "TIES",
    "Array",
    "Batch",
    "BatchFit",
    "ColumnSummary",
    "CountLaw",
    "DrawsLaw",
    "ErrorModel",
    "Family",
    "Fit",
    "Forecasts",
    "FrailtyFit",
    "GeeFit",
    "HeldOutCounts",
    "Intervals",
    "LackingInputs",
    "NegativeBinomialLaw",
    "NormalMixture",
    "OwnCounts",
    "TalliedLaw",
    "Update",
    "ZeroModel",
    "acceleration",
    "adjusted_alphas",
    "adjusted_p_values",
    "bias_correction",
    "bootstrap_ends",
    "correction_for",
    "entropy_balance",
    "extreme_permutations",
    "fit_batch",
    "fit_error_model",
    "fit_firth",
    "fit_gee",
    "fit_lacking_inputs",
    "fit_model",
    "fit_or_limit",
    "fit_rates",
    "fit_shared_frailty",
    "fit_zero_model",
    "goodness",
    "graphical_p_values",
    "interval_positions",
    "inverse_link",
    "keyed_generator",
    "log_likelihood",
    "mean_cumulative",
    "mean_differences",
    "mean_slope",
    "median",
    "moment_law",
    "normal_cdf",
    "normal_quantile",
    "observed_information",
    "others_moments",
    "own_counts_test",
    "pearson_chi_square",
    "penalised_likelihood",
    "permuted_labels",
    "pool_ranks",
    "pool_scores",
    "probability_within",
    "resampling_weights",
    "score",
    "simultaneous_critical_value",
    "sorted_quantiles",
    "update_error_model",
    "welch_statistics",
    "with_adjusted_p_values",
]
