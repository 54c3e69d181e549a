"""Can the generator predict a trial it has never seen?  Every trial is left out in turn; simulated beside randomised and true.

A contrast can be predicted where both of its arms occur in the other trials.  In the pooled design that is so for the two OPERA
trials alone, so the default design adds a second trial for each drug against placebo (ALLEGRO, CONFIRM), with the
effects of the first by construction.

python -m studies.leave_one_trial_out --out results/leave_one_trial_out --patients 1000 --steps 200

(about 20 minutes of one core)
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.agreement import correlate, leave_one_trial_out, predictable_contrasts
from causalms.causal import Running
from causalms.generator import config, train_generator
from causalms.phantom import load_design
from causalms.phantom.design import Design
from causalms.report import figures
from causalms.tables import arm_order, write_table
from studies.common import out_option, seed_option, workers_option


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


def shared_arms(training: pd.DataFrame, held_out: pd.DataFrame) -> list[str]:
    """Arms of the held-out trial that patients of other trials were given."""
    return [arm for arm in arm_order(held_out["arm"]) if arm in set(training["arm"])]


@click.command()
@out_option
@click.option("--design", default="paired", show_default=True, help="paired, or a design of causalms simulate.")
@click.option("--config", "name", default="small", show_default=True)
@click.option("--patients", default=1000, show_default=True)
@click.option("--steps", default=200, show_default=True, help="Of the risk head, for every trial left out.")
@click.option("--week", default=96, show_default=True)
@click.option("--margin", default=1.25, show_default=True, help="Equivalence margin, fixed before the run.")
@seed_option(15)
@workers_option()
def main(out: Path, design: str, name: str, patients: int, steps: int, week: int, margin: float, seed: int, workers: int) -> None:
    """Write contrasts.csv (one row a contrast), agreement.csv (results), across.csv, not_predicted.csv and agreement.png.

    After every trial the tables are written; a run that was stopped goes on with the trials that are not yet in contrasts.csv.
    """
    model, recipe = config(name)
    # Expected counts come from the risk head; the denoiser, which draws masks, is not needed here.
    recipe = replace(recipe, risk_steps=steps, denoiser_steps=0, validation_share=0.05, mixed_precision=True)
    trial = cms.simulate_trial(
        paired_trials() if design == "paired" else design, patients=patients, seed=seed, grid=model.grid, workers=workers
    )
    people = trial.participants

    def predict(training: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
        arms = shared_arms(training, held_out)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "generator.safetensors"
            train_generator(trial.subset(list(training["participant_id"])), checkpoint, model, recipe, seed, workers=workers)
            scans = replace(trial.subset(list(held_out["participant_id"])), participants=held_out)
            return cms.CausalModel.load(checkpoint).do(scans, arms, week, expected=True, running=Running(workers))

    def regress(training: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
        return cms.CausalModel.fit_counts(training, week).do(held_out, shared_arms(training, held_out), week, expected=True)

    contrasts = predictable_contrasts(people)
    write_table(contrasts[~contrasts["predictable"]], out / "not_predicted.csv")
    done = [pd.read_csv(out / name) if (out / name).exists() else pd.DataFrame() for name in ("contrasts.csv", "agreement.csv")]
    for left_out in dict.fromkeys(contrasts.loc[contrasts["predictable"], "trial"]):
        if len(done[0]) and left_out in set(done[0]["trial"]):
            continue
        begin = sum(os.times()[:2])
        agreement, regression = (
            leave_one_trial_out(people, simulator, trials=[left_out], week=week, margin=margin)
            for simulator in (predict, regress)
        )
        rows = agreement.table.assign(regression_estimate=regression.table["simulated_estimate"])
        rows["true_estimate"] = [
            true_ratio(trial, left_out, arm, reference, week)
            for arm, reference in zip(rows["arm"], rows["reference"], strict=True)
        ]
        rows["simulated_over_true"] = rows["simulated_estimate"] / rows["true_estimate"]
        rows["regression_over_true"] = rows["regression_estimate"] / rows["true_estimate"]
        others = int((people["trial"] != left_out).sum())
        spent = round(sum(os.times()[:2]) - begin)
        rows = rows.assign(config=name, trained_on=others, steps=steps, seed=seed, cpu_seconds=spent)
        done = [pd.concat([old, new], ignore_index=True) for old, new in zip(done, (rows, agreement.results), strict=True)]
        for table, file in zip(done, ("contrasts.csv", "agreement.csv"), strict=True):
            write_table(table, out / file)
        print(f"{left_out} left out: {others} patients of the others, {spent} CPU s", flush=True)
    table = done[0]
    if len(table) >= 3:
        across = correlate(table)
        write_table(across, out / "across.csv")
        print(across[["measure", "estimate", "lower", "upper"]].round(3).to_string(index=False))
    figures.agreement_scatter(table).savefig(out / "agreement.png", dpi=130)
    shown = ["label", "n", "randomised_estimate", "true_estimate", "simulated_estimate", "simulated_over_true", "ratio"]
    print(table[[*shown, "lower", "upper", "equivalent", "regression_over_true"]].round(3).to_string(index=False))
    print(contrasts.to_string(index=False))


if __name__ == "__main__":
    main()
