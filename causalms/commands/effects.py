"""``causalms effects``: treatment effects from a table, for people with or without images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_MEASURES = ("rate-ratio", "rate-difference", "risk-ratio", "risk-difference", "odds-ratio", "mean-ratio", "mean-difference")
_VARIANCES = (
    "influence",
    "small-sample",
    "leave-one-out",
    "leave-one-out-t",
    "hc0",
    "hc1",
    "hc2",
    "hc3",
    "hc3-t",
    "model-sas",
    "model-r",
    "bootstrap",
    "bootstrap-percentile",
)


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--outcome", help="Column of counts, of 0/1, or of numbers; may be left out for a draws table.")
@click.option("--arm", default="arm", show_default=True, help="Column of the randomised arm.")
@click.option("--reference", required=True, help="The arm to compare with.")
@click.option("--exposure", help="Column of time at risk (not its logarithm), for rates.")
@click.option("--adjust", help='Formula of baseline covariates, such as "age + C(site)".')
@click.option("--interaction", is_flag=True, help="Let every covariate's coefficient differ by arm.")
@click.option("--strata", help="Column of the randomisation strata.")
@click.option("--prognostic", multiple=True, help="Column of prognostic expected outcomes; may be given again.")
@click.option("--cluster", help="Column of clusters, such as the site.")
@click.option("--measure", type=click.Choice(_MEASURES), default="rate-ratio", show_default=True)
@click.option(
    "--estimator",
    type=click.Choice(("standardized", "negbin", "conditional", "unadjusted")),
    default="standardized",
    show_default=True,
    help="negbin: coefficient of the negative-binomial model; conditional: coefficient of the working model.",
)
@click.option(
    "--working-model",
    type=click.Choice(("poisson", "negbin", "logistic", "linear")),
    help="Default: poisson for rates, logistic for risks, linear for means.",
)
@click.option(
    "--variance", type=click.Choice(_VARIANCES), help="Default: influence; model-sas for --estimator negbin or conditional."
)
@click.option("--rate", type=click.Choice(("unit", "exposure-weighted")), default="unit", show_default=True)
@click.option(
    "--randomization", type=click.Choice(("simple", "permuted-block")), help="Default: simple; permuted-block with --strata."
)
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the intervals.")
@click.option(
    "--test",
    type=click.Choice(("wald", "score", "permutation")),
    default="wald",
    show_default=True,
    help="Where the p-value comes from.",
)
@click.option("--replicates", type=int, default=10_000, show_default=True, help="Bootstrap replicates or permutations.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap and of the permutations.")
@click.option(
    "--multiplicity",
    type=click.Choice(("holm", "hochberg", "bonferroni", "fixed-sequence")),
    help="Adjust the p-values of several arms.",
)
@click.option("--publication", type=click.Path(path_type=Path), help="Write a table for a paper (.html, .tex, .csv or .docx).")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the results table (.csv, .tsv or .parquet).")
def command(table: Path, out: Path | None, publication: Path | None, multiplicity: str | None, **options: Any) -> None:
    """Estimate treatment effects from TABLE (CSV, TSV, Parquet, SAS XPT or sas7bdat), one row a patient.

    \b
    Example
      causalms effects participants.tsv --outcome net2_lesions_week48 --arm arm --reference placebo \\
        --exposure exposure_years --adjust "age + gd_lesions" --measure rate-ratio --out results.csv
    """  # noqa: D301
    from causalms.effects.draws import is_draws_table
    from causalms.tables import read_table, write_table

    patients = read_table(table)
    if is_draws_table(patients):
        if publication is not None or multiplicity is not None:
            raise UsageError("--publication and --multiplicity are for observed tables; write a draws table's results with --out")
        text, results = _simulated(patients, table.name, options)
    else:
        text, results = _observed(patients, table.name, options, publication, multiplicity)
    if out is not None:
        write_table(results, out)
        text += f"\n\nresults written to {out}"
    click.echo(text)


def _observed(
    patients: pd.DataFrame, source: str, options: dict[str, Any], publication: Path | None, multiplicity: str | None
) -> tuple[str, pd.DataFrame]:
    """Effects on observed outcomes, one row a patient."""
    from causalms.effects.analysis import analyse
    from causalms.effects.printing import page

    if not options["outcome"]:
        raise UsageError("--outcome is missing: name the column of counts, of 0/1 or of numbers")
    analysis = analyse(patients, source=source, **options)
    text, results, adjusted = page(analysis), analysis.results, None
    if options["prognostic"] and analysis.means is not None:
        from causalms.effects.prognostic import savings

        text += "\n\n" + "\n".join(saved.sentence for saved in savings(analysis))
    if multiplicity is not None:
        from causalms.effects.multiplicity import with_adjusted_p_values

        results = with_adjusted_p_values(results, multiplicity)
        adjusted = results["p_adjusted"].tolist()
        pairs = ", ".join(f"{arm} {value:.4g}" for arm, value in zip(results["arm"], adjusted, strict=True))
        text += f"\n\nadjusted p ({multiplicity}): {pairs}"
    if publication is not None:
        from causalms.effects.publication import write_publication

        text += f"\n\ntable written to {write_publication(analysis, publication, adjusted)}"
    return text, results


def _simulated(draws: pd.DataFrame, source: str, options: dict[str, Any]) -> tuple[str, pd.DataFrame]:
    """Effects on a draws table: g-computation over patients."""
    from causalms.effects.printing import simulated_page
    from causalms.effects.simulated import analyse_draws

    for name in ("exposure", "adjust", "interaction", "strata", "prognostic", "cluster"):
        if options[name]:
            raise UsageError(
                f"--{name} has no meaning for a draws table ({source}), whose arms share their patients; leave it out"
            )
    kept = {name: options[name] for name in ("outcome", "reference", "measure", "level")}
    results = analyse_draws(draws, source=source, **kept)
    return simulated_page(results), results
