"""Counterfactual counts of every coupling against the known potential outcomes of a simulated trial.

python analyses/counterfactual_truth.py --out results --model counts --patients 300
"""

from __future__ import annotations

import warnings
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import causalms as cms
from causalms.scm import patient_effects, rho_sweep, truth
from causalms.tables import write_table


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="counts", show_default=True, help="counts, reference or a checkpoint.")
@click.option("--patients", default=300, show_default=True)
@click.option("--particles", default=100, show_default=True)
@click.option("--week", default=48, show_default=True)
@click.option("--seed", default=5, show_default=True)
@click.option("--workers", default=1, show_default=True)
def main(out: Path, model: str, patients: int, particles: int, week: int, seed: int, workers: int) -> None:
    """Write counterfactual_truth.csv (errors, gap closed, coverage, PEHE), bounds_over_rho.csv and its figure."""
    warnings.filterwarnings("ignore", category=UserWarning)
    trial = cms.simulate_trial("pooled", patients=patients, seed=seed, workers=workers)
    scm = cms.CausalModel.fit_counts(trial, week) if model == "counts" else cms.CausalModel.load(model)
    arms, known, asked = list(trial.arms), trial.truth.table, {"workers": workers, "missing": "skip", "checked_patients": 0}
    twins = {
        name: scm.counterfactual(trial, arms, week, coupling, rho, particles, seed, **asked)
        for name, coupling, rho in (
            ("independent", "independent", None),
            ("rho 0.5", "rho", 0.5),
            ("rho 0.9", "rho", 0.9),
            ("monotone", "monotone", None),
            ("ancestral", "ancestral", None),
        )
    }
    twins["exact"] = truth.exact_twins(twins["monotone"], known, trial.truth.design.counts.size, particles, seed)
    errors = {name: truth.counterfactual_error(table, known) for name, table in twins.items()}
    rows = []
    for name, table in errors.items():
        cover = truth.interval_coverage(twins[name], known, 0.9)
        closed = truth.gap_closed(table, errors["independent"], errors["exact"])
        means = [
            np.average(t[c], weights=t["n"])
            for t, c in ((table, "crps"), (table, "rmse"), (cover, "coverage"), (cover, "expected"))
        ]
        rows.append([name, int(table["n"].sum()), *means, closed])
    names = ["coupling", "worlds", "crps", "rmse", "coverage_90", "coverage_expected", "gap_closed"]
    found = pd.DataFrame(rows, columns=names).assign(model=scm.mechanism.name, checksum=scm.mechanism.checksum)
    effects = patient_effects(scm.do(trial, arms, week, expected=True, workers=workers), "ocrelizumab", "placebo")
    found["pehe_ocrelizumab_placebo"] = truth.pehe(effects, known, "ocrelizumab", "placebo", float(week))
    write_table(found, out / "counterfactual_truth.csv")

    sweep = rho_sweep(scm, trial, "ocrelizumab", "placebo", week, draws=min(particles, 64), seed=seed, workers=workers)
    true = truth.true_joint(known, "ocrelizumab", "placebo", float(week))
    write_table(sweep.assign(truth=sweep["measure"].map(true)), out / "bounds_over_rho.csv")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), constrained_layout=True)
    for axis, (measure, of) in zip(axes, sweep.groupby("measure"), strict=True):
        axis.fill_between(of["rho"], of["lower_bound"], of["upper_bound"], alpha=0.2, label="sharp bounds")
        axis.errorbar(of["rho"], of["estimate"], 1.96 * of["se_monte_carlo"], marker="o", label="model")
        axis.axhline(true[str(measure)], color="black", linestyle="--", label="truth")
        axis.set(title=str(measure), xlabel="rho", ylabel="probability")
    axes[0].legend()
    figure.savefig(out / "bounds_over_rho.png", dpi=120)
    click.echo(found.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
