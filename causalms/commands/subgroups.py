"""``causalms subgroups``: treatment effects in prespecified subgroups, observed or simulated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from causalms.commands.effects import command as effects_command

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
@click.option("--by", multiple=True, required=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; repeat it.')
@click.option("--outcome", help="Column of the outcome; for draws net2_lesions unless given.")
@click.option("--participants", type=click.Path(path_type=Path), help="For draws: BIDS folder or table with the covariates.")
@click.option("--beside-observed", is_flag=True, help="For draws: also the randomised comparison of the participants.")
@click.option(
    "--shrinkage",
    type=click.Choice(("half-normal", "horseshoe")),
    help="Also effects shrunk by a Bayesian global model (observed counts, rate ratio).",
)
@click.option("--seed", default=0, show_default=True, help="Of the shrinkage draws.")
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
    seed: int,
    trial: str | None,
    week: float | None,
    out: Path | None,
    forest_out: Path | None,
    **options: Any,
) -> None:
    """Estimate treatment effects by subgroup from TABLE: one row a patient, or a draws table with --participants.

    \b
    Example:
      causalms subgroups participants.tsv --by "gd_lesions > 0" --by "age >= 40" \\
        --outcome net2_lesions_week48 --reference placebo --trial DEFINE --out subgroups.csv
      causalms subgroups draws.parquet --participants trial/ --by "gd_lesions > 0" --reference placebo
    """  # noqa: D301
    import pandas as pd

    from causalms.commands.judged import read_draws, read_observed
    from causalms.errors import UsageError
    from causalms.subgroups import forest, simulated_forest
    from causalms.tables import net2_column, read_table, write_table

    rows = read_table(table)
    drawn = {"query", "arm_randomised"} <= set(rows.columns)
    found: list[Any] = []
    if drawn:
        if participants is None:
            raise UsageError(f"{table}: is a draws table without covariates; name the trial with --participants")
        draws, people = _of_trial(read_draws(str(table)), trial), read_observed(str(participants))
        shared = {key: options[key] for key in ("reference", "measure", "level")}
        found.append(simulated_forest(draws, people, by, outcome=outcome, week=week, **shared))
        at = int(week if week is not None else draws["visit_week"].iloc[0])
        arms = [options["reference"], *found[0].table["arm"].unique()]
        seen = _of_trial(people, trial)
        seen, outcome = seen[seen[options["arm"]].isin(arms)], net2_column(at, outcome or "net2_lesions")
    else:
        if outcome is None:
            raise UsageError(f"{table}: name the column of the outcome with --outcome")
        seen = _of_trial(rows, trial)
    if beside_observed or not drawn:
        found.append(forest(seen, by, outcome=outcome, source=table.name, **options))
    if shrinkage is not None:
        if options["measure"] != "rate-ratio":
            raise UsageError(f"--shrinkage is of rate ratios, not of a {options['measure']}")
        from causalms.subgroups.shrinkage import shrink

        same = {key: options[key] for key in ("reference", "arm", "exposure", "level")}
        found.append(shrink(seen, by, outcome=outcome, prior=shrinkage, seed=seed, progress=sys.stderr.isatty(), **same))
    if out is not None:
        write_table(pd.concat([one.results for one in found], ignore_index=True), out)
    lines = pd.concat([one.table for one in found], ignore_index=True)
    if forest_out is not None:
        write_table(lines, forest_out)
    click.echo(_page(lines))


def _of_trial(rows: Any, trial: str | None) -> Any:
    from causalms.errors import InputError

    if trial is None:
        return rows
    if "trial" not in rows or trial not in set(rows["trial"].astype(str)):
        found = ", ".join(sorted(rows["trial"].astype(str).unique())) if "trial" in rows else "no column of trials"
        raise InputError(f"--trial {trial!r}: not in the table; trials found: {found}")
    return rows[rows["trial"].astype(str) == trial].reset_index(drop=True)


def _page(lines: Any) -> str:
    """A forest in plain text: one line a subgroup, the interaction p at the first line of its factor."""
    text = []
    for (source, arm), rows in lines.groupby(["source", "arm"], sort=False):
        first = rows.iloc[0]
        origin = "" if first["randomised"] is not False and first["randomised"] == 1 else "; not randomised against each other"
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
