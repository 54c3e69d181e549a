"""How long a report of 200 figures and 200 tables takes to open in Chromium, beside an empty page opened in the same run.

python -m studies.benchmarks.report_opening --out report_opening.csv

Wall time until the load event depends on what else the machine does; processor seconds of the whole browser do not, so
both are given.
"""

from __future__ import annotations

import base64
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import numpy as np
import pandas as pd

from causalms.report import Report, figures
from causalms.report.style import figure_uri
from causalms.tables import results_table, write_table

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)
TIMER = (
    "<script>addEventListener('load', () => setTimeout(() => { document.documentElement.dataset.load = "
    "performance.timing.loadEventEnd - performance.timing.navigationStart; }, 0));</script>"
)


def drawn(rng: np.random.Generator) -> list[str]:
    """Data addresses of figures of six kinds."""
    band = {"lower": 0.7, "upper": 1.3}
    edges = np.arange(10) / 10
    pit = pd.DataFrame({"lower_edge": edges, "upper_edge": edges + 0.1, "density": rng.uniform(0.8, 1.2, 10), **band})
    counts = pd.DataFrame({"count": range(15), "observed": 15 - np.arange(15), "expected": 15.5 - np.arange(15)})
    forest = pd.DataFrame({"arm": [f"arm {i}" for i in range(20)], "reference": "placebo", "subgroup": None, "analysis": "a"})
    forest = forest.assign(measure="rate ratio", estimate=0.6, lower=0.4, upper=0.9, randomised=True)
    chance = np.linspace(0.05, 0.95, 41)
    curve = pd.DataFrame({"forecast": chance, "frequency": chance, "lower": chance - 0.05, "upper": chance + 0.05, "n": 5})
    share = pd.DataFrame({"arm": np.repeat(["placebo", "ocrelizumab"], 15), "count": [*range(15)] * 2, "share": 1 / 15})
    made = [
        figures.pit_histogram(pit),
        figures.rootogram(counts.assign(lower=counts["expected"] * 0.5, upper=counts["expected"] * 1.5)),
        figures.effect_forest(forest),
        figures.reliability(curve),
        figures.count_distribution(share),
        figures.coverage(pd.DataFrame({"level": [0.5, 0.8, 0.9], "coverage": [0.52, 0.83, 0.92]})),
    ]
    return [figure_uri(figure) for figure in made]


def distinct(addresses: list[str]) -> Iterator[str]:
    """The figures over and over, each told apart by a comment, so that the browser cannot show one from another's memory."""
    number = 0
    while True:
        kind, data = addresses[number % len(addresses)].split(",", 1)
        yield f"{kind},{base64.b64encode(base64.b64decode(data) + f'<!--{number}-->'.encode()).decode()}"
        number += 1


def large_report(path: Path, count: int) -> None:
    """A report of ``count`` figures and as many tables, half of them results tables of ten rows."""
    rng = np.random.default_rng(1)
    row = {"arm": "ocrelizumab", "reference": "placebo", "measure": "rate ratio", "lower": 0.4, "upper": 0.6, "level": 0.95}
    row |= {"estimand": "Ratio of mean counts over 96 weeks.", "estimator": "g-computation", "variance": "influence function"}
    rows = [
        {**row, "analysis": f"trial {i}", "estimate": rng.uniform(0.4, 0.6), "randomised": i % 2 == 0, "rung": 2}
        for i in range(10)
    ]
    results, plain = results_table(rows), pd.DataFrame(rng.normal(size=(10, 6)), columns=list("abcdef"))
    report = Report("Opening time")
    blank = figures.coverage(pd.DataFrame({"level": [0.5], "coverage": [0.5]}))
    with mock.patch("causalms.report.style.figure_uri", side_effect=distinct(drawn(rng))):
        for number in range(count):
            if number % 10 == 0:
                report.add_section(f"Section {number // 10 + 1}")
            report.add_figure(blank, f"Figure of number {number}", alt="one of many")
            if number % 2:
                report.add_table(plain, f"Table of number {number}")
            else:
                report.add_results(results, f"Results of number {number}")
    report.write(path)


def opened(browser: str, page: Path) -> tuple[float, float, float]:
    """Milliseconds to the load event as the page saw them; wall and processor seconds until the first screen is painted."""
    match = re.search(r'data-load="(\d+)"', _run(browser, page, "--dump-dom"))
    # Writing the whole document out again costs more than opening it, so time is taken of a run that paints instead.
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _run(browser, page, f"--screenshot={page.with_suffix('.png')}")
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(match[1]) if match else float("nan"), wall, processor


def _run(browser: str, page: Path, what: str) -> str:
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", what, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--count", default=200, show_default=True, help="Figures, and tables.")
@click.option("--times", default=3, show_default=True, help="How often each page is opened, in turn.")
def main(out: Path, count: int, times: int) -> None:
    """Open both pages in turn and write medians."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise click.ClickException("no chromium and no google-chrome was found; install one of them")
    with tempfile.TemporaryDirectory() as folder:
        pages = {"empty page": Path(folder) / "empty.html", f"{count} figures and {count} tables": Path(folder) / "large.html"}
        first, second = pages.values()
        first.write_text("<!DOCTYPE html><html><body></body></html>")
        large_report(second, count)
        for page in pages.values():
            page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{TIMER}</body>"), encoding="utf-8")
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pages}
        for _ in range(times):
            for name, page in pages.items():
                taken[name].append(opened(browser, page))
        rows = []
        for name, page in pages.items():
            load, wall, processor = np.median(taken[name], axis=0)
            size = page.stat().st_size / 1e6
            rows.append({"page": name, "megabytes": size, "load_event_s": load / 1000, "wall_s": wall, "processor_s": processor})
    table = pd.DataFrame(rows).round(3)
    write_table(table, out)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
