"""``causalms report``: one self-contained HTML page from results tables."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click


@click.command()
@click.argument("out", metavar="OUT.html", type=click.Path(path_type=Path))
@click.argument("tables", metavar="RESULTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--title", default="Simulated treatment effects", show_default=True)
@click.option(
    "--credibility", type=click.Path(path_type=Path), help="Plan written before the results (YAML), judged line by line."
)
def command(out: Path, tables: tuple[Path, ...], title: str, credibility: Path | None) -> None:
    """Write one HTML report of RESULTS tables (.csv or .parquet, in the results schema); it opens offline and prints.

    A forest plot is drawn for every table with ratios or differences of arms. The page ends with the methods in words,
    what is assumed, and how to make it again.

    \b
    Example:
      causalms report report.html effects.csv agreement.csv --title "Ocrelizumab against placebo"
    """  # noqa: D301
    from causalms.errors import UsageError
    from causalms.report import Report, figures, read_credibility
    from causalms.tables import read_table, validate

    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"{out}: a report ends in .html; name it so")
    plan = read_credibility(credibility) if credibility else None
    loaded = [(path, validate(read_table(path), "results", str(path))) for path in tables]
    digests = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in tables]
    words = ["causalms", *sys.argv[1:]] if sys.argv[1:2] == ["report"] else ["causalms", "report", out.name]
    report = Report(title, "Not for clinical use.", commands=[" ".join(words)], credibility=plan, inputs=digests)
    for path, table in loaded:
        report.add_section(path.stem.replace("_", " "))
        contrasts = table[table["reference"].notna() & table["estimate"].notna() & table["lower"].notna()]
        for measure, rows in contrasts.groupby("measure", sort=False):
            if len(rows) > 1 and "interaction" not in str(measure):
                report.add_figure(figures.effect_forest(rows), f"{str(measure).capitalize()}, {path.name}")
        report.add_results(table, f"All rows of {path.name}")
    report.write(out)
    click.echo(f"{out}: {sum(len(table) for _, table in loaded)} results of {len(loaded)} tables")
