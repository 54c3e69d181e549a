"""``causalms demo``: a simulated trial, what its patients would have had under every arm, and one report."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.inputs import model_option
from causalms.cli.paths import OutputFolder, Verb


@click.command(cls=Verb)
@click.option("--out", default="demo", show_default=True, type=OutputFolder(fill=True), help="Folder for tables and the report.")
@click.option("--patients", default=300, show_default=True, type=click.IntRange(min=40), help="Patients of the simulated trial.")
@click.option("--week", default=96, show_default=True, type=click.Choice(["24", "48", "96"]), help="Visit week of every number.")
@model_option
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0))
def command(out: Path, patients: int, week: str, model: str, workers: int, seed: int) -> None:
    """Simulate a pooled trial, ask the shipped model for effects, judge it, and write one HTML report.

    The trial is a phantom: brains, lesions and outcomes are made by a known law, so every number can be held against the
    truth. Not for clinical use.

    \b
    Example:
      causalms demo --out demo
    """  # noqa: D301
    from causalms.cli.walkthrough import Walkthrough

    walk = Walkthrough(out, patients, int(week), model, workers, seed)
    report = walk.run()
    click.echo(walk.effect_table())
    click.echo(f"\nreport: {report}")
