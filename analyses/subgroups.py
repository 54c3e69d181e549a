"""Effects in prespecified subgroups, observed and simulated in the same patients, and who benefits, for one trial.

python analyses/subgroups.py --out analyses/results/subgroups
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.benefit import Policies, who_benefits
from causalms.causal import Running
from causalms.report import figures
from causalms.subgroups import forest, simulated_forest
from causalms.tables import net2_column, write_table

FACTORS = ("gd_lesions > 0", "age >= 40", "sex")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True)
@click.option("--patients", default=300, show_default=True)
@click.option("--trial", "name", default="DEFINE", show_default=True)
@click.option("--week", default=96, show_default=True)
@click.option("--seed", default=13, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(out: Path, model: str, patients: int, name: str, week: int, seed: int, workers: int) -> None:
    """Write subgroups.csv (results), forest.csv, forest.png, and benefit.csv: who benefits, by the model's predictions."""
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    people = trial.participants
    rows = people[(people["trial"] == name) & people[net2_column(week)].notna()]
    arms = list(rows["arm"].unique())
    reference = next(arm for arm in trial.truth.design.arms if arm in arms)
    causal_model = cms.CausalModel.load(model)
    chosen = list(rows["participant_id"])
    expected = causal_model.do(
        trial, arm=arms, week=week, expected=True, running=Running(workers, progress=True, participants=chosen)
    )
    observed = forest(rows, FACTORS, outcome=net2_column(week), reference=reference)
    simulated = simulated_forest(expected, rows, FACTORS, reference=reference, week=week)
    write_table(pd.concat([observed.results, simulated.results], ignore_index=True), out / "subgroups.csv")
    table = pd.concat([observed.table, simulated.table], ignore_index=True)
    write_table(table, out / "forest.csv")
    policies = Policies(caps=(1.0, 0.3))
    benefit = who_benefits(rows, outcome=net2_column(week), reference=reference, draws=expected, week=week, policies=policies)
    write_table(benefit, out / "benefit.csv")
    figures.subgroup_forest(table).savefig(out / "forest.png", dpi=130)
    print(
        table[["source", "subgroup", "arm", "n", "estimate", "lower", "upper", "interaction_p"]].round(3).to_string(index=False)
    )
    print(benefit[["arm", "measure", "subgroup", "estimate", "lower", "upper", "p_value"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
