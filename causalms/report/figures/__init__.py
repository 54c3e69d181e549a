"""Figures in one house style: tidy table in, matplotlib figure with its alternative text out."""

from __future__ import annotations

from causalms.report.figures.anatomy import lesion_frequency, risk_maps, voxel_risk
from causalms.report.figures.benefit import benefit_comparisons, benefit_curves, benefit_groups
from causalms.report.figures.borrowing import conflict_grid
from causalms.report.figures.calibration import coverage, pit_curve, pit_histogram, reliability, rootogram
from causalms.report.figures.counterfactual import bounds_page, counterfactual_pages, diagnostics_page
from causalms.report.figures.effects import agreement_scatter, bounds_over_rho, count_distribution, learning_curve
from causalms.report.figures.forest import benchmark_bars, effect_forest, subgroup_forest
from causalms.report.figures.injected import injection
from causalms.report.figures.recurrent import mean_cumulative_functions, tipping_point_curve
from causalms.report.figures.registered_scans import registration
from causalms.report.figures.training import training_log
from causalms.report.style import save_figure

__all__ = [
    "agreement_scatter",
    "benchmark_bars",
    "benefit_comparisons",
    "benefit_curves",
    "benefit_groups",
    "bounds_over_rho",
    "bounds_page",
    "conflict_grid",
    "count_distribution",
    "counterfactual_pages",
    "coverage",
    "diagnostics_page",
    "effect_forest",
    "injection",
    "learning_curve",
    "lesion_frequency",
    "mean_cumulative_functions",
    "pit_curve",
    "pit_histogram",
    "registration",
    "reliability",
    "risk_maps",
    "rootogram",
    "save_figure",
    "subgroup_forest",
    "tipping_point_curve",
    "training_log",
    "voxel_risk",
]
