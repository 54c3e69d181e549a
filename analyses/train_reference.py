"""Train the checkpoint that ships with the package, on a simulated trial of 6,000 patients (about an hour of two cores, 10 GB).

python analyses/train_reference.py --out reference.safetensors --budget-minutes 45
"""

from __future__ import annotations

from pathlib import Path

import click

import causalms as cms
from causalms.generator import config
from causalms.generator.training import train


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--config", "name", default="small", show_default=True)
@click.option("--patients", default=6000, show_default=True)
@click.option("--trial-seed", default=2026, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--budget-minutes", default=45.0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(
    out: Path, name: str, patients: int, trial_seed: int, seed: int, budget_minutes: float, device: str, workers: int
) -> None:
    """Write the checkpoint and its log; a run that was killed goes on where it stopped."""
    model, recipe = config(name)
    trial = cms.simulate_trial("pooled", patients=patients, seed=trial_seed, grid=model.grid, workers=workers)
    generator = train(trial, out, model, recipe, seed, budget_minutes, device, workers)
    print(f"{out}: {generator.parameters:,} parameters, checksum {generator.checksum}")


if __name__ == "__main__":
    main()
