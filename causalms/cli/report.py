"""``causalms report``: one self-contained HTML page from results tables."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from causalms.cli.paths import CaptionedPath, InputPath, OutputPath, Verb
from causalms.errors import UsageError


@click.command(cls=Verb)
@click.argument("out", metavar="OUT.html", type=OutputPath((".html", ".htm"), what="a report is written"))
@click.argument("tables", metavar="RESULTS...", nargs=-1, required=True, type=InputPath())
@click.option("--title", help="[default: Treatment effects, or Simulated treatment effects]")
@click.option("--credibility", type=InputPath(), help="Plan written before the results (YAML), judged line by line.")
@click.option("--table", "plain", multiple=True, type=InputPath(), help="Any other table; may be repeated.")
@click.option(
    "--picture",
    multiple=True,
    type=CaptionedPath(),
    metavar="FILE=CAPTION",
    help="Picture of an analysis (.png, .svg); may be repeated.",
)
@click.option(
    "--recompute",
    multiple=True,
    type=InputPath(),
    help="Patients and contrasts that `causalms effects --recompute` wrote: the page computes them again; may be repeated.",
)
@click.option(
    "--short",
    type=OutputPath((".pdf", ".docx"), what="the short version is written"),
    help="Also the short version: two pages, .pdf or .docx.",
)
def command(
    out: Path,
    tables: tuple[Path, ...],
    title: str | None,
    credibility: Path | None,
    plain: tuple[Path, ...],
    picture: tuple[str, ...],
    recompute: tuple[Path, ...],
    short: Path | None,
) -> None:
    """Write one HTML report of RESULTS tables (.csv or .parquet, in the results schema); it opens offline and prints.

    A forest plot is drawn for every table with ratios or differences of arms; the rows of `causalms subgroups --benefit` become
    curves of the effect among the most promising patients, with their bands. The page ends with the methods in words,
    what is assumed, and how to make it again. The tables .diagnostics.csv and .bounds.csv of `causalms query` are drawn: the
    page that a counterfactual run is judged by, and its probabilities inside bounds that hold under every coupling.

    \b
    Example:
      causalms report report.html effects.csv agreement.csv --title "Active drug against placebo"
      causalms report report.html effects.csv --short report.pdf
      causalms report report.html effects.csv --recompute patients.json
      causalms report report.html calibration.csv --table places.csv --picture "map.png=Expected and observed lesions"
    """  # noqa: D301
    from causalms.report import write_report

    words = ["causalms", *sys.argv[1:]] if sys.argv[1:2] == ["report"] else ["causalms", "report", out.name]
    report = write_report(
        tables,
        out,
        title=title,
        credibility=credibility,
        tables=plain,
        pictures=dict(_named(text) for text in picture),
        commands=[" ".join(words)],
        recompute=recompute,
        short=short,
    )
    click.echo(f"{out}: {len(report.results)} results of {len(tables)} tables")


def _named(text: str) -> tuple[Path, str]:
    """A picture and its caption, which is also what is read out where it cannot be seen."""
    path, _, caption = text.partition("=")
    if not (path and caption):
        raise UsageError(f"--picture {text}: say what it shows, as in 'map.png=Expected and observed lesions'")
    return Path(path), caption
