"""What common random numbers save: variance factor of contrasts of arms, beside the largest that any coupling allows.

python -m studies.common_noise --out studies/results --model reference --patients 12 --draws 12
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.causal import Query, Running, common_noise_factor, value
from causalms.tables import write_table
from studies.common import model_option, out_option, seed_option, workers_option

ARMS = ("laquinimod", "interferon-beta-1a-im", "interferon-beta-1a-sc", "ocrelizumab")


@click.command()
@out_option
@model_option()
@click.option("--patients", default=12, show_default=True)
@click.option("--draws", default=12, show_default=True)
@click.option("--arm", "arms", multiple=True, default=ARMS)
@click.option("--coupling", "couplings", multiple=True, default=("monotone", "ancestral"), show_default=True)
@click.option("--week", default=48, show_default=True)
@seed_option(3)
@workers_option()
def main(
    out: Path,
    model: str,
    patients: int,
    draws: int,
    arms: tuple[str, ...],
    couplings: tuple[str, ...],
    week: int,
    seed: int,
    workers: int,
) -> None:
    """Write common_noise.csv: one row a pair of arms and coupling."""
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    causal_model = cms.CausalModel.load(model)
    rows = []
    for coupling in couplings:
        query = Query(tuple(map(value, arms)), (float(week),), draws, seed, coupling=coupling)
        table = causal_model.ask(trial, query, running=Running(workers, progress=True))
        means = table.groupby("arm")["net2_lesions"].mean()
        for reference, arm in combinations(arms, 2):
            factor = common_noise_factor(table, arm, reference)
            numbers = {"factor": factor.factor, "factor_se": factor.factor_se, "ceiling": factor.ceiling, "share": factor.share}
            same = {"share_se": factor.share_se, "mean_arm": means[arm], "mean_reference": means[reference]}
            rows.append({"coupling": coupling, "arm": arm, "reference": reference, **numbers, **same})
    table = pd.DataFrame(rows).assign(
        patients=patients, draws=draws, model=causal_model.mechanism.name, checksum=causal_model.mechanism.checksum
    )
    write_table(table, out / "common_noise.csv")
    click.echo(table.drop(columns=["model", "checksum"]).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
