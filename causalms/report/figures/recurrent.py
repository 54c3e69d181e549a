"""Recurrent events over time: the mean cumulative function of every arm."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import arm_colours, describe, headline, house_style, new_axes, require_columns
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
