"""Missing baseline covariates and missing outcomes: bias, coverage and type I error of what the package does with them.

Negative-binomial counts (dispersion 1, mean about 3) of two arms with two prognostic covariates.  ``covariate``: the better of
the two is missing in about 22%, more often where it is high.  ``outcome``: about 28% of outcomes are missing, more often where
the covariate is high under the reference and where it is low under the other arm: complete cases without covariates are biased.
``drop-out``: counts at three visits that share a frailty; after many counts patients of the reference leave more often.

    python -m studies.missing_values --out studies/results --repetitions 400 --seed 1
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.effects import (
    Design,
    Method,
    MissingOutcomes,
    VisitMethod,
    analyse,
    analyse_visits,
    effects_with_missing_outcomes,
)
from causalms.errors import RefusalError
from causalms.tables import write_table
from studies.common import out_option, seed_option

PER_ARM = {"covariate": (25, 100), "outcome": (50, 100), "drop-out": (50, 100)}
RATIOS = (1.0, 0.5)
_WEIGHTS = Method(missing=MissingOutcomes(strategy="ipw", missing_given="x"))
Row = pd.Series


def _analysed(adjust: str | None, **design: str) -> Callable[[pd.DataFrame], Row]:
    return lambda table: analyse(table, outcome="y", reference="a", adjust=adjust, design=Design(**design)).results.iloc[0]


def _weighted(adjust: str | None) -> Callable[[pd.DataFrame], Row]:
    return lambda table: effects_with_missing_outcomes(table, outcome="y", reference="a", adjust=adjust, method=_WEIGHTS).iloc[0]


def _by_visit(ipcw_given: str | None, variance: str = "robust") -> Callable[[pd.DataFrame], Row]:
    method = VisitMethod(correlation="independence", ipcw_given=ipcw_given, variance=variance)
    return lambda table: analyse_visits(table, outcome="y", reference="a", adjust="x", method=method).results.iloc[0]


METHODS: dict[str, dict[str, Callable[[pd.DataFrame], Row]]] = {
    "covariate": {
        "mean and indicator (default)": _analysed("x + z"),
        "left out": _analysed("x + z", missing_covariates="drop"),
    },
    "outcome": {
        "complete cases": _analysed(None),
        "ipw": _weighted(None),
        "ipw, adjusted": _weighted("x + z"),
    },
    "drop-out": {
        "GEE": _by_visit(None),
        "GEE, ipcw": _by_visit("x"),
        "GEE, ipcw, bias-corrected": _by_visit("x", "bias-corrected"),
    },
}


def trial(missing: str, per_arm: int, ratio: float, rng: np.random.Generator) -> pd.DataFrame:
    """One trial with what is missing."""
    n = 2 * per_arm
    arm, x, z = np.tile([0, 1], per_arm), rng.normal(size=n), rng.binomial(1, 0.4, n)
    if missing == "drop-out":
        return _visits(arm, x, ratio, rng)
    y = rng.poisson(2.5 * np.exp(0.5 * x + 0.4 * z + np.log(ratio) * arm) * rng.gamma(1, 1, n)).astype(float)
    table = pd.DataFrame({"y": y, "arm": np.where(arm, "b", "a"), "x": x, "z": z})
    if missing == "covariate":
        return table.assign(x=table["x"].mask(rng.random(n) < 1 / (1 + np.exp(1.6 - 1.2 * x))))
    return table.assign(y=table["y"].mask(rng.random(n) < 1 / (1 + np.exp(1.2 - np.where(arm, -1, 1) * x))))


def _visits(arm: np.ndarray, x: np.ndarray, ratio: float, rng: np.random.Generator) -> pd.DataFrame:
    """Counts at three visits, and who has left before each."""
    n = len(arm)
    rate = 2 * np.where(arm == 1, ratio, 1.0) * rng.gamma(1.5, 1 / 1.5, n) * np.exp(0.3 * x - 0.045)
    y = rng.poisson(rate[:, None], (n, 3)).astype(float)
    stays = np.ones(n, dtype=bool)
    for visit in (1, 2):
        stays &= rng.random(n) < 1 / (1 + np.exp(np.where(arm == 1, -2.0, np.log1p(y[:, :visit].mean(axis=1)) - 2.5)))
        y[~stays, visit] = np.nan
    people = pd.DataFrame({"participant_id": np.arange(n), "arm": np.where(arm == 1, "b", "a"), "x": x})
    return people.loc[np.repeat(np.arange(n), 3)].assign(visit_week=np.tile([16, 32, 48], n), y=y.ravel()).reset_index(drop=True)


def cell(missing: str, per_arm: int, ratio: float, repetitions: int, seed: int) -> pd.DataFrame:
    """One row a method."""
    made: dict[str, list[tuple[float, bool, bool, float]]] = {name: [] for name in METHODS[missing]}
    for repetition in range(repetitions):
        table = trial(missing, per_arm, ratio, np.random.default_rng([seed, per_arm, int(10 * ratio), repetition]))
        for name, method in METHODS[missing].items():
            try:
                row = method(table)
            except RefusalError:  # the covariate tells in an arm who lacks an outcome
                continue
            width = float(np.log(row.upper / row.lower))
            made[name].append((float(np.log(row.estimate / ratio)), row.lower <= ratio <= row.upper, row.p_value < 0.05, width))
    rows = []
    for name, values in made.items():
        error, held, rejected, width = np.array(values, dtype=float).T
        rows.append(
            {"missing": missing, "per_arm": per_arm, "ratio": ratio, "method": name, "bias": round(error.mean(), 4),
             "bias_mcse": round(error.std(ddof=1) / np.sqrt(len(error)), 4), "coverage": round(held.mean(), 4),
             "coverage_mcse": round(float(np.sqrt(held.mean() * (1 - held.mean()) / len(held))), 4),
             "rejection": round(rejected.mean(), 4), "median_width": round(float(np.median(width)), 4),
             "refused": repetitions - len(error), "repetitions": repetitions, "seed": seed}
        )  # fmt: skip
    return pd.DataFrame(rows)


@click.command()
@out_option
@click.option("--repetitions", type=int, default=400, show_default=True)
@seed_option(1)
def main(out: Path, repetitions: int, seed: int) -> None:
    cells = [(missing, n, ratio) for missing in METHODS for n in PER_ARM[missing] for ratio in RATIOS]
    table = pd.concat([cell(*one, repetitions, seed) for one in cells], ignore_index=True)
    write_table(table, out / "missing_values.csv")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
