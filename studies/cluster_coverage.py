"""Few clusters of patients, each of one arm: how often 95% intervals of the rate ratio hold the truth.

Counts are Poisson within clusters whose log rates vary (standard deviation 0.4); a covariate varies within and between clusters;
half of the clusters are in each arm; the true ratio is 1.

    python -m studies.cluster_coverage --out studies/results --repetitions 1000 --seed 1
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.effects import Design, Method, analyse
from causalms.tables import write_table
from studies.common import out_option, seed_option

CLUSTERS = (8, 12, 30)
#: Patients of a cluster.
SIZE = 15
METHODS = {
    "standardized, cr1": Method(variance="cr1"),
    "standardized, cr3": Method(variance="cr3"),
    "conditional Poisson, cr1": Method(estimator="conditional", variance="cr1"),
    "conditional Poisson, cr2": Method(estimator="conditional", variance="cr2"),
    "conditional Poisson, cr3": Method(estimator="conditional", variance="cr3"),
}


def trial(clusters: int, rng: np.random.Generator) -> pd.DataFrame:
    """One trial in which clusters were randomised and nothing was changed by it."""
    site = np.repeat(np.arange(clusters), SIZE)
    z = rng.normal(size=len(site)) + rng.normal(size=clusters)[site]
    mean = np.exp(1 + 0.3 * z + rng.normal(0, 0.4, clusters)[site])
    return pd.DataFrame({"site": site, "arm": np.where(site % 2 == 0, "a", "b"), "z": z, "y": rng.poisson(mean)})


def coverage(clusters: int, repetitions: int, seed: int) -> pd.DataFrame:
    """Coverage and median width (of the logarithm) of every method, with and without the covariate."""
    cells = {(method, adjust): ([], []) for method in METHODS for adjust in (None, "z")}  # type: ignore[var-annotated]
    for repetition in tqdm(range(repetitions), desc=f"{clusters} clusters", disable=None):
        table = trial(clusters, np.random.default_rng([seed, clusters, repetition]))
        for (method, adjust), (held, width) in cells.items():
            analysis = analyse(
                table, outcome="y", reference="a", adjust=adjust, design=Design(cluster="site"), method=METHODS[method]
            ).contrasts[0]
            held.append(analysis.lower <= 1 <= analysis.upper)
            width.append(np.log(analysis.upper / analysis.lower))
    rows = []
    for (method, adjust), (held, width) in cells.items():
        share = float(np.mean(held))
        mcse = float(np.sqrt(share * (1 - share) / repetitions))
        rows.append(
            {"clusters": clusters, "method": method, "adjusted": adjust is not None, "coverage": share,
             "coverage_mcse": round(mcse, 4), "median_log_width": round(float(np.median(width)), 4),
             "repetitions": repetitions, "seed": seed}
        )  # fmt: skip
    return pd.DataFrame(rows)


@click.command()
@out_option
@click.option("--repetitions", type=int, default=1000, show_default=True)
@seed_option(1)
def main(out: Path, repetitions: int, seed: int) -> None:
    table = pd.concat([coverage(clusters, repetitions, seed) for clusters in CLUSTERS], ignore_index=True)
    write_table(table, out / "cluster_coverage.csv")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
