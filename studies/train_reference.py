"""Train the checkpoint that ships with the package on a simulated trial (about two hours of one core and 12 GB).

python -m studies.train_reference --out reference.safetensors
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

import causalms as cms
from causalms.generator import Generator, config, train_generator
from causalms.generator.inputs import template_planes
from causalms.generator.train.data import training_set
from causalms.generator.train.level_calibration import LevelEvidence, fold_levels, fold_readout, level_evidence
from studies.common import out_option, seed_option, workers_option

#: Patients simulated at a time for the arms' levels, so that memory stays flat.
CHUNK = 500


@click.command()
@out_option
@click.option("--config", "name", default="small", show_default=True)
@click.option("--patients", default=12000, show_default=True, help="Of the training trial (seed 2026).")
@click.option("--level-patients", default=36000, show_default=True, help="Of further trials, for readout, levels and sizes.")
@seed_option(0)
@click.option("--budget-minutes", default=75.0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@workers_option(2)
def main(
    out: Path, name: str, patients: int, level_patients: int, seed: int, budget_minutes: float, device: str, workers: int
) -> None:
    """Write the checkpoint and its log; a run that was killed goes on where it stopped."""
    model, recipe = config(name)
    recipe = replace(recipe, risk_steps=11000, denoiser_steps=4000, mixed_precision=True)
    trial = cms.simulate_trial("pooled", patients=patients, seed=2026, grid=model.grid, workers=workers)
    generator = train_generator(trial, out, model, recipe, seed, budget_minutes, device, workers)
    jobs = (delayed(evidence)(out, 3000 + chunk) for chunk in range(level_patients // CHUNK))
    results = Parallel(n_jobs=workers, return_as="generator")(jobs)
    parts = list(tqdm(results, total=level_patients // CHUNK, desc="levels", unit="trial", disable=None))
    if parts:
        levels = refit(generator, LevelEvidence.together(parts))
        generator.header["level_calibration"] = {"patients": level_patients, **levels}
        generator.save(out)
    print(f"{out}: {generator.parameters:,} parameters, checksum {Generator.load(out).checksum}")


def refit(generator: Generator, evidence: LevelEvidence) -> dict[str, float]:
    """Readout, levels and sizes from patients that training has not seen; the last factors by arm, and the slope."""
    read = fold_readout(generator.network, evidence, generator.arms)
    levels = fold_levels(generator.network, read, generator.arms, sizes=True)
    return {name: round(value, 4) for name, value in levels.items()}


def evidence(checkpoint: Path, trial_seed: int) -> LevelEvidence:
    """Counts and log means of one further trial."""
    torch.set_num_threads(1)
    generator = Generator.load(checkpoint)
    trial = cms.simulate_trial("pooled", patients=CHUNK, seed=trial_seed, grid=generator.config.grid)
    planes, regions = template_planes(trial.space)
    people = training_set(trial, generator.rule)
    return level_evidence(generator.network, people, generator.arms, planes, regions, trial.space.voxel_volume_mm3 / 1000)


if __name__ == "__main__":
    main()
