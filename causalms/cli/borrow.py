"""``causalms borrow``: an effect whose control arm borrows simulated or historical controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from causalms.cli.inputs import digits_option, given_model_option, grouped, of_trial, read, table_at, text_options
from causalms.cli.paths import RESULTS, InputPath, OutputPath, Verb
from causalms.effects import (
    PRIORS,
    Design,
    Method,
    analyse,
    borrow,
    conflict_words,
    control_prior,
    historical_sources,
    log_rates,
    operating_characteristics,
    simulated_source,
)
from causalms.errors import UsageError
from causalms.tables import write_table

if TYPE_CHECKING:
    from causalms.effects import ControlSource


@dataclass(frozen=True)
class _Trial:
    """The trial's own analysis."""

    outcome: str
    arm: str
    reference: str
    exposure: str | None
    adjust: str | None


@dataclass(frozen=True)
class _Borrowing:
    """What is borrowed, and how."""

    draws: Path | None
    historical: Path | None
    week: float | None
    prior: str
    weight: float | None
    heterogeneity: float
    given_model: bool

    def sources(self, trial: _Trial) -> list[ControlSource]:
        """Simulated controls, historical ones, or both."""
        if self.draws is None and self.historical is None:
            raise UsageError("nothing to borrow: give simulated controls with --draws or earlier ones with --historical")
        if self.given_model and self.draws is None:
            raise UsageError("--given-model is about simulated controls; leave it out without --draws")
        sources: list[ControlSource] = []
        if self.draws is not None:
            simulated = simulated_source(
                read(self.draws), arm=trial.reference, week=self.week, source=self.draws.name, model_known=self.given_model
            )
            sources.append(simulated)
        if self.historical is not None:
            table = read(table_at(self.historical))
            sources += historical_sources(
                table,
                outcome=trial.outcome,
                exposure=trial.exposure,
                arm=trial.arm,
                reference=trial.reference,
                source=self.historical.name,
            )
        return sources


@dataclass(frozen=True)
class _Written:
    """What is written."""

    out: Path | None
    grid: Path | None
    figure: Path | None


@click.command(cls=Verb)
@click.argument("table", type=InputPath())
@click.option("--outcome", required=True, help="Column of counts.")
@click.option("--arm", default="arm", show_default=True, help="Column of the randomised arm.")
@click.option("--reference", required=True, help="The control arm, which borrows.")
@click.option("--treated", help="The arm compared with it; needed where there are several.")
@click.option("--exposure", help="Column of time at risk.")
@click.option("--adjust", help='Formula of baseline covariates, such as "age + C(site)".')
@click.option("--draws", type=InputPath(), help="Simulated controls: a draws table that holds the control arm.")
@click.option("--week", type=float, help="Visit week of the draws.")
@click.option("--historical", type=InputPath(), help="Earlier controls, one row a patient; one source a trial.")
@click.option("--prior", type=click.Choice(tuple(PRIORS)), default="robust-map", show_default=True)
@click.option(
    "--weight",
    type=float,
    help="How much is borrowed, 0 to 1: the power, the weight of the MAP, or that of the spike.  [default: 0.5, 0.8, 0.5]",
)
@click.option(
    "--heterogeneity", type=float, default=0.5, show_default=True, help="Scale of the standard deviation between trials."
)
@click.option("--ratio", type=float, default=0.5, show_default=True, help="Rate ratio at which power is computed.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the intervals.")
@click.option("--trial", help="Only the patients of this trial.")
@given_model_option
@click.option("--grid", type=OutputPath(), help="Write type I error and power over the grid of conflict (.csv, .tsv, .parquet).")
@click.option(
    "--figure",
    type=OutputPath((".png", ".svg", ".pdf"), what="figures are drawn"),
    help="Draw them (.png, .svg or .pdf).",
)
@click.option(
    "--out", type=OutputPath(RESULTS), help="Where to write the results table (.csv, .tsv, .parquet, .json: Dataset-JSON)."
)
@digits_option
@text_options
@grouped(analysed=_Trial, borrowed=_Borrowing, written=_Written)
def command(
    table: Path,
    analysed: _Trial,
    treated: str | None,
    borrowed: _Borrowing,
    ratio: float,
    level: float,
    trial: str | None,
    written: _Written,
) -> None:
    """Rate ratio of TABLE (one row a patient) when its control arm borrows.

    The variance of a simulated control arm holds the model's own error; draws of a model that does not know its own are refused.
    Printed: the effect without and with borrowing, how many patients the prior is worth, and how often a claim of benefit would
    be wrong if the trial's control rate were unlike the borrowed one.

    \b
    Example
      causalms borrow trial.csv --outcome lesions --reference placebo --exposure years --draws draws.parquet --week 48 \\
        --prior robust-map --figure conflict.png
      causalms borrow trial.csv --outcome lesions --reference placebo --historical earlier.csv --prior power --weight 0.3
    """  # noqa: D301
    place = table_at(table)
    patients = of_trial(read(place), trial, str(place))
    analysis = analyse(patients, **vars(analysed), design=Design(source=place.name), method=Method(level=level))
    rates = log_rates(analysis, treated)
    prior = control_prior(
        borrowed.sources(analysed),
        kind=borrowed.prior,
        weight=borrowed.weight,
        heterogeneity=borrowed.heterogeneity,
        unit_sd=rates.unit_sd,
    )
    result = borrow(analysis, prior, arm=treated)
    grid = operating_characteristics(rates, [prior], ratio=ratio, level=level)
    text = f"{result!r}\n\n{conflict_words(grid, level)}"
    if written.out is not None:
        write_table(result.results, written.out)
        text += f"\n\nresults written to {written.out}"
    if written.grid is not None:
        write_table(grid, written.grid)
    if written.figure is not None:
        from causalms.report import figures

        figures.save_figure(figures.conflict_grid(grid, nominal=(1 - level) / 2), written.figure)
    click.echo(text)
