"""Do a counterfactual run's diagnostics depend on its seed?  The same patients under several seeds, by mechanism and coupling.

python -m studies.diagnostics_by_seed --out studies/results

Every patient has a random stream of its own, so that the bootstrap interval over patients should hold what another seed would
have given: the deviation between seeds is set beside that interval's standard error.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
from tqdm import tqdm

import causalms as cms
from causalms.causal import CausalModel
from causalms.causal.diagnostics import diagnose
from causalms.causal.interventions import value
from causalms.causal.query import Query
from causalms.tables import net2_column, write_table
from studies.common import model_option, out_option, seed_option

CHECKED = ("composition", "composition of masks", "reversibility", "persistence", "effectiveness", "marginal")
KEYS = ["mechanism", "coupling", "arm", "diagnostic", "particles"]


def by_seed(model: CausalModel, trial: cms.Trial, people: list[str], query: Query, seeds: int, particles: int) -> pd.DataFrame:
    """Diagnostics of the same patients under seeds 0, 1, ..."""
    found = []
    for seed in tqdm(range(seeds), desc=query.coupling, unit="seed", disable=None):
        asked = Query(query.interventions, query.weeks, seed=seed, coupling=query.coupling, evidence_week=query.evidence_week)
        found.append(diagnose(model.mechanism, trial, asked, people, len(people), particles).assign(seed=seed))
    return pd.concat(found)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds, deviation between them, and the interval over patients of the first seed with its standard error."""
    groups = rows[rows["diagnostic"].isin(CHECKED)].groupby(KEYS, sort=False)
    return groups.agg(
        patients=("n", "first"), seeds=("seed", "size"), mean=("value", "mean"), sd_between_seeds=("value", "std"),
        lower=("lower", "first"), upper=("upper", "first"),
    ).reset_index().assign(se_over_patients=lambda t: (t["upper"] - t["lower"]) / 3.92)  # fmt: skip


@click.command()
@out_option
@model_option()
@click.option("--patients", default=12, show_default=True, help="On the own arm, of the diffusion; ten times as many of counts.")
@click.option("--own", default="placebo", show_default=True)
@click.option("--arm", "arms", multiple=True, default=("dimethyl-fumarate",), show_default=True)
@click.option("--week", default=48, show_default=True)
@click.option("--seeds", default=4, show_default=True)
@click.option("--particles", default=2, show_default=True)
@seed_option(77)
def main(
    out: Path, model: str, patients: int, own: str, arms: tuple[str, ...], week: int, seeds: int, particles: int, seed: int
) -> None:
    """Write diagnostics_by_seed.csv, a row a mechanism, coupling, arm and diagnostic."""
    trial = cms.simulate_trial("lifelike", patients=600, seed=seed)
    people = trial.participants
    on_arm = people[(people["arm"] == own) & people[net2_column(week)].notna()]["participant_id"].tolist()
    models = {"counts": CausalModel.fit_counts(trial, week), "diffusion": CausalModel.load(model)}
    rows = []
    for name, causal in models.items():
        chosen = on_arm[: patients * (10 if name == "counts" else 1)]
        for coupling in ("monotone", "ancestral"):
            query = Query(tuple(value(arm) for arm in arms), (float(week),), coupling=coupling, evidence_week=float(week))
            rows.append(by_seed(causal, trial, chosen, query, seeds, particles).assign(mechanism=name, coupling=coupling))
            table = summary(pd.concat(rows)).assign(own=own, week=week, seed=seed)
            write_table(table, out / "diagnostics_by_seed.csv")  # a killed run leaves what it has
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
