"""``causalms external-control``: treated patients against external controls."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.inputs import digits_option, read, table_at, text_options
from causalms.cli.paths import RESULTS, InputPath, OutputPath, Verb
from causalms.effects import external_control
from causalms.tables import write_table


@click.command(cls=Verb)
@click.argument("treated", type=InputPath())
@click.argument("controls", type=InputPath())
@click.option("--outcome", required=True, help="Column of counts, in both tables.")
@click.option("--adjust", required=True, help='Formula of the baseline covariates in which the two differ: "age + gd_lesions".')
@click.option("--exposure", help="Column of time at risk.")
@click.option("--estimator", type=click.Choice(("aipw", "targeted")), default="aipw", show_default=True)
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the interval.")
@click.option(
    "--out", type=OutputPath(RESULTS), help="Where to write the results table (.csv, .tsv, .parquet, .json: Dataset-JSON)."
)
@digits_option
@text_options
def command(
    treated: Path,
    controls: Path,
    outcome: str,
    adjust: str,
    exposure: str | None,
    estimator: str,
    level: float,
    out: Path | None,
) -> None:
    """Rate ratio of TREATED patients against external CONTROLS (one row a patient each), doubly robust.

    Right if the propensity or the model of the controls' rate is; printed beside it is what shows whether the two overlap.

    \b
    Example
      causalms external-control arm.csv registry.csv --outcome lesions --exposure years --adjust "age + gd_lesions"
    """  # noqa: D301
    result = external_control(
        read(table_at(treated)),
        read(table_at(controls)),
        outcome=outcome,
        adjust=adjust,
        exposure=exposure,
        estimator=estimator,
        level=level,
        names=(treated.stem, controls.stem),
    )
    text = repr(result)
    if out is not None:
        write_table(result.results, out)
        text += f"\n\nresults written to {out}"
    click.echo(text)
