"""``causalms visits``: treatment effects from a long table with a count per visit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.inputs import (
    digits_option,
    grouped,
    missing_covariates_option,
    of_trial,
    read,
    read_draws,
    table_at,
    text_options,
)
from causalms.cli.intercurrent import Events, event_options
from causalms.cli.main import as_options
from causalms.cli.paths import RESULTS, InputPath, OutputPath, Verb
from causalms.effects import ASSUMPTIONS, VISIT_CHOICES, Design, VisitMethod, Visits
from causalms.errors import UsageError
from causalms.tables import shown

if TYPE_CHECKING:
    import pandas as pd

    from causalms.effects import VisitImputation


@dataclass(frozen=True)
class _Contrast:
    """What is compared between arms."""

    outcome: str
    arm: str
    reference: str
    exposure: str | None
    adjust: str | None


@dataclass(frozen=True)
class _Imputed:
    """How missing visits are imputed."""

    impute: str | None
    draws: Path | None
    deltas: tuple[float, ...]
    imputations: int
    seed: int


@dataclass(frozen=True)
class _Written:
    """Files that are written."""

    curves: Path | None
    figure: Path | None
    rates: Path | None
    out: Path | None


@click.command(cls=Verb)
@click.argument("table", type=InputPath())
@click.option("--outcome", required=True, help="Column of the count since the patient's row before.")
@click.option("--visit", default="visit_week", show_default=True, help="Column of the visit: a number (weeks) or a name.")
@click.option("--patient", default="participant_id", show_default=True, help="Column of the patient.")
@click.option("--start", help="Column where a row's time at risk begins.  [default: the patient's row before, or 0]")
@click.option("--arm", default="arm", show_default=True, help="Column of the randomised arm.")
@click.option("--reference", required=True, help="The arm to compare with.")
@click.option("--exposure", help="Column of time at risk.  [default: the time since the patient's row before]")
@click.option("--adjust", help='Formula of baseline covariates, such as "age + C(site)".')
@missing_covariates_option
@click.option("--strata", help="Column of strata of the baseline rate, of --estimator andersen-gill.")
@click.option("--estimator", type=click.Choice(VISIT_CHOICES["estimator"]), default="gee", show_default=True)
@click.option(
    "--correlation",
    type=click.Choice(VISIT_CHOICES["correlation"]),
    default="exchangeable",
    show_default=True,
    help="Working correlation within patients, of gee.",
)
@click.option("--variance", type=click.Choice(VISIT_CHOICES["variance"]), default="robust", show_default=True)
@click.option(
    "--ties", type=click.Choice(VISIT_CHOICES["ties"]), help="Of andersen-gill.  [default: efron for 0/1, breslow for counts]"
)
@click.option("--ipcw-given", help="Of gee: weight counts against drop-out given these covariates and the counts so far.")
@click.option("--by-visit", is_flag=True, help="Also a rate ratio for each visit, and the test of arm x visit.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the intervals.")
@click.option("--trial", help="Only the patients of this trial.")
@click.option("--pool-trials", is_flag=True, help="Compare all patients of all trials; such a contrast is not randomised.")
@click.option(
    "--impute",
    type=click.Choice(tuple(ASSUMPTIONS)),
    help="Impute missing visits: the rate ratio of whole follow-up, by Rubin's rules.",
)
@click.option(
    "--delta",
    "deltas",
    type=float,
    multiple=True,
    help="With --impute: factor on the imputed rates of other arms; repeat it for the tipping point.",
)
@click.option("--draws", type=InputPath(), help="With --impute: impute from these simulated outcomes of every arm and visit.")
@click.option("--imputations", type=int, default=50, show_default=True, help="With --impute.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the imputations.")
@event_options(one_row=False)
@click.option("--curves", type=OutputPath(), help="Write the mean cumulative functions (.csv, .tsv or .parquet).")
@click.option(
    "--figure", type=OutputPath((".png", ".svg", ".pdf"), what="figures are drawn"), help="Draw the mean cumulative functions."
)
@click.option("--rates", type=OutputPath(), help="Write the rates of every visit and arm.")
@click.option(
    "--out", type=OutputPath(RESULTS), help="Where to write the results table (.csv, .tsv, .parquet, .json: Dataset-JSON)."
)
@digits_option
@text_options
@grouped(contrast=_Contrast, design=Design, visits=Visits, method=VisitMethod, imputed=_Imputed, events=Events, written=_Written)
def command(
    table: Path,
    contrast: _Contrast,
    design: Design,
    visits: Visits,
    method: VisitMethod,
    imputed: _Imputed,
    events: Events,
    written: _Written,
    trial: str | None,
) -> None:
    """Estimate treatment effects from TABLE with one row a patient and visit, each with the count since the row before.

    Generalised estimating equations (gee) or Andersen-Gill proportional rates with robust variance (LWYY); rates of every
    visit and arm; mean cumulative functions.

    \b
    Example
      causalms visits visits.csv --outcome net2_lesions --visit visit_week --reference placebo --by-visit
      causalms visits visits.csv --outcome net2_lesions --reference placebo --estimator andersen-gill --figure curves.png
      causalms visits visits.csv --outcome net2_lesions --reference placebo --impute jump-to-reference --delta 1 --delta 2
    """  # noqa: D301
    from causalms.effects import analyse_visits
    from causalms.tables import write_table

    place = table_at(table)
    patients = of_trial(read(place), trial, str(place))
    design = replace(design, source=place.name)
    verb = click.get_current_context().command
    if imputed.impute is not None and events.includes("while-on-treatment"):
        raise UsageError("--strategy while-on-treatment asks nothing of the time after the event; leave out --impute")
    completes = imputed.impute is not None or method.ipcw_given is not None
    patients, design = events.of_visits(patients, contrast.outcome, visits, design, completes)
    if imputed.impute is not None:
        click.echo(as_options(_impute(patients, contrast, design, visits, method, imputed, written), verb))
        return
    if imputed.draws is not None:
        raise UsageError("--draws imputes missing visits; name the assumption with --impute")
    if imputed.deltas:
        raise UsageError("--delta is a factor on imputed rates; name the assumption with --impute")
    analysis = analyse_visits(patients, **vars(contrast), design=design, visits=visits, method=method)
    text = repr(analysis)
    if written.figure is not None:
        _draw(analysis.curves, contrast.outcome, written.figure)
        text += f"\n\nmean cumulative functions drawn in {written.figure}"
    for made, path, what in (
        (analysis.curves, written.curves, "mean cumulative functions"),
        (analysis.rates, written.rates, "rates"),
        (analysis.results, written.out, "results"),
    ):
        if path is not None:
            write_table(made, path)
            text += f"\n\n{what} written to {path}"
    click.echo(as_options(text, verb))


def _impute(
    patients: pd.DataFrame,
    contrast: _Contrast,
    design: Design,
    visits: Visits,
    method: VisitMethod,
    imputed: _Imputed,
    written: _Written,
) -> str:
    """The page of the imputed analysis, for one delta or over several."""
    from causalms.cli.effects import results_lines
    from causalms.effects import VisitImputation, impute_visits, tipping_point
    from causalms.tables import name_of, p_value_text, write_table

    if method.ipcw_given is not None:
        raise UsageError("--ipcw-given weights the counts there are; leave out --impute, or it")
    if contrast.exposure is not None or design.strata is not None or method.by_visit or written.curves or written.rates:
        raise UsageError(
            "--impute analyses totals of whole follow-up; leave out --exposure, --strata, --by-visit, --curves and --rates"
        )
    if written.figure is not None and len(imputed.deltas) < 2:
        raise UsageError("--figure with --impute draws the tipping point; give several --delta")
    compared = {name: value for name, value in vars(contrast).items() if name != "exposure"}

    def analysis(chosen: VisitImputation) -> pd.DataFrame:
        return impute_visits(patients, **compared, visits=visits, design=design, method=chosen)

    chosen = VisitImputation(
        assumption=str(imputed.impute),
        draws=None if imputed.draws is None else read_draws(str(imputed.draws)),
        imputations=imputed.imputations,
        seed=imputed.seed,
        level=method.level,
    )
    deltas = imputed.deltas or (1.0,)
    results = tipping_point(analysis, chosen, sorted(deltas))
    text = results_lines(results[results["delta"] == min(deltas)])
    if len(deltas) > 1:
        for arm, rows in results.groupby("arm", sort=False):
            over = "; ".join(
                f"{name_of(row['delta'])}: {shown(row['estimate'])}, p {p_value_text(row['p_value'])}"
                for row in rows.to_dict("records")
            )
            text += f"\n\n{arm} by delta: {over}\n{arm} {_tipping_words(rows, method.level)}"
    if written.figure is not None:
        from causalms.report import figures

        figures.save_figure(figures.tipping_point_curve(results), written.figure)
        text += f"\n\ntipping point drawn in {written.figure}"
    if written.out is not None:
        write_table(results.drop(columns="delta"), written.out)
        text += f"\n\nresults written to {written.out}"
    return text


def _tipping_words(rows: pd.DataFrame, level: float) -> str:
    """Where the conclusion of an arm tips, over rows ordered by delta."""
    from causalms.tables import name_of

    tipped = rows.loc[rows["p_value"] > 1 - level, "delta"]
    if not len(tipped):
        return f"does not tip up to delta {name_of(rows['delta'].max())}"
    first = name_of(tipped.iloc[0])
    return f"tips at delta {first}" if tipped.iloc[0] > rows["delta"].iloc[0] else f"has no conclusion to tip at delta {first}"


def _draw(curves: Any, outcome: str, path: Path) -> None:
    from causalms.report import figures

    if curves.empty:
        raise UsageError(f"--figure {path}: visits that are names have no time; give --visit in weeks")
    figures.save_figure(figures.mean_cumulative_functions(curves, outcome), path)
