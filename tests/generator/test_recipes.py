"""The named configurations: what each holds, and the first steps of the largest one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import causalms as cms
from causalms.generator import Generator, config, train_generator
from causalms.generator.configurations import CONFIGS
from causalms.generator.network import Network


@pytest.mark.parametrize(
    ("name", "grid", "parameters"),
    [("tiny", "4mm", 87_000), ("small", "4mm", 95_000), ("medium", "3mm", 172_000), ("base", "2mm", 1_024_000)],
)
def test_grid_and_size_of_every_named_configuration(name, grid, parameters):
    model, _ = config(name)
    count = sum(weights.numel() for weights in Network(model, 6, 96.0).parameters())
    assert (model.name, model.grid) == (name, grid)
    assert count == pytest.approx(parameters, rel=0.05)
    assert list(CONFIGS) == ["tiny", "small", "medium", "base"]


def test_base_takes_its_first_steps_and_gives_a_checkpoint(tmp_path):
    """The whole way of `base` at 2 mm with two steps a stage: it was never trained to its end on a CPU."""
    model, recipe = config("base")
    short = {"risk_steps": 2, "denoiser_steps": 2, "batch_patients": 1, "batch_masks": 1, "calibration_patients": 0, "folds": 2}
    trial = cms.simulate_trial("lifelike", 6, seed=1, grid="2mm")
    out = tmp_path / "base.safetensors"
    generator = train_generator(trial, out, model, replace(recipe, **short), seed=0, device="cpu")
    log = pd.read_csv(tmp_path / "base.training.csv")
    assert log["stage"].tolist() == ["risk", "denoiser"]
    assert np.isfinite(log["loss"]).all()
    assert Generator.load(out).parameters == generator.parameters > 1e6
