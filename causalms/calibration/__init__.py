"""Are predictive count distributions calibrated?  Judged patient by patient against the arm each was randomised to."""

from causalms.calibration.assessment import Assessment, assess, heading, summary
from causalms.calibration.carried_forecasts import forecasts_again
from causalms.calibration.decomposition import decomposition
from causalms.calibration.pairs import Pairs, Sources, pair
from causalms.calibration.pit import coverage_table, pit_curve, pit_ends, pit_histogram
from causalms.calibration.recalibration import ConformalSets, Recalibration, conformal, recalibrate, split
from causalms.calibration.reliability import reliability, rootogram
from causalms.calibration.spatial import (
    RiskMap,
    frequency_maps,
    place_scores,
    region_calibration,
    region_volumes,
    risk_maps,
    voxel_reliability,
)
from causalms.calibration.tallied import assess_tallied
from causalms.calibration.tests import calibration_test

__all__ = [
    "Assessment",
    "ConformalSets",
    "Pairs",
    "Recalibration",
    "RiskMap",
    "Sources",
    "assess",
    "assess_tallied",
    "calibration_test",
    "conformal",
    "coverage_table",
    "decomposition",
    "forecasts_again",
    "frequency_maps",
    "heading",
    "pair",
    "pit_curve",
    "pit_ends",
    "pit_histogram",
    "place_scores",
    "recalibrate",
    "region_calibration",
    "region_volumes",
    "reliability",
    "risk_maps",
    "rootogram",
    "split",
    "summary",
    "voxel_reliability",
]
