"""``causalms forecast``: risk maps, sampled masks and expected counts of single patients under each arm."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.inputs import scan_options
from causalms.cli.paths import InputPath, OutputFolder, Verb
from causalms.tables import fixed, name_of


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.option("--out", required=True, type=OutputFolder(), help="New folder for tables, maps, masks and figures.")
@click.option(
    "--model",
    default="reference",
    type=InputPath(str, or_name=True),
    show_default=True,
    help="Checkpoint, or the one that ships.",
)
@click.option("--participant", "participants", multiple=True, metavar="ID", help="Repeat for several; default: everyone.")
@click.option("--arm", "arms", multiple=True, metavar="ARM", help="Repeat for several; default: every arm of the model.")
@click.option("--week", default=48.0, show_default=True, help="Follow-up week.")
@click.option("--draws", default=8, show_default=True, type=click.IntRange(min=0), help="Sampled masks an arm.")
@click.option("--masks", is_flag=True, help="Write the sampled masks too (risk maps are always written).")
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
def command(
    trial: Path,
    out: Path,
    model: str,
    participants: tuple[str, ...],
    arms: tuple[str, ...],
    week: float,
    draws: int,
    masks: bool,
    baseline: str | None,
    lesions: str | None,
    seed: int,
) -> None:
    """Forecast new and enlarging T2 lesions of patients in DIR (a BIDS folder in MNI152 space) under each arm.

    Not for clinical use. Images are resampled to the model's grid and maps back to the patient's own grid; the output
    says so. A forecast is of rung 2: what the patient would have if the arm were set, given the baseline.

    \b
    Example:
      causalms forecast my_study --out forecast --participant sub-01 --arm placebo --arm DRUG --week 96 --masks
    """  # noqa: D301
    import pandas as pd
    from tqdm import tqdm

    from causalms.files import whole_folder
    from causalms.generator import Generator, MapFolder, forecast_patient
    from causalms.report import figures
    from causalms.tables import write_table
    from causalms.trials import load_trial, resample_trial

    generator = Generator.load(model)
    for arm in arms:
        generator.arm_index(arm)
    generator.check_week(week)
    loaded = load_trial(trial, participants or None, baseline=baseline, lesions=lesions, follow_ups=False)
    chosen = tuple(loaded.participants["participant_id"])
    wanted = arms or generator.arms
    tables: list[pd.DataFrame] = []
    notes: list[str] = []
    with whole_folder(out) as folder:
        if (
            len(chosen) > 1
        ):  # a scan that cannot be used is refused before the first patient's forecast, not after the last but one
            on_grid = resample_trial(loaded, generator.space)
            for participant_id in tqdm(chosen, desc="reading scans", unit="patient", disable=None):
                generator.encode(on_grid, participant_id)
        for participant_id in chosen:
            into = folder / participant_id
            into.mkdir()
            own = loaded.subset([participant_id])
            found = forecast_patient(generator, own, participant_id, wanted, week, draws, seed, maps=MapFolder(into, masks))
            flair = own.image(participant_id, "FLAIR")
            background = flair if flair is not None else own.image(participant_id, "T1w")
            if background is not None:
                sizes = own.space.voxel_sizes_mm[:2]
                figure = figures.risk_maps(
                    background, found.risks, voxel_mm=(sizes[0], sizes[1]), title=f"{participant_id}, week {name_of(week)}"
                )
                figures.save_figure(figure, into / f"{participant_id}_risk.png", dpi=130)
            tables.append(found.table)
            notes += [note for note in found.notes if note not in notes]
        table = pd.concat(tables, ignore_index=True)
        write_table(table, folder / "forecast.csv")
        (folder / "notes.txt").write_text("\n".join(["Not for clinical use.", *notes]) + "\n", encoding="utf-8")
    for note in notes:
        click.echo(f"note: {note}")
    shown = table[
        ["participant_id", "arm", "expected_net2_lesions", "lower", "upper", "activity_probability", "expected_net2_volume_ml"]
    ]
    click.echo(shown.to_string(index=False, float_format=lambda value: fixed(value, 2)))
    click.echo(f"90% prediction intervals of the count at week {name_of(week)}; maps, tables and figures in {out}")
