"""``causalms calibrate``: predicted counts judged by the counts of the arm each patient was randomised to."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("draws", type=click.Path(dir_okay=False))
@click.option("--observed", required=True, type=click.Path(), help="BIDS folder or participants table with observed counts.")
@click.option("--by", multiple=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; may be given again.')
@click.option("--week", type=float, help="Visit week; needed when the draws hold several.")
@click.option("--outcome", default="net2_lesions", show_default=True, help="Count that is judged, also by region.")
@click.option("--level", default=0.95, show_default=True, help="Level of intervals and bands.")
@click.option("--bins", default=10, show_default=True, help="Bins of the PIT histogram.")
@click.option("--repetitions", default=999, show_default=True, help="Simulated trials for bands and p-values.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(), help="Results table (.csv, .tsv or .parquet).")
@click.option("--tables", type=click.Path(file_okay=False), help="New folder for pit, reliability, rootogram, coverage (.csv).")
def command(
    draws: str,
    observed: str,
    by: tuple[str, ...],
    week: float | None,
    outcome: str,
    level: float,
    bins: int,
    repetitions: int,
    seed: int,
    out: str | None,
    tables: str | None,
) -> None:
    """Judge predicted lesion counts by the counts observed in the arm as randomised.

    DRAWS is a draws table, sampled or expected.  Prints one line a group; --out writes every statistic.

    \b
    Example:
      causalms calibrate draws.parquet --observed trial/ --by arm --out calibration.csv
    """  # noqa: D301
    from causalms.calibration import assess, pair
    from causalms.commands.judged import read_draws, read_observed
    from causalms.files import whole_folder
    from causalms.tables import write_table

    pairs = pair(read_draws(draws), read_observed(observed), week, outcome)
    found = assess(pairs, by, level, bins, repetitions, seed, progress=sys.stderr.isatty())
    if tables:
        with whole_folder(tables) as folder:
            for name in ("pit", "reliability", "rootogram", "coverage"):
                write_table(getattr(found, name), folder / f"{name}.csv")
    if out:
        write_table(found.results, out)
    missing = f"; {pairs.left_out} left out, their count at week {pairs.week:g} is missing" if pairs.left_out else ""
    click.echo(f"{pairs.n} patients at week {pairs.week:g}{missing}")
    click.echo(_summary(found))


def _summary(found: object) -> str:
    """One line a group: means, calibration p-values, coverage."""
    heads = ("n", "obs/pred", "p PIT", "CRPS", "p CRPS", "Brier", "p rel.", "in 90%")
    lines = [f"{'group':32s}" + "".join(f"{head:>9s}" for head in heads)]
    for group, rows in found.results.groupby("subgroup", sort=False):  # type: ignore[attr-defined]
        by = rows.set_index("measure")
        cells = (
            f"{rows['n'].iloc[0]:.0f}",
            f"{by.loc['observed / predicted mean count', 'estimate']:.3f}",
            f"{by.loc['largest deviation of the PIT histogram from 1', 'p_value']:.3f}",
            f"{by.loc['CRPS', 'estimate']:.3f}",
            f"{by.loc['CRPS', 'p_value']:.3f}",
            f"{by.loc['Brier score of activity', 'estimate']:.3f}",
            f"{by.loc['miscalibration of activity (Brier)', 'p_value']:.3f}",
            f"{by.loc['coverage of 90% prediction intervals', 'estimate']:.1%}",
        )
        lines.append(f"{group:32.32s}" + "".join(f"{cell:>9s}" for cell in cells))
    return "\n".join(lines)
