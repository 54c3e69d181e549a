"""Agreement with randomised arms, distributions of counts by arm, and what no trial identifies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from causalms.report.rows import each_row
from causalms.report.style import (
    BAND,
    OBSERVED,
    QUIET,
    SIMULATED,
    WARNING,
    arm_colours,
    describe,
    headline,
    house_style,
    new_axes,
    require_columns,
    shade,
)
from causalms.tables import fixed, is_ratio, name_of, percentage, significant

_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@house_style
def agreement_scatter(table: pd.DataFrame, measure: str = "rate ratio", title: str = "") -> Figure:
    """Simulated against randomised effect, one point a contrast, bars both ways; the diagonal is perfect agreement.

    Parameters
    ----------
    table : DataFrame
        ``label``, ``randomised_estimate``, ``randomised_lower``, ``randomised_upper``, ``simulated_estimate``,
        ``simulated_lower``, ``simulated_upper``; by choice ``correlation`` (one value, printed).
    measure : str
        A ratio is drawn on log axes.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"label": ["x"], "randomised_estimate": [0.5], "randomised_lower": [0.4],
    ...     "randomised_upper": [0.6], "simulated_estimate": [0.55], "simulated_lower": [0.5], "simulated_upper": [0.6]})
    >>> agreement_scatter(table).get_label()
    'Simulated against randomised rate ratio of 1 contrasts: x simulated 0.55, randomised 0.5.'
    """
    ends = [f"{source}_{end}" for source in ("randomised", "simulated") for end in ("estimate", "lower", "upper")]
    require_columns(table, ("label", *ends), "agreement scatter")
    figure, axes = new_axes(4.5, 4.6)
    values = table[ends].to_numpy(dtype=float)
    values = values[np.isfinite(values) & ((values > 0) | (not is_ratio(measure)))]
    low, high = values.min(), values.max()
    if is_ratio(measure):
        low, high = min(low, 0.9) / 1.1, max(high, 1.05) * 1.1
        axes.set(xscale="log", yscale="log")
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
            axis.set_minor_locator(NullLocator())
    else:
        low, high = low - 0.06 * (high - low + 1e-9), high + 0.06 * (high - low + 1e-9)
    axes.plot([low, high], [low, high], color=QUIET, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
    markers = "osD^vP*X<>"
    colours = arm_colours(table["arm" if "arm" in table.columns else "label"])
    for i, row in enumerate(each_row(table)):
        colour = colours[str(getattr(row, "arm", row.label))]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.8}
        axes.plot([row.randomised_lower, row.randomised_upper], [row.simulated_estimate] * 2, **style)
        axes.plot([row.randomised_estimate] * 2, [row.simulated_lower, row.simulated_upper], **style)
        axes.plot(
            row.randomised_estimate,
            row.simulated_estimate,
            markers[i % len(markers)],
            color=colour,
            markersize=6,
            label=row.label,
        )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"Randomised {measure}", ylabel=f"Simulated {measure}")
    if "correlation" in table.columns and table["correlation"].notna().any():
        axes.annotate(
            f"correlation {fixed(table['correlation'].dropna().iloc[0], 2)}", (0.97, 0.03), xycoords="axes fraction", ha="right"
        )
    figure.legend(loc="outside lower center", ncols=1 if table["label"].str.len().max() > 24 else 2, handletextpad=0.3)
    if title:
        axes.set_title(title)
    shown = "; ".join(
        f"{row.label} simulated {significant(row.simulated_estimate, 3)}, randomised {significant(row.randomised_estimate, 3)}"
        for row in each_row(table)
    )
    return describe(figure, f"Simulated against randomised {measure} of {len(table)} contrasts: {shown}.")


@house_style
def count_distribution(table: pd.DataFrame, title: str = "", most: int = 10) -> Figure:
    """Share of patients with each count of new lesions, one panel an arm; observed shares as black marks where given.

    Parameters
    ----------
    table : DataFrame
        ``arm``, ``count``, ``share``; by choice ``observed_share``. Shares of one arm sum to one.
    title : str
    most : int
        Counts from this one on are shown together.

    Examples
    --------
    >>> table = pd.DataFrame({"arm": ["placebo"] * 3, "count": [0, 1, 2], "share": [0.5, 0.3, 0.2]})
    >>> count_distribution(table).get_label()
    'Share of patients by count of new lesions: placebo none 50%, mean 0.70.'
    """
    import seaborn

    require_columns(table, ("arm", "count", "share"), "count distribution")
    columns = [name for name in ("share", "observed_share") if name in table.columns]
    means = (table["share"] * table["count"]).groupby(table["arm"], sort=False).sum()
    capped = (
        table.assign(count=table["count"].clip(upper=most).astype(int))
        .groupby(["arm", "count"], sort=False)[columns]
        .sum()
        .reset_index()
    )
    arms = list(dict.fromkeys(table["arm"]))
    figure, axes = new_axes(0.8)
    figure.delaxes(axes)
    figure.set_figheight(0.75 + 1.25 * len(arms))
    colours = arm_colours(arms)
    panels = figure.subplots(len(arms), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    order = list(range(int(capped["count"].max()) + 1))
    for arm, panel in zip(arms, panels, strict=True):
        rows = capped[capped["arm"] == arm]
        seaborn.barplot(rows, x="count", y="share", order=order, color=colours[str(arm)], ax=panel, width=0.8, saturation=1)
        if "observed_share" in rows.columns:
            panel.plot(rows["count"], rows["observed_share"], "_", color=OBSERVED, markersize=12, markeredgewidth=1.8)
        panel.set(ylabel="", xlabel="")
        panel.set_title(f"{arm}, mean {fixed(means[arm], 2)}", fontsize=9)
    ticks = [f"{count}+" if count == most and table["count"].max() > most else str(count) for count in order]
    panels[-1].set_xticks(range(len(order)), ticks)
    panels[-1].set_xlabel("New or enlarging T2 lesions" + (" (line: observed)" if "observed_share" in columns else ""))
    figure.supylabel("Share of patients", fontsize=9)
    headline(figure, title)
    none = capped[capped["count"] == 0].set_index("arm")["share"]
    shown = "; ".join(f"{arm} none {percentage(none.get(arm, 0.0))}, mean {fixed(means[arm], 2)}" for arm in arms)
    return describe(figure, f"Share of patients by count of new lesions: {shown}.")


@house_style
def bounds_over_rho(table: pd.DataFrame, quantity: str, title: str = "") -> Figure:
    """A rung-3 quantity over the coupling of the two worlds, within the bounds that hold under every coupling.

    Parameters
    ----------
    table : DataFrame
        ``rho`` (coupling, -1 to 1), ``estimate``, and the sharp bounds ``lower_bound`` and ``upper_bound``.
    quantity : str
        Such as "probability of benefit".
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"rho": [0.0, 1.0], "estimate": [0.3, 0.4], "lower_bound": [0.1, 0.1], "upper_bound": [0.5, 0.5]})
    >>> bounds_over_rho(table, "probability of benefit").get_label()
    'Probability of benefit over the coupling: 0.300 at rho 0 to 0.400 at rho 1; bounds under every coupling 0.100 to 0.500.'
    """
    require_columns(table, ("rho", "estimate", "lower_bound", "upper_bound"), "bounds over rho")
    rows = table.sort_values("rho")
    figure, axes = new_axes(2.9)
    shade(axes, rows["rho"], rows["lower_bound"], rows["upper_bound"], "holds under every coupling", colour=BAND)
    axes.plot(
        rows["rho"], rows["estimate"], "o-", color=WARNING, linewidth=1.6, markersize=4, label="under this coupling (assumed)"
    )
    axes.set(xlabel="Coupling of the two worlds, rho", ylabel=f"{quantity[:1].upper()}{quantity[1:]}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.2, columnspacing=1)
    if title:
        axes.set_title(title, pad=20)
    first, last = rows.iloc[0], rows.iloc[-1]
    words = (
        f"{quantity[:1].upper()}{quantity[1:]} over the coupling: {fixed(first['estimate'], 3)} at rho {name_of(first['rho'])} "
        f"to {fixed(last['estimate'], 3)} at rho {name_of(last['rho'])}; bounds under every coupling "
        f"{fixed(rows['lower_bound'].min(), 3)} to {fixed(rows['upper_bound'].max(), 3)}."
    )
    return describe(figure, words)


@house_style
def learning_curve(table: pd.DataFrame, title: str = "", value_label: str = "Loss") -> Figure:
    """A training curve, with a validation curve where there is one.

    Parameters
    ----------
    table : DataFrame
        ``step``, ``value``, ``series``.
    title : str
    value_label : str

    Examples
    --------
    >>> learning_curve(pd.DataFrame({"step": [0, 1], "value": [2.0, 1.0], "series": "training"})).get_label()
    'Loss over 1 steps: training from 2 to 1.'
    """
    import seaborn

    require_columns(table, ("step", "value", "series"), "learning curve")
    figure, axes = new_axes(2.8)
    palette = dict(zip(dict.fromkeys(table["series"]), (SIMULATED, WARNING, OBSERVED, QUIET), strict=False))
    seaborn.lineplot(table, x="step", y="value", hue="series", style="series", palette=palette, errorbar=None, ax=axes)
    axes.set(xlabel="Step", ylabel=value_label)
    axes.legend(title=None, loc="upper right")
    if (table["value"] > 0).all() and table["value"].max() > 20 * table["value"].min():
        axes.set_yscale("log")
    if title:
        axes.set_title(title)
    ends = [(name, rows.sort_values("step")["value"]) for name, rows in table.groupby("series", sort=False)]
    shown = "; ".join(
        f"{name} from {significant(values.iloc[0], 3)} to {significant(values.iloc[-1], 3)}" for name, values in ends
    )
    return describe(figure, f"{value_label} over {int(table['step'].max())} steps: {shown}.")
