"""The generator beside its baselines: trained on one simulated trial, scored on the same patients of another.

python -m studies.generator_benchmark --out results/generator_benchmark
python -m studies.generator_benchmark --out toy --pool 60 --patients 60 --held-out 20 --budget-minutes 0.2   # a rehearsal
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import causalms as cms
from causalms.generator import Generator
from causalms.generator.inputs import patient_arrays
from causalms.generator.train.data import training_set
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import DrawsLaw, NegativeBinomialLaw
from causalms.tables import write_table
from studies import baselines as b
from studies.common import ARMS, model_option, out_option, seed_option
from studies.known_truth.forecasts import KnownOutcomes, judge

WEEK = 96
#: The trained baselines: how, of which class, and their share of the budget.
TRAINED: dict[str, tuple[Callable[..., Any], Any, float]] = {
    "count_network": (b.train_count_network, b.CountForecaster, 6 / 25),
    "segmentation": (b.train_stochastic_segmentation, b.StochasticSegmentationForecaster, 9 / 25),
    "lineage": (b.train_lineage, b.LineageForecaster, 10 / 25),
}


@click.command()
@out_option
@model_option()
@click.option("--pool", default=12000, show_default=True, help="Patients of the training trial, that of the reference.")
@click.option("--patients", default=6000, show_default=True, help="Patients of the pool, drawn at random, for the baselines.")
@click.option("--held-out", default=500, show_default=True, help="Patients scored, in all their potential arms.")
@click.option("--masks", default=150, show_default=True, help="Held-out patients whose masks are sampled, in their own arm.")
@click.option(
    "--slow", default=6, show_default=True, help="Held-out patients of the slow lineage model: two arms, two draws each."
)
@click.option("--budget-minutes", default=25.0, show_default=True, help="CPU minutes to train the three image baselines.")
@seed_option(4242)
@click.option("--only", default="", help="Score these models only, comma-separated.")
def main(
    out: Path,
    model: str,
    pool: int,
    patients: int,
    held_out: int,
    masks: int,
    slow: int,
    budget_minutes: float,
    seed: int,
    only: str,
) -> None:
    """Write benchmark.csv and its figure; trained baselines are kept in OUT and reused."""
    torch.set_num_threads(1)
    trial = cms.simulate_trial("pooled", patients=held_out, seed=seed)
    known, table = known_outcomes(trial), trial.participants
    people = [
        b.SeenPatient(patient_arrays(trial, p), arm, trial.truth.potential_mask(p, arm, WEEK))
        for p, arm in zip(table["participant_id"], table["arm"], strict=True)
    ]
    whole = cms.simulate_trial("pooled", patients=pool, seed=2026)
    followed = whole.participants[whole.participants.filter(regex=r"^net2_lesions_week").notna().any(axis=1)]
    chosen = np.random.default_rng(0).permutation(followed["participant_id"].to_numpy())[:patients]
    training = training_set(whole.subset(list(chosen)), LesionRule.default())
    prior = b.fit_climatology(training, ARMS, trial.space)
    own = b.FactorisedDiffusion(Generator.load(model))
    for name, forecaster in forecasters(out, own, training, prior, trial.space, budget_minutes):
        few, arms, draws = (slow, (0, 5), 2) if name == "lineage" else (held_out, tuple(range(len(ARMS))), 8)
        if only and name not in only.split(","):
            continue
        some = known.part(few, arms)
        begin = time.process_time()
        law = forecast(forecaster, people[:few], some.arms, draws, seed)
        seconds = (time.process_time() - begin) / (few * len(arms))
        rows = [judge(law, some, seed=seed)]
        if few < held_out:
            ours = judge(forecast(own, people[:few], some.arms, 0, seed), some, seed=seed)
            rows.append(ours[ours["measure"] == "CRPS"].assign(measure="CRPS of causalms on the same patients and arms"))
        if "place" in forecaster.capabilities:
            rows.append(b.judge_places(forecaster, people[:few], prior, trial.space, seed=seed))
        if "masks" in forecaster.capabilities:
            rows.append(b.judge_masks(forecaster, people[: min(few, masks)], WEEK, trial.space, seed=seed))
        sizes = {"CPU seconds of the count law, a patient and arm": seconds, "parameters": float(forecaster.parameters)}
        rows.append(pd.DataFrame({"measure": list(sizes), "arm": "", "estimate": list(sizes.values()), "patients": few}))
        scores = pd.concat(rows, ignore_index=True).assign(model=forecaster.name, seed=seed, training_patients=patients)
        write_table(scores, out / f"{name}.csv")
        print(f"\n{forecaster.name}\n{scores.iloc[:, :6].round(3).to_string(index=False)}", flush=True)
    files = [out / f"{name}.csv" for name in ("reference", "climatology", "regression", *TRAINED)]
    scored = pd.concat([pd.read_csv(file, keep_default_na=False, na_values=[""]) for file in files if file.is_file()])
    write_table(scored, out / "benchmark.csv")
    write_table(side_by_side(scored), out / "side_by_side.csv")
    print(side_by_side(scored).to_string(index=False))
    figure(scored, out / "benchmark.png")


def known_outcomes(trial: PhantomTrial) -> KnownOutcomes:
    """True rates and potential outcomes at the last week, patients by arms; the marker is an enhancing lesion."""
    truth = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])
    people = trial.participants
    log_rate, counts = (
        truth[column].unstack().loc[people["participant_id"], list(ARMS)].to_numpy() for column in ("log_rate", "true_lesions")
    )
    own = np.array([ARMS.index(arm) for arm in people["arm"]])
    marker = (people["gd_lesions"] > 0).to_numpy()
    return KnownOutcomes(ARMS, log_rate, counts.astype(np.int64), own, marker, trial.truth.design.counts.size)


def forecasters(
    out: Path,
    own: b.FactorisedDiffusion,
    training: list[TrainingPatient],
    prior: b.Climatology,
    space: cms.Space,
    budget_minutes: float,
) -> Iterator[tuple[str, b.Forecaster]]:
    """The models one after the other, trained on the same patients; a checkpoint in OUT is loaded rather than trained anew."""
    yield "reference", own
    yield "climatology", prior
    yield "regression", b.fit_regression(training, ARMS)
    for name, (train, kind, share) in TRAINED.items():
        file = out / f"{name}.safetensors"
        if not file.is_file():
            train(training, ARMS, space, seed=0, budget_minutes=share * budget_minutes).save(file)
        yield name, kind.load(file)


def forecast(
    forecaster: b.Forecaster, people: list[b.SeenPatient], arms: tuple[str, ...], draws: int, seed: int
) -> NegativeBinomialLaw | DrawsLaw:
    """The count law of every patient and arm: by one evaluation where the model has one, else by draws of masks."""
    rule = LesionRule.default()
    rows: list[tuple[float, ...]] = []
    for patient in tqdm(people, desc=f"{forecaster.name}: counts", unit="patient", disable=None):
        scan = forecaster.encode_arrays(patient.arrays)
        for arm in arms:
            if "expect" in forecaster.capabilities:
                expected = forecaster.expect(scan, arm, WEEK)
                rows.append((expected.lesions, 1 / expected.dispersion))
            else:
                masks = (forecaster.sample(scan, arm, WEEK, draw, seed) for draw in range(draws))
                rows.append(tuple(float(rule.label(mask, 64.0).max()) for mask in masks))
    table = np.array(rows)
    return NegativeBinomialLaw(table[:, 0], table[:, 1]) if "expect" in forecaster.capabilities else DrawsLaw(table)


def side_by_side(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a measure and arm, one column a model: estimate (95% interval); empty where a model cannot say."""

    def text(row: pd.Series) -> str:
        value = f"{row['estimate']:,.0f}" if row["measure"] == "parameters" else f"{row['estimate']:.3g}"
        return value if pd.isna(row["lower"]) else f"{value} ({row['lower']:.3g} to {row['upper']:.3g})"

    shown = scores.assign(text=scores.apply(text, axis=1), arm=scores["arm"].fillna(""))
    table = shown.pivot_table(index=["measure", "arm"], columns="model", values="text", aggfunc="first", sort=False)
    return table[list(dict.fromkeys(scores["model"]))].fillna("").reset_index()


def figure(scores: pd.DataFrame, file: Path) -> None:
    """One panel a measure, one row a model, with intervals."""
    wanted = ("R2 of log rate", "CRPS", "PEHE", "AUC of activity", "location, nats a lesion above the template prior")
    drawn, axes = plt.subplots(1, len(wanted), figsize=(15, 2.8), sharey=True, constrained_layout=True)
    names = list(dict.fromkeys(scores["model"]))[::-1]
    for axis, measure in zip(axes, wanted, strict=True):
        rows = scores[scores["measure"] == measure].set_index("model").reindex(names)
        ends = np.abs(rows[["lower", "upper"]].to_numpy().T - rows["estimate"].to_numpy())
        axis.errorbar(rows["estimate"], names, xerr=ends, fmt="o", capsize=3)
        axis.set_title(measure.replace(", nats", ",\nnats"), fontsize=9)
    drawn.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
