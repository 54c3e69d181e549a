"""Do bands and tests of calibration hold their level?  Rejections at 5% of forecasts that are true.

python -m studies.calibration_level --out results/calibration_level.csv

Every trial has patients with log-normal means and negative-binomial counts of size 0.5; the forecast is the true law, as a
formula or as draws from it.  A level within 1.96 Monte-Carlo standard errors of 0.05 counts as held.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.calibration import calibration_test, coverage_table, pit_curve, pit_histogram, reliability, rootogram
from causalms.calibration.decomposition import cells_of, null_miscalibration
from causalms.stats import CountLaw, DrawsLaw, NegativeBinomialLaw, score
from causalms.tables import write_table
from studies.common import out_option, seed_option

Counts = np.ndarray
#: With 99 replicates a Monte-Carlo p-value of at most 0.05 has probability exactly 0.05.
REPLICATES = 99
LEVEL = 0.05


def outside(table: pd.DataFrame, column: str) -> bool:
    """Whether a curve leaves its band anywhere."""
    return bool(((table[column] < table["lower"] - 1e-9) | (table[column] > table["upper"] + 1e-9)).any())


def miscalibration(name: str) -> Callable[[CountLaw, Counts, int], bool]:
    """Test of the miscalibration component of a score."""

    def rejected(law: CountLaw, y: Counts, seed: int) -> bool:
        miscalibration = score(name, law, y).mean() - cells_of(name, law, y).recalibrated()
        null = null_miscalibration(law, y, name, REPLICATES, seed)
        return bool((1 + (null >= miscalibration).sum()) / (1 + REPLICATES) <= LEVEL)

    return rejected


def score_test(name: str, method: str) -> Callable[[CountLaw, Counts, int], bool]:
    """Test of the mean score (Wei and Held)."""
    return lambda law, y, seed: calibration_test(law, y, name, method, REPLICATES, seed).p_value <= LEVEL


#: What is judged, and after how many trials of those asked for it stops (dear checks get fewer).
CHECKS: dict[str, tuple[Callable[[CountLaw, Counts, int], bool], float]] = {
    "band of the PIT histogram": (
        lambda law, y, seed: outside(pit_histogram(law, y, repetitions=REPLICATES, seed=seed).table, "density"),
        1.0,
    ),
    "band of the PIT curve": (
        lambda law, y, seed: outside(pit_curve(law, y, repetitions=REPLICATES, seed=seed).table, "pit"),
        1.0,
    ),
    "band of the rootogram": (
        lambda law, y, seed: outside(rootogram(law, y, largest=8, repetitions=REPLICATES, seed=seed).table, "observed"),
        1.0,
    ),
    "band of the reliability curve": (
        lambda law, y, seed: outside(reliability(law, y, points=21, repetitions=REPLICATES, seed=seed).table, "frequency"),
        0.5,
    ),
    "test of the mean CRPS": (score_test("crps", "monte-carlo"), 1.0),
    "test of the mean log score": (score_test("log", "monte-carlo"), 1.0),
    "test of the mean Dawid-Sebastiani score": (score_test("dawid-sebastiani", "monte-carlo"), 1.0),
    "test of the mean Brier score": (score_test("brier", "monte-carlo"), 1.0),
    "test of the mean CRPS, normal form": (score_test("crps", "normal"), 1.0),
    "test of the mean log score, normal form": (score_test("log", "normal"), 1.0),
    "test of the mean Dawid-Sebastiani score, normal form": (score_test("dawid-sebastiani", "normal"), 1.0),
    "miscalibration of counts (CRPS)": (miscalibration("crps"), 0.5),
    "miscalibration of counts (log score)": (miscalibration("log"), 0.5),
    "miscalibration of activity (Brier)": (miscalibration("brier"), 1.0),
    "coverage of 90% prediction intervals": (
        lambda law, y, seed: float(coverage_table(law, y, levels=(0.9,))["p_value"].iloc[0]) <= LEVEL,
        1.0,
    ),
}


def trial(seed: int, patients: int, draws: int | None) -> tuple[CountLaw, Counts]:
    """Patients, and the forecast that is true for them."""
    rng = np.random.default_rng(seed)
    law = NegativeBinomialLaw(np.exp(rng.normal(0.4, 1.0, patients)), np.full(patients, 0.5))
    y = law.sample(rng, 1)[:, 0]
    return (law if draws is None else DrawsLaw(law.sample(rng, draws))), y


@click.command()
@out_option
@click.option("--trials", default=1000, show_default=True, help="Simulated trials; the dearest checks get half of them.")
@click.option("--patients", default=60, show_default=True)
@seed_option(1)
def main(out: Path, trials: int, patients: int, seed: int) -> None:
    """Write one row a check and kind of forecast."""
    rows = []
    for draws in (None, 9, 64):
        rejected = {name: 0 for name in CHECKS if draws is None or "normal form" not in name}
        for number in tqdm(range(trials), desc="formula" if draws is None else f"{draws} draws", disable=None):
            law, y = trial(seed * 1_000_000 + number, patients, draws)
            for name in rejected:
                check, share = CHECKS[name]
                if number < share * trials:
                    rejected[name] += check(law, y, number)
        for name, count in rejected.items():
            done = int(CHECKS[name][1] * trials)
            mcse = np.sqrt(LEVEL * (1 - LEVEL) / done)
            held = abs(count / done - LEVEL) <= 1.96 * mcse
            rows.append(
                {
                    "check": name,
                    "forecast": "formula" if draws is None else f"{draws} draws",
                    "patients": patients,
                    "trials": done,
                    "rejected": count / done,
                    "mcse": mcse,
                    "held": "yes" if held else ("conservative" if count / done < LEVEL else "no"),
                }
            )
    table = pd.DataFrame(rows)
    write_table(table, out)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
