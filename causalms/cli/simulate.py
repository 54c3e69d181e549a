"""``causalms simulate``: write a trial whose potential outcomes are all known."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.paths import InputPath, OutputFolder, Verb
from causalms.tables import counted


@click.command(cls=Verb)
@click.argument("out", metavar="OUT", type=OutputFolder())
@click.option(
    "--design",
    default="lifelike",
    type=InputPath(str, or_name=True),
    show_default=True,
    help="A design that ships with causalms, or your own FILE.yaml.",
)
@click.option("--patients", default=300, show_default=True, type=click.IntRange(min=1), help="Divided as the design says.")
@click.option(
    "--grid", default="4mm", show_default=True, type=click.Choice(["4mm", "3mm", "2mm", "1mm"]), help="Edge of a voxel."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; the bytes stay the same.")
def command(out: Path, design: str, patients: int, grid: str, seed: int, workers: int) -> None:
    """Simulate a randomised MS imaging trial into the BIDS folder OUT.

    OUT holds what a real trial would: participants.tsv, baseline MRI, lesion masks. True rates and the potential outcomes
    under every arm stand in OUT/sourcedata/truth. Designs that ship: lifelike, pooled, pooled-2131, pooled-trial-effect,
    harmful, registry, scanners. docs/phantom.md explains every key of a design.

    \b
    Example:
      causalms simulate trial --design lifelike --patients 300 --seed 1
      causalms check trial
    """  # noqa: D301 - the backspace is the character that click looks for
    from causalms.phantom import write_simulated_trial

    written = write_simulated_trial(out, design, patients, seed, grid, workers)
    people = counted(written.patients, "patient")
    click.echo(f"{written.root}: {people}, design {design}, {grid}, seed {seed}; truth in sourcedata/truth")
    if written.dropped:
        click.echo(f"{written.dropped} potential lesions found no room in the brain and were left out; lower the rates", err=True)
