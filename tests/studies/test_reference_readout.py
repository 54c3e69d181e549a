"""The readout fitted again finds the levels and the size that counts were drawn with."""

from __future__ import annotations

import numpy as np
import torch

from causalms.generator import Generator
from studies.learning_curve import Arrays
from studies.reference_readout import against_truth, log_expected, refit


def patients(rng: np.random.Generator, n: int, generator: Generator) -> Arrays:
    network, arms = generator.network, len(generator.arms)
    columns, signals = (
        mean.numpy() + sd.numpy() * rng.normal(size=(n, len(mean)))
        for mean, sd in ((network.covariate_mean, network.covariate_sd), (network.pooled_mean, network.pooled_sd))
    )
    share = np.log(rng.choice([0.5, 1.0], n, p=[0.1, 0.9]))
    return {"columns": columns, "signals": signals, "counts": np.zeros(n), "arm": rng.integers(0, arms, n), "log_share": share}


def test_levels_and_size_that_counts_were_drawn_with() -> None:
    """Levels moved by known amounts come back within 3.5 standard errors; the size .8 within .05 (its error is .012)."""
    rng, generator = np.random.default_rng(0), Generator.load("reference")
    arms, n, size = len(generator.arms), 12_000, 0.8
    drawn = patients(rng, n, generator)
    moved = np.linspace(-0.3, 0.4, arms)
    true = log_expected(generator, drawn) + moved
    share = drawn["log_share"] * np.exp(generator.network.risk.time_power.detach().numpy())[drawn["arm"]]
    mean = np.exp(true[np.arange(n), drawn["arm"]] + share)
    drawn["counts"] = rng.poisson(mean * rng.gamma(size, 1 / size, n)).astype(float)
    before = generator.network.risk.effect.detach().numpy().copy() + generator.network.risk.intercept.item()
    se = refit(generator, drawn, seed=0)
    after = generator.network.risk.effect.detach().numpy() + generator.network.risk.intercept.item()
    assert np.all(np.abs(after - before - moved) < 3.5 * se)
    assert se.max() < 0.06
    assert np.allclose(generator.network.risk.size(torch.arange(arms)).detach().numpy(), size, atol=0.05)
    table = against_truth(generator, {**drawn, "log_rate": true}, se)
    assert np.all(np.abs(table["expected_over_true"] - 1) < 0.12)
    assert np.all(table["r2"] > 0.9)
