"""A report: sections, results, tables and figures, written as one HTML file that asks nothing of the network."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import itertools
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from causalms import __version__
from causalms.errors import InputError, UsageError
from causalms.files import whole_file
from causalms.report.credibility import CredibilityPlan, Verdict, judge
from causalms.report.methods import assumptions, estimands, methods_paragraphs, opening_sentences
from causalms.report.recomputation import checked_recomputation, contrast_lines
from causalms.report.rows import (
    RANDOMISED,
    SIMULATED,
    SIMULATED_ACROSS_TRIALS,
    TRANSPORTED,
    each_row,
    number,
    origin_of,
    result_rows,
)
from causalms.tables import RESULTS_COLUMNS, is_ratio, mark_formulas, validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED_PACKAGES = ("numpy", "pandas", "scipy", "statsmodels", "scikit-learn", "torch", "pyro-ppl", "matplotlib")


@dataclass(frozen=True)
class Block:
    """A piece of a section, rendered; neighbours of the same kind may be laid out side by side."""

    kind: str
    html: Markup


@dataclass
class Section:
    """A heading and what stands under it."""

    title: str
    anchor: str
    blocks: list[Block] = field(default_factory=list)

    def runs(self) -> list[tuple[str, list[Block]]]:
        """Blocks in order, neighbours of one kind together."""
        return [(kind, list(run)) for kind, run in itertools.groupby(self.blocks, key=lambda block: block.kind)]


class Report:
    """One self-contained HTML report.

    Sections, results tables, other tables and matplotlib figures are added in the order in which they are read. At the end
    the report writes by itself: the methods from the rows of every results table, what is assumed, and how to reproduce it.

    Parameters
    ----------
    title : str
    summary : str
        One or two sentences under the title.
    commands : sequence of str
        The exact command lines that made the results.
    credibility : CredibilityPlan, optional
        From :func:`causalms.report.read_credibility`; judged line by line on every results table that is added.
    inputs : sequence of (str, str)
        Files that were read, each with its SHA-256.
    date : datetime.date, optional
        Today unless given.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from causalms.tables import results_table
    >>> report = Report("Effects in a simulated trial")
    >>> report.add_section("Effects", "All patients.")
    >>> row = {"analysis": "primary", "arm": "drug", "reference": "placebo", "measure": "rate ratio", "estimate": 0.5,
    ...        "lower": 0.4, "upper": 0.6, "level": 0.95, "randomised": True, "rung": 2}
    >>> report.add_results(results_table([row]), "Rate ratios")
    >>> html = report.write(pathlib.Path(tempfile.mkdtemp()) / "report.html").read_text()
    >>> "drug against placebo" in html, "http://" in html
    (True, False)
    """

    def __init__(
        self,
        title: str,
        summary: str = "",
        *,
        commands: tuple[str, ...] | list[str] = (),
        credibility: CredibilityPlan | None = None,
        inputs: tuple[tuple[str, str], ...] | list[tuple[str, str]] = (),
        date: datetime.date | None = None,
    ) -> None:
        self.title = title
        self.summary = summary
        self._commands = tuple(commands)
        self._credibility = credibility
        self._inputs = tuple(inputs)
        self._date = date or datetime.date.today()
        self._sections: list[Section] = []
        self._results: list[pd.DataFrame] = []
        self._counts = {"Table": 0, "Figure": 0}
        self._recomputes = False
        self._pages = Environment(
            loader=PackageLoader("causalms.report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.filters["prose"] = prose

    @property
    def results(self) -> pd.DataFrame:
        """Every results row added so far."""
        return pd.concat(self._results, ignore_index=True) if self._results else pd.DataFrame(columns=list(RESULTS_COLUMNS))

    def add_section(self, title: str, text: str = "") -> None:
        """Start a section; what is added next stands in it. Blank lines part paragraphs, backquotes mark code."""
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = {section.anchor for section in self._sections}
        anchor = next(name for name in _numbered(anchor) if name not in taken)
        self._sections.append(Section(title, anchor))
        if text:
            self.add_text(text)

    def add_text(self, text: str) -> None:
        """Add paragraphs to the current section."""
        self._add("text", prose(text))

    def add_results(self, table: pd.DataFrame, caption: str) -> None:
        """Add a results table: a line a number, with its badges, and everything behind the number in a row that opens.

        Raises
        ------
        InputError
            If the table is not a results table.
        """
        checked = validate(table, "results", caption)
        self._results.append(checked)
        html = self._render(
            "results.html.j2",
            rows=result_rows(checked),
            caption=caption,
            label=self._next("Table"),
            csv=mark_formulas(checked).to_csv(index=False),
            ratios=any(is_ratio(measure) for measure in checked["measure"]),
        )
        self._add("results", html)

    def add_table(self, table: pd.DataFrame, caption: str) -> None:
        """Add any other table; it sorts, copies as CSV and scrolls sideways in its own box."""
        columns = [(str(name).replace("_", " "), pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
        rows = [
            [_cell(value, numeric) for value, (_, numeric) in zip(values, columns, strict=True)]
            for values in table.itertuples(index=False, name=None)
        ]
        html = self._render(
            "table.html.j2",
            columns=columns,
            rows=rows,
            caption=caption,
            label=self._next("Table"),
            csv=mark_formulas(table).to_csv(index=False),
        )
        self._add("table", html)

    def add_recomputation(self, bundle: Mapping[str, Any], source: str = "recomputation") -> None:
        """Add patients and contrasts of an analysis, and a button by which the page computes the contrasts again.

        Parameters
        ----------
        bundle : mapping
            Of :func:`causalms.effects.recomputation` or :func:`causalms.calibration.forecasts_again`.
        source : str
            Its name in messages.

        Raises
        ------
        InputError
            If the bundle is not one.
        """
        checked = checked_recomputation(bundle, source)
        html = self._render(
            "recompute.html.j2",
            lines=contrast_lines(checked),
            heading=checked.get("heading", "Contrast"),
            caption=f"{checked.get('measure', 'effect')} of {checked.get('outcome', 'the outcome')}, again from the patients",
            label=self._next("Table"),
            parts=checked["parts"],
            left_out=checked.get("left_out", []),
            unpressed="Press the button: the page computes these numbers again from the columns it carries, without a network.",
        )
        self._recomputes = True
        self._add("table", html)

    def add_figure(self, figure: Figure, caption: str, alt: str | None = None) -> None:
        """Add a matplotlib figure; it is stored at once, so the figure may be changed or dropped afterwards.

        Parameters
        ----------
        figure : matplotlib.figure.Figure
        caption : str
        alt : str, optional
            What the figure shows, for those who cannot see it; figures of :mod:`causalms.report.figures` bring their own.

        Raises
        ------
        UsageError
            If there is no alternative text.
        """
        from causalms.report.style import figure_uri

        uri = figure_uri(figure)
        words = alt or str(figure.get_label())
        if not words:
            raise UsageError(f"figure {caption!r}: no alternative text; say in alt= what the figure shows")
        width, height = (round(96 * float(inches)) for inches in figure.get_size_inches())
        html = self._render(
            "figure.html.j2", uri=uri, alt=words, caption=caption, label=self._next("Figure"), width=width, height=height
        )
        self._add("figure wide" if width > 560 else "figure", html)

    def add_image(self, path: str | os.PathLike[str], caption: str, alt: str) -> None:
        """Add a picture that an analysis wrote (.png or .svg); it is stored in the page.

        Raises
        ------
        InputError
            If the file is missing or is no picture of these kinds.
        UsageError
            If there is no alternative text.
        """
        if not alt:
            raise UsageError(f"{path}: no alternative text; say in alt= what the picture shows")
        html = self._render("figure.html.j2", uri=picture_uri(path), alt=alt, caption=caption, label=self._next("Figure"))
        self._add("figure", html)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, whole or not at all, and return its path."""
        page = self._page()
        with whole_file(path) as beside:
            beside.write_text(page, encoding="utf-8")
        return Path(path)

    def write_short(self, path: str | os.PathLike[str]) -> Path:
        """Write the short version, two pages, as .pdf or .docx; return its path."""
        from causalms.report.short import short_version, write_short

        verdicts = judge(self._credibility.plan, self.results) if self._credibility else []
        checks = f"{_tally(verdicts)['met']} of {len(verdicts)} acceptance checks met." if verdicts else ""
        return write_short(short_version(self.title, self.results, checks), path, self._date.isoformat())

    def _page(self) -> str:
        results = self.results
        verdicts = judge(self._credibility.plan, results) if self._credibility else []
        return self._render(
            "page.html.j2",
            title=self.title,
            summary=self.summary,
            opening=opening_sentences(results),
            date=self._date.isoformat(),
            version=__version__,
            sections=self._sections,
            credibility=self._credibility,
            verdicts=verdicts,
            tally=_tally(verdicts),
            counts=_counts(results),
            methods=methods_paragraphs(results) if len(results) else [],
            estimands=estimands(results),
            assumptions=assumptions(results) if len(results) else [],
            commands=self._commands,
            inputs=self._inputs,
            packages=_packages(),
            style=Markup(self._source("page.css")),
            script=Markup((self._source("recompute.js") + "\n" if self._recomputes else "") + self._source("page.js")),
        )

    def _source(self, name: str) -> str:
        assert self._pages.loader is not None
        return self._pages.loader.get_source(self._pages, name)[0]

    def _render(self, name: str, **values: Any) -> Markup:
        return Markup(self._pages.get_template(name).render(**values))

    def _next(self, word: str) -> str:
        self._counts[word] += 1
        return f"{word} {self._counts[word]}"

    def _add(self, kind: str, html: Markup) -> None:
        if not self._sections:
            raise UsageError("a report needs a section before anything else; call add_section first")
        self._sections[-1].blocks.append(Block(kind, html))


_PICTURES = {".png": ("image/png", b"\x89PNG\r\n"), ".svg": ("image/svg+xml", b"<")}


def picture_uri(path: str | os.PathLike[str]) -> str:
    """A picture file as a data URI.

    Raises
    ------
    InputError
        If the file is missing or does not begin as its suffix says.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file; check the path")
    kind, begin = _PICTURES.get(file.suffix.lower(), ("", b""))
    content = file.read_bytes()
    if not kind or not content.lstrip().startswith(begin):
        raise InputError(f"{file}: not a .png or .svg picture; save the figure as one of these")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def prose(text: str) -> Markup:
    """Paragraphs parted by blank lines, with code between backquotes; everything else is escaped.

    Examples
    --------
    >>> prose("a < b, by `f(x)`")
    Markup('<p>a &lt; b, by <code>f(x)</code></p>')
    """
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    code = (re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(part))) for part in paragraphs)
    return Markup("\n".join(f"<p>{part}</p>" for part in code))


def _numbered(anchor: str) -> itertools.chain[str]:
    return itertools.chain([anchor], (f"{anchor}-{i}" for i in itertools.count(2)))


def _cell(value: object, numeric: bool) -> tuple[str, str]:
    """What a cell shows and what it sorts by."""
    if pd.isna(value):  # type: ignore[call-overload]
        return number(None), "1e300" if numeric else ""
    if numeric and not isinstance(value, bool):
        return number(value), str(value)
    return str(value), str(value)


def _counts(results: pd.DataFrame) -> list[tuple[str, int]]:
    """How many numbers of each standing there are; none that are nought."""
    origins = [origin_of(row) for row in each_row(results)]
    counts = [
        ("number", " with its estimand", " with their estimand", len(results)),
        ("randomised contrast", "", "", origins.count(RANDOMISED)),
        ("observed, transported contrast", "", "", origins.count(TRANSPORTED)),
        ("simulated contrast", "", "", origins.count(SIMULATED) + origins.count(SIMULATED_ACROSS_TRIALS)),
    ]
    named = [(f"{noun}{one}" if count == 1 else f"{noun}s{more}", count) for noun, one, more, count in counts]
    named.append(("on rung 3 (not identified by trials)", int((results["rung"] == 3).sum())))
    return [(words, count) for words, count in named if count]


def _tally(verdicts: list[Verdict]) -> dict[str, int]:
    return {word: sum(verdict.verdict == word for verdict in verdicts) for word in ("met", "not met", "not judged")}


def _packages() -> list[tuple[str, str]]:
    """Versions of what the numbers rest on, read without importing any of it."""
    versions = [
        ("causalms", __version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
    ]
    for name in _NAMED_PACKAGES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
