"""Baselines behind the generator's protocol, and the scores that compare them on the same patients."""

from __future__ import annotations

from studies.baselines.count_network import CountForecaster, train_count_network
from studies.baselines.global_context import GlobalContextForecaster, train_global_context
from studies.baselines.lineage import LineageForecaster, train_lineage
from studies.baselines.protocol import FactorisedDiffusion, Forecaster
from studies.baselines.risk_map import RiskMapForecaster, train_risk_map
from studies.baselines.stochastic_segmentation import (
    StochasticSegmentationForecaster,
    train_stochastic_segmentation,
)

__all__ = [
    "CountForecaster",
    "FactorisedDiffusion",
    "Forecaster",
    "GlobalContextForecaster",
    "LineageForecaster",
    "RiskMapForecaster",
    "StochasticSegmentationForecaster",
    "train_count_network",
    "train_global_context",
    "train_lineage",
    "train_risk_map",
    "train_stochastic_segmentation",
]
