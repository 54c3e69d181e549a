"""How many patients does the generator need?  R2 and CRPS of the risk head against the size of its training trial.

python -m studies.learning_curve --out results/learning_curve
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import causalms as cms
from causalms.generator import Generator, config, train_generator
from causalms.stats import NegativeBinomialLaw, score
from causalms.tables import write_table
from studies.common import out_option, seed_option, workers_option

WEEK = 96


@click.command()
@out_option
@click.option("--sizes", default="100,300,1000,2000", show_default=True)
@click.option("--held-out", default=500, show_default=True, help="Patients scored, in all their potential arms.")
@seed_option(4242)
@workers_option()
def main(out: Path, sizes: str, held_out: int, seed: int, workers: int) -> None:
    """Write learning_curve.csv and its figure; trained models are kept in OUT and reused."""
    trial = cms.simulate_trial("pooled", patients=held_out, seed=seed, workers=workers)
    truth = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])
    model, recipe = config("small")
    rows = []
    for size in [int(text) for text in sizes.split(",")] + [0]:
        file = out / f"{size}.safetensors"
        if size and not file.is_file():
            short = replace(recipe, risk_steps=int(np.clip(1.5 * size, 250, 2000)), denoiser_steps=0, mixed_precision=True)
            own = cms.simulate_trial("pooled", patients=size, seed=2026, workers=workers)
            train_generator(own, file, model, short, seed=0, device="cpu", workers=workers)
        generator = Generator.load(file if size else "reference")
        rows.append({"patients": size or generator.header["patients"], **accuracy(generator, trial, truth, seed)})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).sort_values("patients").assign(held_out=held_out, seed=seed)
    write_table(table, out / "learning_curve.csv")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
    for axis, name in zip(axes, ("r2", "crps"), strict=True):
        errors = np.abs(table[[f"{name}_lower", f"{name}_upper"]].to_numpy().T - table[name].to_numpy())
        axis.errorbar(table["patients"], table[name], errors, marker="o", capsize=3)
        axis.set(xscale="log", xlabel="patients in the training trial", ylabel={"r2": "R2 of the log rate", "crps": "CRPS"}[name])
    figure.savefig(out / "learning_curve.png", dpi=90)


def accuracy(generator: Generator, trial: cms.Trial, truth: pd.DataFrame, seed: int) -> dict[str, float]:
    """Within-arm R2 of the log expected count and the CRPS of every potential outcome, with 95% patient-bootstrap intervals."""
    people = list(trial.participants["participant_id"])
    accuracies = [
        [generator.expect(scan, arm, WEEK) for arm in generator.arms] for scan in (generator.encode(trial, p) for p in people)
    ]
    mean = np.array([[e.lesions for e in row] for row in accuracies])
    size = np.array([[1 / e.dispersion for e in row] for row in accuracies])
    rate, count = (truth[c].unstack().loc[people, list(generator.arms)].to_numpy() for c in ("log_rate", "true_lesions"))
    crps = score("crps", NegativeBinomialLaw(mean.ravel(), size.ravel()), count.ravel().astype(int)).reshape(mean.shape)
    draws = np.random.default_rng(seed).integers(len(people), size=(500, len(people)))

    def r2(chosen: np.ndarray) -> float:
        true, own = rate[chosen], np.log(mean[chosen])
        residual = own - own.mean(0) - true + true.mean(0)
        return float(1 - (residual**2).mean() / true.var(0).mean())

    interval = np.quantile([r2(d) for d in draws], [0.025, 0.975])
    scores = np.quantile(crps.mean(1)[draws].mean(1), [0.025, 0.975])
    everyone = r2(np.arange(len(people)))
    names = ("r2", "r2_lower", "r2_upper", "crps", "crps_lower", "crps_upper")
    return dict(zip(names, (everyone, *map(float, interval), float(crps.mean()), *map(float, scores)), strict=True))


if __name__ == "__main__":
    main()
