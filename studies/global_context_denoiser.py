"""Explicit frailty against a global-context denoiser: the over-dispersion of counts carried, or learned.

Both models share risk head, noise and sampler; the second has no frailty.  Held-out phantom patients at week 96, own arm and
placebo; the truth is the phantom's law of counts, potential outcomes only enter the scores.

    python -m studies.global_context_denoiser --out results/global_context                                 # 20 CPU minutes
    python -m studies.global_context_denoiser --out toy --patients 60 --held-out 8 --draws 2 --budget-minutes 0.2   # a rehearsal
"""

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import causalms as cms
from causalms.calibration import pit_histogram
from causalms.generator import Generator
from causalms.generator.inputs import patient_arrays
from causalms.generator.train.data import training_set
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import DrawsLaw, score
from causalms.tables import write_table
from studies import baselines as b
from studies.common import model_option, out_option, seed_option

WEEK = 96
MEASURES = ("sampled mean / true mean", "variance / truth", "share of zeros / truth", "dispersion / truth", "CRPS", "log score")


def sampled(model: b.Forecaster, trial: PhantomTrial, draws: int, seed: int) -> tuple[np.ndarray, float]:
    """Counts (patients, own arm and placebo, draws) and CPU seconds a draw; placebo patients are sampled once."""
    rule, people = LesionRule.default(), trial.participants
    counts, spent, masks = np.zeros((len(people), 2, draws), dtype=np.int64), 0.0, 0
    for row, (person, own) in enumerate(zip(tqdm(people["participant_id"], desc=model.name), people["arm"], strict=True)):
        scan, begin = model.encode_arrays(patient_arrays(trial, person)), time.process_time()
        for column, arm in enumerate(dict.fromkeys((own, "placebo"))):
            sampled_counts = [model.sample(scan, arm, WEEK, draw, seed) for draw in range(draws)]
            counts[row, column:] = [int(rule.label(mask, trial.space.voxel_volume_mm3).max()) for mask in sampled_counts]
            masks += draws
        spent += time.process_time() - begin
    return counts, spent / masks


def known(trial: PhantomTrial) -> tuple[np.ndarray, np.ndarray, float]:
    """True rates and potential counts (patients, own arm and placebo), and the size of the phantom's negative binomial."""
    truth = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])
    keys = [[(p, own), (p, "placebo")] for p, own in trial.participants[["participant_id", "arm"]].to_numpy()]
    rate, counts = (
        np.array([[truth.at[key, column] for key in row] for row in keys]) for column in ("true_rate", "true_lesions")
    )
    return rate, counts.astype(np.int64), trial.truth.design.counts.size


def measured(draws: np.ndarray, rate: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """The :data:`MEASURES` of draws (patients, draws), given true rates and outcomes (patients,)."""
    variance, zeros = (rate + rate**2 / size).mean() + rate.var(), ((size / (size + rate)) ** size).mean()
    mean, own = draws.mean(1), draws.var(1, ddof=1)
    within = (own - mean).sum() / (mean**2 - own / draws.shape[1]).sum()  # alpha by moments: no truth needed
    ratios = [draws.mean() / rate.mean(), draws.var() / variance, (draws == 0).mean() / zeros, within * size]
    return np.array([*ratios, *(score(name, DrawsLaw(draws), y).mean() for name in ("crps", "log"))])


def table(
    sampled_counts: dict[str, tuple[np.ndarray, float]], rate: np.ndarray, y: np.ndarray, size: float, seed: int
) -> pd.DataFrame:
    """One row a model, arm and measure, beside the first model; intervals resample patients, the same ones for every model."""
    samples, rows, first = np.random.default_rng(seed).integers(len(rate), size=(1000, len(rate))), [], None
    for arm, label in enumerate(("own arm", "placebo")):
        for name, (draws, _) in sampled_counts.items():
            value = measured(draws[:, arm], rate[:, arm], y[:, arm], size)
            again = np.array([measured(draws[s, arm], rate[s, arm], y[s, arm], size) for s in samples])
            first = (value, again) if name == next(iter(sampled_counts)) else first
            ends = [np.quantile(part, [0.025, 0.975], axis=0) for part in (again, again - first[1])]
            for index, measure in enumerate(MEASURES):
                gap = (value[index] - first[0][index], *ends[1][:, index])
                rows.append((name, label, measure, value[index], *ends[0][:, index], *gap))
            p_value = pit_histogram(DrawsLaw(draws[:, arm]), y[:, arm], bins=5).p_value
            rows.append((name, label, "PIT p-value", p_value, *[np.nan] * 5))
    columns = ["model", "arm", "measure", "estimate", "lower", "upper", "difference", "difference_lower", "difference_upper"]
    return pd.DataFrame(rows, columns=columns).assign(patients=len(rate))


@click.command()
@out_option
@model_option()
@click.option("--patients", default=2000, show_default=True, help="Of the training trial (seed 2026).")
@click.option("--held-out", default=60, show_default=True)
@click.option("--draws", default=4, show_default=True)
@click.option("--budget-minutes", default=10.0, show_default=True, help="CPU minutes to train the global-context denoiser.")
@seed_option(4242)
def main(out: Path, model: str, patients: int, held_out: int, draws: int, budget_minutes: float, seed: int) -> None:
    """Write global_context.csv; the trained denoiser is kept in OUT and reused."""
    torch.set_num_threads(1)
    generator, file = Generator.load(model), out / "global_context.safetensors"
    if not file.is_file():
        training = training_set(cms.simulate_trial("pooled", patients=patients, seed=2026), LesionRule.default())
        b.train_global_context(training, generator, seed=0, budget_minutes=budget_minutes).save(file)
    learned = b.GlobalContextForecaster.load(file, generator)
    trial = cms.simulate_trial("pooled", patients=held_out, seed=seed)
    sampled_counts = {m.name: sampled(m, trial, draws, seed) for m in (b.FactorisedDiffusion(generator), learned)}
    scores = table(sampled_counts, *known(trial), seed).assign(draws=draws)
    scores["parameters"] = scores["model"].map({"causalms": generator.parameters, learned.name: learned.parameters})
    scores["cpu_seconds_a_draw"] = scores["model"].map({name: seconds for name, (_, seconds) in sampled_counts.items()})
    write_table(scores.round(4), out / "global_context.csv")
    print(learned.header, scores.round(3).to_string(index=False), sep="\n")


if __name__ == "__main__":
    main()
