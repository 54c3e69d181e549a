"""Levels of the arms: after folding, predicted and observed means agree; pieces give what the whole gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from causalms.generator import Generator
from causalms.generator.dataset import training_set
from causalms.generator.inputs import template_planes
from causalms.generator.level_calibration import LevelEvidence, fit_levels, fold_levels, level_evidence
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial


def test_folded_levels_make_arm_means_those_observed(tiny: tuple[Generator, Path], trial: PhantomTrial) -> None:
    model = Generator.load(tiny[1])
    planes, regions = template_planes(trial.space)
    people = training_set(trial, LesionRule.default())
    whole = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    pieces = [level_evidence(model.network, people[i : i + 8], model.arms, planes, regions, 0.064) for i in (0, 8)]
    again = Generator.load(tiny[1])
    factors = fold_levels(again.network, [whole], model.arms)
    assert fold_levels(model.network, pieces, model.arms) == pytest.approx(factors)
    found = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    mean = np.exp(found.log_patient + found.log_arm)
    for index in np.unique(found.arm):
        own = found.arm == index
        if found.counts[own].sum() > 5:  # the weak prior of a level weighs as much as a thousandth of a lesion
            assert mean[own].sum() == pytest.approx(found.counts[own].sum(), rel=0.01)


def test_levels_recover_shifts_of_simulated_arms() -> None:
    rng = np.random.default_rng(4)
    arm, x = np.arange(20000) % 3, rng.normal(0, 0.7, 20000)
    true = np.array([0.1, -0.2, 0.3])
    counts = rng.poisson(rng.gamma(0.8, 1 / 0.8, 20000) * np.exp(true[arm] + 1.1 * x))
    shift, slope = fit_levels(counts, x, np.zeros(20000), arm, 3)
    # Standard errors about .02 for a level of 6,667 patients and .02 for the slope; three of them.
    assert shift == pytest.approx(true, abs=0.06)
    assert slope == pytest.approx(1.1, abs=0.06)


def test_patients_seen_in_training_move_no_level_in_common() -> None:
    rng = np.random.default_rng(5)
    arm, x, seen = np.arange(20000) % 2, rng.normal(0, 0.7, 20000), np.arange(20000) < 10000
    mean = np.exp(np.array([0.2, -0.1])[arm] + x + np.where(seen, 0.5 - 0.3 * x, 0.0))  # overfitted: other level, other slope
    counts = rng.poisson(rng.gamma(0.8, 1 / 0.8, 20000) * mean)
    shift, slope = fit_levels(counts, x, np.zeros(20000), arm, 2, seen=seen)
    new = fit_levels(counts[~seen], x[~seen], np.zeros(10000), arm[~seen], 2)
    # Standard error of a level of 5,000 patients about .02; the difference between arms uses all 20,000.
    assert shift == pytest.approx([0.2, -0.1], abs=0.07)
    assert slope == pytest.approx(new[1], abs=1e-2)
    assert slope == pytest.approx(1.0, abs=0.07)


def test_sizes_are_those_of_patients_not_seen(tiny: tuple[Generator, Path]) -> None:
    model = Generator.load(tiny[1])
    rng = np.random.default_rng(6)
    log_mean, arm = rng.normal(0.5, 0.7, 6000), np.zeros(6000, dtype=int)
    parts = [
        LevelEvidence(rng.poisson(rng.gamma(size, 1 / size, 6000) * np.exp(log_mean)), log_mean, np.zeros(6000), arm, seen)
        for size, seen in ((2.0, True), (0.5, False))
    ]
    fold_levels(model.network, parts, model.arms)
    # The standard error of a log size at 6,000 counts is about .03; four of them.
    assert float(model.network.risk.size(torch.tensor([0]))[0]) == pytest.approx(0.5, rel=0.12)
