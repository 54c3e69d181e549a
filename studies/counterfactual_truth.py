r"""Counterfactual counts of every coupling, and bounds by stratum, against the known potential outcomes of a simulated trial.

python -m studies.counterfactual_truth --out studies/results --model reference
python -m studies.counterfactual_truth --out studies/results --model counts --simulated 300 --patients 150 --particles 20 \
    --rho 0.5 --rho 0.9
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

import causalms as cms
from causalms.causal import Running, Twin, patient_effects, recalibrated
from causalms.tables import MODEL_ERROR, ModelError, net2_column, read_table, write_table
from studies.common import model_option, out_option, seed_option, workers_option
from studies.known_truth import twins as truth
from studies.known_truth.couplings import bounds_by_stratum, compare_couplings

COUPLINGS = ("independent", "ancestral", "monotone")


@click.command()
@out_option
@model_option()
@click.option("--simulated", default=150, show_default=True, help="Patients of the simulated trial.")
@click.option("--patients", default=24, show_default=True, help="Patients with twins.")
@click.option("--particles", default=4, show_default=True)
@click.option("--arm", "arms", multiple=True, default=("placebo", "dimethyl-fumarate", "ocrelizumab"), show_default=True)
@click.option("--coupling", "couplings", multiple=True, default=COUPLINGS, show_default=True)
@click.option("--rho", "rhos", multiple=True, type=float, help="Also twins under this correlation of the two worlds' noise.")
@click.option("--week", default=48, show_default=True)
@seed_option(5)
@workers_option()
def main(
    out: Path,
    model: str,
    simulated: int,
    patients: int,
    particles: int,
    arms: tuple[str, ...],
    couplings: tuple[str, ...],
    rhos: tuple[float, ...],
    week: int,
    seed: int,
    workers: int,
) -> None:
    """Write counterfactual_truth.csv (errors, gap closed, coverage) and bounds_by_stratum.csv; rows of other models stay."""
    warnings.filterwarnings("ignore", category=UserWarning)
    trial = cms.simulate_trial("lifelike", patients=simulated, seed=seed)
    causal_model = cms.CausalModel.fit_counts(trial, week) if model == "counts" else cms.CausalModel.load(model)
    known, size, people = trial.truth.table, trial.truth.design.counts.size, trial.participants
    made = {"model": causal_model.mechanism.name, "checksum": causal_model.mechanism.checksum, "week": week}

    expected = causal_model.do(trial, list(trial.arms), week, expected=True, running=Running(workers, progress=True))
    moved = recalibrated(causal_model, trial, expected, Running(workers))[0]
    members = [expected, *_members(moved, 20, seed)]
    strata = {"all": "age > 0", "Gd lesions": "gd_lesions > 0", "no Gd lesion": "gd_lesions == 0", "40 or older": "age >= 40"}
    chosen = {words: list(people.query(rule)["participant_id"]) for words, rule in strata.items()}
    bounds = [bounds_by_stratum(members, known, size, chosen, arm, "placebo", week) for arm in arms if arm != "placebo"]
    _write(pd.concat(bounds).assign(**made), out / "bounds_by_stratum.csv")

    seen = people[people[net2_column(week)].notna()].head(patients)
    twins = {}
    running = Running(workers, progress=True, parts=out / "twins.parts")  # a killed run goes on
    for coupling, rho in [*((c, None) for c in couplings), *(("rho", r) for r in rhos)]:
        twin = Twin(rho=rho, checked_patients=0)
        twins[coupling if rho is None else f"rho {rho:g}"] = pd.concat(
            causal_model.counterfactual(
                trial,
                [a for a in arms if a != own],
                week,
                coupling,
                particles,
                seed,
                twin,
                replace(running, participants=list(some)),
            )
            for own, some in seen.groupby("arm")["participant_id"]
        )
    compared = compare_couplings(twins, known, size, seed=seed).rename(columns={"coverage": "coverage_90"})
    compared["coverage_expected"] = 0.9  # exactly: ties and ends are broken at random
    effects = patient_effects(expected, "ocrelizumab", "placebo")
    compared["pehe_ocrelizumab_placebo"] = truth.pehe(effects, known, "ocrelizumab", "placebo", week)
    _write(compared.assign(particles=particles, **made), out / "counterfactual_truth.csv")
    shutil.rmtree(out / "twins.parts")
    click.echo(compared.round(3).to_string(index=False))
    click.echo(pd.concat(bounds).round(3).to_string(index=False))


def _members(moved: pd.DataFrame, members: int, seed: int) -> list[pd.DataFrame]:
    """Recalibrated tables drawn from the error that they state of themselves."""
    directions = np.stack([ModelError.read(text).log_mean for text in moved[MODEL_ERROR]])
    drawn = np.exp(directions @ np.random.default_rng(seed).standard_normal((directions.shape[1], members)))
    name = "expected_net2_lesions"
    return [moved.assign(**{name: moved[name] * drawn[:, member]}) for member in range(members)]


def _write(rows: pd.DataFrame, place: Path) -> None:
    """Write a table; the rows of other models in a table of the same columns stay."""
    old = read_table(place) if place.is_file() else rows.head(0)
    others = old[old["model"] != rows["model"].iloc[0]] if set(old) == set(rows) else old.head(0)
    write_table(pd.concat([others, rows]) if len(others) else rows, place)


if __name__ == "__main__":
    main()
