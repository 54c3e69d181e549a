"""A table of counts, a simulated trial in a folder, and an untrained checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EFFECTS = ["--outcome", "y", "--reference", "placebo", "--exposure", "exposure_years"]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    arm = np.repeat(["placebo", "drug"], 30)
    return pd.DataFrame(
        {
            "participant_id": [f"p{i}" for i in range(60)],
            "arm": arm,
            "y": rng.poisson(np.where(arm == "drug", 1.0, 2.0)),
            "exposure_years": rng.uniform(0.5, 1.0, 60),
        }
    )


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from causalms.phantom import write_simulated_trial

    out = tmp_path_factory.mktemp("bids") / "trial"
    write_simulated_trial(out, "lifelike", patients=4, seed=5)
    return out


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model: a checkpoint in order, with numbers of no meaning."""
    from causalms.generator import Generator, config
    from causalms.generator.network import Network
    from causalms.lesions import LesionRule

    model, _ = config("tiny")
    arms = ("placebo", "ocrelizumab")
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = Network(model, len(arms), 96.0)
    Generator(network, model, arms, (24.0, 96.0), LesionRule()).save(path)
    return path
