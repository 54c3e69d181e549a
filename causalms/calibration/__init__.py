"""Are predictive count distributions calibrated?  Judged patient by patient against the arm each was randomised to."""

from causalms.calibration.assessment import Assessment, assess
from causalms.calibration.bands import Band, simultaneous_band
from causalms.calibration.conformal import ConformalSets, conformal
from causalms.calibration.coverage import coverage_table
from causalms.calibration.decomposition import Decomposition, decomposition
from causalms.calibration.known_truth import KnownOutcomes, judge
from causalms.calibration.laws import CountLaw, DrawsLaw, NegativeBinomialLaw
from causalms.calibration.pairs import Pairs, pair
from causalms.calibration.pit import Pit, pit_curve, pit_ends, pit_histogram, randomised_pit
from causalms.calibration.recalibration import Recalibration, recalibrate, split
from causalms.calibration.reliability import Reliability, brier_parts, reliability
from causalms.calibration.rootogram import Rootogram, rootogram
from causalms.calibration.scores import SCORES, score
from causalms.calibration.significance import CalibrationTest, calibration_test
from causalms.calibration.spatial import (
    RiskMap,
    frequency_maps,
    place_scores,
    region_calibration,
    region_volumes,
    voxel_reliability,
)
from causalms.calibration.summary import summary

__all__ = [
    "SCORES",
    "Assessment",
    "Band",
    "CalibrationTest",
    "ConformalSets",
    "CountLaw",
    "Decomposition",
    "DrawsLaw",
    "KnownOutcomes",
    "NegativeBinomialLaw",
    "Pairs",
    "Pit",
    "Recalibration",
    "Reliability",
    "RiskMap",
    "Rootogram",
    "assess",
    "brier_parts",
    "calibration_test",
    "conformal",
    "coverage_table",
    "decomposition",
    "frequency_maps",
    "judge",
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
    "rootogram",
    "score",
    "simultaneous_band",
    "split",
    "summary",
    "voxel_reliability",
]
