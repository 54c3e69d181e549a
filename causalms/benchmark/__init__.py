"""The open benchmark of treatment counterfactuals: a frozen phantom, a protocol of three methods, one table of scores."""

from __future__ import annotations

from causalms.benchmark.entrants import ArmMeans, Checkpoint, ColumnRegression, Entrant
from causalms.benchmark.frozen import FrozenTrials, frozen_trials, version
from causalms.benchmark.known import KnownOutcomes, expected_coverage, judge
from causalms.benchmark.score import leaderboard, score_entrant

__all__ = [
    "ArmMeans",
    "Checkpoint",
    "ColumnRegression",
    "Entrant",
    "FrozenTrials",
    "KnownOutcomes",
    "expected_coverage",
    "frozen_trials",
    "judge",
    "leaderboard",
    "score_entrant",
    "version",
]
