"""Tables and figures of analyses/results in the pages, read when the pages are built: no number is copied by hand.

``{results-table} effect_sizes/truth.csv`` shows a table, ``{results-figure} effect_sizes/effects.csv`` draws one of causalms'
figures from a table. Options: ``columns`` (names, comma-separated; ``old as new`` renames), ``where`` (a condition on
columns), ``digits`` (significant ones), ``caption``; of a figure also ``figure``, its name in ``causalms.report.figures``, and
``value-label`` and ``quantity``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


def _committed(name: str) -> Path:
    """A committed table: of an analysis if there is one of that name, else of a study."""
    analysis = ROOT / "analyses" / "results" / name
    return analysis if analysis.exists() else ROOT / "studies" / "results" / name


class _Results(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "columns": directives.unchanged_required,
        "where": directives.unchanged_required,
        "digits": directives.positive_int,
        "caption": directives.unchanged_required,
        "figure": directives.unchanged_required,
        "value-label": directives.unchanged_required,
        "quantity": directives.unchanged_required,
    }

    def _read(self) -> pd.DataFrame:
        path = _committed(self.arguments[0])
        self.env.note_dependency(str(path))
        try:
            table = pd.read_csv(path)
            if "where" in self.options:
                table = table.query(self.options["where"], engine="python")
        except Exception as error:  # whatever is wrong, the page that asks for the table must be named
            raise self.error(f"{path}: {error}") from error
        if table.empty:
            raise self.error(f"{path}: no row where {self.options.get('where', 'anything')}")
        return table.reset_index(drop=True)


class ResultsTable(_Results):
    """A committed table, as a table of the page."""

    def run(self) -> list[nodes.Node]:
        """A Markdown table, read by the page's own parser."""
        table = self._read()
        wanted = [part.strip() for part in self.options.get("columns", ",".join(table.columns)).split(",")]
        chosen = [tuple(part.split(" as ")) if " as " in part else (part, part.replace("_", " ")) for part in wanted]
        if missing := [name for name, _ in chosen if name not in table]:
            raise self.error(f"{self.arguments[0]}: no column {missing[0]!r}; found {', '.join(table.columns)}")
        digits = self.options.get("digits", 3)
        aligned = ["---:" if pd.api.types.is_numeric_dtype(table[name]) else ":---" for name, _ in chosen]
        lines = [_line(shown for _, shown in chosen), _line(aligned)]
        lines += [_line(_cell(row[name], digits) for name, _ in chosen) for row in table.to_dict("records")]
        if "caption" in self.options:
            lines = [f"*{self.options['caption']}*", "", *lines]
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.arguments[0]), self.content_offset, holder)
        return holder.children


class ResultsFigure(_Results):
    """A figure drawn from a committed table, with its own alternative text."""

    def run(self) -> list[nodes.Node]:
        """An image that stands in the page itself."""
        from markupsafe import escape

        from causalms.report import figures
        from causalms.report.style import figure_uri

        extra = {name.replace("-", "_"): self.options[name] for name in ("value-label", "quantity") if name in self.options}
        pairs = [part.split(" as ") for part in self.options.get("columns", "").split(",") if " as " in part]
        table = self._read().rename(columns={old.strip(): new.strip() for old, new in pairs})
        figure = getattr(figures, self.options["figure"])(table, **extra)
        width = round(96 * float(figure.get_size_inches()[0]))
        image = f'<img src="{figure_uri(figure)}" alt="{escape(figure.get_label())}" width="{width}" loading="lazy">'
        caption = escape(self.options.get("caption", ""))
        return [nodes.raw("", f"<figure>{image}<figcaption>{caption}</figcaption></figure>", format="html")]


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _cell(value: Any, digits: int) -> str:
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.{digits}g}"
    return str(value)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both directives."""
    app.add_directive("results-table", ResultsTable)
    app.add_directive("results-figure", ResultsFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
