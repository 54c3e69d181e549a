"""What borrowing does when the borrowed controls are unlike the trial's."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import CYCLE, OBSERVED, QUIET, describe, house_style, new_axes, require_columns
from causalms.tables import percentage


@house_style
def conflict_grid(table: pd.DataFrame, nominal: float = 0.025) -> Figure:
    """Type I error (full lines) and power (broken) of a claim of benefit, over the conflict of the control rates.

    Parameters
    ----------
    table : DataFrame
        Of :func:`causalms.effects.operating_characteristics`.
    nominal : float
        The error that is aimed at.

    Examples
    --------
    >>> rows = [("power", 1.0, 0.02, 0.9), ("power", 1.5, 0.4, 0.6)]
    >>> columns = ["prior", "rate_ratio_of_controls", "type_1_error", "power"]
    >>> conflict_grid(pd.DataFrame(rows, columns=columns)).get_label()
    'Type I error and power by conflict of control rates: power at most 40.0% type I error.'
    """
    require_columns(table, ("prior", "rate_ratio_of_controls", "type_1_error", "power"), "conflict grid")
    figure, axes = new_axes(3.6)
    words = []
    for place, (name, part) in enumerate(table.groupby("prior", sort=False)):
        colour = OBSERVED if name == "trial alone" else CYCLE[place % len(CYCLE)]
        axes.plot(part["rate_ratio_of_controls"], part["type_1_error"], color=colour, label=f"{name}, type I error")
        axes.plot(part["rate_ratio_of_controls"], part["power"], color=colour, linestyle=(0, (4, 2)), label=f"{name}, power")
        words.append(f"{name} at most {percentage(part['type_1_error'].max(), 1)} type I error")
    axes.axhline(nominal, color=QUIET, linewidth=0.8)
    axes.axvline(1.0, color=QUIET, linewidth=0.8)
    axes.set(
        xscale="log", ylim=(0, 1), xlabel="control rate of the trial / borrowed rate", ylabel="probability of a claim of benefit"
    )
    ticks = [0.25, 0.5, 1, 2, 4]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    describe(figure, f"Type I error and power by conflict of control rates: {', '.join(words)}.")
    return figure
