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
@click.option("--table", "plain", multiple=True, type=click.Path(path_type=Path), help="Any other table; may be repeated.")
@click.option("--picture", multiple=True, metavar="FILE=CAPTION", help="Picture of an analysis (.png, .svg); may be repeated.")
def command(
    out: Path, tables: tuple[Path, ...], title: str, credibility: Path | None, plain: tuple[Path, ...], picture: tuple[str, ...]
) -> None:
    """Write one HTML report of RESULTS tables (.csv or .parquet, in the results schema); it opens offline and prints.

    A forest plot is drawn for every table with ratios or differences of arms; the rows of `causalms subgroups --benefit` become
    curves of the effect among the most promising patients, with their bands. The page ends with the methods in words,
    what is assumed, and how to make it again. The tables .diagnostics.csv and .bounds.csv of `causalms query` are drawn: the
    page that a counterfactual run is judged by, and its probabilities inside bounds that hold under every coupling.

    \b
    Example:
      causalms report report.html effects.csv agreement.csv --title "Ocrelizumab against placebo"
      causalms report report.html calibration.csv --table places.csv --picture "map.png=Expected and observed lesions"
    """  # noqa: D301
    from causalms.errors import UsageError
    from causalms.report import Report, figures, read_credibility
    from causalms.report.figures import benefit_comparisons, counterfactual_pages
    from causalms.tables import read_table, validate

    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"{out}: a report ends in .html; name it so")
    plan = read_credibility(credibility) if credibility else None
    pictures = [_named(text) for text in picture]
    read = [(path, read_table(path)) for path in tables]
    drawn = {path: pages for path, table in read if (pages := counterfactual_pages(table))}
    loaded = [(path, table if path in drawn else validate(table, "results", str(path))) for path, table in read]
    files = [*tables, *plain, *(path for path, _ in pictures)]
    digests = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files if path.is_file()]
    words = ["causalms", *sys.argv[1:]] if sys.argv[1:2] == ["report"] else ["causalms", "report", out.name]
    report = Report(title, "Not for clinical use.", commands=[" ".join(words)], credibility=plan, inputs=digests)
    for path, table in loaded:
        report.add_section(path.stem.replace("_", " "))
        if path in drawn:
            counterfactual, behind = drawn[path]
            for figure, caption in counterfactual:
                report.add_figure(figure, caption)
            report.add_table(behind, f"Rows of {path.name}")
            continue
        for rows in benefit_comparisons(table):
            who = f"{rows['arm'].iloc[0]} against {rows['reference'].iloc[0]}, {rows['population'].iloc[0]}"
            report.add_figure(figures.benefit_curves(rows), f"Effect among the most promising patients: {who}")
            report.add_figure(figures.benefit_groups(rows), f"Lesions spared by group of predicted benefit: {who}")
        table_of_effects = table[~table["analysis"].astype(str).str.startswith("benefit")]
        contrasts = table_of_effects[table_of_effects[["reference", "estimate", "lower"]].notna().all(axis=1)]
        for measure, rows in contrasts.groupby("measure", sort=False):
            if len(rows) > 1 and "interaction" not in str(measure):
                report.add_figure(figures.effect_forest(rows), f"{str(measure).capitalize()}, {path.name}")
        report.add_results(table, f"All rows of {path.name}")
    if plain or pictures:
        report.add_section("Other tables and pictures")
    for path in plain:
        report.add_table(read_table(path), path.name)
    for path, words_of in pictures:
        report.add_image(path, words_of, alt=words_of)
    report.write(out)
    click.echo(f"{out}: {sum(len(t) for path, t in loaded if path not in drawn)} results of {len(loaded)} tables")


def _named(text: str) -> tuple[Path, str]:
    """A picture and its caption, which is also what is read out where it cannot be seen."""
    from causalms.errors import UsageError

    path, _, caption = text.partition("=")
    if not (path and caption):
        raise UsageError(f"--picture {text}: say what it shows, as in 'map.png=Expected and observed lesions'")
    return Path(path), caption
