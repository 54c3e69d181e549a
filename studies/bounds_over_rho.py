"""Probability of benefit and harm while the coupling runs from mirrored to shared noise, in its bounds, beside the truth.

python -m studies.bounds_over_rho --out studies/results --model counts
"""

from __future__ import annotations

from pathlib import Path

import click

import causalms as cms
from causalms.causal import Running, rho_sweep
from causalms.report import figures
from causalms.tables import write_table
from studies.common import model_option, out_option, seed_option, workers_option
from studies.known_truth.couplings import true_joint_probabilities


@click.command()
@out_option
@model_option("counts")
@click.option(
    "--simulated", default=300, show_default=True, help="Patients of the simulated trial (and of the count model's fit)."
)
@click.option("--patients", default=100, show_default=True, help="Patients whose two worlds are drawn.")
@click.option("--draws", default=48, show_default=True)
@click.option("--arm", default="ocrelizumab", show_default=True)
@click.option("--reference", default="placebo", show_default=True)
@click.option("--week", default=48, show_default=True)
@seed_option(5)
@workers_option()
def main(
    out: Path,
    model: str,
    simulated: int,
    patients: int,
    draws: int,
    arm: str,
    reference: str,
    week: int,
    seed: int,
    workers: int,
) -> None:
    """Write bounds_over_rho.csv and its figure."""
    trial = cms.simulate_trial("pooled", patients=simulated, seed=seed)
    causal_model = cms.CausalModel.fit_counts(trial, week) if model == "counts" else cms.CausalModel.load(model)
    some = list(trial.participants["participant_id"].head(patients))
    running = Running(workers, progress=True)
    sweep = rho_sweep(causal_model, trial, (arm, reference), week, draws=draws, seed=seed, participants=some, running=running)
    table = trial.truth.table
    rates = table[table["visit_week"] == week].pivot(index="participant_id", columns="arm", values="true_rate").loc[some]
    true = true_joint_probabilities(rates[reference], rates[arm], trial.truth.design.counts.size).mean(1)
    sweep["truth"] = sweep["measure"].map(dict(zip(("benefit", "harm", "activity harm"), true, strict=True)))
    sweep = sweep.assign(draws=draws, model=causal_model.mechanism.name, checksum=causal_model.mechanism.checksum)
    write_table(sweep, out / "bounds_over_rho.csv")
    figures.bounds_page(sweep).savefig(out / "bounds_over_rho.png", dpi=120)
    click.echo(sweep.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
