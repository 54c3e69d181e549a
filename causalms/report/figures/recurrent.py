"""Counts over visits: the mean cumulative function of every arm, and the tipping point of imputed visits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import QUIET, arm_colours, describe, headline, house_style, new_axes, require_columns
from causalms.tables import name_of, significant


@house_style
def mean_cumulative_functions(table: pd.DataFrame, outcome: str = "events", title: str = "") -> Figure:
    """Mean number of events a patient up to each time, a step curve an arm with its pointwise interval.

    Parameters
    ----------
    table : DataFrame
        ``arm``, ``time``, ``mean``, ``lower``, ``upper``.
    outcome : str
        What is counted.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"arm": "placebo", "time": [24, 48], "mean": [1.0, 1.5], "lower": [0.5, 1.0], "upper": [2.0, 2.3]})
    >>> mean_cumulative_functions(table, "lesions").get_label()
    'Mean cumulative lesions by arm: placebo 1.5 (1 to 2.3) at time 48.'
    """
    require_columns(table, ("arm", "time", "mean", "lower", "upper"), "mean cumulative functions")
    figure, axes = new_axes(3.2)
    colours = arm_colours(table["arm"])
    for arm, rows in table.groupby("arm", sort=False):
        colour, times = colours[str(arm)], np.r_[0.0, rows["time"]]
        ends = [np.r_[0.0, rows[name]] for name in ("lower", "mean", "upper")]
        axes.fill_between(times, ends[0], ends[2], step="post", color=colour, alpha=0.15, linewidth=0)
        axes.step(times, ends[1], where="post", color=colour, linewidth=1.6, label=str(arm))
    axes.set(xlabel="Time since randomisation", ylabel=f"Mean cumulative {outcome}", xlim=(0, None), ylim=(0, None))
    axes.legend(title=None, loc="upper left")
    headline(figure, title)
    last = table.groupby("arm", sort=False).tail(1)
    shown = "; ".join(
        f"{row['arm']} {significant(row['mean'], 3)} ({significant(row['lower'], 3)} to {significant(row['upper'], 3)}) "
        f"at time {name_of(row['time'])}"
        for row in last.to_dict("records")
    )
    return describe(figure, f"Mean cumulative {outcome} by arm: {shown}.")


@house_style
def tipping_point_curve(table: pd.DataFrame, title: str = "") -> Figure:
    """Estimate and interval over delta, the factor on the imputed rate of arms other than the reference, up to where it tips.

    Parameters
    ----------
    table : DataFrame
        ``arm``, ``delta``, ``estimate``, ``lower``, ``upper``, ``p_value``, ``level``.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"arm": "d", "delta": [1.0, 2.0], "estimate": [0.6, 0.8], "lower": [0.4, 0.6], "upper": [0.9, 1.1]})
    >>> tipping_point_curve(table.assign(p_value=[0.01, 0.2], level=0.95)).get_label()
    'Rate ratio over delta: d 0.6 at 1 to 0.8 at 2, p above 0.05 from delta 2.'
    """
    require_columns(table, ("arm", "delta", "estimate", "lower", "upper", "p_value", "level"), "tipping point")
    figure, axes = new_axes(3.0)
    colours, said = arm_colours(table["arm"]), []
    for arm, rows in table.groupby("arm", sort=False):
        colour = colours[str(arm)]
        axes.fill_between(rows["delta"], rows["lower"], rows["upper"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(rows["delta"], rows["estimate"], "o-", color=colour, linewidth=1.6, markersize=4, label=str(arm))
        tipped = rows[rows["p_value"] > 1 - rows["level"]]
        if len(tipped):
            axes.axvline(tipped["delta"].iloc[0], color=colour, linewidth=0.9, linestyle=(0, (3, 2)))
        ends = rows.iloc[[0, -1]]
        shown = " to ".join(f"{significant(row['estimate'], 3)} at {name_of(row['delta'])}" for row in ends.to_dict("records"))
        where = "does not tip"
        if len(tipped):
            where = f"p above {significant(1 - rows['level'].iloc[0], 3)} from delta {name_of(tipped['delta'].iloc[0])}"
        said.append(f"{arm} {shown}, {where}")
    axes.axhline(1.0, color=QUIET, linewidth=0.9)
    axes.set(xlabel="Delta: factor on the imputed rate after drop-out", ylabel="Rate ratio", yscale="log")
    axes.legend(title=None, loc="upper left")
    headline(figure, title)
    return describe(figure, f"Rate ratio over delta: {'; '.join(said)}.")
