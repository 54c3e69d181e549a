"""Are predictive count distributions calibrated?  Judged patient by patient against the arm each was randomised to."""

from causalms.calibration.assessment import Assessment, assess, heading, summary
from causalms.calibration.conformal_sets import ConformalSets, conformal
from causalms.calibration.coverage import coverage_table
from causalms.calibration.decomposition import Decomposition, decomposition
from causalms.calibration.pairs import Pairs, Sources, pair
from causalms.calibration.pit import Pit, pit_curve, pit_ends, pit_histogram, randomised_pit
from causalms.calibration.recalibration import Recalibration, recalibrate, split
from causalms.calibration.reliability import Reliability, brier_parts, reliability
from causalms.calibration.rootogram import Rootogram, rootogram
from causalms.calibration.spatial import (
    RiskMap,
    frequency_maps,
    place_scores,
    region_calibration,
    region_volumes,
    risk_maps,
    voxel_reliability,
)
from causalms.calibration.tests import CalibrationTest, calibration_test

__all__ = [
    "Assessment",
    "CalibrationTest",
    "ConformalSets",
    "Decomposition",
    "Pairs",
    "Pit",
    "Recalibration",
    "Reliability",
    "RiskMap",
    "Rootogram",
    "Sources",
    "assess",
    "brier_parts",
    "calibration_test",
    "conformal",
    "coverage_table",
    "decomposition",
    "frequency_maps",
    "heading",
    "pair",
    "pit_curve",
    "pit_ends",
    "pit_histogram",
    "place_scores",
    "randomised_pit",
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
