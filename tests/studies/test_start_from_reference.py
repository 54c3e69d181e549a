"""A rate column that another model knows is worth more, the fewer patients there are; its gain is 0 where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from studies import start_from_reference as study
from studies.learning_curve import Arrays


def _trial(rng: np.random.Generator, patients: int) -> Arrays:
    """Two arms; the log rate is the sum of forty signals."""
    signals, columns = rng.normal(size=(patients, 40)), rng.normal(size=(patients, 8))
    log_rate = 1 + 0.8 * signals.sum(axis=1)[:, None] / np.sqrt(40) - np.array([0.0, 0.7])
    arm = rng.integers(0, 2, patients)
    counts = rng.poisson(np.exp(log_rate) * rng.gamma(2, 0.5, (patients, 2)))
    return {
        "columns": columns,
        "signals": signals,
        "arm": arm,
        "counts": counts[np.arange(patients), arm].astype(float),
        "log_share": np.zeros(patients),
        "log_rate": log_rate,
        "potential": counts,
    }


def test_a_known_rate_is_worth_more_than_none_and_noise_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "SAMPLES", [(120, 0), (120, 120)])
    rng = np.random.default_rng(0)
    rates = {"right": np.repeat([0.0, 1.0], [8, 40]), "noise": rng.normal(size=48)}
    rows = study.count_rows("made", _trial(rng, 240), _trial(rng, 300), rates)
    gained = {(row["first"], row["kept"]): (row["r2_gain_lower"], row["r2_gain_upper"]) for row in rows}
    assert all(gained[first, "nothing"] == (0.0, 0.0) for first in (0, 120))
    assert all(gained[first, "right"][0] > 0.1 for first in (0, 120))
    assert all(gained[first, "noise"][1] < 0.05 for first in (0, 120))
    assert all(gained[first, "noise"][0] > -0.15 for first in (0, 120))


def test_places_are_scored_above_a_uniform_law() -> None:
    """The shipped model as it is knows where lesions come: above 0, which is the uniform law."""
    people, _, arms = study.simulated("harmful", 6002, 6)
    nats = study.place_scores(people, study.STARTS["reference"], arms, 0.0)(people)
    assert nats.shape == (len(people), 2)
    assert nats[:, 1].sum() == sum(len(one.centres) for one in people)
    assert nats[:, 0].sum() / nats[:, 1].sum() > 0.1
