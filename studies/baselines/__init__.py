"""Baselines behind the generator's protocol, and the scores that compare them on the same patients."""

from __future__ import annotations

from studies.baselines.climatology import Climatology, fit_climatology
from studies.baselines.count_network import CountForecaster, train_count_network
from studies.baselines.global_context import GlobalContextForecaster, train_global_context
from studies.baselines.lineage import LineageForecaster, train_lineage
from studies.baselines.protocol import FactorisedDiffusion, Forecaster
from studies.baselines.regression import ColumnRegression, fit_regression
from studies.baselines.scoring import SeenPatient, judge_masks, judge_places
from studies.baselines.stochastic_segmentation import (
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
