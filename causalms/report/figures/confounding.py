"""The tipping point of an unmeasured cause: how strong it must be with arm and outcome, beside what is measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from causalms.report.style import QUIET, describe, headline, house_style, new_axes, require_columns
from causalms.tables import significant


@house_style
def confounding_plane(table: pd.DataFrame, title: str = "") -> Figure:
    """Curves on which an unmeasured cause erases the estimate, and its interval; points are measured covariates, four named.

    A cause whose halves differ :math:`x` times between the arms and :math:`y` times in outcome biases a ratio by at most
    :math:`xy/(x + y - 1)`; a curve joins all that bias by what must be erased.

    Parameters
    ----------
    table : DataFrame
        ``covariate``, ``outcome_ratio``, ``imbalance``, ``bias``, ``arm``, ``reference``: the rows "needed to
        erase ..." first, as ``causalms query --reference`` writes them.
    title : str

    Examples
    --------
    >>> rows = [("needed to erase the estimate", None, None, 2.0), ("gd_lesions", 3.0, 1.5, 1.29)]
    >>> table = pd.DataFrame(rows, columns=["covariate", "outcome_ratio", "imbalance", "bias"])
    >>> confounding_plane(table.assign(arm="drug", reference="placebo")).get_label()
    'drug against placebo: a bias of 2 is needed to erase the estimate; a cause as strong as gd_lesions makes at most 1.29.'
    """
    require_columns(table, ("covariate", "outcome_ratio", "imbalance", "bias", "arm", "reference"), "unmeasured causes")
    named = table["covariate"].astype(str)
    needed, measured = table[named.str.startswith("needed to erase")], table[table["imbalance"].notna()]
    figure, axes = new_axes(3.6)
    top = float(np.nanmax([4.0, *(2.2 * needed["bias"].dropna()), *(1.2 * measured[["imbalance", "outcome_ratio"]].max())]))
    for row, style in zip(needed.dropna(subset=["bias"]).to_dict("records"), ("-", (0, (4, 2))), strict=False):
        bias = float(row["bias"])
        if bias <= 1:
            continue
        x = np.geomspace(bias * 1.001, top, 400)
        y = bias * (x - 1) / (x - bias)
        label = str(row["covariate"]).removeprefix("needed to ").capitalize()
        axes.plot(x[y <= top], y[y <= top], color="#222222", linestyle=style, linewidth=1.4, label=label)
    axes.plot(measured["imbalance"], measured["outcome_ratio"], "o", color="#0072B2", markersize=4, label="Measured covariates")
    for row in measured.nlargest(4, "bias").to_dict("records"):
        where = (float(row["imbalance"]), float(row["outcome_ratio"]))
        axes.annotate(str(row["covariate"]), where, xytext=(4, 2), textcoords="offset points", fontsize=6.5, color=QUIET)
    axes.set(xscale="log", yscale="log", xlim=(1, top), ylim=(1, top))
    axes.set(xlabel="Ratio of its share between the arms", ylabel="Rate ratio of the outcome between its halves")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower right")
    pair = f"{table['arm'].iloc[0]} against {table['reference'].iloc[0]}"
    headline(figure, title or pair)
    known = needed.dropna(subset=["bias"]).to_dict("records")
    said = [f"a bias of {significant(row['bias'], 3)} is {row['covariate']}" for row in known]
    if len(measured):
        worst = measured.nlargest(1, "bias").iloc[0]
        said.append(f"a cause as strong as {worst['covariate']} makes at most {significant(worst['bias'], 3)}")
    return describe(figure, f"{pair}: {'; '.join(said)}.")
