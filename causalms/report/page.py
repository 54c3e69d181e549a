"""The report of a set of results tables: each drawn by what it holds, and written as one page."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalms.errors import UsageError, named_arguments
from causalms.report import figures
from causalms.report.credibility import CredibilityPlan, read_credibility
from causalms.report.document import Report
from causalms.report.recomputation import RECOMPUTE, read_recomputation
from causalms.report.rows import each_row, is_simulated
from causalms.report.short import SUFFIXES as SHORT_SUFFIXES
from causalms.tables import read_table, validate

File = str | os.PathLike[str]


@named_arguments
def write_report(
    results: Sequence[File] | Mapping[str, pd.DataFrame],
    out: File,
    *,
    title: str | None = None,
    credibility: File | CredibilityPlan | None = None,
    tables: Sequence[File] | Mapping[str, pd.DataFrame] = (),
    pictures: Mapping[File, str] | None = None,
    commands: Sequence[str] = (),
    recompute: Sequence[File] | Mapping[str, Mapping[str, Any]] = (),
    short: File | None = None,
) -> Report:
    """Write results tables as one HTML page that opens offline.

    Every table becomes a section: a forest plot for each measure of several contrasts, curves of the effect among the most
    promising patients for the rows of :func:`causalms.who_benefits`, the page of diagnostics and the bounds of a counterfactual
    run, and every row with its estimand. The methods in words, what is assumed and the checksums of the files close the page.

    Parameters
    ----------
    results : sequence of paths, or mapping of title to DataFrame
        Results tables (:data:`causalms.tables.RESULTS_COLUMNS`), diagnostics or bounds.
    out : path-like
        Ends in .html.
    title : str, optional
        Default: "Treatment effects", or "Simulated treatment effects" where a row is simulated.
    credibility : path-like or CredibilityPlan, optional
        Plan written before the results (YAML), judged line by line: :func:`causalms.report.read_credibility`.
    tables : sequence of paths, or mapping of caption to DataFrame
        Any other tables.
    pictures : mapping of path to str, optional
        Pictures of an analysis (.png, .svg), each with what it shows.
    commands : sequence of str
        The command lines that made the results.
    recompute : sequence of paths, or mapping of name to dict
        What ``causalms effects --recompute`` wrote (:func:`causalms.effects.recomputation`): the page carries these
        patients, without identifiers, and computes their effects again at a button.
    short : path-like, optional
        Also write the short version, two pages, as .pdf or .docx.

    Returns
    -------
    Report
        As written.

    Raises
    ------
    UsageError
        If ``out`` does not end in .html, or ``short`` in .pdf or .docx.
    InputError
        If a file cannot be read, or is no results table; nothing is written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from causalms.tables import ResultRow, results_table
    >>> row = ResultRow(analysis="primary", arm="drug", reference="placebo", measure="rate ratio", estimate=0.5, lower=0.4,
    ...                 upper=0.6, level=0.95, randomised=True, rung=2)
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "report.html"
    >>> report = write_report({"effects": results_table([row])}, out, title="Drug against placebo")
    >>> len(report.results), "drug against placebo" in out.read_text()
    (1, True)
    """
    if Path(out).suffix not in (".html", ".htm"):
        raise UsageError(f"{out}: a report ends in .html; name it so")
    if short is not None and Path(short).suffix not in SHORT_SUFFIXES:
        raise UsageError(f"{short}: the short version ends in {' or '.join(SHORT_SUFFIXES)}; name it so")
    plan = credibility if isinstance(credibility, CredibilityPlan) or credibility is None else read_credibility(credibility)
    pictures = pictures or {}
    read = _read(results)
    drawn = {name: pages for name, table in read.items() if (pages := figures.counterfactual_pages(table, name))}
    checked = {name: table if name in drawn else validate(table, "results", name) for name, table in read.items()}
    others = _read(tables)
    carried = recompute if isinstance(recompute, Mapping) else {str(path): read_recomputation(path) for path in recompute}
    results_tables = [table for name, table in checked.items() if name not in drawn]
    simulated = any(is_simulated(row) for table in results_tables for row in each_row(table))
    report = Report(
        title or ("Simulated treatment effects" if simulated else "Treatment effects"),
        "Not for clinical use.",
        commands=list(commands),
        credibility=plan,
        inputs=_digests([results, tables, pictures, recompute]),
    )
    for name, table in checked.items():
        file = Path(name)
        report.add_section(file.stem.replace("_", " "))
        if name in drawn:
            drawings, behind = drawn[name]
            for figure, caption in drawings:
                report.add_figure(figure, caption)
            report.add_table(behind, f"Rows of {file.name}")
        else:
            _add_effects(report, table, file.name)
    if carried:
        report.add_section("Recompute", RECOMPUTE)
    for name, bundle in carried.items():
        report.add_recomputation(bundle, Path(name).name)
    if others or pictures:
        report.add_section("Other tables and pictures")
    for name, table in others.items():
        report.add_table(table, Path(name).name)
    for path, caption in pictures.items():
        report.add_image(path, caption, alt=caption)
    if short is not None:
        report.write_short(short)
    report.write(out)
    return report


def _read(tables: Sequence[File] | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables by name; those given as files are read, and named by their path."""
    if isinstance(tables, Mapping):
        return dict(tables)
    return {str(path): read_table(path) for path in tables}


def _digests(groups: Sequence[Sequence[File] | Mapping[str, Any] | Mapping[File, str]]) -> list[tuple[str, str]]:
    """Name and SHA-256 of every file among what was given."""
    paths = [Path(str(name)) for group in groups for name in group]
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths if path.is_file()]


def _add_effects(report: Report, table: pd.DataFrame, name: str) -> None:
    """List the rows of a results table, the answer first, and draw what they hold."""
    report.add_results(table, f"All rows of {name}")
    for rows in figures.benefit_comparisons(table):
        comparison = f"{rows['arm'].iloc[0]} against {rows['reference'].iloc[0]}, {rows['population'].iloc[0]}"
        report.add_figure(figures.benefit_curves(rows), f"Effect among the most promising patients: {comparison}")
        report.add_figure(figures.benefit_groups(rows), f"Lesions spared by group of predicted benefit: {comparison}")
    effects = table[~table["analysis"].astype(str).str.startswith("benefit")]
    contrasts = effects[effects[["reference", "estimate", "lower"]].notna().all(axis=1)]
    for measure, rows in contrasts.groupby("measure", sort=False):
        if len(rows) > 1 and "interaction" not in str(measure):
            report.add_figure(figures.effect_forest(rows), f"{str(measure).capitalize()}, {name}")
