"""Train the checkpoint that ships, on a simulated trial (about an hour of one core and 14 GB).

What it wrote was then given the error model of new patients (``studies.reference_error_model``).

python -m studies.train_reference --out reference.safetensors
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

import causalms as cms
from causalms.generator import config, train_generator
from studies.common import out_option, seed_option, workers_option


@click.command()
@out_option
@click.option("--config", "name", default="small", show_default=True)
@click.option("--design", default="lifelike", show_default=True)
@click.option("--patients", default=12000, show_default=True, help="Of the training trial (seed 2026).")
@seed_option(0)
@click.option("--budget-minutes", default=None, type=float, help="Ends the steps early.")
@click.option("--device", default="auto", show_default=True)
@workers_option(2)
def main(
    out: Path, name: str, design: str, patients: int, seed: int, budget_minutes: float | None, device: str, workers: int
) -> None:
    """Write the checkpoint and its log; a run that was killed goes on where it stopped."""
    model, recipe = config(name)
    recipe = replace(recipe, risk_steps=5000, denoiser_steps=3000, mixed_precision=True, flip=0.5)
    trial = cms.simulate_trial(design, patients=patients, seed=2026, grid=model.grid, workers=workers)
    generator = train_generator(trial, out, model, recipe, seed, budget_minutes, device, workers)
    print(f"{out}: {generator.parameters:,} parameters, checksum {generator.checksum}")


if __name__ == "__main__":
    main()
