"""Is the forecast law right: PIT histogram and curve, rootogram, reliability, coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causalms.report.rows import each_row
from causalms.report.style import (
    BAND,
    OBSERVED,
    QUIET,
    SIMULATED,
    WARNING,
    describe,
    house_style,
    new_axes,
    require_columns,
    shade,
)
from causalms.tables import name_of, percent_in_full, percentage


def _outside(table: pd.DataFrame, column: str) -> pd.Series:
    return (table[column] < table["lower"]) | (table[column] > table["upper"])


def _verdict(outside: pd.Series, what: str) -> str:
    return f"{int(outside.sum())} of {len(outside)} {what} lie outside the band"


def _level(table: pd.DataFrame) -> str:
    return f"{percent_in_full(float(table['level'].iloc[0]))} " if "level" in table.columns else ""


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.4, columnspacing=1.2)


@house_style
def pit_histogram(table: pd.DataFrame, title: str = "") -> Figure:
    """PIT histogram with its band; flat at one under calibration, a cup means too narrow forecasts, a hump too wide.

    Parameters
    ----------
    table : DataFrame
        ``lower_edge``, ``upper_edge``, ``density``, ``lower``, ``upper``; by choice ``level``.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"lower_edge": [0, 0.5], "upper_edge": [0.5, 1], "density": [1.2, 0.8],
    ...     "lower": [0.7, 0.7], "upper": [1.3, 1.3]})
    >>> pit_histogram(table).get_label()
    'PIT histogram of 2 bins: 0 of 2 bins lie outside the band.'
    """
    require_columns(table, ("lower_edge", "upper_edge", "density", "lower", "upper"), "PIT histogram")
    figure, axes = new_axes(2.9)
    left, right = table["lower_edge"].to_numpy(float), table["upper_edge"].to_numpy(float)
    outside = _outside(table, "density")
    colours = [WARNING if out else SIMULATED for out in outside]
    axes.bar(left, table["density"], right - left, align="edge", color=colours, alpha=0.85, edgecolor="white", linewidth=0.8)
    steps = np.append(left, right[-1])
    axes.stairs(
        table["upper"],
        steps,
        baseline=table["lower"].to_numpy(float),
        fill=True,
        color=QUIET,
        alpha=0.28,
        label=f"{_level(table)}band",
    )
    axes.axhline(1, color=OBSERVED, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set(xlim=(left[0], right[-1]), xlabel="Probability integral transform", ylabel="Density")
    axes.set_ylim(0, 1.08 * max(table["density"].max(), table["upper"].max(), 1))
    _legend(axes)
    _title(axes, title)
    return describe(figure, f"PIT histogram of {len(table)} bins: {_verdict(outside, 'bins')}.")


@house_style
def pit_curve(table: pd.DataFrame, title: str = "") -> Figure:
    """Distribution function of the randomised PIT minus the uniform one, with its simultaneous band.

    Parameters
    ----------
    table : DataFrame
        ``u``, ``pit``, ``lower``, ``upper``; by choice ``level``.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"u": [0.3, 0.6], "pit": [0.35, 0.6], "lower": [0.2, 0.5], "upper": [0.4, 0.7]})
    >>> pit_curve(table).get_label()
    'PIT difference curve at 2 points: 0 of 2 points lie outside the band.'
    """
    require_columns(table, ("u", "pit", "lower", "upper"), "PIT curve")
    figure, axes = new_axes(2.9)
    u = table["u"]
    shade(axes, u, table["lower"] - u, table["upper"] - u, f"{_level(table)}band")
    axes.plot(u, table["pit"] - u, color=SIMULATED, linewidth=1.6, label="observed")
    axes.axhline(0, color=OBSERVED, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set(xlim=(0, 1), xlabel="Probability integral transform", ylabel="Observed minus uniform")
    _legend(axes)
    _title(axes, title)
    return describe(figure, f"PIT difference curve at {len(table)} points: {_verdict(_outside(table, 'pit'), 'points')}.")


@house_style
def rootogram(table: pd.DataFrame, title: str = "") -> Figure:
    """Hanging rootogram: bars of observed counts hang from the expected curve, on the square-root scale.

    A bar that ends above zero: fewer patients with that count than expected; below zero: more.

    Parameters
    ----------
    table : DataFrame
        ``count``, ``observed`` and ``expected`` (patients), and the tolerance band of the observed frequency, ``lower`` and
        ``upper`` (patients).
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"count": [0, 1], "observed": [9, 1], "expected": [8.0, 2.0], "lower": [5, 0], "upper": [10, 5]})
    >>> rootogram(table).get_label()
    'Hanging rootogram of counts 0 to 1: 0 of 2 counts lie outside the band.'
    """
    require_columns(table, ("count", "observed", "expected", "lower", "upper"), "rootogram")
    figure, axes = new_axes(2.9)
    count = table["count"].to_numpy(float)
    top, drop = np.sqrt(table["expected"]), np.sqrt(table["observed"])
    outside = _outside(table, "observed")
    colours = [WARNING if out else SIMULATED for out in outside]
    shade(axes, count, top - np.sqrt(table["upper"]), top - np.sqrt(table["lower"]), "band", steps=True)
    axes.bar(count, -drop, 0.8, bottom=top, color=colours, alpha=0.8)
    axes.bar([], [], color=SIMULATED, alpha=0.8, label="observed")  # the legend shows a count inside its band
    axes.plot(count, top, "o-", color=OBSERVED, markersize=3.5, linewidth=1.3, label="expected")
    axes.axhline(0, color=OBSERVED, linewidth=0.9)
    axes.set(xlabel="New or enlarging T2 lesions", ylabel="Square root of patients")
    _legend(axes)
    _title(axes, title)
    span = f"{name_of(count.min())} to {name_of(count.max())}"
    return describe(figure, f"Hanging rootogram of counts {span}: {_verdict(outside, 'counts')}.")


@house_style
def reliability(table: pd.DataFrame, title: str = "", outcome: str = "any new or enlarging lesion") -> Figure:
    """Reliability diagram: forecast probability against the recalibrated (CORP) frequency, with its consistency band.

    Parameters
    ----------
    table : DataFrame
        ``forecast`` and ``frequency``, with the band under calibration, ``lower`` and ``upper``; by choice ``n`` (patients at
        that forecast, drawn along the bottom) and ``level``.
    title : str
    outcome : str

    Examples
    --------
    >>> table = pd.DataFrame({"forecast": [0.2, 0.6], "frequency": [0.25, 0.5], "lower": [0.1, 0.4], "upper": [0.3, 0.8]})
    >>> reliability(table).get_label()
    'Reliability diagram of any new or enlarging lesion at 2 forecasts: 0 of 2 forecasts lie outside the band.'
    """
    require_columns(table, ("forecast", "frequency", "lower", "upper"), "reliability diagram")
    rows = table.sort_values("forecast")
    figure, axes = new_axes(3.9, 4.4)
    shade(axes, rows["forecast"], rows["lower"], rows["upper"], f"{_level(rows)}consistency band")
    axes.plot([0, 1], [0, 1], color=OBSERVED, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.plot(rows["forecast"], rows["frequency"], color=SIMULATED, linewidth=1.8, label="CORP")
    if "n" in rows.columns:
        width = 0.09 / max(float(rows["n"].max()), 1)
        axes.vlines(rows["forecast"], 0, rows["n"] * width, color=SIMULATED, linewidth=1.2, alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=f"Forecast probability of {outcome}", ylabel="Observed frequency")
    _legend(axes)
    _title(axes, title)
    verdict = _verdict(_outside(rows, "frequency"), "forecasts")
    return describe(figure, f"Reliability diagram of {outcome} at {len(rows)} forecasts: {verdict}.")


@house_style
def coverage(table: pd.DataFrame, title: str = "") -> Figure:
    """Coverage of prediction intervals at every nominal level.

    Counts are discrete: an interval at least as wide as asked for is correct, so points above the diagonal are expected.

    Parameters
    ----------
    table : DataFrame
        ``level`` and ``coverage``; by choice ``lower`` and ``upper`` (interval of the coverage) and ``expected`` (coverage that
        the discrete forecasts imply).
    title : str

    Examples
    --------
    >>> coverage(pd.DataFrame({"level": [0.5, 0.9], "coverage": [0.55, 0.93]})).get_label()
    'Coverage of prediction intervals: 50% level 55.0%, 90% level 93.0%.'
    """
    require_columns(table, ("level", "coverage"), "coverage")
    rows = table.sort_values("level")
    figure, axes = new_axes(3.7, 4.4)
    axes.plot([0, 1], [0, 1], color=OBSERVED, linewidth=0.9, linestyle=(0, (3, 2)), label="nominal")
    if "expected" in rows.columns:
        axes.plot(rows["level"], rows["expected"], color=BAND, linewidth=2.2, label="expected of counts")
    if {"lower", "upper"} <= set(rows.columns):
        axes.vlines(rows["level"], rows["lower"], rows["upper"], color=SIMULATED, linewidth=1.5)
    axes.plot(rows["level"], rows["coverage"], "o", color=SIMULATED, markersize=5, label="observed")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="Nominal level of the interval", ylabel="Coverage")
    _legend(axes)
    _title(axes, title)
    shown = ", ".join(f"{percent_in_full(row.level)} level {percentage(row.coverage, 1)}" for row in each_row(rows))
    return describe(figure, f"Coverage of prediction intervals: {shown}.")


def _title(axes: Axes, title: str) -> None:
    if title:
        axes.set_title(title, pad=20)
