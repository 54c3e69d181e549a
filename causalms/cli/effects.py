"""``causalms effects``: treatment effects from a table, for people with or without images."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.inputs import (
    Adam,
    adam_options,
    digits_option,
    given_model_option,
    grouped,
    missing_covariates_option,
    of_trial,
    read,
    table_at,
    text_options,
)
from causalms.cli.intercurrent import Events, event_options
from causalms.cli.main import as_options
from causalms.cli.paths import RESULTS, InputPath, OutputPath, Verb
from causalms.cli.several import Family, family_options
from causalms.cli.written import Written, carried
from causalms.effects import (
    CHOICES,
    MEASURES,
    STRATEGIES,
    Analysis,
    Design,
    Estimand,
    Method,
    MissingOutcomes,
    ProgramInput,
    analyse,
    analyse_draws,
    effects_with_missing_outcomes,
    interval,
    is_draws_table,
    number,
    page,
    r_program,
    sas_program,
    savings,
    simulated_page,
    text_columns,
    write_publication,
)
from causalms.effects import given_model as with_given_model
from causalms.errors import UsageError
from causalms.tables import fixed, p_value_text, percent_in_full

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Contrast:
    """What is compared, in which columns."""

    outcome: str | None
    arm: str
    reference: str
    exposure: str | None
    adjust: str | None
    measure: str

    def of_patients(self) -> dict[str, Any]:
        """Arguments of an analysis of one row a patient, which needs an outcome."""
        if not self.outcome:
            raise UsageError("--outcome is missing: name the column of counts, of 0/1 or of numbers")
        return vars(self)


@dataclass(frozen=True)
class _Missing:
    """How missing outcomes are handled; ``week`` is also the visit of a draws table."""

    missing: str | None
    missing_given: str | None
    draws: Path | None
    week: float | None

    def strategy(self) -> MissingOutcomes:
        """The named strategy, its draws read."""
        assert self.missing is not None
        if self.missing == "ipw" and not self.missing_given:
            raise UsageError("--missing ipw needs what the missingness depends on: --missing-given 'age + edss'")
        drawn = None
        if self.missing in ("multiple-imputation", "jump-to-reference"):
            if self.draws is None:
                whose = "each patient's own arm" if self.missing == "multiple-imputation" else "the reference"
                raise UsageError(f"--missing {self.missing} needs --draws (under {whose})")
            drawn = read(self.draws)
        return MissingOutcomes(strategy=self.missing, missing_given=self.missing_given, draws=drawn, week=self.week)


@dataclass(frozen=True)
class _Patients(Adam):
    """Whose rows are used: of one trial, or of an ADaM BDS dataset."""

    trial: str | None
    given_model: bool


@click.command(cls=Verb)
@click.argument("table", type=InputPath())
@click.option("--outcome", help="Column of counts, of 0/1, or of numbers; may be left out for a draws table.")
@click.option("--arm", default="arm", show_default=True, help="Column of the randomised arm.")
@click.option("--reference", required=True, help="The arm to compare with.")
@click.option("--exposure", help="Column of time at risk (not its logarithm), for rates.")
@click.option("--adjust", help='Formula of baseline covariates, such as "age + C(site)".')
@missing_covariates_option
@click.option("--interaction", is_flag=True, help="Let every covariate's coefficient differ by arm.")
@click.option("--strata", help="Column of the randomisation strata.")
@click.option("--prognostic", multiple=True, help="Column of prognostic expected outcomes; may be given again.")
@click.option("--cluster", help="Column of clusters, such as the site.")
@click.option("--measure", type=click.Choice(tuple(MEASURES)), default="rate-ratio", show_default=True)
@click.option(
    "--estimator",
    type=click.Choice(CHOICES["estimator"]),
    default="standardized",
    show_default=True,
    help="negbin: coefficient of the negative-binomial model; conditional: coefficient of the working model.",
)
@click.option(
    "--working-model",
    type=click.Choice(CHOICES["working_model"]),
    help="Default: poisson for rates, logistic for risks, linear for means.",
)
@click.option(
    "--variance",
    type=click.Choice(CHOICES["variance"]),
    help="Default: influence (counts in small arms: small-sample); model-sas for coefficients (linear: model-r); with "
    "--cluster cr3 and cr2.",
)
@click.option("--rate", type=click.Choice(CHOICES["rate"]), default="unit", show_default=True)
@click.option(
    "--randomization", type=click.Choice(CHOICES["randomization"]), help="Default: simple; permuted-block with --strata."
)
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the intervals.")
@click.option(
    "--test",
    type=click.Choice(CHOICES["test"]),
    default="wald",
    show_default=True,
    help="Where the p-value comes from.",
)
@click.option("--replicates", type=int, default=10_000, show_default=True, help="Bootstrap replicates or permutations.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap and of the permutations.")
@family_options
@click.option(
    "--missing",
    type=click.Choice(tuple(STRATEGIES)),
    help="How missing outcomes are handled and named; without it rows are left out, counted and named.",
)
@click.option("--missing-given", help="With --missing ipw: covariates of the missingness, such as 'age + edss'.")
@click.option(
    "--draws",
    type=InputPath(),
    help="With --missing multiple-imputation: draws under the own arms; with jump-to-reference: under the reference.",
)
@click.option("--week", type=float, help="Visit week of a draws table, or of the imputed outcome.")
@event_options(one_row=True)
@adam_options
@click.option("--trial", help="Only the patients of this trial.")
@click.option(
    "--pool-trials", is_flag=True, help="Compare all patients of all trials; such a contrast is not marked as randomised."
)
@given_model_option
@click.option(
    "--publication",
    type=OutputPath((".html", ".tex", ".csv", ".docx", ".rtf"), what="a publication table is written"),
    help="Write a table for a paper or a report (.html, .tex, .csv, .docx or .rtf).",
)
@digits_option
@click.option("--program", type=click.Choice(("r", "sas")), help="Print the R or SAS program of the row.")
@click.option("--ard", type=OutputPath(RESULTS), help="Write analysis results data, a row a statistic, as R's cards has them.")
@click.option(
    "--ars",
    type=OutputPath((".json",), what="a reporting event is written"),
    help="Write a reporting event of CDISC's Analysis Results Standard 1.0 (.json).",
)
@click.option(
    "--out", type=OutputPath(RESULTS), help="Where to write the results table (.csv, .tsv, .parquet, .json: Dataset-JSON)."
)
@click.option(
    "--recompute",
    type=OutputPath((".json",), what="patients for a report are written"),
    help="Write what `causalms report --recompute` needs to compute these effects again in its page: columns, no identifiers.",
)
@text_options
@grouped(
    contrast=_Contrast,
    design=Design,
    method=Method,
    missing=_Missing,
    rows=_Patients,
    written=Written,
    family=Family,
    events=Events,
)
def command(
    table: Path,
    contrast: _Contrast,
    design: Design,
    method: Method,
    missing: _Missing,
    rows: _Patients,
    written: Written,
    family: Family,
    events: Events,
) -> None:
    """Estimate treatment effects from TABLE (CSV, TSV, Parquet, SAS XPT or sas7bdat), one row a patient.

    TABLE may also be a BIDS folder (its participants.tsv), a draws table, or an ADaM BDS dataset with --adsl.

    The interval of a simulated effect holds three errors: patients, the model's own, Monte Carlo. Draws of a model that does not
    know its own error give neither interval nor p-value.

    \b
    Example
      causalms effects participants.tsv --outcome net2_lesions_week48 --arm arm --reference placebo \\
        --exposure exposure_years --adjust "age + gd_lesions" --measure rate-ratio --out results.csv
      causalms effects trial/ --outcome net2_lesions_week96 --reference placebo --missing ipw --missing-given "age + edss"
      causalms effects trial.csv --outcome relapses --reference standard --margin 1.1 --claim non-inferiority
      causalms effects trial.csv --outcome relapses --reference placebo --multiplicity tukey
      causalms effects adnet2.xpt --adsl adsl.xpt --paramcd NET2 --avisit "Week 48" --population FASFL --reference placebo
    """  # noqa: D301
    family.refuse_halves()
    place, code = table_at(table), None
    patients = of_trial(rows.rows_of(place), rows.trial, str(place))
    if rows.adsl is not None:
        contrast = replace(contrast, outcome=contrast.outcome or "aval")
    if rows.given_model and not is_draws_table(patients):
        raise UsageError("--given-model is about simulated outcomes; leave it out for an observed table")
    design = replace(design, source=place.name)
    if not is_draws_table(patients) and contrast.outcome is not None:
        completes = missing.missing not in (None, "complete-case")
        patients, design = events.of_patients(patients, contrast.outcome, contrast.exposure, design, completes)
    if is_draws_table(patients):
        if written.of_observed or family.named or events.named or missing.missing is not None:
            raise UsageError(
                "--publication, --recompute, --multiplicity, --all-pairs, --margin, --contrast, --sensitivity, --event-time and "
                "--missing are for observed tables; write a draws table's results with --out"
            )
        _refuse_options_of_patients(contrast, design, method, place.name)
        text, results = _simulated(patients, place.name, missing.week, contrast, method.level, rows.given_model)
    elif missing.missing is not None:
        if written.of_observed or family.named:
            raise UsageError(
                "--publication, --recompute, --multiplicity, --all-pairs, --margin, --contrast and --sensitivity go with "
                "complete rows; leave out --missing"
            )
        method = replace(method, missing=missing.strategy())
        results = effects_with_missing_outcomes(patients, **contrast.of_patients(), design=design, method=method)
        text = results_lines(results)
    else:
        for name, given in (("--missing-given", missing.missing_given), ("--draws", missing.draws), ("--week", missing.week)):
            if given is not None:
                raise UsageError(f"{name} says how missing outcomes are handled; name the strategy with --missing")
        analysis = analyse(patients, **contrast.of_patients(), design=design, method=method)
        text, results = _observed(analysis, bool(method.prognostic), family, written)
        source = _program_input(contrast, (design, method, rows), place.name, patients)
        as_read = rows.adsl is None and not events.named
        if written.program is not None:
            text += f"\n\n{_program(analysis, written.program, source, as_read)}"
        if written.ars is not None and as_read:
            with contextlib.suppress(UsageError):  # a row without a program is written without it
                code = r_program(analysis, source)
    text += written.results(results, contrast.outcome or "net2_lesions", contrast.arm, place.stem, code)
    click.echo(as_options(text, click.get_current_context().command))


def _program_input(
    contrast: _Contrast, more: tuple[Design, Method, _Patients], table: str, patients: pd.DataFrame
) -> ProgramInput:
    """What a program of the analysis reads."""
    design, method, rows = more
    return ProgramInput(
        table=table,
        arm=contrast.arm,
        exposure=contrast.exposure,
        adjust=contrast.adjust,
        strata=design.strata,
        cluster=design.cluster,
        prognostic=tuple(method.prognostic),
        columns=tuple(map(str, patients.columns)),
        trial=rows.trial,
    )


def _program(analysis: Analysis, language: str, source: ProgramInput, as_read: bool) -> str:
    """The R or SAS program of an analysis of a table as it was read."""
    if not as_read:
        raise UsageError("--program reads one table as it is; leave out --adsl and --event-time, and analyse one row a patient")
    return r_program(analysis, source) if language == "r" else sas_program(analysis, source)


def _refuse_options_of_patients(contrast: _Contrast, design: Design, method: Method, source: str) -> None:
    """Refuse for a draws table what is about one outcome a patient."""
    options = {**vars(contrast), **vars(design), **vars(method)}
    for name in ("exposure", "adjust", "interaction", "strata", "prognostic", "cluster", "pool_trials"):
        if options[name]:
            raise UsageError(
                f"`{name}` has no meaning for a draws table ({source}), whose arms share their patients; leave it out"
            )


def results_lines(results: pd.DataFrame) -> str:
    """A results table of observed effects in plain text."""
    measure = results["measure"].iloc[0]
    heads = [
        [
            measure,
            "estimate",
            f"{percent_in_full(results['level'].iloc[0])} CI",
            "se(log)" if measure.endswith("ratio") else "se",
            "p",
        ]
    ]
    for row in results.to_dict("records"):
        limits = interval(row["lower"], row["upper"])
        pair = f"{row['arm']} vs {row['reference']} ({fixed(row['n'], 0)}, {fixed(row['n_reference'], 0)})"
        heads.append([pair, number(row["estimate"]), limits, number(row["se"]), p_value_text(row["p_value"])])
    first = results.iloc[0]
    estimand = Estimand.of_row(first.to_dict())
    if len(arms := list(dict.fromkeys(results["arm"]))) > 1:
        estimand = replace(estimand, treatment=f"{', '.join(arms)}, each against {first.reference}")
    return "\n".join(
        [
            *text_columns(heads),
            "",
            "estimand (ICH E9(R1))",
            *(f"  {line}" for line in estimand.lines()),
            f"estimator  {first.estimator}",
            f"variance   {first.variance}",
        ]
    )


def _observed(analysis: Analysis, prognostic: bool, family: Family, written: Written) -> tuple[str, pd.DataFrame]:
    """The page and the results of observed outcomes, one row a patient."""
    blocks = [page(analysis)]
    if prognostic and analysis.means is not None:
        blocks.append("\n".join(saved.sentence for saved in savings(analysis)))
    more, results, adjusted = family.added(analysis)
    blocks += more
    if written.publication is not None:
        blocks.append(f"table written to {write_publication(analysis, written.publication, adjusted)}")
    if written.recompute is not None:
        blocks.append(carried(analysis, written.recompute))
    return "\n\n".join(blocks), results


def _simulated(
    draws: pd.DataFrame, source: str, week: float | None, contrast: _Contrast, level: float, narrow: bool
) -> tuple[str, pd.DataFrame]:
    """Effects on a draws table: g-computation over patients."""
    kept = {name: getattr(contrast, name) for name in ("outcome", "reference", "measure")}
    results = analyse_draws(draws, source=source, week=week, level=level, **kept)
    if narrow:
        results = with_given_model(results)
    return simulated_page(results), results
