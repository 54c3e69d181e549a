"""Simulated arms against randomised arms, trial by trial: ratio of rate ratios, agreement and equivalence.

python analyses/trial_validation.py --out analyses/results/trial_validation
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.agreement import agree, correlate
from causalms.causal import Running
from causalms.report import figures
from causalms.tables import write_table


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True)
@click.option("--patients", default=300, show_default=True)
@click.option("--week", default=96, show_default=True)
@click.option("--margin", default=1.25, show_default=True, help="Equivalence margin, fixed before the run.")
@click.option("--seed", default=14, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(out: Path, model: str, patients: int, week: int, margin: float, seed: int, workers: int) -> None:
    """Write agreement.csv (results), contrasts.csv (one row a contrast) and agreement.png."""
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    arms = list(trial.truth.design.arms)
    causal_model = cms.CausalModel.load(model)
    expected = causal_model.do(trial, arm=arms, week=week, expected=True, running=Running(workers, progress=True))
    agreement = agree(expected, trial.participants, week=week, margin=margin)
    across = correlate(agreement.table)
    write_table(pd.concat([agreement.results, across], ignore_index=True), out / "agreement.csv")
    write_table(agreement.table, out / "contrasts.csv")
    table = agreement.table.assign(correlation=across["estimate"].iloc[0])
    figures.agreement_scatter(table).savefig(out / "agreement.png", dpi=130)
    shown = ["label", "n", "randomised_estimate", "simulated_estimate", "ratio", "lower", "upper", "equivalent"]
    print(agreement.table[shown].round(3).to_string(index=False))
    print(across[["measure", "estimate", "lower", "upper"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
