"""Forest plots: effects, subgroups, and benchmark bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from causalms.report.rows import (
    SIMULATED_ACROSS_TRIALS,
    TRANSPORTED,
    each_row,
    estimate_and_interval,
    is_simulated,
    origin_of,
    p_value,
    text,
)
from causalms.report.style import (
    CYCLE,
    OBSERVED,
    QUIET,
    SHRUNKEN,
    SIMULATED,
    WARNING,
    describe,
    house_style,
    new_axes,
    require_columns,
    wrapped,
)
from causalms.tables import is_ratio, name_of, significant

#: Places for the ticks of a ratio axis, from coarse to fine reading.
_RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 10, 20, 50, 100)
#: How each kind of estimate in a subgroup forest is drawn: colour, marker, filled.
SOURCES = {
    "observed": (OBSERVED, "s", True),
    "simulated": (SIMULATED, "o", True),
    "shrinkage": (SHRUNKEN, "D", True),
}
_ROW_INCHES = 0.36


#: Origins of contrasts whose arms no trial randomised together; their marks are open.
_ACROSS = (TRANSPORTED, SIMULATED_ACROSS_TRIALS)


@house_style
def effect_forest(table: pd.DataFrame, title: str = "") -> Figure:
    """Effects with their intervals, one line a contrast; ratios on a log axis.

    Filled marks are contrasts of arms that one trial randomised, open marks transported ones; circles are observed outcomes,
    diamonds simulated ones.

    Parameters
    ----------
    table : DataFrame
        Results rows of one measure: ``arm``, ``reference``, ``subgroup``, ``measure``, ``estimate``, ``lower``, ``upper``,
        ``randomised``. With more than one ``analysis`` the analysis is part of the label.
    title : str

    Examples
    --------
    >>> rows = pd.DataFrame({"arm": ["a"], "reference": ["b"], "subgroup": [None], "analysis": ["primary"],
    ...     "measure": ["rate ratio"], "estimate": [0.5], "lower": [0.4], "upper": [0.6], "randomised": [True]})
    >>> effect_forest(rows).get_label()
    'Forest plot of 1 rate ratio: a against b 0.500 (0.400 to 0.600, randomised).'
    """
    columns = ("analysis", "arm", "reference", "subgroup", "measure", "estimate", "lower", "upper", "randomised")
    require_columns(table, columns, "effect forest")
    several = table["analysis"].nunique() > 1
    labels = [_effect_label(row, several) for row in each_row(table)]
    lines = [wrapped(label, 25) for label in labels]
    breaks = np.array([line.count("\n") + 1 for line in lines])
    figure, axes = new_axes(0.95 + _ROW_INCHES * float(np.maximum(breaks * 0.55, 1).sum()), 4.8)
    measure = str(table["measure"].iloc[0])
    y = np.arange(len(table))
    for place, row in zip(map(float, y), each_row(table), strict=True):
        _mark(axes, place, row, SIMULATED, "D" if is_simulated(row) else "o", origin_of(row) not in _ACROSS)
        axes.annotate(_shown(row), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    _finish(axes, y, lines, table, measure, title)
    if not table["randomised"].all():
        _origin_legend(axes, table)
    names = [f"{label} {_shown(row, '(')}, {origin_of(row).label})" for label, row in zip(labels, each_row(table), strict=True)]
    return describe(figure, f"Forest plot of {len(table)} {measure}{'s' if len(table) > 1 else ''}: {_some(names)}.")


def _effect_label(row: Any, with_analysis: bool) -> str:
    parts = [f"{row.arm} against {row.reference}" if text(row.reference) else text(row.arm)]
    parts += [text(row.subgroup)] if text(row.subgroup) else []
    parts += [text(row.analysis)] if with_analysis else []
    return ", ".join(part for part in parts if part)


def _shown(row: Any, opening: str = "") -> str:
    estimate, interval = estimate_and_interval(row.estimate, row.lower, row.upper)
    return f"{estimate} {opening}{interval}" if opening else f"{estimate} ({interval})"


def _some(names: list[str], most: int = 12) -> str:
    rest = len(names) - most
    return "; ".join(names[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _mark(axes: Axes, place: float, row: Any, colour: str, marker: str, filled: bool) -> None:
    axes.plot([row.lower, row.upper], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot(
        [row.estimate],
        [place],
        marker,
        color=colour,
        markersize=5.5,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=1.4,
    )


def _finish(axes: Axes, y: np.ndarray, labels: list[str], table: pd.DataFrame, measure: str, title: str) -> None:
    axes.set_yticks(y, labels)
    axes.set_ylim(len(y) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(1 if is_ratio(measure) else 0, color=QUIET, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
    if is_ratio(measure):
        _log_axis(axes, table)
    axes.set_xlabel(f"{measure[:1].upper()}{measure[1:]}" + (" (log axis)" if is_ratio(measure) else ""))
    if title:
        axes.set_title(title)


def _log_axis(axes: Axes, table: pd.DataFrame) -> None:
    """A log axis that shows one and at most six ticks, so that they stay apart on a phone."""
    values = table[["estimate", "lower", "upper"]].to_numpy(dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (min(values.min(), 0.9), max(values.max(), 1.1)) if len(values) else (0.5, 2.0)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.08, high * 1.08)
    inside = [tick for tick in _RATIO_TICKS if low / 1.08 <= tick <= high * 1.08]
    kept: list[float] = [1]
    apart = np.log(high / low * 1.17) / 6.5
    for tick in sorted(inside, key=lambda value: abs(np.log(value))):
        if all(abs(np.log(tick / other)) >= apart for other in kept):
            kept.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(sorted(kept)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in sorted(kept)]))
    axes.xaxis.set_minor_locator(NullLocator())


def _origin_legend(axes: Axes, table: pd.DataFrame) -> None:
    """Filled marks: both arms in one trial; open marks: carried across trials; diamonds: simulated."""
    for origin in dict.fromkeys(origin_of(row) for row in each_row(table)):
        marker = "D" if origin.label.startswith("simulated") else "o"
        fill = "white" if origin in _ACROSS else SIMULATED
        axes.plot([], [], marker, color=SIMULATED, markerfacecolor=fill, markeredgewidth=1.4, markersize=5.5, label=origin.label)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0, handletextpad=0.2, columnspacing=1.2)


@house_style
def subgroup_forest(table: pd.DataFrame, title: str = "") -> Figure:
    """Effects by subgroup: observed, simulated and shrunken estimates of the same subgroup beside each other.

    Parameters
    ----------
    table : DataFrame
        ``subgroup``, ``measure``, ``estimate``, ``lower``, ``upper``; by choice ``source`` ("observed", "simulated" or
        "shrinkage"; observed unless given), ``n`` and ``interaction_p`` (one a subgroup variable, printed at its last line).
        An empty subgroup is the whole population.
    title : str

    Examples
    --------
    >>> rows = pd.DataFrame({"subgroup": ["all", "age >= 40"], "measure": "rate ratio", "estimate": [0.5, 0.6],
    ...     "lower": [0.4, 0.3], "upper": [0.6, 1.2]})
    >>> subgroup_forest(rows).get_label()
    'Subgroup forest plot of rate ratios: all, observed 0.500 (0.400 to 0.600); age >= 40, observed 0.600 (0.300 to 1.200).'
    """
    require_columns(table, ("subgroup", "measure", "estimate", "lower", "upper"), "subgroup forest")
    rows = table.assign(
        subgroup=[text(value, "all patients") for value in table["subgroup"]],
        source=table["source"] if "source" in table.columns else "observed",
    )
    groups = list(dict.fromkeys(rows["subgroup"]))
    sources = [source for source in dict.fromkeys([*SOURCES, *rows["source"]]) if source in set(rows["source"])]
    height = 1.15 + len(groups) * (0.28 + 0.17 * len(sources))
    figure, axes = new_axes(height, 4.8)
    offsets = np.linspace(-0.26, 0.26, len(sources)) if len(sources) > 1 else np.zeros(1)
    for row in each_row(rows):
        place = groups.index(row.subgroup) + offsets[sources.index(row.source)]
        colour, marker, filled = SOURCES.get(row.source, (CYCLE[3], "^", True))
        _mark(axes, place, row, colour, marker, filled)
        axes.annotate(_shown(row), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.8, color=colour)
    measure = str(rows["measure"].iloc[0])
    labels = [_group_label(rows[rows["subgroup"] == group], group) for group in groups]
    _finish(axes, np.arange(len(groups)), labels, rows, measure, title)
    if len(sources) > 1:
        for source in sources:
            colour, marker, _ = SOURCES.get(source, (CYCLE[3], "^", True))
            axes.plot([], [], marker, color=colour, markersize=5.5, label=source)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0, handletextpad=0.2, columnspacing=1.2)
    names = [f"{row.subgroup}, {row.source} {_shown(row, '(')})" for row in each_row(rows)]
    return describe(figure, f"Subgroup forest plot of {measure}s: {_some(names)}.")


def _group_label(rows: pd.DataFrame, group: str) -> str:
    lines = wrapped(group, 22)
    quiet = []
    if "n" in rows.columns and rows["n"].notna().any():
        quiet.append(f"n = {int(rows['n'].dropna().max()):,}")
    if "interaction_p" in rows.columns and rows["interaction_p"].notna().any():
        quiet.append(f"interaction p {p_value(rows['interaction_p'].dropna().iloc[0])}")
    return f"{lines}\n{', '.join(quiet)}" if quiet else lines


@house_style
def benchmark_bars(table: pd.DataFrame, value_label: str, title: str = "", bar: float | None = None) -> Figure:
    """Methods side by side on one score, with intervals and the bar to clear where there is one.

    Parameters
    ----------
    table : DataFrame
        ``name`` and ``value``; by choice ``lower`` and ``upper``.
    value_label : str
        The score and its unit; say whether less or more is better.
    title : str
    bar : float, optional
        The value that was asked for beforehand.

    Examples
    --------
    >>> benchmark_bars(pd.DataFrame({"name": ["a", "b"], "value": [1.0, 2.0]}), "CRPS (less is better)").get_label()
    'Bars of CRPS (less is better): a 1, b 2.'
    """
    require_columns(table, ("name", "value"), "benchmark bars")
    figure, axes = new_axes(0.9 + 0.34 * len(table))
    y = np.arange(len(table))
    axes.barh(y, table["value"], height=0.62, color=SIMULATED)
    if {"lower", "upper"} <= set(table.columns):
        axes.hlines(y, table["lower"], table["upper"], color=OBSERVED, linewidth=1.4)
    if bar is not None:
        axes.axvline(bar, color=WARNING, linestyle=(0, (3, 2)), linewidth=1.3)
        axes.annotate(f"asked for {name_of(bar)}", (bar, 1.01), xycoords=("data", "axes fraction"), color=WARNING, fontsize=8.5)
    axes.set_yticks(y, [wrapped(name, 24) for name in table["name"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(value_label)
    if title:
        axes.set_title(title, pad=14 if bar is not None else 6)
    shown = ", ".join(f"{row.name} {significant(row.value, 3)}" for row in each_row(table[["name", "value"]]))
    return describe(figure, f"Bars of {value_label}: {shown}.")
