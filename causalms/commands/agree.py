"""``causalms agree``: simulated effects against the randomised ones of the same trials."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("draws", type=click.Path(dir_okay=False))
@click.option("--observed", required=True, type=click.Path(), help="BIDS folder or participants table with observed counts.")
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
def command(
    draws: str,
    observed: str,
    margin: float,
    measure: str,
    week: float | None,
    reference: str | None,
    level: float,
    out: str | None,
    table_out: str | None,
) -> None:
    """Hold simulated effects in DRAWS against the randomised effects of the observed trials.

    \b
    Example:
      causalms agree draws.parquet --observed trial/ --margin 1.25 --out agreement.csv
    """  # noqa: D301
    from causalms.commands.judged import read_draws, read_observed
    from causalms.evidence import agree
    from causalms.tables import write_table

    found = agree(
        read_draws(draws), read_observed(observed), measure=measure, week=week, reference=reference, margin=margin, level=level
    )
    if out:
        write_table(found.results, out)
    if table_out:
        write_table(found.table, table_out)
    click.echo(_page(found.table))


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
    return f"{row[f'{who}estimate']:.3f} ({row[f'{who}lower']:.3f} to {row[f'{who}upper']:.3f})"


def _yes(row: dict[str, Any], which: str) -> str:
    return "yes" if row[f"{which}_agreement"] else "no"
