"""Train a checkpoint like the one that ships, on a simulated trial (about two hours of one core and 14 GB).

The checkpoint that ships is of the recipe before the first stage of counts (12,000 patients for the network, 36,000 for its
readout); this one makes its successor.

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
@click.option("--patients", default=12000, show_default=True, help="Of the training trial (seed 2026).")
@seed_option(0)
@click.option("--budget-minutes", default=75.0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@workers_option(2)
def main(out: Path, name: str, patients: int, seed: int, budget_minutes: float, device: str, workers: int) -> None:
    """Write the checkpoint and its log; a run that was killed goes on where it stopped."""
    model, recipe = config(name)
    recipe = replace(recipe, risk_steps=11000, denoiser_steps=4000, mixed_precision=True)
    trial = cms.simulate_trial("pooled", patients=patients, seed=2026, grid=model.grid, workers=workers)
    generator = train_generator(trial, out, model, recipe, seed, budget_minutes, device, workers)
    print(f"{out}: {generator.parameters:,} parameters, checksum {generator.checksum}")


if __name__ == "__main__":
    main()
