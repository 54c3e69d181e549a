"""``causalms lesions``: lesion tables of masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.tables import fixed


@click.command(cls=Verb)
@click.argument("masks", nargs=-1, required=True, type=InputPath())
@click.option("--out", required=True, type=OutputPath(), help="Table, one row a lesion (.csv, .tsv or .parquet).")
@click.option("--rule", "rule_name", default="default", show_default=True, help="default (26-connected, 3 mm3) or msseg2.")
@click.option("--regions/--no-regions", default=True, show_default=True, help="Name regions; only for masks in MNI152 space.")
def command(masks: tuple[Path, ...], out: Path, rule_name: str, regions: bool) -> None:
    """Count and measure the lesions of NIfTI MASKS, or of every label-L mask below a folder.

    \b
    Example:
      causalms lesions derivatives/lesions --out lesions.csv --rule msseg2
    """  # noqa: D301
    import pandas as pd
    from tqdm import tqdm

    from causalms.errors import InputError
    from causalms.lesions import LesionRule, lesion_table, mask_summary
    from causalms.tables import write_table
    from causalms.trials import read_mask, template_anatomy

    rule = LesionRule.named(rule_name)
    files = [file for path in masks for file in (sorted(_masks_below(path)) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"{masks[0]}: no file named *label-L*_mask.nii.gz below it; name the masks themselves")
    tables, lines = [], []
    for file in tqdm(files, unit="mask", disable=None):
        mask, space = read_mask(file)
        anatomy = template_anatomy(space).regions if regions else None
        table = lesion_table(mask, space.affine, rule, anatomy)
        tables.append(table.assign(mask=file.name))
        lines.append({"mask": file.name, **mask_summary(table, regions)})
    write_table(pd.concat(tables, ignore_index=True), out)
    click.echo(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: fixed(value, 2)))
    click.echo(f"{out}: {sum(map(len, tables))} lesions of {len(files)} masks")


def _masks_below(folder: Path) -> Iterator[Path]:
    for ending in ("nii", "nii.gz", "mgh", "mgz"):
        yield from folder.rglob(f"*label-L*_mask.{ending}")
