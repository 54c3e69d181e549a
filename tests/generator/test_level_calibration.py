"""Levels and readout: after folding, predicted and observed agree; pieces give what the whole gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from causalms.generator import Generator
from causalms.generator.inputs import template_planes
from causalms.generator.train.data import training_set
from causalms.generator.train.level_calibration import (
    LevelEvidence,
    choose_precision,
    fit_levels,
    fold_levels,
    fold_readout,
    level_evidence,
    readout_design,
)
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial


def test_folded_levels_make_arm_means_those_observed(tiny: tuple[Generator, Path], trial: PhantomTrial) -> None:
    model = Generator.load(tiny[1])
    planes, regions = template_planes(trial.space)
    people = training_set(trial, LesionRule.default())
    whole = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    pieces = [level_evidence(model.network, people[i : i + 8], model.arms, planes, regions, 0.064) for i in (0, 8)]
    again = Generator.load(tiny[1])
    factors = fold_levels(again.network, whole, model.arms)
    assert fold_levels(model.network, LevelEvidence.together(pieces), model.arms) == pytest.approx(factors)
    evidence_rows = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    mean = np.exp(evidence_rows.log_patient + evidence_rows.log_arm)
    for index in np.unique(evidence_rows.arm):
        own = evidence_rows.arm == index
        if evidence_rows.counts[own].sum() > 5:  # the weak prior of a level weighs as much as a thousandth of a lesion
            assert mean[own].sum() == pytest.approx(evidence_rows.counts[own].sum(), rel=0.01)


def test_levels_recover_shifts_of_simulated_arms() -> None:
    rng = np.random.default_rng(4)
    arm, x = np.arange(20000) % 3, rng.normal(0, 0.7, 20000)
    true = np.array([0.1, -0.2, 0.3])
    counts = rng.poisson(rng.gamma(0.8, 1 / 0.8, 20000) * np.exp(true[arm] + 1.1 * x))
    shift, slope = fit_levels(counts, x, np.zeros(20000), arm, 3)
    # Standard errors about .02 for a level of 6,667 patients and .02 for the slope; three of them.
    assert shift == pytest.approx(true, abs=0.06)
    assert slope == pytest.approx(1.1, abs=0.06)


def evidence(model: Generator, patients: int, seed: int) -> tuple[LevelEvidence, np.ndarray]:
    """Patients of random columns and states, all of the first two arms, and their design."""
    rng = np.random.default_rng(seed)
    weight = model.network.encoder.linear_rate.weight
    columns = rng.normal(0, 1, (patients, weight.shape[1]))
    state = np.tanh(rng.normal(0, 1, (patients, model.network.risk.interaction.shape[1])))
    empty = np.zeros(patients)
    known = LevelEvidence(empty, empty, empty, np.arange(patients) % 2, columns, state)
    return known, readout_design(known, len(model.arms))


def test_readout_recovers_what_the_network_missed(tiny: tuple[Generator, Path]) -> None:
    model, rng = Generator.load(tiny[1]), np.random.default_rng(7)
    known, design = evidence(model, 4000, 8)
    true = np.zeros(design.shape[1])
    true[[0, 1]] = 0.4, -0.2  # levels
    true[len(model.arms)] = 0.3  # a column every arm shares
    last = design.shape[1] - model.network.risk.interaction.numel() + known.state.shape[1]
    true[last] = 0.5  # the second arm's modification by the first element of the state
    counts = rng.poisson(np.exp(1 + design @ true))
    with torch.no_grad():
        model.network.risk.log_size.fill_(4.0)  # nearly Poisson, so that few patients say much
    before = {name: value.detach().clone() for name, value in model.network.named_parameters()}
    readout = fold_readout(model.network, replace(known, counts=counts.astype(float)), model.arms, ((100.0, 300.0),))
    # 2,000 patients an arm with some 4 lesions each: a weight has a standard error of about .02; the prior pulls in as much.
    np.testing.assert_allclose((readout.log_patient + readout.log_arm).mean(), (1 + design @ true).mean(), atol=0.1)
    moved = {name: value.detach() - before[name] for name, value in model.network.named_parameters()}
    assert float(moved["encoder.linear_rate.weight"][0, 0]) == pytest.approx(0.3, abs=0.1)
    modified = moved["risk.interaction"][:, 0]
    assert float(modified[1] - modified[0]) == pytest.approx(0.5, abs=0.15)
    assert float(moved["risk.interaction"][2:].abs().max()) == 0  # arms without patients stay as they were
    assert np.corrcoef(readout.log_patient + readout.log_arm, design @ true)[0, 1] > 0.97


def test_folded_readout_is_what_the_network_then_says(tiny: tuple[Generator, Path], trial: PhantomTrial) -> None:
    model = Generator.load(tiny[1])
    planes, regions = template_planes(trial.space)
    people = training_set(trial, LesionRule.default())
    known = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    folded = fold_readout(model.network, known, model.arms, ((300.0, 1000.0),))
    evidence_rows = level_evidence(model.network, people, model.arms, planes, regions, 0.064)
    np.testing.assert_allclose(evidence_rows.log_patient + evidence_rows.log_arm, folded.log_patient + folded.log_arm, atol=1e-4)


def test_the_prior_is_strong_where_there_is_nothing_to_learn() -> None:
    rng = np.random.default_rng(9)
    design, size = rng.normal(0, 1, (2000, 20)), np.full(2000, 0.5)
    counts = rng.negative_binomial(0.5, 0.5 / 1.5, 2000).astype(float)  # mean 1, whatever the design
    loose, strict = np.full(20, 1e-3), np.full(20, 1e4)
    assert choose_precision(counts, np.zeros(2000), design, size, [loose, strict]) is strict


def test_sizes_are_fitted_where_asked_for(tiny: tuple[Generator, Path]) -> None:
    model = Generator.load(tiny[1])
    rng = np.random.default_rng(6)
    log_mean, known = rng.normal(0.5, 0.7, 6000), evidence(model, 6000, 6)[0]
    counts = rng.poisson(rng.gamma(0.5, 2, 6000) * np.exp(log_mean)).astype(float)
    shifted = replace(known, counts=counts, log_patient=log_mean, arm=np.zeros(6000, dtype=int))
    before = model.network.risk.size(torch.tensor([0])).item()
    fold_levels(model.network, shifted, model.arms)
    assert model.network.risk.size(torch.tensor([0])).item() == before
    fold_levels(model.network, shifted, model.arms, sizes=True)
    # The standard error of a log size at 6,000 counts is about .03; four of them.
    assert model.network.risk.size(torch.tensor([0])).item() == pytest.approx(0.5, rel=0.12)
