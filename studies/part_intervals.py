"""How often intervals of the parts of a Brier score hold the parts in all patients, beside percentiles of a bootstrap.

Patients have negative binomial counts whose log mean varies (standard deviation 1). Forecasts of activity are true, too high (the
chance of none to the power 1.6), or too flat (half of the log odds). Each keeps the order of patients, so that the true parts
are means of squares over all patients.

    python -m studies.part_intervals --out studies/results --repetitions 500 --seed 1
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.calibration.decomposition import less_chance, part_intervals
from causalms.calibration.reliability import brier_parts
from causalms.stats import NegativeBinomialLaw
from causalms.tables import write_table
from studies.common import out_option, seed_option

Array = np.ndarray
PARTS = ("miscalibration", "discrimination", "uncertainty")
FORECASTS: dict[str, Callable[[Array], Array]] = {
    "true": lambda chance: chance,
    "too high": lambda chance: 1 - (1 - chance) ** 1.6,
    "too flat": lambda chance: 1 / (1 + np.sqrt((1 - chance) / chance)),
}
LEVEL = 0.95


def chances(patients: int, rng: np.random.Generator) -> Array:
    """P(any lesion) of patients."""
    return NegativeBinomialLaw(np.exp(rng.normal(0.4, 1.0, patients)), np.full(patients, 0.8)).activity


def truth(forecast: Callable[[Array], Array]) -> Array:
    """The three parts in all patients."""
    chance = chances(400_000, np.random.default_rng(0))
    return np.array([np.mean((forecast(chance) - chance) ** 2), chance.var(), chance.mean() * (1 - chance.mean())])


def intervals_of_a_trial(
    patients: int, forecast: Callable[[Array], Array], resamples: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Parts (3,) of a trial without what chance adds, their intervals (3, 2), and percentiles (3, 2)."""
    chance = chances(patients, rng)
    forecasts, active = forecast(chance), (rng.random(patients) < chance).astype(float)
    parts = np.array(brier_parts(forecasts, active)[1:])
    rows = rng.integers(0, patients, (resamples, patients))
    resampled = np.array([brier_parts(forecasts[row], active[row])[1:] for row in rows])
    null = [brier_parts(forecasts, (rng.random(patients) < forecasts).astype(float))[1] for _ in range(resamples)]
    p_value = (1 + sum(value >= parts[0] for value in null)) / (1 + resamples)
    found = part_intervals((parts[0], parts[1], parts[2]), resampled, float(np.mean(null)), float(p_value), LEVEL)
    percentiles = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T
    parts[:2] = less_chance(parts[0], parts[1], float(np.mean(null)))
    return parts, np.array([found[name] for name in PARTS]), percentiles


def within(ends: Array, values: Array | float) -> float:
    """Share of intervals (trials, 2) that hold the value."""
    return float(((ends[:, 0] <= values) & (values <= ends[:, 1])).mean())


def coverage(name: str, patients: int, repetitions: int, resamples: int, seed: int) -> list[dict[str, object]]:
    """A row a part: how often both intervals hold the truth and their own estimate."""
    true, rng = truth(FORECASTS[name]), np.random.default_rng([seed, patients, list(FORECASTS).index(name)])
    trials = [intervals_of_a_trial(patients, FORECASTS[name], resamples, rng) for _ in range(repetitions)]
    parts, own, percentile = (np.array([trial[k] for trial in trials]) for k in range(3))
    rows = []
    for k, part in enumerate(PARTS):
        held = within(own[:, k], true[k])
        rows.append(
            {
                "forecasts": name,
                "patients": patients,
                "part": part,
                "true": round(float(true[k]), 5),
                "mean_estimate": round(float(parts[:, k].mean()), 5),
                "held": held,
                "held_mcse": round(float(np.sqrt(held * (1 - held) / repetitions)), 4),
                "held_by_percentiles": within(percentile[:, k], true[k]),
                "around_estimate": within(own[:, k], parts[:, k]),
                "percentiles_around_estimate": within(percentile[:, k], parts[:, k]),
                "repetitions": repetitions,
                "resamples": resamples,
                "seed": seed,
            }
        )
    return rows


@click.command()
@out_option
@click.option("--repetitions", default=500, show_default=True)
@click.option("--resamples", default=99, show_default=True)
@seed_option(1)
def main(out: Path, repetitions: int, resamples: int, seed: int) -> None:
    """Write part_intervals.csv."""
    cells = [(name, patients) for name in FORECASTS for patients in (60, 300)]
    rows = [row for name, patients in tqdm(cells) for row in coverage(name, patients, repetitions, resamples, seed)]
    write_table(pd.DataFrame(rows), out / "part_intervals.csv")


if __name__ == "__main__":
    main()
