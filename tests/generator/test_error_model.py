"""The error model of a checkpoint: learned on patients the network never saw, kept in the file, checked when it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from causalms.errors import InputError
from causalms.generator import Generator
from causalms.generator.configurations import COVARIATES
from causalms.generator.network import Network
from causalms.generator.seen import SCANNER, Seen, error_columns, features_of
from causalms.generator.train.held_out import HeldOut, fit_to_held_out, fold_means, volume_error
from causalms.tables import outside_notes


def rewritten(path: Path, place: Path, change: str, value: torch.Tensor | None) -> Path:
    """A checkpoint with one tensor changed or (None) all of the error model removed."""
    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["causalms"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dictionary
    if value is None:
        header.pop("error_model")
        header.pop("header_checksum")  # checkpoints of that time had none
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(change)}
    else:
        tensors[change] = value
    save_file(tensors, place, metadata={"causalms": json.dumps(header)})
    return place


def test_a_trained_checkpoint_keeps_its_error_model(tiny: tuple[Generator, Path]) -> None:
    generator, path = tiny
    error = Generator.load(path).error_model
    assert error is not None
    assert generator.error_model is not None
    assert error.words == "from 16 cross-fitted patients"
    assert error.arms == generator.arms
    assert np.array_equal(error.covariance, generator.error_model.covariance)
    assert set(generator.header["held_out_levels"]) == set(generator.arms)


def test_a_checkpoint_without_error_model_loads_and_its_error_is_unknown(tiny: tuple[Generator, Path], tmp_path: Path) -> None:
    old = Generator.load(rewritten(tiny[1], tmp_path / "old.safetensors", "error_model.", None))
    assert old.error_model is None
    assert old.checksum == tiny[0].checksum  # the network is the same


def test_a_damaged_error_model_is_refused(tiny: tuple[Generator, Path], tmp_path: Path) -> None:
    changed = rewritten(tiny[1], tmp_path / "damaged.safetensors", "error_model.mean", torch.zeros(3))
    with pytest.raises(InputError, match=r"damaged.safetensors: checksum \w+ instead of \w+; the file is damaged, copy it again"):
        Generator.load(changed)


def unseen_patients(network: Network, arms: int, factor: np.ndarray, n: int = 4000) -> HeldOut:
    """Held-out patients whose true means are ``factor`` times those of the network."""
    rng = np.random.default_rng(5)
    log_expected = np.log(np.linspace(6, 2, arms)) + rng.normal(0, 0.5, (n, 1))
    arm = rng.integers(0, arms, n)
    mean = np.exp(log_expected[np.arange(n), arm]) * factor[arm]
    counts = rng.poisson(mean * rng.gamma(0.5, 2.0, n)).astype(float)
    covariates = np.column_stack([rng.normal(size=(n, 5)), rng.poisson(1, n), rng.normal(size=(n, 2))])
    names, week = np.arange(n).astype(str), np.full(n, 96.0)
    signals, scanner = rng.normal(size=(n, 42)), rng.normal(size=(n, len(SCANNER)))
    return HeldOut(names, log_expected, np.full(n, "T"), counts, 0.11 * counts, arm, week, covariates, signals, scanner)


def test_levels_move_to_what_held_out_patients_say(tiny: tuple[Generator, Path]) -> None:
    """An arm that is 1.5 times too low moves up by nearly as much: 4,000 / 6 patients leave a standard error of .06."""
    network, arms = Generator.load(tiny[1]).network, tiny[0].arms
    factor = np.ones(len(arms))
    factor[2] = 1.5
    unseen = unseen_patients(network, len(arms), factor)
    before = network.risk.effect.clone()
    model = fit_to_held_out(unseen, arms, network)
    _, factors = fold_means(network, unseen, model)
    moved = (network.risk.effect - before).detach().numpy()
    assert np.exp(moved) == pytest.approx(factor, rel=0.25)
    assert list(factors.values()) == pytest.approx(np.exp(moved), rel=1e-5)
    moved_expected = replace(unseen, log_expected=unseen.log_expected + moved)
    again = fit_to_held_out(moved_expected, arms, network)
    remaining = [float((again.terms(moved_expected.log_expected, error_columns(unseen.covariates), a) @ again.mean).mean())
                 for a in range(len(arms))]  # fmt: skip
    assert np.abs(remaining).max() < 0.06  # less than a standard error is left to correct


def test_volume_of_a_lesion_has_the_error_of_the_held_out_patients(tiny: tuple[Generator, Path]) -> None:
    unseen = unseen_patients(tiny[0].network, 6, np.ones(6))
    log_ratio, sd = volume_error(unseen, np.full(6, 0.1))
    assert log_ratio == pytest.approx(np.log(1.1), abs=1e-6)  # every lesion had 0.11 ml
    none_there = replace(unseen, volume_ml=np.zeros_like(unseen.volume_ml))
    assert volume_error(none_there, np.full(6, 0.1))[1] == pytest.approx(0.2)  # the prior


def test_patients_unlike_those_it_learned_from_lie_outside() -> None:
    """The average patient lies inside, a child of 5 years with 30 enhancing lesions outside; missing ones stand at the mean."""
    rng = np.random.default_rng(1)
    usual = np.column_stack([rng.normal(38, 9, 400), rng.integers(0, 2, 400), rng.normal(size=(400, 6))])
    seen = Seen.of(features_of(usual, rng.normal(size=(400, 42)), rng.normal(size=(400, len(SCANNER)))))
    strange, unknown = usual[:1].copy(), np.full((1, 8), np.nan)
    strange[0, [COVARIATES.index("age"), COVARIATES.index("gd_lesions")]] = 5.0, 30.0

    def distance(columns: np.ndarray) -> float:
        return float(
            seen.distances(features_of(columns, np.full((1, 42), np.nan), np.full((1, len(SCANNER)), np.nan)))["columns"][0]
        )

    assert distance(usual.mean(axis=0, keepdims=True)) < 1 < distance(strange)
    assert distance(unknown) < 1


def test_of_new_patients_like_the_held_out_ones_one_in_a_hundred_lies_outside() -> None:
    """Also with few patients for many features: 40 summaries of 426, four Monte-Carlo errors of .0007 (between summaries)."""
    rng = np.random.default_rng(2)
    columns = np.zeros((426, 8))
    shares = []
    for _ in range(40):
        seen = Seen.of(features_of(columns, rng.normal(size=(426, 42)), rng.normal(size=(426, len(SCANNER)))))
        others = features_of(columns, rng.normal(size=(426, 42)), rng.normal(size=(426, len(SCANNER))))
        shares.append([(distance > 1).mean() for name, distance in seen.distances(others).items() if name != "columns"])
    assert np.mean(shares) == pytest.approx(0.01, abs=0.003)


def test_a_checkpoint_keeps_what_it_has_seen(tiny: tuple[Generator, Path], tmp_path: Path) -> None:
    generator = Generator.load(tiny[1])
    assert generator.seen is not None
    assert generator.seen.patients == generator.error_model.patients
    with pytest.raises(InputError, match=r"damaged\.safetensors: checksum"):
        Generator.load(rewritten(tiny[1], tmp_path / "damaged.safetensors", "seen.columns.mean", torch.zeros(3)))


def test_an_older_population_is_another_one_though_no_patient_lies_outside() -> None:
    """Ages 1.4 standard deviations above: of 240 patients hardly one lies beyond the limit, their mean distance does."""
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(2000, 8))
    seen = Seen.of(features_of(columns, np.zeros((2000, 42)), np.zeros((2000, len(SCANNER)))))
    usual, older = rng.normal(size=(240, 8)), rng.normal(size=(240, 8))
    older[:, COVARIATES.index("age")] += 1.4

    def notes(rows: np.ndarray) -> list[str]:
        features = features_of(rows, np.zeros((len(rows), 42)), np.zeros((len(rows), len(SCANNER))))
        table = pd.DataFrame({"columns": seen.distances(features)["columns"], "seen": seen.patients})
        table.attrs["usual"] = seen.usual
        return outside_notes(table)

    assert "no more than chance" in notes(usual)[0] or notes(usual)[0].startswith("0 of 240")
    assert any("another population than the model learned from" in note for note in notes(older))
