"""``causalms inject``: known lesions in the user's own brains, and what a count makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from causalms.cli.inputs import ScanOptions, grouped, scan_options
from causalms.cli.main import say_note
from causalms.cli.paths import InputPath, OutputFolder, Verb
from causalms.errors import InputError
from causalms.files import whole_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from causalms.trials import Space, Trial

TABLE, LESIONS, FIGURE = "injected.csv", "lesions.csv", "injected.png"
_BRIGHTER = 2.0  # a lesion of the FLAIR, in spreads of the brain's own values


@dataclass(frozen=True)
class _Plan:
    """How much is injected, and what is looked for."""

    new: float
    found: str | None
    write_scans: bool
    seed: int


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@click.argument("out", metavar="OUT", type=OutputFolder())
@click.option("--participant", "participants", multiple=True, metavar="ID", help="Only this one; repeat.  [default: everyone]")
@click.option(
    "--new", default=6.0, show_default=True, type=click.FloatRange(min=0.1, max=200), help="Lesions a patient, on average."
)
@click.option(
    "--write-scans", is_flag=True, help="Also write the FLAIR with the lesions in it, for your own segmentation to find."
)
@click.option(
    "--found", metavar="PATTERN", help="Your masks of the scans that --write-scans wrote, such as 'seg/{participant}.nii.gz'."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The same lesions for the same seed.")
@scan_options
@grouped(plan=_Plan, scans=ScanOptions)
def command(trial: Path, out: Path, participants: tuple[str, ...], plan: _Plan, scans: ScanOptions) -> None:
    """Put known lesions into the brains of the BIDS folder DIR and write to OUT how many a count finds.

    Ellipsoids of the volumes that new lesions have (median 60 mm3) are drawn into white matter without a lesion, on each
    patient's own grid, and counted there and on the model's 4 mm grid: each is counted alone, merged with another, or lost, by
    its volume. Then the count is repeated with outlines from which a share of the lesions is absent at each visit.
    OUT/injected.csv holds both with 95% intervals, OUT/injected.png shows them, OUT/lesions.csv is one row a lesion.

    \b
    Example:
      causalms inject my_trial injected
      causalms inject my_trial injected --write-scans     # segment OUT, then, with the same seed:
      causalms inject my_trial graded --found 'seg/{participant}.nii.gz'
    """  # noqa: D301
    import pandas as pd
    from tqdm import tqdm

    from causalms.lesions import injection_table
    from causalms.report import figures
    from causalms.tables import counted, fixed, write_table
    from causalms.trials import load_trial

    loaded = load_trial(trial, participants or None, baseline=scans.baseline, lesions=scans.lesions, follow_ups=False)
    everyone = [str(name) for name in loaded.participants["participant_id"]]
    with whole_folder(out) as folder:
        rows = [_injected(loaded, name, plan, folder) for name in tqdm(everyone, unit="patient", disable=None)]
        lesions = pd.concat([table for table, _ in rows], ignore_index=True)
        table = injection_table(lesions, dict(zip(everyone, (old for _, old in rows), strict=True)), plan.seed)
        write_table(lesions, folder / LESIONS)
        write_table(table, folder / TABLE)
        figures.save_figure(figures.injection(table, f"{loaded.name}: known lesions"), folder / FIGURE, dpi=110)
    for note in loaded.notes:
        if note.startswith("baseline is"):
            say_note(note)
    shown = table.assign(**{name: [fixed(value, 2) for value in table[name]] for name in ("estimate", "lower", "upper")})
    click.echo(shown.to_string(index=False))
    click.echo(f"{counted(len(lesions), 'lesion')} in {counted(len(everyone), 'patient')}; table and figure in {out}")


def _injected(trial: Trial, name: str, plan: _Plan, folder: Path) -> tuple[pd.DataFrame, int]:
    """One row a lesion of a patient with its fate on each grid, and how many lesions the patient has at baseline."""
    import numpy as np
    import pandas as pd

    from causalms.lesions import LesionRule, count_lesions, fates, lesion_volumes, plant_lesions, size_class
    from causalms.stats import keyed_generator
    from causalms.trials import mask_path, mni_space, resample_lesions, write_mask

    space = trial.space_of(name)
    old, rng = trial.mask(name, "T2"), keyed_generator("inject", name, plan.seed)
    where = _white_matter(trial, name, space)
    known = 0 if old is None else count_lesions(old, space.voxel_volume_mm3).lesions
    volumes = lesion_volumes(int(rng.poisson(plan.new)), rng)
    planted = plant_lesions(where if old is None else where & ~old, space.affine, volumes, rng)
    points, rule = np.argwhere(planted), LesionRule.default()
    lesion = planted[tuple(points.T)]
    coarse = mni_space("4mm")
    grids = {
        "own grid": (rule.label(planted > 0, space.voxel_volume_mm3), space),
        "4 mm grid": (rule.label(resample_lesions(planted > 0, space, coarse), coarse.voxel_volume_mm3), coarse),
    }
    if plan.found is not None:
        grids["your masks"] = _yours(plan.found, name)
    measured = np.bincount(lesion, minlength=len(volumes) + 1)[1:] * space.voxel_volume_mm3
    table = pd.DataFrame({"participant_id": name, "lesion": np.arange(1, len(volumes) + 1), "volume_mm3": measured})
    table["size"] = size_class(measured).astype(str)
    for grid, (labels, its) in grids.items():
        table[grid] = fates(lesion, _labels_at(labels, its, space.world(points)), len(volumes))
    if plan.write_scans:
        write_mask(folder / mask_path(name, "NET2", "ses-w96"), planted > 0, space)
        _write_scan(trial, name, planted > 0, folder)
    return table, known


def _white_matter(trial: Trial, name: str, space: Space) -> np.ndarray:
    """The template's white matter where the patient's images are not zero."""
    from causalms.trials import MODALITIES, mni_space, refuse_elsewhere, resample_back, template_anatomy

    images = [image for modality in MODALITIES if (image := trial.image(name, modality)) is not None]
    coarse = mni_space("3mm")
    white = resample_back(template_anatomy(coarse).white, coarse, space) > 0.5
    brain = trial.mask(name, "brain")
    if images:
        brain = (images[0] != 0) if brain is None else brain
        refuse_elsewhere(trial.place(name), images, brain, space)
    return white if brain is None else white & brain


def _labels_at(labels: np.ndarray, space: Space, world: np.ndarray) -> np.ndarray:
    """Labels at points of the world; 0 outside the grid."""
    import numpy as np

    to_voxel = np.linalg.inv(space.affine)
    voxel = np.floor(np.round(world @ to_voxel[:3, :3].T + to_voxel[:3, 3] + 0.5, 6)).astype(int)
    inside = ((voxel >= 0) & (voxel < np.array(space.shape))).all(axis=1)
    found = np.zeros(len(world), dtype=np.int64)
    found[inside] = labels[tuple(voxel[inside].T)]
    return found


def _yours(pattern: str, name: str) -> tuple[np.ndarray, Space]:
    from causalms.lesions import LesionRule
    from causalms.trials import read_mask

    path = Path(pattern.replace("{participant}", name).replace("{id}", name.removeprefix("sub-")))
    if not path.is_file():
        raise InputError(f"{path}: no such mask; write your segmentation of {name} there, or correct `found`")
    mask, space = read_mask(path)
    return LesionRule.default().label(mask, space.voxel_volume_mm3), space


def _write_scan(trial: Trial, name: str, lesions: np.ndarray, folder: Path) -> None:
    """The FLAIR with the lesions brighter by two spreads of the brain's values, with soft edges."""
    import numpy as np
    from scipy import ndimage

    from causalms.trials import image_path, write_image

    image = trial.image(name, "FLAIR")
    if image is None:
        raise InputError(f"{name}: no FLAIR to put lesions into; add it, or leave `write_scans` out")
    size = np.array(trial.space_of(name).voxel_sizes_mm)
    soft = np.maximum(ndimage.gaussian_filter(lesions.astype(np.float32), 0.5 / size), 0.5 * lesions)
    brighter = image + _BRIGHTER * image[image != 0].std() * soft * (image != 0)
    write_image(folder / image_path(name, "FLAIR", "ses-w96"), brighter, trial.space_of(name))
