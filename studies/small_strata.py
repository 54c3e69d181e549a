"""Permuted blocks within small strata, no effect: how often tests at 5% reject.

Counts are negative binomial within strata whose rates differ (standard deviation 0.7 of the log rate); normal outcomes have
strata as far apart as patients.  Every stratum has half of its patients in each arm.

    python -m studies.small_strata --out studies/results --repetitions 10000 --seed 1
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from causalms.effects.data import TrialData
from causalms.effects.means import ArmMeans
from causalms.effects.variance import means_covariance
from causalms.stats import Fit
from causalms.tables import write_table
from studies.common import out_option, seed_option

#: Patients of a stratum; 1 is simple randomisation, for comparison.
SIZES = (1, 2, 4, 10)
#: Patients of a trial.
PATIENTS = 400
OUTCOMES = {"normal": "mean-difference", "counts": "rate-ratio"}
_TOGETHER = 250


def made(outcome: str, size: int, patients: int, repetitions: int, rng: np.random.Generator) -> TrialData:
    """Trials without an effect (leading axis), randomised in blocks of ``size`` within strata of ``size``."""
    stratum = np.repeat(np.arange(patients // size), size)
    arm = np.resize(np.repeat([0, 1], max(size // 2, 1)), patients)
    level = rng.normal(size=(repetitions, patients // size))[:, stratum]
    if outcome == "normal":
        y = level + rng.normal(size=level.shape)
    else:
        y = rng.poisson(3 * np.exp(0.7 * level) * rng.gamma(1.0, 1.0, level.shape)).astype(float)
    rows, nothing = np.arange(patients), np.empty((repetitions, patients, 0))
    strata = np.broadcast_to(stratum, level.shape)
    return TrialData(y, arm, ("placebo", "drug"), np.ones(level.shape), nothing, (), rows, strata=strata)


def p_values(data: TrialData, outcome: str, variance: str = "influence", scheme: str = "permuted-block") -> np.ndarray:
    """Of the unadjusted contrasts of many trials, as ``analyse`` gives them one by one (compared in the tests)."""
    own = np.eye(2)[data.arm]
    estimates = data.outcome @ own / data.sizes
    residuals = data.outcome - estimates[:, data.arm]
    predictions = np.broadcast_to(estimates[:, None], (*data.outcome.shape, 2))
    fit, none = Fit("linear", own, data.outcome, data.exposure, estimates), np.zeros((len(estimates), 2, 2))
    means = ArmMeans(data, fit, "unit", estimates, predictions, residuals, none, none, outcome == "counts")
    covariance = means_covariance(means, variance, scheme)
    values, slopes = (np.log(estimates), 1 / estimates) if outcome == "counts" else (estimates, np.ones_like(estimates))
    spread, degrees = covariance.of_contrast(np.array([0, 1]), slopes * np.array([-1.0, 1.0]))
    return np.asarray(2 * stats.t.sf(np.abs(values[:, 1] - values[:, 0]) / np.sqrt(spread), degrees))


def rejections(
    outcome: str, size: int, repetitions: int, seed: int, *, patients: int = PATIENTS, variance: str = "influence"
) -> dict[str, object]:
    """Share of trials rejected at 5%, with its Monte-Carlo error."""
    rejected, scheme = 0, "simple" if size == 1 else "permuted-block"
    for start in range(0, repetitions, _TOGETHER):
        rng = np.random.default_rng([seed, size, start])
        trials = made(outcome, size, patients, min(_TOGETHER, repetitions - start), rng)
        rejected += int((p_values(trials, outcome, variance, scheme) < 0.05).sum())
    share = rejected / repetitions
    return {
        "outcome": outcome,
        "stratum_size": size,
        "patients": patients,
        "variance": variance,
        "rejected": share,
        "rejected_mcse": round(float(np.sqrt(share * (1 - share) / repetitions)), 5),
        "repetitions": repetitions,
        "seed": seed,
    }


@click.command()
@out_option
@click.option("--repetitions", type=int, default=10_000, show_default=True)
@seed_option(1)
def main(out: Path, repetitions: int, seed: int) -> None:
    cells = [(outcome, size) for outcome in OUTCOMES for size in SIZES]
    table = pd.DataFrame([rejections(outcome, size, repetitions, seed) for outcome, size in tqdm(cells, disable=None)])
    write_table(table, out / "small_strata.csv")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
