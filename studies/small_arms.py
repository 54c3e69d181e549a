"""Small arms of overdispersed counts: coverage, type I error, width and power of intervals of the marginal rate ratio.

Every cell of 15 to 250 patients an arm, five laws of the counts, and 0, 3 or 6 covariates, each of which moves the log rate by
0.3 a standard deviation.  Trials in which an arm has no event are counted in ``failed``.  Fay and Graubard's sandwich is that of
the Poisson coefficient, whose truth is the same.

    python -m studies.small_arms --out studies/results --repetitions 2000 --seed 1
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.effects.variance import means_covariance
from causalms.tables import write_table
from studies.common import out_option, seed_option
from studies.fay_graubard import fay_graubard
from studies.operating_characteristics.operating import CountModel, MethodResult, SimulatedTrials, performance

SIZES = (15, 25, 50, 100, 250)
COVARIATES = (0, 3, 6)
#: Law of the counts, and patients of the treated arm for one of the control arm.
LAWS = {
    "equal dispersion": (CountModel("equal dispersion"), 1.0),
    "dispersion 2 -> 6": (CountModel("dispersion 2 -> 6", alpha_treated=6.0), 1.0),
    "2:1": (CountModel("2:1"), 0.5),
    "40% zeros": (CountModel("40% zeros", zero_inflation=0.4), 1.0),
    "low rate": (CountModel("low rate", mean=0.7), 1.0),
}
#: Change of the log rate by one standard deviation of a covariate.
SLOPE = 0.3
VARIANCES = ("influence", "hc3-t", "small-sample")
_TOGETHER = 250


def trials(law: str, size: int, covariates: int, ratio: float, repetitions: int, rng: np.random.Generator) -> SimulatedTrials:
    """Trials of a law, ``size`` patients in the control arm, with prognostic covariates."""
    model, share = LAWS[law]
    arm = np.repeat([0, 1], [size, round(size * share)])
    x = rng.standard_normal((repetitions, len(arm), covariates))
    log_rate = np.log(model.mean / (1 - model.zero_inflation)) + np.where(arm == 1, np.log(ratio), 0.0)
    log_rate = log_rate + (SLOPE * x - SLOPE**2 / 2).sum(axis=2)
    alpha = np.where(arm == 1, model.alpha_treated, model.alpha)
    y = rng.poisson(rng.gamma(1 / alpha, alpha, log_rate.shape) * np.exp(log_rate)).astype(float)
    y *= rng.random(y.shape) >= model.zero_inflation
    return SimulatedTrials(y, np.ones((1, len(arm))), arm, x, None, float(np.log(ratio)))


def results(drawn: SimulatedTrials) -> list[MethodResult]:
    """The standardized Poisson estimate with every variance."""
    means = drawn.means("poisson")
    value = np.log(means.estimates[:, 1] / means.estimates[:, 0])
    gradient = np.array([-1, 1]) / means.estimates
    found = []
    for name in VARIANCES:
        variance, degrees = means_covariance(means, name).of_contrast(np.array([0, 1]), gradient)
        found.append(MethodResult("standardized Poisson", name, value, np.sqrt(variance), degrees))
    variance, degrees = fay_graubard(means.fit, 1)
    found.append(MethodResult("Poisson coefficient", "fay-graubard", means.fit.coefficients[:, 1], np.sqrt(variance), degrees))
    return found


def cell(law: str, size: int, covariates: int, ratio: float, repetitions: int, seed: int) -> pd.DataFrame:
    """Performance in one cell."""
    pieces, silent = [], 0
    for start in range(0, repetitions, _TOGETHER):
        rng = np.random.default_rng([seed, list(LAWS).index(law), size, covariates, round(100 * ratio), start])
        drawn = trials(law, size, covariates, ratio, min(_TOGETHER, repetitions - start), rng)
        events = np.stack([drawn.y[:, drawn.arm == arm].sum(axis=1) for arm in (0, 1)])
        usable = np.flatnonzero((events > 0).all(axis=0))
        silent += len(drawn.y) - len(usable)
        with np.errstate(all="ignore"):
            pieces.append(results(drawn.take(usable)))
    table = performance([MethodResult.joined(parts) for parts in zip(*pieces, strict=True)], float(np.log(ratio)))
    kept = ["variance", "repetitions", "failed", "coverage", "coverage_mcse", "rejection", "rejection_mcse", "median_width"]
    table = table[kept].assign(failed=table["failed"] + silent, seed=seed)
    for name, value in reversed({"law": law, "per_arm": size, "covariates": covariates, "ratio": ratio}.items()):
        table.insert(0, name, value)
    return table


@click.command()
@out_option
@click.option("--repetitions", type=int, default=2000, show_default=True)
@click.option("--size", "sizes", type=int, multiple=True, default=SIZES, show_default=True, help="Patients of the control arm.")
@seed_option(1)
def main(out: Path, repetitions: int, sizes: tuple[int, ...], seed: int) -> None:
    cells = [(law, size, q, ratio) for law in LAWS for size in sizes for q in COVARIATES for ratio in (1.0, 0.5)]
    table = pd.concat([cell(*each, repetitions, seed) for each in tqdm(cells, disable=None)], ignore_index=True)
    write_table(table.round(4), out / "small_arms.csv")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
