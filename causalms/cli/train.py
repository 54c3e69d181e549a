"""``causalms train``: learn a generator from the observed arms of a trial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click

from causalms.cli.cohort import Cohort, cohort_options, resample_option, write_skipped
from causalms.cli.inputs import ScanOptions, grouped, scan_options
from causalms.cli.main import say_note
from causalms.cli.paths import InputPath, OutputFolder, OutputPath, Verb
from causalms.errors import UsageError
from causalms.shards import Skipped

_BESIDE = (".training.csv", ".training.png", ".resume.safetensors", ".skipped.csv")


@dataclass(frozen=True)
class _Options:
    """What is trained, and for how long."""

    name: str
    init: str
    tune: str | None
    budget_minutes: float | None
    seed: int


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.option(
    "--out",
    required=True,
    type=OutputPath((".safetensors",), _BESIDE, (".finishing",), what="checkpoints are written"),
    help="Checkpoint to write (.safetensors).",
)
@click.option(
    "--config", "name", default="small", show_default=True, help="Model and recipe: tiny, small, medium, base, or a .yaml file."
)
@click.option("--init", default="", metavar="FILE", help="Start from this checkpoint; 'reference' is the one that ships.")
@click.option(
    "--tune",
    default="all",
    show_default=True,
    type=click.Choice(["all", "readout"]),
    help="After --init: train everything (default), or only counts, times and what reads places.",
)
@click.option(
    "--budget-minutes",
    type=click.FloatRange(min=0.05),
    help="Minutes from the first step to the checkpoint; the schedule is fitted to it.",
)
@cohort_options(device="auto", dask=False)
@resample_option
@click.option("--cache", type=OutputFolder(fill=True), help="Folder that keeps patients as training reads them, for later runs.")
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@grouped(options=_Options, cohort=Cohort, scans=ScanOptions)
def command(
    trial: Path,
    out: Path,
    options: _Options,
    resample: bool,
    cache: Path | None,
    cohort: Cohort,
    scans: ScanOptions,
) -> int:
    """Train a generator on the trial in DIR (its observed arms and visits) and write it to a checkpoint.

    --cache DIR keeps every patient as training reads them; with --shard 3/8 only that part of the patients is read into it, and
    nothing is trained: eight machines fill one cache, and the same command without --shard trains from it.

    Beside the checkpoint OUT.safetensors stand OUT.training.csv and OUT.training.png, the log. A run that was killed leaves
    OUT.resume.safetensors (and, killed in the calibration after its steps, OUT.finishing); the same command goes on exactly where
    it stopped. Under torchrun several devices share every batch.

    A .yaml file of --config holds `base: small` and, under `model:` and `training:`, any size and any part of the recipe:
    grids of 4 to 1 mm, steps, dropout, augmentation (flip, affine, bias_field, noise, contrast), ema, patience (early stop).

    \b
    Example:
      causalms simulate trial --patients 600 --seed 1
      causalms train trial --out model.safetensors --config small --budget-minutes 30
      causalms train trial --out tuned.safetensors --init reference --tune readout
      torchrun --nproc-per-node 2 -m causalms train trial --out model.safetensors --config base
    """  # noqa: D301
    from causalms.generator import config, fill_cache, first_process, train_generator
    from causalms.report import figures
    from causalms.tables import counted, read_table
    from causalms.trials import load_trial, mni_space, resample_trial

    model, recipe = config(options.name)
    recipe = replace(
        recipe, init=options.init or recipe.init, tune=options.tune or recipe.tune, skip_bad=cohort.skip_bad or recipe.skip_bad
    )
    shard, workers = cohort.shard, cohort.workers
    if shard is not None and cache is None:
        raise UsageError("--shard fills a cache and trains nothing; add --cache DIR")
    loaded = load_trial(trial, cohort.participants or None, baseline=scans.baseline, lesions=scans.lesions)
    loaded = resample_trial(loaded, mni_space(model.grid)) if resample else loaded
    for note in loaded.notes if first_process() else ():
        say_note(note)
    left_out = out.with_suffix(".skipped.csv")
    if shard is not None and cache is not None:
        bad: list[Skipped] | None = [] if recipe.skip_bad else None
        kept = fill_cache(loaded, cache, shard, workers, bad)
        click.echo(f"{counted(kept, 'patient')} of shard {shard} {'is' if kept == 1 else 'are'} kept in {cache}; nothing trained")
        return write_skipped(bad or [], left_out)
    generator = train_generator(loaded, out, model, recipe, options.seed, options.budget_minutes, cohort.device, workers, cache)
    if not first_process():
        return 0
    log = out.with_suffix(".training.csv")
    figures.save_figure(figures.training_log(read_table(log)), out.with_suffix(".training.png"), dpi=120)
    arms = ", ".join(generator.arms)
    click.echo(f"{out}: {generator.parameters:,} parameters, arms {arms}, checksum {generator.checksum[:12]}")
    click.echo(f"log: {log} and {out.with_suffix('.training.png')}")
    return write_skipped([Skipped(**one) for one in generator.header["left_out"]], left_out)
