"""Who benefits: the effect among the most promising patients, and by groups of predicted benefit."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causalms.errors import InputError
from causalms.report.rows import each_row
from causalms.report.style import BAND, OBSERVED, QUIET, SIMULATED, describe, house_style, new_axes, require_columns, shade
from causalms.tables import significant

CURVES = {"lesions spared, AD(c)": "Lesions spared", "ratio of mean lesions, AR(c)": "Ratio of mean lesions"}
GROUPS = "lesions spared by group of predicted benefit"
SPARED = "average benefit"
_COLUMNS = ("measure", "subgroup", "arm", "reference", "estimate", "lower", "upper")


@house_style
def benefit_curves(table: pd.DataFrame, title: str = "") -> Figure:
    """AD(c) above AR(c) over the share of most promising patients: intervals as bars, simultaneous bands behind.

    Parameters
    ----------
    table : DataFrame
        Rows of one comparison in the results table of :func:`causalms.benefit.who_benefits`.
    title : str

    Raises
    ------
    InputError
        If there are no such rows, or they are of several comparisons.

    Examples
    --------
    >>> rows = [(measure + band, f"most promising {share}%", "drug", "placebo", value, value / 2, 2 * value)
    ...         for measure, value in (("lesions spared, AD(c)", 2.0), ("ratio of mean lesions, AR(c)", 0.5))
    ...         for band in ("", ", simultaneous band") for share in (100, 50)]
    >>> table = pd.DataFrame(rows, columns=["measure", "subgroup", "arm", "reference", "estimate", "lower", "upper"])
    >>> benefit_curves(table).get_label()
    'drug against placebo by predicted benefit: lesions spared 2 of all, 2 of the most promising 50%; ratio 0.5 and 0.5.'
    """
    arm, reference = _one_comparison(table, tuple(CURVES))
    figure, axes = new_axes(4.6)
    figure.delaxes(axes)
    panels = figure.subplots(2, 1, sharex=True)
    curves = []
    for (measure, label), panel in zip(CURVES.items(), panels, strict=True):
        rows = _by_share(table[table["measure"] == measure])
        if rows.empty:
            raise InputError(f"benefit figure: no rows of {measure!r}; give the whole results table of one comparison")
        _curve(panel, rows, _by_share(table[table["measure"] == f"{measure}, simultaneous band"]))
        panel.set_ylabel(label)
        curves.append(rows.set_index("share")["estimate"])
    panels[0].axhline(0, color=QUIET, linewidth=0.8)
    panels[1].axhline(1, color=QUIET, linewidth=0.8)
    if (table.loc[table["measure"].str.startswith(tuple(CURVES)[1]), ["lower", "upper"]] > 0).all(axis=None):
        panels[1].set_yscale("log")
        panels[1].yaxis.set_major_formatter("{x:g}")
    panels[1].set_xlabel("Share of patients, the most promising first (%)")
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, columnspacing=1)
    if title:
        panels[0].set_title(title, pad=20)
    (spared, ratio), few, most = curves, curves[0].index.min(), curves[0].index.max()
    ratios = " and ".join(significant(ratio[share], 3) if share in ratio else "unknown" for share in (most, few))
    words = (
        f"{arm} against {reference} by predicted benefit: lesions spared {significant(spared[most], 3)} of all, "
        f"{significant(spared[few], 3)} of the "
        f"most promising {few:g}%; ratio {ratios}."
    )
    return describe(figure, words)


@house_style
def benefit_groups(table: pd.DataFrame, title: str = "") -> Figure:
    """Observed benefit in groups of predicted benefit, from the least to the most promising, beside that of all patients.

    Parameters
    ----------
    table : DataFrame
        As for :func:`benefit_curves`.
    title : str

    Examples
    --------
    >>> rows = [(GROUPS, f"group {k} of 2", "drug", "placebo", k, k - 0.5, k + 0.5) for k in (1, 2)]
    >>> table = pd.DataFrame(rows, columns=["measure", "subgroup", "arm", "reference", "estimate", "lower", "upper"])
    >>> benefit_groups(table).get_label()
    'Lesions that drug spares against placebo: group 1 of 2 1 (0.5 to 1.5); group 2 of 2 2 (1.5 to 2.5).'
    """
    arm, reference = _one_comparison(table, (GROUPS,))
    rows = table[table["measure"] == GROUPS]
    figure, axes = new_axes(2.9)
    place = np.arange(len(rows))
    for axis_row, x in zip(each_row(rows), place, strict=True):
        axes.plot([x, x], [axis_row.lower, axis_row.upper], color=OBSERVED, linewidth=1.3)
    axes.plot(place, rows["estimate"], "o", color=OBSERVED, label="95% interval" if _level(rows) == 0.95 else "with interval")
    whole = table.loc[table["measure"] == SPARED, "estimate"]
    if len(whole):
        axes.axhline(whole.iloc[0], color=SIMULATED, linewidth=1.2, linestyle=(0, (4, 2)), label="all patients")
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_xticks(place, [str(name).removeprefix("group ") for name in rows["subgroup"]])
    axes.set(xlabel="Group of predicted benefit, least promising first", ylabel="Lesions spared", xlim=(-0.5, len(rows) - 0.5))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    if title:
        axes.set_title(title, pad=20)
    shown = "; ".join(
        f"{row.subgroup} {significant(row.estimate, 3)} ({significant(row.lower, 3)} to {significant(row.upper, 3)})"
        for row in each_row(rows)
    )
    return describe(figure, f"Lesions that {arm} spares against {reference}: {shown}.")


def benefit_comparisons(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of every comparison of a results table that :func:`benefit_curves` and :func:`benefit_groups` can draw."""
    rows = table[table["analysis"].astype(str).str.startswith("benefit")]
    parts = [part for _, part in rows.groupby(["population", "arm", "reference"], sort=False)]
    return [part for part in parts if set(CURVES) <= set(part["measure"])]


def _curve(panel: Axes, rows: pd.DataFrame, band: pd.DataFrame) -> None:
    if len(band):
        shade(panel, band["share"], band["lower"], band["upper"], "band of the whole curve", colour=BAND)
    panel.plot(rows["share"], rows["estimate"], "o-", color=SIMULATED, markersize=4, linewidth=1.4, label="estimate")
    for row in each_row(rows):
        panel.plot([row.share] * 2, [row.lower, row.upper], color=SIMULATED, linewidth=1.2, alpha=0.8)


def _by_share(rows: pd.DataFrame) -> pd.DataFrame:
    share = rows["subgroup"].astype(str).str.extract(r"([\d.]+)%", expand=False).astype(float)
    return rows.assign(share=share).sort_values("share")


def _level(rows: pd.DataFrame) -> float:
    return float(rows["level"].iloc[0]) if "level" in rows else 0.95


def _one_comparison(table: pd.DataFrame, measures: tuple[str, ...]) -> tuple[str, str]:
    require_columns(table, _COLUMNS, "benefit figure")
    rows = table[table["measure"].isin(measures)]
    comparisons = rows[[name for name in ("population", "arm", "reference") if name in rows]].drop_duplicates()
    if len(comparisons) != 1:
        raise InputError(f"benefit figure: rows of {len(comparisons)} comparisons; give those of one arm against one reference")
    return str(rows["arm"].iloc[0]), str(rows["reference"].iloc[0])
