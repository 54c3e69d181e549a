"""One tiny model, trained once on a handful of phantom patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from causalms.generator import Generator, config, train_generator
from causalms.phantom import PhantomTrial, simulate_trial

TINY, RECIPE = config("tiny")
MODEL = replace(TINY, steps=4)
SHORT = replace(RECIPE, risk_steps=2, denoiser_steps=2, calibration_patients=1)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trial() -> PhantomTrial:
    return simulate_trial("lifelike", patients=16, seed=3)


@pytest.fixture(scope="session")
def tiny(trial: PhantomTrial, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, Path]:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return train_generator(trial, path, MODEL, SHORT, seed=0), path
