"""Can the generator predict a trial that it has never seen?  Every trial is left out in turn; simulated beside randomised and true.

A contrast can be predicted where both of its arms occur in the other trials.  In the pooled design that is so for the two OPERA
trials alone, so the default design adds a second trial for each drug against placebo (ALLEGRO, CONFIRM), with the
effects of the first by construction.

python analyses/leave_one_trial_out.py --out results/leave_one_trial_out --patients 1000 --steps 200
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.evidence import correlate, leave_one_trial_out, predictable_contrasts
from causalms.generator import config
from causalms.generator.training import train
from causalms.phantom import load_design
from causalms.phantom.design import Design
from causalms.report import figures
from causalms.tables import write_table


def paired_trials() -> Design:
    """The pooled design with a second trial of laquinimod and of dimethyl fumarate."""
    pooled = load_design("pooled")
    bravo, define, *others = pooled.trials
    allegro = bravo.model_copy(update={"name": "ALLEGRO", "arms": {"placebo": 556.0, "laquinimod": 550.0}})
    confirm = define.model_copy(update={"name": "CONFIRM", "arms": {"placebo": 363.0, "dimethyl-fumarate": 359.0}})
    return pooled.model_copy(update={"name": "paired", "trials": (bravo, allegro, define, confirm, *others)})


def true_ratio(trial: cms.Trial, name: str, arm: str, reference: str, week: int) -> float:
    """Ratio of the mean true rates of a trial's patients under both arms."""
    rates = trial.truth.table.query("trial == @name and visit_week == @week").groupby("arm")["true_rate"].mean()
    return float(rates[arm] / rates[reference])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--design", default="paired", show_default=True, help="paired, or a design of causalms simulate.")
@click.option("--config", "name", default="small", show_default=True)
@click.option("--patients", default=1000, show_default=True)
@click.option("--steps", default=200, show_default=True, help="Of the risk head, for every trial left out.")
@click.option("--week", default=96, show_default=True)
@click.option("--margin", default=1.25, show_default=True, help="Equivalence margin, fixed before the run.")
@click.option("--seed", default=15, show_default=True)
@click.option("--workers", default=1, show_default=True)
def main(
    out: Path, design: str, name: str, patients: int, steps: int, week: int, margin: float, seed: int, workers: int
) -> None:
    """Write contrasts.csv (one row a contrast), agreement.csv (results), not_predicted.csv and agreement.png."""
    model, recipe = config(name)
    # Expected counts come from the risk head; the denoiser, which draws masks, is not needed here.
    recipe = replace(recipe, risk_steps=steps, denoiser_steps=1, calibration_patients=8)
    begin = os.times()
    trial = cms.simulate_trial(
        paired_trials() if design == "paired" else design, patients=patients, seed=seed, grid=model.grid, workers=workers
    )
    counts: list[pd.DataFrame] = []

    def predict(training: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
        arms = [arm for arm in sorted(set(held_out["arm"])) if arm in set(training["arm"])]
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "generator.safetensors"
            train(trial.subset(list(training["participant_id"])), checkpoint, model, recipe, seed, workers=workers)
            asked = {"arm": arms, "week": week, "expected": True}
            scans = replace(trial.subset(list(held_out["participant_id"])), participants=held_out)
            told = cms.CausalModel.load(checkpoint).do(scans, workers=workers, **asked)
        counts.append(cms.CausalModel.fit_counts(training, week).do(held_out, **asked))
        print(f"{held_out['trial'].iloc[0]} left out: {len(training)} patients of the others, {sum(os.times()[:2]):.0f} CPU s")
        return told

    found = leave_one_trial_out(trial.participants, predict, week=week, margin=margin)
    again = iter(counts)
    regression = leave_one_trial_out(trial.participants, lambda training, held_out: next(again), week=week, margin=margin)
    table = found.table.merge(
        regression.table[["label", "simulated_estimate"]].rename(columns={"simulated_estimate": "regression_estimate"}), on="label"
    )
    table["true_estimate"] = [true_ratio(trial, row.trial, row.arm, row.reference, week) for row in table.itertuples()]
    table["simulated_over_true"] = table["simulated_estimate"] / table["true_estimate"]
    table["regression_over_true"] = table["regression_estimate"] / table["true_estimate"]
    spent = sum(os.times()[:2]) - sum(begin[:2])
    table = table.assign(config=name, patients=patients, steps=steps, seed=seed, cpu_seconds=round(spent))
    contrasts = predictable_contrasts(trial.participants)
    write_table(table, out / "contrasts.csv")
    write_table(contrasts[~contrasts["predictable"]], out / "not_predicted.csv")
    results = [found.results]
    if len(table) >= 3:
        results.append(correlate(table))
    write_table(pd.concat(results, ignore_index=True), out / "agreement.csv")
    figures.agreement_scatter(table).savefig(out / "agreement.png", dpi=130)
    shown = ["label", "n", "randomised_estimate", "true_estimate", "simulated_estimate", "simulated_over_true", "ratio"]
    print(table[[*shown, "lower", "upper", "equivalent", "regression_over_true"]].round(3).to_string(index=False))
    print(contrasts[["trial", "arm", "reference", "predictable", "why"]].to_string(index=False))
    if len(table) >= 3:
        print(results[-1][["measure", "estimate", "lower", "upper"]].round(3).to_string(index=False))
    print(f"{spent:.0f} CPU seconds, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
