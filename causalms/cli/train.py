"""``causalms train``: learn a generator from the observed arms of a trial."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.cohort import Cohort, cohort_options, resample_option
from causalms.cli.inputs import ScanOptions, grouped, scan_options
from causalms.cli.paths import InputPath, OutputFolder, OutputPath, Verb
from causalms.errors import UsageError


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
@cohort_options(skip_bad=False, device="auto")
@resample_option
@click.option("--cache", type=OutputFolder(fill=True), help="Folder that keeps patients as training reads them, for later runs.")
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@grouped(cohort=Cohort, scans=ScanOptions)
def command(
    trial: Path,
    out: Path,
    name: str,
    budget_minutes: float | None,
    resample: bool,
    cache: Path | None,
    cohort: Cohort,
    scans: ScanOptions,
    seed: int,
) -> None:
    """Train a generator on the trial in DIR (its observed arms and visits) and write it to a checkpoint.

    --cache DIR keeps every patient as training reads them; with --shard 3/8 only that part of the patients is read into it, and
    nothing is trained: eight machines fill one cache, and the same command without --shard trains from it.

    Beside the checkpoint OUT.safetensors stand OUT.training.csv and OUT.training.png, the log. A run that was killed leaves
    OUT.resume.safetensors; the same command goes on exactly where it stopped. Under torchrun several devices share every batch.

    \b
    Example:
      causalms simulate trial --patients 600 --seed 1
      causalms train trial --out model.safetensors --config small --budget-minutes 30
      torchrun --nproc-per-node 2 -m causalms train trial --out model.safetensors --config base
    """  # noqa: D301
    from causalms.generator import config, fill_cache, first_process, train_generator
    from causalms.report import figures
    from causalms.tables import read_table
    from causalms.trials import load_trial, mni_space, resample_trial

    model, recipe = config(name)
    shard, workers = cohort.shard, cohort.workers
    if shard is not None and cache is None:
        raise UsageError("--shard fills a cache and trains nothing; add --cache DIR")
    loaded = load_trial(trial, cohort.participants or None, baseline=scans.baseline, lesions=scans.lesions)
    loaded = resample_trial(loaded, mni_space(model.grid)) if resample else loaded
    for note in loaded.notes if first_process() else ():
        click.echo(f"note: {note}")
    if shard is not None and cache is not None:
        click.echo(f"{fill_cache(loaded, cache, shard, workers)} patients of shard {shard} are kept in {cache}; nothing trained")
        return
    generator = train_generator(loaded, out, model, recipe, seed, budget_minutes, cohort.device, workers, cache)
    if not first_process():
        return
    log = out.with_suffix(".training.csv")
    figures.save_figure(figures.training_log(read_table(log)), out.with_suffix(".training.png"), dpi=120)
    arms = ", ".join(generator.arms)
    click.echo(f"{out}: {generator.parameters:,} parameters, arms {arms}, checksum {generator.checksum[:12]}")
    click.echo(f"log: {log} and {out.with_suffix('.training.png')}")
