"""How many patients does the generator need?  R2 and CRPS of its counts against the number of patients that it learns from.

Counts of the first stage, beside two others that have the same fit: columns alone, and columns with the two image markers that
the phantom's rates depend on, which no real trial knows.  Patients are read a trial at a time, and what was read is kept.

python -m studies.learning_curve --parts parts --out studies/results/learning_curve
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

import causalms as cms
from causalms.files import whole_file
from causalms.generator import config
from causalms.generator.configurations import COVARIATES
from causalms.generator.inputs import anatomy_of, lesions_traced, stack
from causalms.generator.network import MODIFIERS, Network
from causalms.generator.train.data import training_set
from causalms.generator.train.first_stage import FirstStageData, fit_first_stage
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.phantom.covariates import draw_baseline
from causalms.phantom.design import IMAGE_MARKERS
from causalms.phantom.roster import BASELINE, generator
from causalms.stats import NegativeBinomialLaw, score
from causalms.tables import write_table
from studies.common import out_option, workers_option

WEEK = 96
#: Seeds of the training trials, of 2,131 patients each, of the trials of 9,869 that make 12,000 of each, and of the 500 patients
#: scored under every arm.
TRAINING, MORE, TEST = (4001, 4002, 4003), (4011, 4012, 4013), 4242
#: Patients read at a time, so that memory stays flat.
CHUNK = 400
SIZES = (100, 300, 500, 1000, 2131, 12000)
READS = ("columns", "first stage", "oracle markers")
Arrays = dict[str, np.ndarray]


def part_of(design: str, seed: int, patients: int, parts: Path) -> Path:
    """File of one trial's columns, signals, markers, counts and true rates, made if it is not there."""
    place = parts / f"{design}-{seed}-{patients}.npz"
    if place.is_file():
        return place
    torch.set_num_threads(1)
    trial = cms.simulate_trial(design, patients=patients, seed=seed, grid="4mm")
    names = [str(name) for name in trial.participants["participant_id"]]
    some = (trial.subset(names[start : start + CHUNK]) for start in range(0, patients, CHUNK))
    arrays = together([arrays_of(trial, training_set(part, LesionRule.default(), least=0), seed) for part in some])
    with whole_file(place) as beside, open(beside, "wb") as opened:
        np.savez_compressed(opened, **arrays)
    return place


@torch.no_grad()
def arrays_of(trial: cms.Trial, people: list[TrainingPatient], seed: int) -> Arrays:
    """What the first stage reads of a simulated trial, and what is true of it."""
    model, anatomy, signals = config("small")[0], anatomy_of(trial.space), []
    network = Network(model, 1, float(WEEK))
    for start in range(0, len(people), 8):
        arrays = [p.arrays for p in people[start : start + 8]]
        images, masks, _ = stack(arrays, torch.device("cpu"))
        traced = lesions_traced(arrays, images.device)
        signals.append(network.signals(images, masks, anatomy, traced).double().numpy())
    names = [p.arrays.participant_id for p in people]
    roster = {one.participant_id: one for one in trial.truth.roster}
    drawn = [draw_baseline(roster[n].trial.baseline, generator(seed, BASELINE, roster[n].index)) for n in names]
    table = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])
    arms = trial.truth.design.arms
    rate, true = (table[c].unstack().loc[names, list(arms)].to_numpy() for c in ("log_rate", "true_lesions"))
    return {
        "columns": np.array([p.arrays.covariates for p in people], float),
        "signals": np.concatenate(signals),
        "markers": np.array([[getattr(one, name) for name in IMAGE_MARKERS] for one in drawn]),
        "arm": np.array([arms.index(p.arm) for p in people]),
        "counts": np.array([p.last.lesions for p in people], float),
        "log_share": np.log([p.last.week / WEEK for p in people]),
        "log_rate": rate,
        "potential": true,
    }


def data_of(arrays: Arrays, like: Arrays, read: str) -> FirstStageData:
    """Rows of the first stage, standardised as the training patients ``like`` are."""
    images = {"columns": (), "first stage": ("signals",), "oracle markers": ("markers",)}[read]
    parts = []
    for name in ("columns", *images):
        mean, sd = np.nanmean(like[name], axis=0), np.nanstd(like[name], axis=0)
        parts.append(np.nan_to_num((arrays[name] - mean) / np.where(sd < 1e-4, 1.0, sd)).clip(-4, 4))
    columns, features = parts[0], parts[1] if images else np.zeros((len(parts[0]), 0))
    modifiers = columns[:, [COVARIATES.index(name) for name in MODIFIERS]]
    return FirstStageData(arrays["counts"], arrays["arm"], columns, features, modifiers, arrays["log_share"])


def scores(train: Arrays, test: Arrays, read: str, seed: int) -> dict[str, Any]:
    """Within-arm R2 of the log expected count and the CRPS of every potential outcome, with 95% patient-bootstrap intervals."""
    arms, n = test["log_rate"].shape[1], len(test["counts"])
    fit = fit_first_stage(data_of(train, train, read), arms)
    rows = data_of({**test, "log_share": np.zeros(n)}, train, read)
    log_mean = np.column_stack([fit.log_mean(replace(rows, arm=np.full(n, arm))) for arm in range(arms)])
    counts = test["potential"].astype(np.int64)
    law = NegativeBinomialLaw(np.exp(log_mean).ravel(), np.full(log_mean.size, fit.size))
    crps = score("crps", law, counts.ravel()).reshape(n, arms).mean(axis=1)
    residual = log_mean - log_mean.mean(0) - test["log_rate"] + test["log_rate"].mean(0)
    squares, spread = (residual**2).mean(axis=1), ((test["log_rate"] - test["log_rate"].mean(0)) ** 2).mean(axis=1)
    draws = np.random.default_rng(seed).integers(n, size=(500, n))
    lower, upper = np.quantile(1 - squares[draws].mean(1) / spread[draws].mean(1), [0.025, 0.975])
    ends = np.quantile(crps[draws].mean(1), [0.025, 0.975])
    own = 1 - squares.mean() / spread.mean()
    return {"r2": own, "r2_lower": lower, "r2_upper": upper, "crps": crps.mean(), "crps_lower": ends[0], "crps_upper": ends[1]}


def together(parts: Sequence[Arrays]) -> Arrays:
    """Several trials of one design as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def curve(design: str, training: list[Arrays], test: Arrays) -> list[dict[str, Any]]:
    """One row a size, training trial and set of inputs."""
    rows = []
    for size in SIZES:
        for number, whole in enumerate(one for one in training if size <= len(one["counts"])):
            train = {name: values[:size] for name, values in whole.items()}
            rows += [
                {"design": design, "reads": r, "patients": size, "training_seed": number, **scores(train, test, r, TEST)}
                for r in READS
            ]
    return rows


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Folder of what was read; a killed run goes on.")
@click.option("--large", default=len(MORE), show_default=True, help="Training trials of 12,000 patients.")
@workers_option()
def main(out: Path, parts: Path, large: int, workers: int) -> None:
    """Write learning_curve.csv (every training trial), summary.csv (their mean and range) and the figure."""
    parts.mkdir(parents=True, exist_ok=True)
    jobs = [("lifelike", TEST, 500), *(("lifelike", s, 2131) for s in TRAINING)]
    jobs += [("lifelike", s, 9869) for s in MORE[:large]]
    jobs += [("harmful", TEST, 500), *(("harmful", s, 1000) for s in TRAINING)]
    made = Parallel(n_jobs=workers, return_as="generator")(delayed(part_of)(*job, parts) for job in jobs)
    read = [
        dict(np.load(place, allow_pickle=False))
        for place in tqdm(made, total=len(jobs), desc="trials", unit="trial", disable=None)
    ]
    more, harmful = read[4 : 4 + large], read[4 + large :]
    training = [together([one, *more[k : k + 1]]) for k, one in enumerate(read[1:4])]
    table = pd.DataFrame(curve("lifelike", training, read[0]) + curve("harmful", harmful[1:], harmful[0]))
    write_table(table, out / "learning_curve.csv")
    by = table.groupby(["design", "reads", "patients"], sort=False)
    summary = by.agg(
        trials=("r2", "size"), r2=("r2", "mean"), r2_least=("r2", "min"), r2_most=("r2", "max"), crps=("crps", "mean")
    ).reset_index()
    write_table(summary, out / "summary.csv")
    print(summary.to_string(index=False))
    draw(table, out / "learning_curve.png")


def draw(table: pd.DataFrame, out: Path) -> None:
    """R2 against the number of patients, a point a training trial, one panel a design."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, constrained_layout=True)
    for axis, (design, part) in zip(axes, table.groupby("design", sort=False), strict=True):
        for read, own in part.groupby("reads", sort=False):
            mean = own.groupby("patients")["r2"].mean()
            (line,) = axis.plot(mean.index, mean, label=read)
            axis.plot(own["patients"], own["r2"], ".", color=line.get_color())
        axis.set(xscale="log", xlabel="patients in the training trial", title=design, ylim=(0, 1))
    axes[0].set_ylabel("R2 of the log rate, unseen patients")
    axes[0].legend()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
