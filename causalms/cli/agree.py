"""``causalms agree``: simulated effects against the randomised ones of the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from causalms.errors import UsageError


@click.command()
@click.argument("draws", type=click.Path(dir_okay=False))
@click.option("--observed", type=click.Path(), help="BIDS folder or participants table with observed counts.")
@click.option("--participants", type=click.Path(), help="With --published alone: covariates of the simulated patients.")
@click.option("--published", is_flag=True, help="Also against published contrasts of the six arms, verified numbers only.")
@click.option("--margin", default=1.25, show_default=True, help="Equivalence margin, fixed before the results are seen.")
@click.option(
    "--measure",
    type=click.Choice(("rate-ratio", "risk-ratio", "risk-difference", "odds-ratio")),
    default="rate-ratio",
    show_default=True,
)
@click.option("--week", type=float, help="Visit week; needed when the draws hold several.")
@click.option("--reference", help="Arm to compare with; by default the least effective one of each trial.")
@click.option("--level", default=0.95, show_default=True, help="Level of intervals and agreement.")
@click.option("--out", type=click.Path(), help="Results table (.csv, .tsv or .parquet).")
@click.option("--table", "table_out", type=click.Path(), help="One row a contrast, for the figure (.csv).")
@click.option("--figure", type=click.Path(), help="Simulated against randomised effects (.png, .svg or .pdf).")
def command(
    draws: str,
    observed: str | None,
    participants: str | None,
    published: bool,
    margin: float,
    measure: str,
    week: float | None,
    reference: str | None,
    level: float,
    out: str | None,
    table_out: str | None,
    figure: str | None,
) -> None:
    """Hold simulated effects in DRAWS against the randomised effects of the observed trials.

    --published also compares with published contrasts (verified numbers of the same outcome), the simulated patients weighted
    to the published baseline; with --participants in place of --observed nothing else is needed.

    \b
    Example:
      causalms agree draws.parquet --observed trial/ --margin 1.25 --out agreement.csv --figure agreement.png
      causalms agree draws.parquet --published --participants trial/participants.tsv --out published.csv
    """  # noqa: D301
    import pandas as pd

    from causalms.agreement import agree, agree_published, compare_arms, correlate
    from causalms.cli.inputs import read_draws, table_at, writable
    from causalms.tables import read_table, write_table

    writable("--out", out)
    writable("--table", table_out)
    people = _people(observed, participants, published)
    if figure is not None and (observed is None or Path(figure).suffix not in (".png", ".svg", ".pdf")):
        raise UsageError(f"--figure {figure}: draws randomised contrasts of --observed, as .png, .svg or .pdf")
    simulated = read_draws(str(table_at(draws)))
    seen = read_table(table_at(people))
    results, table, text = [], [], []
    if observed is not None:
        found = agree(
            simulated,
            seen,
            measure=measure,
            week=week,
            reference=reference,
            margin=margin,
            level=level,
            source=draws,
            observed_source=observed,
        )
        results.append(found.results)
        table.append(found.table)
        text += [_page(found.table), *(f"not compared: {told}" for told in found.refused)]
        if len(found.table) >= 3:
            across = correlate(found.table, level)
            results.append(across)
            text += [_across(across), *([SAME_ARM] if found.table.duplicated(["trial", "reference"]).any() else [])]
        if "draw" in simulated and week is None and simulated["visit_week"].nunique() == 1:
            results.append(compare_arms(simulated, seen, week))
        if figure is not None:
            _draw(found.table, level, figure)
    if published:
        printed = agree_published(simulated, seen, margin=margin, level=level, source=draws)
        results.append(printed.results)
        table.append(printed.table)
        text += [_published(printed.table), *(f"not compared: {told}" for told in printed.refused)]
    if out:
        write_table(pd.concat(results, ignore_index=True), out)
    if table_out:
        write_table(pd.concat(table, ignore_index=True), table_out)
    click.echo("\n".join(text))


def _people(observed: str | None, participants: str | None, published: bool) -> str:
    """The table of patients; misuse where it cannot be told what is asked."""
    if observed is not None and participants is not None:
        raise UsageError(
            "--observed and --participants are two names of the patients; give --participants only without --observed"
        )
    if observed is not None:
        return observed
    if not published:
        raise UsageError("nothing to agree with: give the observed trial with --observed, or --published with --participants")
    if participants is None:
        raise UsageError("--published weights patients to published baselines: give their covariates with --participants")
    return participants


def _draw(table: Any, level: float, path: str) -> None:
    """One point a contrast, bars both ways."""
    from causalms.agreement import correlate
    from causalms.files import whole_file
    from causalms.report import figures

    if len(table) >= 3:
        table = table.assign(correlation=correlate(table, level)["estimate"].iloc[0])
    picture = figures.agreement_scatter(table, measure=str(table["measure"].iloc[0]))
    with whole_file(path) as beside:
        picture.savefig(beside, dpi=150)


SAME_ARM = "  contrasts of one trial share its reference arm, so the interval of the correlation is too short"


def _across(lines: Any) -> str:
    """Correlation and concordance."""
    text = []
    for row in lines.to_dict("records"):
        interval = f" ({row['lower']:.3f} to {row['upper']:.3f})" if row["lower"] == row["lower"] else ""
        text.append(f"{row['measure']} over {row['n']:.0f} contrasts: {row['estimate']:.3f}{interval}")
    return "\n".join(text)


def _published(lines: Any) -> str:
    """Two lines a published contrast: effects, and where the number was read."""
    text = ["published contrasts (transported, not randomised here):"]
    for row in lines.to_dict("records"):
        text.append(
            f"{row['label']}: {row['measure']}, week {row['published_week']:g}: published {_interval(row, 'randomised_')}, "
            f"simulated at week {row['week']:g} {_interval(row, 'simulated_')}, ratio {row['ratio']:.3f}"
            + (f" ({row['lower']:.3f} to {row['upper']:.3f})" if row["lower"] == row["lower"] else "; no published interval")
        )
        text.append(f"  matched on: {row['matched_on']} (effective size {row['effective_size']:.0f} of {row['n']})")
        text.append(f"  source: {row['source_title']}; {row['how']}" + ("" if row["target"] else "; UNVERIFIED, no target"))
    return "\n".join(text)


def _page(lines: Any) -> str:
    """One block a contrast."""
    text = []
    for row in lines.to_dict("records"):
        what = "ratio (simulated / randomised)" if row["measure"].endswith("ratio") else "difference (simulated - randomised)"
        text += [
            f"{row['label']}: {row['measure']} at week {row['week']:g}, {row['n']} patients",
            f"  randomised {_interval(row, 'randomised_')}   simulated {_interval(row, 'simulated_')}",
            f"  {what} {row['ratio']:.3f} ({row['lower']:.3f} to {row['upper']:.3f}), p = {row['p_value']:.4f}; "
            f"detectable with 80% power: {row['smallest_detectable']:.2f}",
            f"  agreement: significance {_yes(row, 'significance')}, estimate {_yes(row, 'estimate')}, "
            f"standardised difference {row['standardised_difference']:.2f} {_yes(row, 'difference')}; "
            f"equivalent within {row['margin']:g}: {'yes' if row['equivalent'] else 'not shown'} "
            f"(p = {row['equivalence_p']:.4f})",
        ]
    return "\n".join(text)


def _interval(row: dict[str, Any], who: str) -> str:
    limits = f" ({row[f'{who}lower']:.3f} to {row[f'{who}upper']:.3f})" if row[f"{who}lower"] == row[f"{who}lower"] else ""
    return f"{row[f'{who}estimate']:.3f}{limits}"


def _yes(row: dict[str, Any], which: str) -> str:
    return "yes" if row[f"{which}_agreement"] else "no"
