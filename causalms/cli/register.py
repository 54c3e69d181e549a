"""``causalms register``: raw scans into MNI152 space, with a page of pictures to judge it by."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.bids_output import BIDS_VERSION, describe_registered, source_of
from causalms.cli.cohort import write_skipped
from causalms.cli.inputs import ScanOptions, grouped, scan_options
from causalms.cli.main import say_note
from causalms.cli.paths import InputPath, OutputFolder, Verb
from causalms.errors import InputError, RefusalError
from causalms.files import whole_folder
from causalms.shards import Skipped
from causalms.tables import counted, fixed

if TYPE_CHECKING:
    import pandas as pd

    from causalms.trials import Layout, Trial

_SUMMARY, PAGE = "quality.json", "quality.html"
_HOW_TO_JUDGE = (
    "Not for clinical use. Orange is the edge of the template's brain, blue that of its ventricles: each image must fill the one "
    "and show its own ventricles near the other."
)
_COLUMNS = (
    "Similarity with the template (1 at most) and the rigid motion onto it that is left (mm) are those of `causalms "
    "check`; scale is the volume in the template over that in the scanner. Of a deformation: how far it moves the brain (root "
    "mean square) and the least ratio of volumes, near 0 where space nearly folds."
)


@dataclass(frozen=True)
class _Elsewhere:
    """What was made elsewhere."""

    xfm: tuple[str, ...]
    xfm_reference: str | None
    brain_mask: str | None


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.argument("out", metavar="OUT", type=OutputFolder())
@click.option(
    "--participant", "participants", multiple=True, metavar="ID", help="Only this one; repeat for several.  [default: everyone]"
)
@click.option(
    "--xfm",
    multiple=True,
    metavar="PATTERN",
    help="Transform of the reference image to MNI152 made elsewhere: ANTs or ITK (.mat, .txt, .h5, as antsRegistration "
    "writes it with the template as fixed image), FreeSurfer (.lta) or FSL (flirt -omat), such as 'xfm/{participant}.mat'. "
    "Repeat for a chain in the order of antsApplyTransforms: 1Warp.nii.gz, then 0GenericAffine.mat.",
)
@click.option("--xfm-reference", metavar="IMAGE", help="The template image of a matrix of FSL.")
@click.option("--brain-mask", metavar="PATTERN", help="Brain masks in the world of the reference image.")
@click.option(
    "--deformable",
    is_flag=True,
    help="Let a smooth deformation follow the affine transform: for brains with wide ventricles. Kept with its inverse; the page "
    "says how far it moves the brain.",
)
@scan_options
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; the bytes stay the same.")
@click.option("--skip-bad", is_flag=True, help="Leave out and list patients who cannot be registered; exit code 3.")
@grouped(elsewhere=_Elsewhere, scans=ScanOptions)
def command(
    trial: Path,
    out: Path,
    participants: tuple[str, ...],
    deformable: bool,
    elsewhere: _Elsewhere,
    scans: ScanOptions,
    workers: int,
    skip_bad: bool,
) -> int:
    """Bring the scans of the BIDS folder DIR to MNI152 space and write them to the BIDS folder OUT.

    The brain is found by deepbet, unless the images have no skull or a mask is there; images are brought onto the T1w (without
    it, the FLAIR) by a rigid motion and the whole onto the template by an affine transform (greedy). Lesion masks of baseline and
    NET2 masks of later visits move with their images; each lesion keeps its volume. OUT/quality.html shows every patient.
    'causalms forecast OUT' writes its maps in MNI152 space and on the patient's own grid.

    Finished patients are kept in OUT.parts until the end, so that a run that was stopped goes on where it was.

    \b
    Example:
      causalms register raw_study registered
      causalms forecast registered --out forecast --arm placebo --week 96
    """  # noqa: D301
    from joblib import delayed
    from tqdm import tqdm

    from causalms.trials import load_trial
    from causalms.workers import results_in_order

    loaded = load_trial(trial, participants or None, baseline=scans.baseline, lesions=scans.lesions, follow_ups=False)
    everyone = [str(name) for name in loaded.participants["participant_id"]]
    parts = out.with_name(f"{out.name}.parts")
    question = repr((elsewhere, scans, deformable))
    calls = (delayed(_kept)(loaded, name, parts, question, elsewhere, deformable, skip_bad) for name in everyone)
    again = "finished patients are kept: the same command goes on where it stopped"
    answers = list(tqdm(results_in_order(calls, workers, again), desc="patients", total=len(everyone), disable=None))
    kept = [one for one in answers if isinstance(one, Path)]
    skipped = [one for one in answers if isinstance(one, Skipped)]
    if not kept:
        raise InputError(f"no patient could be registered; the first, {skipped[0].participant_id}: {skipped[0].reason}")
    table = _put_together(kept, out, trial, loaded.name)
    shutil.rmtree(parts, ignore_errors=True)
    for note in loaded.notes:
        if note.startswith("baseline is"):
            say_note(note)
    click.echo(_shown(table).drop(columns="note").to_string(index=False))
    click.echo(f"{counted(len(kept), 'patient')} registered to {out}; look at {out / PAGE} before any use")
    return write_skipped(skipped, out.with_name(f"{out.name}.skipped.csv"))


def _kept(
    trial: Trial, participant_id: str, parts: Path, question: str, elsewhere: _Elsewhere, deformable: bool, skip_bad: bool
) -> Path | Skipped:
    """Register one patient into a folder that is kept until all are done."""
    from causalms import __version__
    from causalms.register import ExternalFiles, register_patient

    layout = trial.source.layout  # type: ignore[attr-defined]
    external = ExternalFiles(**asdict(elsewhere))
    given = external.stamp(participant_id, layout.baseline[participant_id])
    stamp = f"{question} {__version__} {trial.source.stamp(participant_id)} {given}"  # type: ignore[attr-defined]
    kept = parts / f"{participant_id}.{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if kept.is_dir():
        return kept
    try:
        with whole_folder(kept) as folder:
            summary = register_patient(layout, participant_id, folder, external, deformable)
            _picture(folder, participant_id)
            summary["sources"] = _sources(folder, layout, participant_id)
            (folder / _SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    except (InputError, RefusalError) as error:
        if not skip_bad:
            raise
        return Skipped(participant_id, str(error))
    return kept


def _sources(folder: Path, layout: Layout, participant_id: str) -> dict[str, str]:
    """The raw file that each registered image came from, by its name."""
    from causalms.trials import MODALITIES

    raw = {name: file for name in MODALITIES if (file := layout.image_file(participant_id, name)) is not None}
    found = {}
    for file in folder.glob(f"{participant_id}/**/*_desc-brain_*.nii.gz"):
        kind = file.name.rpartition("_")[2].partition(".")[0]
        own = raw["ceT1w" if "_ce-" in file.name else kind]
        found[file.name] = own.relative_to(layout.root).as_posix()
    return found


def _picture(folder: Path, participant_id: str) -> None:
    """Every registered image with the outlines of the template's brain and ventricles."""
    from causalms.register import STANDARD_SPACE
    from causalms.report import figures
    from causalms.trials import mni_space, read_volume, resample_back, template_anatomy

    space = mni_space("3mm")
    anatomy = template_anatomy(space)
    outlines = {
        name: resample_back(mask, space, STANDARD_SPACE, order=1)
        for name, mask in (("brain", anatomy.brain), ("ventricles", anatomy.ventricles))
    }
    files = sorted(folder.glob(f"{participant_id}/**/*_desc-brain_*.nii.gz"))
    images = {file.name.rpartition("_")[2].partition(".")[0] if "_ce-" not in file.name else "ceT1w": file for file in files}
    figure = figures.registration({name: read_volume(file)[0] for name, file in images.items()}, outlines, participant_id)
    (folder / participant_id / "figures").mkdir()
    figures.save_figure(figure, folder / participant_id / "figures" / f"{participant_id}_registration.png", dpi=110)


def _put_together(kept: list[Path], out: Path, trial: Path, name: str) -> pd.DataFrame:
    """The folder of all patients: a BIDS data set that the other verbs read, with its quality page."""
    import pandas as pd

    from causalms import __version__
    from causalms.cli.forecast_folder import linked
    from causalms.report import Report

    rows = [json.loads((part / _SUMMARY).read_text(encoding="utf-8")) for part in kept]
    sources = {name: source for row in rows for name, source in row.pop("sources").items()}
    table = pd.DataFrame(rows)
    with whole_folder(out) as folder:
        for part in kept:
            shutil.copytree(part, folder, copy_function=linked, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_SUMMARY))
        made = {"Name": "causalms register", "Version": __version__}
        described: dict[str, Any] = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative"}
        described |= {"GeneratedBy": [made], **source_of(trial)}
        (folder / "dataset_description.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        (folder / ".bidsignore").write_text(f"{PAGE}\n**/figures\n**/*_xfm.*\n", encoding="utf-8")
        columns = _copy_tables(trial, folder, [str(row["participant_id"]) for row in rows])
        describe_registered(folder, name, columns, sources)
        report = Report(f"{name}: registration to MNI152", _HOW_TO_JUDGE)
        report.add_section("Patients", _COLUMNS)
        report.add_table(_shown(table), "Registered patients")
        for row in rows:
            person = str(row["participant_id"])
            report.add_section(person, str(row["note"]))
            picture = folder / person / "figures" / f"{person}_registration.png"
            report.add_image(picture, f"{person}, {row['images']}", f"{person}: registered images with the template's outlines")
        report.write(folder / PAGE)
    return table


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    places = {"similarity": 2, "motion_mm": 1, "scale": 2, "brain_ml": 0, "deformation_mm": 1, "least_volume_ratio": 2}
    return table.assign(
        **{name: [fixed(value, digits) for value in table[name]] for name, digits in places.items() if name in table}
    )


def _copy_tables(trial: Path, folder: Path, participants: list[str]) -> list[str]:
    """The participants table, less who is not there, with its dictionary, and the sessions tables; the table's columns."""
    import pandas as pd

    table = pd.read_csv(trial / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    names = "sub-" + table["participant_id"].str.strip().str.replace("^sub-", "", case=False, regex=True)
    there = names.isin(participants)
    table[there].to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    for file in [trial / "participants.json", *(trial / name / f"{name}_sessions.tsv" for name in participants)]:
        if file.is_file():
            shutil.copyfile(file, folder / file.relative_to(trial))
    return [str(column) for column in table.columns]
