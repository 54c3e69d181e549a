"""``causalms forecast``: risk maps, sampled masks and expected counts of single patients under each arm."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from causalms.cli.bids_output import source_of
from causalms.cli.cohort import Cohort, Kept, cohort_options, kept_options, write_skipped
from causalms.cli.forecast_folder import NOTES, Question, forecast_kept, forget, put_together
from causalms.cli.inputs import ScanOptions, given_model_option, grouped, model_option, scan_options
from causalms.cli.main import say_note
from causalms.cli.paths import InputPath, OutputFolder, Verb
from causalms.cli.written import say_kept
from causalms.errors import CausalmsError, InputError
from causalms.shards import Skipped
from causalms.tables import counted, fixed, name_of


@dataclass(frozen=True)
class _Forecast:
    """What is forecast, and by which model."""

    model: str
    arms: tuple[str, ...]
    week: float
    draws: int
    masks: bool
    seed: int


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.option("--out", required=True, type=OutputFolder(), help="New folder for tables, maps, masks and figures.")
@model_option
@cohort_options()
@click.option("--arm", "arms", multiple=True, metavar="ARM", help="Repeat for several; default: every arm of the model.")
@click.option("--week", default=48.0, show_default=True, help="Follow-up week.")
@click.option("--draws", default=8, show_default=True, type=click.IntRange(min=0), help="Sampled masks an arm.")
@click.option("--masks", is_flag=True, help="Write the sampled masks too (risk maps are always written).")
@kept_options
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@given_model_option
@grouped(forecast=_Forecast, cohort=Cohort, scans=ScanOptions, kept_in=Kept)
def command(
    trial: Path,
    out: Path,
    forecast: _Forecast,
    cohort: Cohort,
    scans: ScanOptions,
    kept_in: Kept,
    given_model: bool,
) -> int:
    """Forecast new and enlarging T2 lesions of patients in DIR (a BIDS folder in MNI152 space) under each arm.

    Not for clinical use. Images are resampled to the model's grid and maps back to the patient's own grid; the output
    says so. A forecast is of rung 2: what the patient would have if the arm were set, given the baseline.

    OUT is a BIDS derivative; each map has a sidecar with model, seed, arm and week; outside.png shows where patients lie, if one
    lies outside what the model learned from. Finished patients are kept in OUT.parts until
    the end, so that a run that was stopped goes on where it was. With --skip-bad, patients whose files cannot be used stand in
    OUT.skipped.csv with the reason (exit code 3).

    \b
    Example:
      causalms forecast my_study --out forecast --participant sub-01 --arm placebo --arm DRUG --week 96 --masks
    """  # noqa: D301
    from joblib import delayed
    from tqdm import tqdm

    from causalms.generator import Generator
    from causalms.trials import load_trial
    from causalms.workers import results_in_order

    generator = Generator.load(forecast.model, cohort.device)
    for arm in forecast.arms:
        generator.arm_index(arm)
    generator.check_week(forecast.week)
    loaded = load_trial(trial, cohort.participants or None, baseline=scans.baseline, lesions=scans.lesions, follow_ups=False)
    everyone = [str(name) for name in loaded.participants["participant_id"]]
    chosen = everyone if cohort.shard is None else cohort.shard.part(everyone)
    question = Question(
        forecast.model,
        generator.checksum,
        generator.digest,
        forecast.arms or generator.arms,
        forecast.week,
        forecast.draws,
        forecast.masks,
        forecast.seed,
        cohort.device,
    )
    parts = kept_in.folder(out)
    calls = (delayed(forecast_kept)(question, loaded, name, parts, cohort.skip_bad) for name in chosen)
    again = "finished patients are kept: the same command goes on where it stopped"
    try:
        with cohort.cluster():
            done = results_in_order(calls, cohort.workers, again)
            answers = list(tqdm(done, desc="patients", total=len(chosen), disable=None))
        kept = [one for one in answers if isinstance(one, Path)]
        skipped = [one for one in answers if isinstance(one, Skipped)]
        if not kept:
            raise InputError(f"no patient could be forecast; the first, {skipped[0].participant_id}: {skipped[0].reason}")
        if kept_in.keep_only:
            people = counted(len(kept), "patient")
            again = "the same command without --keep-only (of causalms-bids: at level group)"
            click.echo(f"{people} forecast and kept in {parts}; {again} writes {out}")
            return write_skipped(skipped, parts / "skipped.csv")
        record = question.record(everyone) | {"skipped": [asdict(one) for one in skipped]}
        record |= {} if cohort.shard is None else {"shard": str(cohort.shard)}
        table = put_together(kept, out, record, loaded.name, source_of(trial))
    except CausalmsError as error:
        if finished := len([*parts.glob("*/sub-*")]):
            say_kept(error, finished, parts)
        else:
            forget(parts, question)
        raise
    forget(parts, question)
    for note in (out / NOTES).read_text(encoding="utf-8").splitlines()[1:]:
        say_note(note)
    ends = ["lower_given_model", "upper_given_model"] if given_model else ["lower", "upper"]
    shown = table[["participant_id", "arm", "expected_net2_lesions", *ends, "activity_probability", "expected_net2_volume_ml"]]
    click.echo(shown.to_string(index=False, float_format=lambda value: fixed(value, 2)))
    kind = "given the model: its own error is left out" if given_model else "with the model's own error"
    click.echo(
        f"90% prediction intervals of the count at week {name_of(forecast.week)}, {kind}; maps, tables and figures in {out}"
    )
    return write_skipped(skipped, out.with_name(f"{out.name}.skipped.csv"))
