"""Statistics that know nothing of trials or lesions: fits, laws of counts, scores, dispersion, bands, multiplicity."""

from __future__ import annotations

from causalms.stats.balancing import EntropyBalance, entropy_balance
from causalms.stats.bands import Band, simultaneous_band
from causalms.stats.batched import Batch, BatchFit, fit_batch
from causalms.stats.count_laws import CountLaw, DrawsLaw, NegativeBinomialLaw
from causalms.stats.count_sums import CountSums
from causalms.stats.dispersion import adjusted_alpha, adjusted_alphas
from causalms.stats.glm import FAMILIES, LOG_LINK, Array, Family, Fit, fit_model, inverse_link
from causalms.stats.multiplicity import adjusted_p_values, with_adjusted_p_values
from causalms.stats.negbin import log_likelihood, observed_information
from causalms.stats.randomness import keyed_generator
from causalms.stats.scores import SCORES, score

__all__ = [
    "FAMILIES",
    "LOG_LINK",
    "SCORES",
    "Array",
    "Band",
    "Batch",
    "BatchFit",
    "CountLaw",
    "CountSums",
    "DrawsLaw",
    "EntropyBalance",
    "Family",
    "Fit",
    "NegativeBinomialLaw",
    "adjusted_alpha",
    "adjusted_alphas",
    "adjusted_p_values",
    "entropy_balance",
    "fit_batch",
    "fit_model",
    "inverse_link",
    "keyed_generator",
    "log_likelihood",
    "observed_information",
    "score",
    "simultaneous_band",
    "with_adjusted_p_values",
]
