"""One house style for every figure, and the step from a figure to something that an HTML file can hold."""

from __future__ import annotations

import base64
import functools
import io
import os
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from causalms.errors import InputError, UsageError
from causalms.files import whole_file

P = ParamSpec("P")

#: Native width of a figure; narrow, so that the letters are still read when a phone shows it 360 pixels wide.
WIDTH_INCHES = 4.8

OBSERVED = "#1a1a1a"
SIMULATED = "#0072B2"
SHRUNKEN = "#009E73"
WARNING = "#D55E00"
BAND = "#9ecae1"
QUIET = "#767676"
#: Okabe and Ito's colours, told apart with every common colour vision.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#595959")

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.prop_cycle": cycler(color=CYCLE),
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "causalms",
}
#: A vector figure larger than this (many points, images) is stored as pixels instead.
LARGEST_SVG_BYTES = 250_000
_PIXELS_PER_INCH = 170


def house_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function under the house style, without touching matplotlib's global settings."""

    @functools.wraps(draw)
    def _styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return _styled


def new_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Figure:
    """An empty figure outside pyplot's global list, so that hundreds can be drawn and let go."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(height_inches: float, width_inches: float = WIDTH_INCHES) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = new_figure(height_inches, width_inches)
    return figure, figure.subplots()


def shade(axes: Axes, x: Any, lower: Any, upper: Any, label: str, *, colour: str = QUIET, steps: bool = False) -> None:
    """A band between two curves: grey for tolerance, blue (``BAND``) for what is estimated."""
    opacity = 0.45 if colour == BAND else 0.28
    step: Literal["mid"] | None = "mid" if steps else None
    axes.fill_between(x, lower, upper, color=colour, alpha=opacity, linewidth=0, label=label, step=step)


def headline(figure: Figure, title: str) -> None:
    """A title above all panels, at the left; none where it is empty."""
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=10, weight="bold")


def colour_bar(figure: Figure, colours: Any, panels: Any, label: str) -> None:
    """A horizontal scale of colours below the panels."""
    figure.colorbar(colours, ax=panels, orientation="horizontal", fraction=0.05, pad=0.02, aspect=40, label=label)


def describe(figure: Figure, text: str) -> Figure:
    """Attach the alternative text that is read out where the figure cannot be seen."""
    figure.set_label(" ".join(text.split()))
    return figure


def wrapped(label: object, width: int = 26) -> str:
    r"""Break a long label into lines.

    Examples
    --------
    >>> wrapped("monthly infusion against daily tablet", 24).count("\n")
    1
    """
    return "\n".join(textwrap.wrap(str(label), width, break_long_words=False, break_on_hyphens=False))


def arm_colours(arms: Iterable[object]) -> dict[str, str]:
    """A colour for each arm, in the order in which the arms are first met; the first is usually the reference, in grey.

    Examples
    --------
    >>> arm_colours(["placebo", "drug", "placebo"])
    {'placebo': '#595959', 'drug': '#0072B2'}
    """
    order = (CYCLE[-1], *CYCLE[:-1])
    return {arm: order[i % len(order)] for i, arm in enumerate(dict.fromkeys(map(str, arms)))}


def require_columns(table: pd.DataFrame, columns: Iterable[str], figure: str) -> None:
    """Refuse a table that lacks what a figure draws.

    Raises
    ------
    InputError
        Naming the columns that are missing and those that were found.

    Examples
    --------
    >>> require_columns(pd.DataFrame({"a": [1]}), ["a", "b"], "rootogram")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: rootogram: no column 'b'; add it (columns found: a)
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        names = ", ".join(map(repr, missing))
        raise InputError(f"{figure}: no column {names}; add it (columns found: {', '.join(map(str, table.columns))})")
    if table.empty:
        raise InputError(f"{figure}: the table has no rows, so there is nothing to draw; give at least one row")


def figure_uri(figure: Figure) -> str:
    """A figure as a data URI: vector (SVG) where that is small, pixels (PNG) where it is not.

    Raises
    ------
    UsageError
        If ``figure`` is not a matplotlib figure.
    """
    if not isinstance(figure, Figure):
        raise UsageError(f"a figure must be a matplotlib Figure, found {type(figure).__name__}; give ax.figure of a plot")
    with matplotlib.rc_context(_SETTINGS):
        vector = _saved(figure, "svg", metadata={"Date": None, "Creator": None})
        if len(vector) <= LARGEST_SVG_BYTES:
            return f"data:image/svg+xml;base64,{base64.b64encode(vector).decode('ascii')}"
        pixels = _saved(figure, "png", dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(pixels).decode('ascii')}"


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> Path:
    """Write a figure by the suffix of its file (.png, .svg or .pdf), whole or not at all; equal figures give equal bytes.

    Parameters
    ----------
    figure : Figure
    path : path-like
    dpi : int
        Pixels an inch, of a .png.

    Raises
    ------
    InputError
        If the file cannot be written; nothing is left behind.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> first, second = (save_figure(new_figure(1), folder / name).read_bytes() for name in ("a.pdf", "b.pdf"))
    >>> first == second
    True
    """
    file = Path(path)
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(file.suffix.lower())
    with whole_file(file) as beside, matplotlib.rc_context(_SETTINGS):
        figure.savefig(beside, dpi=dpi, metadata=undated)
    return file


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, facecolor="white", **options)
    return buffer.getvalue()
