"""A forecaster and patients of known law, so that calibration is true by construction unless it is broken on purpose."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

ARMS = {"placebo": 1.0, "dimethyl-fumarate": 0.3}


def made_trial(patients: int = 200, draws: int = 32, seed: int = 1, bias: float = 1.0) -> tuple[pd.DataFrame, ...]:
    """Participants, sampled draws and the expected table of one trial; the forecast mean is ``bias`` times the true one."""
    rng = np.random.default_rng(seed)
    size, week = 0.6, 48.0
    arm = rng.choice(list(ARMS), patients)
    base = np.exp(rng.normal(0.8, 0.6, patients))
    identifier = [f"sub-{i:03d}" for i in range(patients)]
    truth = base * np.array([ARMS[a] for a in arm])
    people = pd.DataFrame(
        {"participant_id": identifier, "trial": "made", "site": "s", "arm": arm, "age": rng.uniform(20, 55, patients)}
    )
    people["net2_lesions_week48"] = rng.negative_binomial(size, size / (size + truth))
    sampled, expected = [], []
    for name, effect in ARMS.items():
        mean = base * effect * bias
        keys = {"participant_id": identifier, "trial": "made", "arm": name, "arm_randomised": arm, "visit_week": week}
        keys |= {"query": "interventional", "query_id": "q"}
        laws = {"expected_net2_lesions": mean, "expected_net2_volume_ml": mean * 0.05, "dispersion": 1 / size}
        expected.append(pd.DataFrame({**keys, **laws, "activity_probability": 1 - (size / (size + mean)) ** size}))
        counts = rng.negative_binomial(size, (size / (size + mean))[:, None], (patients, draws))
        one = pd.DataFrame(keys).loc[np.repeat(np.arange(patients), draws)].reset_index(drop=True)
        sampled.append(one.assign(draw=np.tile(np.arange(draws), patients), net2_lesions=counts.ravel(), net2_volume_ml=0.0))
    return people, pd.concat(sampled, ignore_index=True), pd.concat(expected, ignore_index=True)


@pytest.fixture(scope="session")
def trial() -> tuple[pd.DataFrame, ...]:
    return made_trial()
