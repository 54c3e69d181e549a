"""Operating characteristics of every estimator and variance (ADEMP; Morris, White, Crowther 2019), with Monte-Carlo errors.

Aim: which intervals and tests keep their promise for lesion counts.  Data: the count models of ``operating.py``, rate ratio
0.5 and 1, 25 to 250 patients an arm, and Horton counts as negative control (overdispersed).
Estimand: the marginal log rate ratio.

    python -m studies.operating_characteristics --out results [--repetitions 10000] [--seed 1]
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
from tqdm import tqdm

from causalms.tables import write_table
from studies.operating_characteristics.operating import COUNT_MODELS, HORTON_MODELS, operating_characteristics

SIZES = (25, 50, 100, 250)
RATIOS = (0.5, 1.0)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--repetitions", type=int, default=10_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(out: Path, repetitions: int, seed: int) -> None:
    cells = [(model, ratio, size) for model in COUNT_MODELS for ratio in RATIOS for size in SIZES]
    cells += [(model, 1.0, size) for model in HORTON_MODELS for size in SIZES]
    tables = [
        operating_characteristics(model, ratio, size, repetitions, seed)
        for model, ratio, size in tqdm(cells, desc="cells", disable=None)
    ]
    table = pd.concat(tables, ignore_index=True).round(5)
    write_table(table, out / "operating_characteristics.csv")
    chosen = table[table["variance"].isin(["influence", "influence, permuted-block", "hc3-t", "small-sample", "model-sas"])]
    shown = chosen[chosen["ratio"] == 0.5].pivot_table("coverage", ["model", "estimator", "variance"], "per_arm")
    print(shown.round(3).to_string())
    control = table[table["model"].str.startswith("Horton") & table["variance"].eq("model-r")]
    print(control.pivot_table("rejection", ["model", "estimator"], "per_arm").round(3).to_string())


if __name__ == "__main__":
    main()
