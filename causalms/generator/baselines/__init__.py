"""Baselines behind the generator's protocol, and the scores that compare them on the same patients."""

from __future__ import annotations

from causalms.generator.baselines.climatology import Climatology, fit_climatology
from causalms.generator.baselines.count_network import CountForecaster, train_count_network
from causalms.generator.baselines.global_context import GlobalContextForecaster, train_global_context
from causalms.generator.baselines.lineage import LineageForecaster, train_lineage
from causalms.generator.baselines.protocol import FactorisedDiffusion, Forecaster
from causalms.generator.baselines.regression import ColumnRegression, fit_regression
from causalms.generator.baselines.scoring import SeenPatient, judge_masks, judge_places
from causalms.generator.baselines.stochastic_segmentation import (
    StochasticSegmentationForecaster,
    train_stochastic_segmentation,
)

__all__ = [
    "Climatology",
    "ColumnRegression",
    "CountForecaster",
    "FactorisedDiffusion",
    "Forecaster",
    "GlobalContextForecaster",
    "LineageForecaster",
    "SeenPatient",
    "StochasticSegmentationForecaster",
    "fit_climatology",
    "fit_regression",
    "judge_masks",
    "judge_places",
    "train_count_network",
    "train_global_context",
    "train_lineage",
    "train_stochastic_segmentation",
]
