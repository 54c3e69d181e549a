"""``causalms subgroups``: treatment effects in prespecified subgroups, observed or simulated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pandas as pd

from causalms.benefit import Inference, Policies, who_benefits
from causalms.cli.effects import command as effects_command
from causalms.cli.inputs import (
    Adam,
    adam_options,
    digits_option,
    given_model_option,
    grouped,
    of_trial,
    read,
    read_draws,
    table_at,
    text_options,
)
from causalms.cli.main import as_options
from causalms.cli.paths import RESULTS, InputPath, OutputPath, Verb
from causalms.effects import is_draws_table, taking_the_model_for_true
from causalms.errors import RefusalError, UsageError
from causalms.subgroups import Forest, MainEffects, Shrinkage, ShrinkageModel, SubgroupAnalysis, forest, shrink, simulated_forest
from causalms.tables import fixed, formula, name_of, net2_column, one_week, refuse_arm_and_outcome_by_name, shown, write_table

_ANALYSIS = {
    *("arm", "reference", "exposure", "adjust", "interaction", "strata", "prognostic", "cluster", "measure", "estimator"),
    "missing_covariates",
    *("working_model", "variance", "rate", "randomization", "level"),
}


def _as_for_effects(function: Any) -> Any:
    """Take over the options of ``causalms effects`` that say how one trial is analysed."""
    for option in reversed([option for option in effects_command.params if isinstance(option, click.Option)]):
        if option.name in _ANALYSIS:
            function.__click_params__ = [*getattr(function, "__click_params__", []), option]
    return function


@dataclass(frozen=True)
class _Contrast:
    """What is compared, and the level of its interval."""

    reference: str
    arm: str
    measure: str
    level: float


@dataclass(frozen=True)
class _Inputs:
    """The tables of the verb, each read once.

    Attributes
    ----------
    people : DataFrame
        Patients of the trial, with covariates and observed outcome.
    outcome : str
        Column of the observed outcome.
    source : str
        Name of the patients' table in messages.
    draws : DataFrame or None
        Simulated outcomes of one visit week, ``week``; ``simulated_outcome`` of them where one is named.
    """

    people: Any
    outcome: str
    source: str
    draws: Any = None
    week: float | None = None
    simulated_outcome: str | None = None


@dataclass(frozen=True)
class _Tables(Adam):
    """The tables of the verb, and which of their rows and columns are meant."""

    table: Path
    participants: Path | None
    outcome: str | None
    trial: str | None
    week: float | None
    given_model: bool

    def read(self) -> _Inputs:
        """TABLE is a draws table if it has its columns, else one row a patient."""
        table, source = self.table, str(self.table)
        simulated = self.participants is not None
        rows = read(table_at(table)) if simulated else self.rows_of(table_at(table))
        if not is_draws_table(rows):
            if self.adsl is not None and not simulated:
                return _Inputs(of_trial(rows, self.trial, source), self.outcome or "aval", source)
            if self.outcome is None:
                raise UsageError(f"{table}: name the column of the outcome with --outcome")
            if self.given_model:
                raise UsageError("--given-model is about simulated outcomes; leave it out for an observed table")
            return _Inputs(of_trial(rows, self.trial, source), self.outcome, source)
        if self.participants is None:
            raise UsageError(f"{table}: is a draws table without covariates; name the trial with --participants")
        people = self.beside_draws(table_at(self.participants), source, self.week, self.outcome)
        draws = of_trial(read_draws(source, people, self.week), self.trial, source)
        week = one_week(draws, self.week, source)
        observed = net2_column(int(week), self.outcome or "net2_lesions")
        people = of_trial(people, self.trial, str(self.participants))
        draws = taking_the_model_for_true(draws) if self.given_model else draws
        return _Inputs(people, observed, str(self.participants), draws, week, self.outcome)


@dataclass(frozen=True)
class _Benefit:
    """Where the judgement of predicted benefit is written, and what it looks at."""

    benefit_out: Path | None
    caps: tuple[float, ...]
    least_benefit: float
    groups: int

    def judged(self, inputs: _Inputs, contrast: _Contrast, covariates: str | None, seed: int) -> pd.DataFrame:
        """Who benefits, by predictions from draws or from covariates."""
        if covariates and inputs.draws is None:
            refuse_arm_and_outcome_by_name(formula(covariates, inputs.people, "adjust"), contrast.arm, inputs.outcome)
        try:
            return self._judged(inputs, contrast, covariates, seed)
        except RefusalError as refusal:
            raise RefusalError(f"{Path(inputs.source).name}: {refusal}") from None

    def _judged(self, inputs: _Inputs, contrast: _Contrast, covariates: str | None, seed: int) -> pd.DataFrame:
        return who_benefits(
            inputs.people,
            outcome=inputs.outcome,
            reference=contrast.reference,
            draws=inputs.draws,
            covariates=covariates,
            week=inputs.week,
            arm=contrast.arm,
            policies=Policies(caps=self.caps or (1.0, 0.3), least_benefit=self.least_benefit, groups=self.groups),
            inference=Inference(level=contrast.level, seed=seed),
        )


@dataclass(frozen=True)
class _Written:
    """What is written."""

    out: Path | None
    forest_out: Path | None


@click.command(cls=Verb)
@click.argument("table", type=InputPath())
@click.option("--by", multiple=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; repeat it.')
@click.option("--outcome", help="Column of the outcome; for draws net2_lesions unless given.")
@click.option("--participants", type=InputPath(), help="For draws: BIDS folder or table with the covariates.")
@click.option("--beside-observed", is_flag=True, help="For draws: also the randomised comparison of the participants.")
@click.option(
    "--shrinkage",
    type=click.Choice(("half-normal", "horseshoe")),
    help="Also effects shrunk by a Bayesian global model (observed counts, rate ratio).",
)
@click.option(
    "--benefit",
    "benefit_out",
    type=OutputPath(),
    help="Judge predicted benefit on the randomised arms and write the results here; see below.",
)
@click.option("--cap", "caps", multiple=True, type=float, help="Largest share given the drug; repeat it.  [default: 1 and 0.3]")
@click.option("--least-benefit", default=0.0, show_default=True, help="Predicted lesions spared below which nobody is treated.")
@click.option("--groups", default=4, show_default=True, help="Groups of predicted benefit.")
@click.option("--seed", default=0, show_default=True, help="Of shrinkage, of folds and of redrawn trials.")
@click.option("--trial", help="Only the patients of this trial.")
@click.option("--week", type=float, help="For draws of several visits: the visit week.")
@click.option("--out", type=OutputPath(RESULTS), help="Results table (.csv, .tsv, .parquet, .json: Dataset-JSON).")
@click.option("--forest", "forest_out", type=OutputPath(), help="Forest table, with events and interaction p.")
@_as_for_effects
@adam_options
@given_model_option
@digits_option
@text_options
@grouped(contrast=_Contrast, method=SubgroupAnalysis, tables=_Tables, benefit=_Benefit, written=_Written)
def command(
    by: tuple[str, ...],
    contrast: _Contrast,
    method: SubgroupAnalysis,
    tables: _Tables,
    benefit: _Benefit,
    written: _Written,
    beside_observed: bool,
    shrinkage: str | None,
    seed: int,
) -> None:
    """Estimate treatment effects by subgroup from TABLE: one row a patient, or a draws table with --participants.

    --benefit asks who benefits: patients are ranked by the lesions that the drug is predicted to spare them, and the
    ranking is judged on the outcomes of the randomised arms, trial by trial (AUTOC, Qini, AD(c) and AR(c) with bands, groups,
    calibration for benefit, value of treating by prediction under each --cap). Predictions are the draws, which must come from a
    model that has not seen these outcomes, or, for a table of patients, cross-fitted from the covariates of --adjust.

    \b
    Example:
      causalms subgroups participants.tsv --by "gd_lesions > 0" --by "age >= 40" \\
        --outcome net2_lesions_week48 --reference placebo --trial DEFINE --out subgroups.csv
      causalms subgroups draws.parquet --participants trial/ --by "gd_lesions > 0" --reference placebo
      causalms subgroups draws.parquet --participants trial/ --reference placebo --benefit benefit.csv --cap 0.3
    """  # noqa: D301
    _refuse_nothing_to_do(by, benefit, shrinkage)
    if shrinkage is not None and contrast.measure != "rate-ratio":
        raise UsageError(f"--shrinkage is of rate ratios, not of a {contrast.measure}")
    inputs = tables.read()
    if benefit.benefit_out is not None and inputs.draws is None and not method.adjust:
        raise UsageError(
            "--benefit without draws needs the covariates of its cross-fitted prediction: --adjust 'age + gd_lesions'"
        )
    forests: list[Forest | Shrinkage] = []
    if by:
        forests += _forests(by, inputs, contrast, method, beside_observed)
    if shrinkage is not None:
        forests.append(_shrunken(by, _of_arms(inputs, forests, contrast), contrast, method, shrinkage, seed))
    text = [repr(one) for one in forests]
    if benefit.benefit_out is not None:
        results = benefit.judged(inputs, contrast, method.adjust, seed)
        _write([results], benefit.benefit_out)
        text.append(_benefit_page(results))
    _write([one.results for one in forests], written.out)
    _write([one.table for one in forests], written.forest_out)
    click.echo(as_options("\n".join(text), click.get_current_context().command))


def _refuse_nothing_to_do(by: tuple[str, ...], benefit: _Benefit, shrinkage: str | None) -> None:
    if not by and benefit.benefit_out is None:
        raise UsageError("nothing to do: name subgroups with --by, or a file for who benefits with --benefit")
    if shrinkage and not by:
        raise UsageError("--shrinkage shrinks subgroup effects; name subgroups with --by")
    if benefit.caps and benefit.benefit_out is None:
        raise UsageError("--cap belongs to --benefit; name its file or leave the cap out")
    if beyond := [cap for cap in benefit.caps if not 0 <= cap <= 1]:
        raise UsageError(f"--cap {name_of(beyond[0])} on the share treated; give a number from 0 to 1")


def _forests(
    by: tuple[str, ...], inputs: _Inputs, contrast: _Contrast, method: SubgroupAnalysis, beside_observed: bool
) -> list[Forest]:
    """Simulated effects by subgroup, the observed ones, or both."""
    forests: list[Forest] = []
    if inputs.draws is not None:
        forests.append(
            simulated_forest(
                inputs.draws,
                inputs.people,
                by,
                reference=contrast.reference,
                measure=contrast.measure,
                level=contrast.level,
                outcome=inputs.simulated_outcome,
                week=inputs.week,
                source=inputs.source,
            )
        )
    if beside_observed or inputs.draws is None:
        people = _of_arms(inputs, forests, contrast).people
        name = Path(inputs.source).name
        forests.append(forest(people, by, outcome=inputs.outcome, method=method, source=name, **vars(contrast)))
    return forests


def _of_arms(inputs: _Inputs, forests: Sequence[Forest | Shrinkage], contrast: _Contrast) -> _Inputs:
    """Patients of the arms that were simulated; all where none was."""
    people = inputs.people
    if inputs.draws is not None and forests:
        people = people[people[contrast.arm].isin([contrast.reference, *forests[0].table["arm"].unique()])]
    return replace(inputs, people=people)


def _shrunken(
    by: tuple[str, ...], inputs: _Inputs, contrast: _Contrast, method: SubgroupAnalysis, prior: str, seed: int
) -> Shrinkage:
    """Effects by subgroup shrunk by a Bayesian global model."""
    return shrink(
        inputs.people,
        by,
        outcome=inputs.outcome,
        reference=contrast.reference,
        arm=contrast.arm,
        exposure=method.exposure,
        more=MainEffects(adjust=method.adjust, strata=method.strata, cluster=method.cluster),
        level=contrast.level,
        model=ShrinkageModel(prior, seed=seed, progress=sys.stderr.isatty()),
    )


def _write(tables: list[pd.DataFrame], path: Path | None) -> None:
    if path is not None and tables:
        write_table(pd.concat(tables, ignore_index=True), path)


def _benefit_page(results: pd.DataFrame) -> str:
    """Who benefits in plain text; bands stand in the file."""
    text = []
    for (who, arm, reference), rows in results.groupby(["population", "arm", "reference"], sort=False):
        text.append(f"who benefits from {arm} against {reference}: {who}, {fixed(rows['n'].max(), 0)} patients")
        for row in rows[~rows["measure"].str.endswith("band")].to_dict("records"):
            part = "" if row["subgroup"] == "all" else f", {row['subgroup']}"
            against = "; p against 1" if row["estimand"].endswith("against 1") else ""
            p = f"{row['p_value']:>9.4f}{against}" if row["p_value"] == row["p_value"] else ""
            known = row["lower"] == row["lower"]
            interval = f"{shown(row['lower'], 3)} to {shown(row['upper'], 3)}" if known else "no interval"
            text.append(f"  {row['measure'] + part:66.66s}{shown(row['estimate'], 3):>9s}{interval:>20s}{p}")
    return "\n".join(text)
