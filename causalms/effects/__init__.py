"""Treatment effects on tables: estimands, estimators, variances, contrasts.

A trial statistician without images starts at :func:`analyse` or :func:`estimate`; no image or deep-learning library is loaded.
"""

from __future__ import annotations

from causalms.effects.analysis import Analysis, analyse
from causalms.effects.draws import patient_means
from causalms.effects.estimands import MEASURES, Estimand
from causalms.effects.estimate import estimate
from causalms.effects.simulated import analyse_draws

__all__ = ["MEASURES", "Analysis", "Estimand", "analyse", "analyse_draws", "estimate", "patient_means"]
