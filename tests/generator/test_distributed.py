"""Several processes train what one would: shares of a batch make its gradient, and a two-process run the same model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from causalms.errors import UsageError
from causalms.generator import Generator
from causalms.generator.inputs import anatomy_of
from causalms.generator.train import loop
from causalms.generator.train.data import Material, training_set
from causalms.generator.train.denoiser import denoiser_step, place_patients
from causalms.generator.train.distributed import Processes, join
from causalms.generator.train.patients import TrainingPatient
from causalms.generator.train.risk import risk_step
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from tests.generator.conftest import MODEL, SHORT

Tiny = tuple[Generator, Path]

TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from causalms.generator import config
from causalms.generator import train_generator
from causalms.phantom import simulate_trial

torch.set_num_threads(1)
tiny, recipe = config("tiny")
model, short = replace(tiny, steps=4), replace(recipe, risk_steps=2, denoiser_steps=2, calibration_patients=1)
train_generator(simulate_trial("lifelike", patients=16, seed=3), Path(sys.argv[1]), model, short, seed=0, device="cpu")
"""


@pytest.fixture(scope="module")
def patients(trial: PhantomTrial) -> list[TrainingPatient]:
    return training_set(trial.subset(list(trial.participants["participant_id"][:7])), LesionRule.default())


@pytest.fixture(scope="module")
def material(trial: PhantomTrial, patients: list[TrainingPatient]) -> Material:
    arms = tuple(sorted({p.arm for p in patients}))
    return Material(patients, patients[1:], patients[:1], arms, (24.0, 96.0), anatomy_of(trial.space), tuple(trial.space.shape))


def gradients(material: Material, stage: str, world: int) -> torch.Tensor:
    """Gradient of the second step, summed over the shares of ``world`` processes (batches of 4 and 2 patients, 4 masks)."""
    network = loop.new_network(MODEL, material, seed=0)
    network.train()
    for rank in range(world):
        processes = Processes(rank, world)
        if stage == "risk":
            step = risk_step(network, material, SHORT, 0, processes)
        else:
            placed = place_patients(network, material)
            network.train()
            step = denoiser_step(network, placed, MODEL, material, SHORT, 0, processes)
        step(1).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize(("stage", "world"), [("risk", 2), ("risk", 3), ("denoiser", 5)])
def test_shares_of_a_batch_sum_to_its_gradient(material: Material, stage: str, world: int) -> None:
    """With three processes the last has no patient of a batch of two, with five no mask of a batch of four."""
    whole, summed = gradients(material, stage, 1), gradients(material, stage, world)
    assert float(whole.norm()) > 0
    assert float((whole - summed).norm()) < 1e-4 * float(whole.norm())


def test_more_processes_than_masks_of_a_batch_are_refused(
    trial: PhantomTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "join", lambda device: Processes(0, 8))
    with pytest.raises(UsageError, match=r"8 processes .* start at most 4, or raise batch_patients"):
        loop.train_generator(trial, tmp_path / "m.safetensors", MODEL, SHORT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no GPU is visible to torch; use `device=cpu`"):
        join("cuda")


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tiny: Tiny, trial: PhantomTrial, tmp_path: Path) -> None:
    script, out = tmp_path / "train_tiny.py", tmp_path / "run" / "tiny.safetensors"
    script.write_text(TRAIN)
    out.parent.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(out)]
    ran = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert sorted(file.name for file in out.parent.iterdir()) == ["tiny.safetensors", "tiny.training.csv"]
    logs = [pd.read_csv(path.with_suffix(".training.csv")) for path in (tiny[1], out)]
    assert list(logs[0]["stage"]) == list(logs[1]["stage"])
    # Sums in another order: losses of two steps agree to float precision, amplified a little by the optimiser's normalisation.
    assert np.allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-3)
    two = Generator.load(out)
    for participant_id in ("sub-0001", "sub-0002"):
        scan = two.encode(trial, participant_id)
        for arm in two.arms:
            one = tiny[0].expect(tiny[0].encode(trial, participant_id), arm, 96).lesions
            assert two.expect(scan, arm, 96).lesions == pytest.approx(one, rel=0.01)
