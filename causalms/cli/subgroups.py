"""``causalms subgroups``: treatment effects in prespecified subgroups, observed or simulated."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.effects import command as effects_command
from causalms.cli.inputs import given_model_option, text_options
from causalms.cli.main import as_options
from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.errors import UsageError
from causalms.tables import fixed, name_of

if TYPE_CHECKING:
    from causalms.benefit import Policies

_ANALYSIS = {
    *("arm", "reference", "exposure", "adjust", "interaction", "strata", "prognostic", "cluster", "measure", "estimator"),
    *("working_model", "variance", "rate", "randomization", "level"),
}


def _as_for_effects(function: Any) -> Any:
    """Take over the options of ``causalms effects`` that say how one trial is analysed."""
    for option in reversed([option for option in effects_command.params if isinstance(option, click.Option)]):
        if option.name in _ANALYSIS:
            function.__click_params__ = [*getattr(function, "__click_params__", []), option]
    return function


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
@click.option("--out", type=OutputPath(), help="Results table (.csv, .tsv or .parquet).")
@click.option("--forest", "forest_out", type=OutputPath(), help="Forest table, with events and interaction p.")
@_as_for_effects
@given_model_option
@text_options
def command(
    table: Path,
    by: tuple[str, ...],
    outcome: str | None,
    participants: Path | None,
    beside_observed: bool,
    shrinkage: str | None,
    benefit_out: Path | None,
    caps: tuple[float, ...],
    least_benefit: float,
    groups: int,
    seed: int,
    trial: str | None,
    week: float | None,
    out: Path | None,
    forest_out: Path | None,
    given_model: bool,
    **options: Any,
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
    _refuse_nothing_to_do(by, benefit_out, shrinkage, caps)
    if shrinkage is not None and options["measure"] != "rate-ratio":
        raise UsageError(f"--shrinkage is of rate ratios, not of a {options['measure']}")
    inputs = _read(table, participants, outcome, trial, week)
    if given_model:
        inputs = _given_model(inputs)
    if benefit_out is not None and inputs.draws is None and not options["adjust"]:
        raise UsageError(
            "--benefit without draws needs the covariates of its cross-fitted prediction: --adjust 'age + gd_lesions'"
        )
    forests = []
    if by:
        forests = _forests(by, inputs, options, beside_observed)
    if shrinkage is not None:
        forests.append(_shrunken(by, _of_arms(inputs, forests, options), options, shrinkage, seed))
    text = [repr(one) for one in forests]
    if benefit_out is not None:
        from causalms.benefit import Policies

        policies = Policies(caps=caps or (1.0, 0.3), least_benefit=least_benefit, groups=groups)
        results = _benefit(inputs, options, policies, seed)
        _write([results], benefit_out)
        text.append(_benefit_page(results))
    _write([one.results for one in forests], out)
    _write([one.table for one in forests], forest_out)
    click.echo(as_options("\n".join(text), click.get_current_context().command))


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


def _refuse_nothing_to_do(by: tuple[str, ...], benefit_out: Path | None, shrinkage: str | None, caps: tuple[float, ...]) -> None:
    if not by and benefit_out is None:
        raise UsageError("nothing to do: name subgroups with --by, or a file for who benefits with --benefit")
    if shrinkage and not by:
        raise UsageError("--shrinkage shrinks subgroup effects; name subgroups with --by")
    if caps and benefit_out is None:
        raise UsageError("--cap belongs to --benefit; name its file or leave the cap out")
    if beyond := [cap for cap in caps if not 0 <= cap <= 1]:
        raise UsageError(f"--cap {name_of(beyond[0])} on the share treated; give a number from 0 to 1")


def _read(table: Path, participants: Path | None, outcome: str | None, trial: str | None, week: float | None) -> _Inputs:
    """TABLE is a draws table if it has its columns, else one row a patient."""
    from causalms.cli.inputs import of_trial, read, read_draws, table_at
    from causalms.tables import net2_column, one_week

    rows = read(table_at(table))
    if not {"query", "arm_randomised"} <= set(rows.columns):
        if outcome is None:
            raise UsageError(f"{table}: name the column of the outcome with --outcome")
        return _Inputs(of_trial(rows, trial, str(table)), outcome, str(table))
    if participants is None:
        raise UsageError(f"{table}: is a draws table without covariates; name the trial with --participants")
    people = read(table_at(participants))
    draws = of_trial(read_draws(str(table)), trial, str(table))
    week = one_week(draws, week, str(table))
    people = of_trial(people, trial, str(participants))
    return _Inputs(people, net2_column(int(week), outcome or "net2_lesions"), str(participants), draws, week, outcome)


def _given_model(inputs: _Inputs) -> _Inputs:
    """The draws as of a model without error."""
    from causalms.effects import taking_the_model_for_true

    if inputs.draws is None:
        raise UsageError("--given-model is about simulated outcomes; leave it out for an observed table")
    return replace(inputs, draws=taking_the_model_for_true(inputs.draws))


def _forests(by: tuple[str, ...], inputs: _Inputs, options: dict[str, Any], beside_observed: bool) -> list[Any]:
    """Simulated effects by subgroup, the observed ones, or both."""
    from causalms.subgroups import SubgroupAnalysis, forest, simulated_forest

    forests: list[Any] = []
    if inputs.draws is not None:
        shared = {key: options[key] for key in ("reference", "measure", "level")}
        forests.append(
            simulated_forest(
                inputs.draws,
                inputs.people,
                by,
                outcome=inputs.simulated_outcome,
                week=inputs.week,
                source=inputs.source,
                **shared,
            )
        )
    if beside_observed or inputs.draws is None:
        people = _of_arms(inputs, forests, options).people
        direct = {key: options[key] for key in ("reference", "arm", "measure", "level")}
        method = SubgroupAnalysis(**{key: value for key, value in options.items() if key not in direct})
        name = Path(inputs.source).name
        forests.append(forest(people, by, outcome=inputs.outcome, method=method, source=name, **direct))
    return forests


def _of_arms(inputs: _Inputs, forests: list[Any], options: dict[str, Any]) -> _Inputs:
    """Patients of the arms that were simulated; all where none was."""
    people = inputs.people
    if inputs.draws is not None and forests:
        people = people[people[options["arm"]].isin([options["reference"], *forests[0].table["arm"].unique()])]
    return replace(inputs, people=people)


def _shrunken(by: tuple[str, ...], inputs: _Inputs, options: dict[str, Any], prior: str, seed: int) -> Any:
    """Effects by subgroup shrunk by a Bayesian global model."""
    from causalms.subgroups import ShrinkageModel, shrink

    model = ShrinkageModel(prior, seed=seed, progress=sys.stderr.isatty())
    same = {key: options[key] for key in ("reference", "arm", "exposure", "level")}
    return shrink(inputs.people, by, outcome=inputs.outcome, model=model, **same)


def _benefit(inputs: _Inputs, options: dict[str, Any], policies: Policies, seed: int) -> Any:
    from causalms.benefit import Inference, who_benefits

    return who_benefits(
        inputs.people,
        outcome=inputs.outcome,
        reference=options["reference"],
        draws=inputs.draws,
        covariates=options["adjust"],
        week=inputs.week,
        arm=options["arm"],
        policies=policies,
        inference=Inference(level=options["level"], seed=seed),
    )


def _write(tables: list[Any], path: Path | None) -> None:
    import pandas as pd

    from causalms.tables import write_table

    if path is not None and tables:
        write_table(pd.concat(tables, ignore_index=True), path)


def _benefit_page(results: Any) -> str:
    """Who benefits in plain text; bands stand in the file."""
    text = []
    for (who, arm, reference), rows in results.groupby(["population", "arm", "reference"], sort=False):
        text.append(f"who benefits from {arm} against {reference}: {who}, {fixed(rows['n'].max(), 0)} patients")
        for row in rows[~rows["measure"].str.endswith("band")].to_dict("records"):
            part = "" if row["subgroup"] == "all" else f", {row['subgroup']}"
            against = "; p against 1" if row["estimand"].endswith("against 1") else ""
            p = f"{row['p_value']:>9.4f}{against}" if row["p_value"] == row["p_value"] else ""
            known = row["lower"] == row["lower"]
            interval = f"{fixed(row['lower'], 3)} to {fixed(row['upper'], 3)}" if known else "no interval"
            text.append(f"  {row['measure'] + part:66.66s}{row['estimate']:>9.3f}{interval:>20s}{p}")
    return "\n".join(text)
