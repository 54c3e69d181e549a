r"""The same training at 4 mm (`small`) and at 3 mm (`medium`): equal patients and steps, scored on unseen patients.

Places are judged by nats a lesion above an even spread over the brain, :math:`\log p(v) + \log V` for the brain's :math:`V`
voxels and the voxel :math:`v` of the lesion's middle, which does not depend on the size of a voxel.  A phantom's grid is part
of its simulation: both sides see patients of one law, not the same lesions.

    python -m studies.resolution --work models --out studies/results                        # half an hour of one core
    python -m studies.resolution --work toy --out toy --patients 60 --unseen 20 --masks 4 --steps 5     # a rehearsal
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from tqdm import tqdm

import causalms as cms
from causalms.benchmark import judge
from causalms.benchmark.score import known_outcomes
from causalms.generator import Generator, config, train_generator
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import NegativeBinomialLaw
from causalms.tables import write_table
from studies.baselines import FactorisedDiffusion
from studies.common import ARMS, out_option, seed_option

WEEK, TRAINING, UNSEEN = 96, 4001, 4242
MEASURES = ("R2 of log rate", "CRPS", "coverage of 90% intervals")


def trained(name: str, design: str, patients: int, steps: int, work: Path, seed: int) -> tuple[Generator, float]:
    """The checkpoint of a configuration and the CPU minutes of its training; kept, and not trained again."""
    file, spent = work / f"{name}.safetensors", work / f"{name}.minutes.txt"
    if not spent.is_file():
        model, recipe = config(name)
        recipe = replace(recipe, risk_steps=steps, denoiser_steps=steps, mixed_precision=True, calibration_patients=24)
        trial = cms.simulate_trial(design, patients, TRAINING, model.grid)
        begin = time.process_time()
        train_generator(trial, file, model, recipe, seed, device="cpu")
        spent.write_text(f"{(time.process_time() - begin) / 60:.2f}")
    return Generator.load(file), float(spent.read_text())


def counts_and_places(generator: Generator, trial: PhantomTrial) -> pd.DataFrame:
    """Scores of the law of counts under every arm, and nats a lesion under placebo with an interval over patients."""
    means, sizes, gains, begin = [], [], [], time.process_time()
    model, rule = FactorisedDiffusion(generator), LesionRule.default()
    for person in tqdm(trial.participants["participant_id"], desc=generator.config.name, disable=None):
        scan = generator.encode(trial, person)
        laws = [generator.expect(scan, arm, WEEK) for arm in ARMS]
        means.append([law.lesions for law in laws])
        sizes.append([1 / law.dispersion for law in laws])
        labels = rule.label(trial.truth.potential_mask(person, "placebo", WEEK), trial.space.voxel_volume_mm3)
        middle = ndimage.center_of_mass(labels > 0, labels, range(1, int(labels.max()) + 1))
        place = model.log_place(scan, "placebo")
        gain = place[tuple(np.asarray(middle).round().astype(int).reshape(-1, 3).T)] + np.log(np.isfinite(place).sum())
        gains.append(gain[np.isfinite(gain)])
    spent = (time.process_time() - begin) / len(means)
    law = NegativeBinomialLaw(np.ravel(means), np.ravel(sizes))
    scores = judge(law, known_outcomes(trial, ARMS), 500)
    rows = scores[(scores["arm"] == "") & scores["measure"].isin(MEASURES)][["measure", "estimate", "lower", "upper"]]
    total, lesions = np.array([gain.sum() for gain in gains]), np.array([len(gain) for gain in gains])
    again = np.random.default_rng(0).integers(len(total), size=(1000, len(total)))
    ends = np.quantile(total[again].sum(1) / lesions[again].sum(1), [0.025, 0.975])
    rows.loc[len(scores)] = ["nats a lesion above an even spread", total.sum() / lesions.sum(), *ends]
    rows.loc[len(scores) + 1] = ["CPU seconds a patient, six arms expected", spent, np.nan, np.nan]
    return rows


def masks_of(generator: Generator, trial: PhantomTrial, patients: int) -> pd.DataFrame:
    """Sampled against true lesions on placebo: number, volumes, and seconds a mask; intervals over patients."""
    rule, people, begin = LesionRule.default(), list(trial.participants["participant_id"][:patients]), time.process_time()
    scans = [generator.encode(trial, person) for person in people]
    drawn = [generator.sample(scan, "placebo", WEEK, generator.noise(scan.participant_id, 0, 1)) for scan in scans]
    spent = (time.process_time() - begin) / patients
    true = [trial.truth.potential_mask(person, "placebo", WEEK) for person in people]
    voxel = trial.space.voxel_volume_mm3
    volumes = [[np.bincount(rule.label(mask, voxel).ravel())[1:] * voxel for mask in side] for side in (drawn, true)]

    def measured(chosen: np.ndarray) -> list[float]:
        sampled, real = (np.concatenate([side[k] for k in chosen]) for side in volumes)
        return [sampled.mean() / real.mean(), stats.ks_2samp(sampled, real).statistic]

    again = np.random.default_rng(0).integers(patients, size=(500, patients))
    ends = np.quantile([measured(chosen) for chosen in again], [0.025, 0.975], axis=0)
    names = ("mean volume of a lesion / truth", "KS distance of lesion volumes")
    rows = [(name, value, *ends[:, k]) for k, (name, value) in enumerate(zip(names, measured(np.arange(patients)), strict=True))]
    return pd.DataFrame([*rows, ("CPU seconds a mask", spent, np.nan, np.nan)], columns=["measure", "estimate", "lower", "upper"])


@click.command()
@out_option
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder of the trained checkpoints, reused.")
@click.option("--design", default="lifelike", show_default=True)
@click.option("--patients", default=2131, show_default=True, help="To learn from.")
@click.option("--unseen", default=300, show_default=True, help="Patients scored.")
@click.option("--masks", default=100, show_default=True, help="Of them, with a sampled mask.")
@click.option("--steps", default=500, show_default=True, help="Of training, in each of its two stages.")
@seed_option(0)
def main(out: Path, work: Path, design: str, patients: int, unseen: int, masks: int, steps: int, seed: int) -> None:
    """Write resolution.csv: one row a configuration and measure."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in ("small", "medium"):
        generator, minutes = trained(name, design, patients, steps, work, seed)
        trial = cms.simulate_trial(design, unseen, UNSEEN, generator.config.grid)
        rows = pd.concat([counts_and_places(generator, trial), masks_of(generator, trial, masks)], ignore_index=True)
        rows.loc[len(rows)] = ["CPU minutes of training", minutes, np.nan, np.nan]
        sizes = {"grid": generator.config.grid, "parameters": generator.parameters, "patients": patients, "unseen": unseen}
        tables.append(rows.assign(configuration=name, **sizes, masks=masks, steps=steps))
    table = pd.concat(tables, ignore_index=True)
    first = ["configuration", "measure"]
    write_table(table[first + [column for column in table if column not in first]].round(4), out / "resolution.csv")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
