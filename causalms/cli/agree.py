"""``causalms agree``: simulated effects against the randomised ones of the same trials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

from causalms.cli.inputs import digits_option, given_model_option, grouped, read, read_draws, table_at, text_options
from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.errors import UsageError
from causalms.tables import write_table

if TYPE_CHECKING:
    from causalms.agreement import Agreement


@dataclass(frozen=True)
class _Options:
    """What is compared with what, and how it is judged."""

    draws: str | None
    observed: str | None
    participants: str | None
    published: bool
    measure: str
    week: float | None
    reference: str | None
    margin: float
    level: float
    given_model: bool
    exposure: str | None

    @property
    def people(self) -> str:
        """The table of patients; misuse where the options do not say which."""
        if self.observed is not None and self.participants is not None:
            raise UsageError(
                "--observed and --participants are two names of the patients; give --participants only without --observed"
            )
        if self.observed is not None:
            return self.observed
        if self.exposure is not None:
            raise UsageError("--exposure is a column of observed counts: give them with --observed, or leave it out")
        if not self.published:
            raise UsageError("nothing to agree with: give the observed trial with --observed, or --published with --participants")
        if self.participants is None:
            raise UsageError("--published weights patients to published baselines: give their covariates with --participants")
        return self.participants


@click.command(cls=Verb)
@click.argument("draws", type=InputPath(str), required=False)
@click.option("--observed", type=InputPath(str), help="BIDS folder or participants table with observed counts.")
@click.option("--participants", type=InputPath(str), help="With --published alone: covariates of the simulated patients.")
@click.option("--published", is_flag=True, help="Also against published contrasts, verified numbers only.")
@click.option("--margin", default=1.25, show_default=True, help="Equivalence margin, fixed before the results are seen.")
@click.option(
    "--measure",
    type=click.Choice(("rate-ratio", "risk-ratio", "risk-difference", "odds-ratio")),
    default="rate-ratio",
    show_default=True,
)
@click.option("--week", type=float, help="Visit week; needed when the draws hold several.")
@click.option("--reference", help="Arm to compare with; by default the least effective one of each trial, as published.")
@click.option("--exposure", help="Column of --observed with the time at risk of its counts, for rate ratios.")
@click.option("--level", default=0.95, show_default=True, help="Level of intervals and agreement.")
@click.option("--out", type=OutputPath(), help="Results table (.csv, .tsv or .parquet).")
@click.option("--table", "table_out", type=OutputPath(), help="One row a contrast (.csv, .tsv or .parquet).")
@click.option(
    "--figure",
    type=OutputPath((".png", ".svg", ".pdf"), what="figures are drawn"),
    help="Simulated against randomised effects (.png, .svg or .pdf).",
)
@click.option("--exam", type=InputPath(), help="Predicted effects of published arms, judged by the exam's rule; no DRAWS.")
@click.option("--exam-form", type=OutputPath(), help="Write the exam's blank form: arms, and an empty column predicted.")
@given_model_option
@digits_option
@text_options
@grouped(compared=_Options)
def command(
    compared: _Options,
    out: Path | None,
    table_out: Path | None,
    figure: Path | None,
    exam: Path | None,
    exam_form: Path | None,
) -> None:
    """Agreement of the simulated effects in DRAWS with the randomised effects of the observed trials.

    --published also compares with published contrasts (verified numbers of the same outcome), the simulated patients weighted
    to the published baseline; with --participants in place of --observed nothing else is needed.

    --exam judges any simulator's predictions of published arms (lesion count ratios): error, its difference to the mean of the
    other arms, correlation, and the SHA-256 of the file, to be registered before. --exam-form writes the form to fill in.

    \b
    Example:
      causalms agree draws.parquet --observed trial/ --margin 1.25 --out agreement.csv --figure agreement.png
      causalms agree draws.parquet --published --participants trial/participants.tsv --out published.csv
      causalms agree --exam-form form.csv
      causalms agree --exam filled.csv --table arms.csv
    """  # noqa: D301
    if exam is not None or exam_form is not None:
        _examine(compared, exam, exam_form, out or figure, table_out)
        return
    if figure is not None and compared.observed is None:
        raise UsageError(f"--figure {figure}: draws the randomised contrasts of --observed; give it or leave out --figure")
    agreements, results = _agreements(compared)
    if figure is not None:
        _draw(agreements[0], figure)
    if out:
        write_table(pd.concat(results, ignore_index=True), out)
    if table_out:
        write_table(pd.concat([agreement.table for agreement in agreements], ignore_index=True), table_out)
    click.echo("\n".join(repr(agreement) for agreement in agreements))
    if compared.given_model:
        click.echo("  intervals and agreement given the model: its own error is left out")


def _examine(options: _Options, exam: Path | None, form: Path | None, unused: Path | None, table_out: Path | None) -> None:
    """Write the form of the exam, or judge what was handed in."""
    from causalms.agreement import exam_form, judge_exam

    if options.draws is not None or options.observed is not None or unused is not None or (exam is None) == (form is None):
        raise UsageError("--exam FILE (with --table) and --exam-form FILE stand alone: no DRAWS, --observed, --out, --figure")
    if form is not None:
        write_table(exam_form(), form)
        return
    verdict = judge_exam(str(exam))
    if table_out:
        write_table(verdict.arms, table_out)
    click.echo(repr(verdict))


def _agreements(options: _Options) -> tuple[list[Agreement], list[pd.DataFrame]]:
    """Agreement with the observed trials, with the published ones, or both; and all tables of results."""
    from causalms.agreement import agree, agree_published, compare_arms
    from causalms.effects import taking_the_model_for_true

    if options.draws is None:
        raise UsageError("no DRAWS: give the table of simulated counts, or --exam FILE")
    people = options.people
    participants = read(table_at(people))
    draws = read_draws(str(table_at(options.draws)), participants, options.week)
    if options.given_model:
        draws = taking_the_model_for_true(draws)
    agreements, results = [], []
    if options.observed is not None:
        agreement = agree(
            draws,
            participants,
            measure=options.measure,
            week=options.week,
            reference=options.reference,
            margin=options.margin,
            level=options.level,
            exposure=options.exposure,
            sources=(options.draws, options.observed),
        )
        across = agreement.across
        agreements.append(agreement)
        results += [agreement.results, *([] if across is None else [across])]
        if "draw" in draws and options.exposure is None:
            results.append(compare_arms(draws, participants, options.week))
    if options.published:
        agreements.append(agree_published(draws, participants, margin=options.margin, level=options.level, source=options.draws))
        results.append(agreements[-1].results)
    return agreements, results


def _draw(agreement: Agreement, path: Path) -> None:
    """One point a contrast, bars both ways."""
    from causalms.report import figures

    table, across = agreement.table, agreement.across
    if across is not None:
        table = table.assign(correlation=across["estimate"].iloc[0])
    picture = figures.agreement_scatter(table, measure=str(table["measure"].iloc[0]))
    figures.save_figure(picture, path)
