"""``causalms train``: learn a generator from the observed arms of a trial."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.inputs import scan_options
from causalms.cli.paths import InputPath, OutputPath, Verb


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.option(
    "--out",
    required=True,
    type=OutputPath((".safetensors",), (".training.csv", ".training.png", ".resume.safetensors"), what="checkpoints are written"),
    help="Checkpoint to write (.safetensors).",
)
@click.option("--config", "name", default="small", show_default=True, help="Size of the model: tiny, small or base.")
@click.option("--budget-minutes", type=click.FloatRange(min=0.05), help="Minutes of optimisation; the schedule is fitted to it.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes that read patients.")
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def command(
    trial: Path,
    out: Path,
    name: str,
    budget_minutes: float | None,
    device: str,
    workers: int,
    baseline: str | None,
    lesions: str | None,
    seed: int,
) -> None:
    """Train a generator on the trial in DIR (its observed arms and visits) and write it to a checkpoint.

    Beside the checkpoint OUT.safetensors stand OUT.training.csv and OUT.training.png, the log. A run that was killed leaves
    OUT.resume.safetensors; the same command goes on exactly where it stopped. Under torchrun several devices share every batch.

    \b
    Example:
      causalms simulate trial --patients 600 --seed 1
      causalms train trial --out model.safetensors --config small --budget-minutes 30
      torchrun --nproc-per-node 2 -m causalms train trial --out model.safetensors --config base
    """  # noqa: D301
    from causalms.generator import config, first_process, train_generator
    from causalms.report import figures
    from causalms.tables import read_table
    from causalms.trials import load_trial

    model, recipe = config(name)
    loaded = load_trial(trial, baseline=baseline, lesions=lesions)
    for note in loaded.notes if first_process() else ():
        click.echo(f"note: {note}")
    generator = train_generator(loaded, out, model, recipe, seed, budget_minutes, device, workers)
    if not first_process():
        return
    log = out.with_suffix(".training.csv")
    figures.save_figure(figures.training_log(read_table(log)), out.with_suffix(".training.png"), dpi=120)
    arms = ", ".join(generator.arms)
    click.echo(f"{out}: {generator.parameters:,} parameters, arms {arms}, checksum {generator.checksum[:12]}")
    click.echo(f"log: {log} and {out.with_suffix('.training.png')}")
