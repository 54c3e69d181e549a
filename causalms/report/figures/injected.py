"""What a count makes of known lesions: the share counted by volume, and the count by unsteady outlines."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import CYCLE, QUIET, describe, headline, house_style, new_figure, require_columns
from causalms.tables import percentage


@house_style
def injection(table: pd.DataFrame, title: str = "") -> Figure:
    """Share of known lesions counted alone by volume and grid, above mean counts by the share of lesions that vanish.

    Parameters
    ----------
    table : DataFrame
        Of :func:`causalms.lesions.injection_table`.
    title : str

    Examples
    --------
    >>> rows = [("alone", "own grid", "all", 9, 0.9, 0.6, 1.0), ("count a patient", "apart", "0% vanish", 9, 3.0, 3.0, 3.0)]
    >>> columns = ["analysis", "where", "group", "lesions", "estimate", "lower", "upper"]
    >>> injection(pd.DataFrame(rows, columns=columns)).get_label()
    'Known lesions counted alone: own grid 90%. Mean count: 3.0.'
    """
    require_columns(table, ("analysis", "where", "group", "estimate", "lower", "upper"), "injection figure")
    figure = new_figure(5.2)
    panels = figure.subplots(2, 1)
    labels = (("alone", "Share counted alone"), ("count a patient", "New lesions counted a patient"))
    for panel, (analysis, label) in zip(panels, labels, strict=True):
        part = table[table["analysis"] == analysis]
        groups = list(dict.fromkeys(part["group"]))
        for number, (where, rows) in enumerate(part.groupby("where", sort=False)):
            at = [groups.index(group) + 0.12 * (number - 0.5) for group in rows["group"]]
            bars = [(rows["estimate"] - rows["lower"]).clip(lower=0), (rows["upper"] - rows["estimate"]).clip(lower=0)]
            panel.errorbar(at, rows["estimate"], bars, fmt="o", color=CYCLE[number], markersize=4, label=str(where))
        panel.set(ylabel=label, ylim=(0, None), xticks=range(len(groups)))
        panel.set_xticklabels(groups, fontsize=7)
        panel.legend(fontsize=7, frameon=False)
    truth = table[(table["analysis"] == "count a patient") & (table["group"] == "0% vanish")]["estimate"]
    panels[1].axhline(truth.iloc[0], color=QUIET, linewidth=0.8)
    headline(figure, title)
    alone = table[(table["analysis"] == "alone") & (table["group"] == "all")]
    shares = ", ".join(f"{where} {percentage(share)}" for where, share in zip(alone["where"], alone["estimate"], strict=True))
    counts = ", ".join(f"{count:.1f}" for count in table.loc[table["analysis"] == "count a patient", "estimate"])
    return describe(figure, f"Known lesions counted alone: {shares}. Mean count: {counts}.")
