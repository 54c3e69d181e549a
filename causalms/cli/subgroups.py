"""``causalms subgroups``: treatment effects in prespecified subgroups, observed or simulated."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from causalms.cli.effects import command as effects_command
from causalms.errors import InputError, UsageError

_ANALYSIS = {
    *("arm", "reference", "exposure", "adjust", "interaction", "strata", "prognostic", "cluster", "measure", "estimator"),
    *("working_model", "variance", "rate", "randomization", "level"),
}


def _as_for_effects(function: Any) -> Any:
    """Take over the options of ``causalms effects`` that say how one trial is analysed."""
    for option in reversed([found for found in effects_command.params if isinstance(found, click.Option)]):
        if option.name in _ANALYSIS:
            function.__click_params__ = [*getattr(function, "__click_params__", []), option]
    return function


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--by", multiple=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; repeat it.')
@click.option("--outcome", help="Column of the outcome; for draws net2_lesions unless given.")
@click.option("--participants", type=click.Path(path_type=Path), help="For draws: BIDS folder or table with the covariates.")
@click.option("--beside-observed", is_flag=True, help="For draws: also the randomised comparison of the participants.")
@click.option(
    "--shrinkage",
    type=click.Choice(("half-normal", "horseshoe")),
    help="Also effects shrunk by a Bayesian global model (observed counts, rate ratio).",
)
@click.option(
    "--benefit",
    "benefit_out",
    type=click.Path(path_type=Path),
    help="Judge predicted benefit on the randomised arms and write the results here; see below.",
)
@click.option("--cap", "caps", multiple=True, type=float, help="Largest share given the drug; repeat it.  [default: 1 and 0.3]")
@click.option("--least-benefit", default=0.0, show_default=True, help="Predicted lesions spared below which nobody is treated.")
@click.option("--groups", default=4, show_default=True, help="Groups of predicted benefit.")
@click.option("--seed", default=0, show_default=True, help="Of shrinkage, of folds and of redrawn trials.")
@click.option("--trial", help="Only the patients of this trial.")
@click.option("--week", type=float, help="For draws of several visits: the visit week.")
@click.option("--out", type=click.Path(path_type=Path), help="Results table (.csv, .tsv or .parquet).")
@click.option("--forest", "forest_out", type=click.Path(path_type=Path), help="Forest table, with events and interaction p.")
@_as_for_effects
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
    from causalms.cli.inputs import of_trial, read_draws, table_at, writable
    from causalms.tables import net2_column, read_table

    _asked_something(by, benefit_out, shrinkage, caps)
    for option, path in (("--out", out), ("--forest", forest_out), ("--benefit", benefit_out)):
        writable(option, path)
    rows = read_table(table_at(table))
    drawn = {"query", "arm_randomised"} <= set(rows.columns)
    draws, at = None, week
    if drawn:
        if participants is None:
            raise UsageError(f"{table}: is a draws table without covariates; name the trial with --participants")
        draws, people = read_draws(str(table)), read_table(table_at(participants))
        draws = of_trial(draws, trial, str(table))
        at = _week(draws, week, str(table))
        observed = net2_column(int(at), outcome or "net2_lesions")
        seen, source = of_trial(people, trial, str(participants)), str(participants)
    else:
        if outcome is None:
            raise UsageError(f"{table}: name the column of the outcome with --outcome")
        seen, source, observed = of_trial(rows, trial, str(table)), str(table), outcome
    asked = _Asked(by, observed, source, seed, options)
    found = _forests(asked, seen, draws, at, outcome, beside_observed, shrinkage)
    _write([one.results for one in found], out)
    _write([one.table for one in found], forest_out)
    text = [_page(_joined([one.table for one in found]))] if found else []
    if benefit_out is not None:
        results = _benefit(asked, seen, draws, at, caps or (1.0, 0.3), least_benefit, groups)
        _write([results], benefit_out)
        text.append(_benefit_page(results))
    click.echo("\n".join(text))


@dataclass(frozen=True)
class _Asked:
    """What the parts of the verb share."""

    by: tuple[str, ...]
    outcome: str
    source: str
    seed: int
    options: dict[str, Any]


def _asked_something(by: tuple[str, ...], benefit_out: Path | None, shrinkage: str | None, caps: tuple[float, ...]) -> None:
    if not by and benefit_out is None:
        raise UsageError("nothing is asked: name subgroups with --by, or a file for who benefits with --benefit")
    if shrinkage and not by:
        raise UsageError("--shrinkage shrinks subgroup effects; name subgroups with --by")
    if caps and benefit_out is None:
        raise UsageError("--cap belongs to --benefit; name its file or leave the cap out")
    if beyond := [cap for cap in caps if not 0 <= cap <= 1]:
        raise UsageError(f"--cap {beyond[0]:g} on the share treated; give a number from 0 to 1")


def _forests(
    asked: _Asked,
    seen: Any,
    draws: Any,
    week: float | None,
    simulated: str | None,
    beside_observed: bool,
    shrinkage: str | None,
) -> list[Any]:
    """Observed, simulated and shrunken effects by subgroup."""
    from causalms.subgroups import forest, simulated_forest

    options = asked.options
    found: list[Any] = []
    if not asked.by:
        return found
    if draws is not None:
        shared = {key: options[key] for key in ("reference", "measure", "level")}
        found.append(simulated_forest(draws, seen, asked.by, outcome=simulated, week=week, source=asked.source, **shared))
        seen = seen[seen[options["arm"]].isin([options["reference"], *found[0].table["arm"].unique()])]
    if beside_observed or draws is None:
        found.append(forest(seen, asked.by, outcome=asked.outcome, source=Path(asked.source).name, **options))
    if shrinkage is not None:
        if options["measure"] != "rate-ratio":
            raise UsageError(f"--shrinkage is of rate ratios, not of a {options['measure']}")
        from causalms.subgroups import shrink

        same = {key: options[key] for key in ("reference", "arm", "exposure", "level")}
        progress = sys.stderr.isatty()
        found.append(shrink(seen, asked.by, outcome=asked.outcome, prior=shrinkage, seed=asked.seed, progress=progress, **same))
    return found


def _benefit(
    asked: _Asked, seen: Any, draws: Any, week: float | None, caps: tuple[float, ...], least_benefit: float, groups: int
) -> Any:
    from causalms.benefit import who_benefits

    options = asked.options
    if draws is None and not options["adjust"]:
        raise UsageError(
            "--benefit without draws needs the covariates of its cross-fitted prediction: --adjust 'age + gd_lesions'"
        )
    return who_benefits(
        seen,
        outcome=asked.outcome,
        reference=options["reference"],
        draws=draws,
        covariates=options["adjust"],
        week=week,
        arm=options["arm"],
        caps=caps,
        least_benefit=least_benefit,
        groups=groups,
        level=options["level"],
        seed=asked.seed,
    )


def _week(draws: Any, week: float | None, source: str) -> float:
    """The visit that is meant; refused where it cannot be told."""
    weeks = sorted(draws["visit_week"].unique())
    shown = ", ".join(f"{at:g}" for at in weeks)
    if week is None and len(weeks) > 1:
        raise UsageError(f"{source}: holds weeks {shown}; choose one with --week")
    if week is not None and week not in weeks:
        raise InputError(f"{source}: no draws at week {week:g}; weeks are {shown}")
    return float(weeks[0] if week is None else week)


def _joined(tables: list[Any]) -> Any:
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def _write(tables: list[Any], path: Path | None) -> None:
    from causalms.tables import write_table

    if path is not None and tables:
        write_table(_joined(tables), path)


def _benefit_page(results: Any) -> str:
    """Who benefits in plain text; bands stand in the file."""
    text = []
    for (who, arm, reference), rows in results.groupby(["population", "arm", "reference"], sort=False):
        text.append(f"who benefits from {arm} against {reference}: {who}, {rows['n'].max():.0f} patients")
        for row in rows[~rows["measure"].str.endswith("band")].to_dict("records"):
            part = "" if row["subgroup"] == "all" else f", {row['subgroup']}"
            against = "; p against 1" if row["estimand"].endswith("against 1") else ""
            p = f"{row['p_value']:>9.4f}{against}" if row["p_value"] == row["p_value"] else ""
            known = row["lower"] == row["lower"]
            interval = f"{row['lower']:.3f} to {row['upper']:.3f}" if known else "no interval"
            text.append(f"  {row['measure'] + part:66.66s}{row['estimate']:>9.3f}{interval:>20s}{p}")
    return "\n".join(text)


def _page(lines: Any) -> str:
    """A forest in plain text: one line a subgroup, the interaction p at the first line of its factor."""
    text = []
    for (source, arm), rows in lines.groupby(["source", "arm"], sort=False):
        first = rows.iloc[0]
        origin = "" if source == "simulated" or first["randomised"] == 1 else "; not randomised against each other"
        head = f"{source}: {arm} against {first['reference']}, {first['measure']}"
        text.append(f"{head} ({first['level']:.0%} interval{origin})")
        text.append(
            f"  {'subgroup':28s}{'n':>11s}{'events':>13s}{'estimate':>10s}{'interval':>18s}{'interaction p':>15s}{'Holm':>8s}"
        )
        seen: set[str] = set()
        for row in rows.to_dict("records"):
            told = row["factor"] != "all" and row["factor"] not in seen
            seen.add(row["factor"])
            text.append(_line(row, told))
    return "\n".join(text)


def _line(row: dict[str, Any], told: bool) -> str:
    import math

    n = "" if math.isnan(row["n"]) else f"{row['n']:.0f}/{row['n_reference']:.0f}"
    events = "" if math.isnan(row["events"]) else f"{row['events']:.6g}/{row['events_reference']:.6g}"
    if isinstance(row["note"], str) and row["note"]:
        return f"  {row['subgroup']:28.28s}{n:>11s}{events:>13s}  not estimable: {row['note']}"
    interval = f"{row['lower']:.3f} to {row['upper']:.3f}"
    p = f"{row['interaction_p']:>15.4f}{row['interaction_p_holm']:>8.4f}" if told and not math.isnan(row["interaction_p"]) else ""
    return f"  {row['subgroup']:28.28s}{n:>11s}{events:>13s}{row['estimate']:>10.3f}{interval:>18s}{p}"
