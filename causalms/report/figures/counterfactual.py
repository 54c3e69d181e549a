"""A counterfactual run: its tables checked, the page it is judged by, and its probabilities inside sharp bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causalms.errors import InputError
from causalms.report.figures.confounding import confounding_plane
from causalms.report.figures.outside import distances_in, patients_outside
from causalms.report.rows import each_row
from causalms.report.style import (
    BAND,
    CYCLE,
    OBSERVED,
    QUIET,
    SIMULATED,
    WARNING,
    describe,
    headline,
    house_style,
    new_figure,
    require_columns,
    shade,
)
from causalms.tables import COMPARED, fixed, name_of, plain_numbers, significant

_VERDICTS = ("ok", "warning", "refusal", "not checked")
#: Room for rounding where an estimate is compared with its bounds.
_ROUNDING = 1e-9
#: Numbers of either table, and the values that they can have.
_RANGES = {
    "rho": (-1, 1),
    "p_value": (0, 1),
    "se_monte_carlo": (0, np.inf),
    "n": (0, np.inf),
    "value": (-np.inf, np.inf),
    "estimate": (-np.inf, np.inf),
    "lower_bound": (-np.inf, np.inf),
    "upper_bound": (-np.inf, np.inf),
}


def checked_bounds(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Refuse a table of bounds (OUT.bounds.csv) with a cell that cannot be, and return it with numbers as numbers.

    ``rho`` lies from -1 to 1, the estimate between its bounds (within five Monte-Carlo errors), probabilities from 0 to
    1, and no point of a curve stands twice.

    Parameters
    ----------
    table : DataFrame
        ``rho``, ``measure``, ``arm``, ``reference``, ``estimate``, ``lower_bound``, ``upper_bound``; by choice
        ``se_monte_carlo``, ``n``.
    source : str
        Name of the table in messages.

    Raises
    ------
    InputError
        Naming row and column.

    Examples
    --------
    >>> rows = pd.DataFrame({"rho": [0.5], "measure": "benefit", "arm": "a", "reference": "b", "estimate": [0.9],
    ...                      "lower_bound": [0.1], "upper_bound": [0.8]})
    >>> checked_bounds(rows, "q.bounds.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: q.bounds.csv: row 1, column 'estimate': 0.9 lies outside its bounds 0.1 to 0.8; correct it
    """
    rows = _numbers(table, source, required=("rho", "estimate", "lower_bound", "upper_bound"))
    for name in ("estimate", "lower_bound", "upper_bound"):
        share = rows["measure"].isin(["benefit", "harm", "activity harm"])
        _refuse(
            share & ~rows[name].between(-_ROUNDING, 1 + _ROUNDING),
            rows[name],
            source,
            "lies outside 0 to 1, as no probability does",
        )
    room = _ROUNDING + 5 * (rows["se_monte_carlo"].fillna(0.0) if "se_monte_carlo" in rows else 0.0)  # an estimate is sampled
    outside = ~rows["estimate"].between(rows["lower_bound"] - room, rows["upper_bound"] + room)
    if outside.any():
        row = rows[outside].iloc[0]
        bounds = f"{row['lower_bound']:.15g} to {row['upper_bound']:.15g}"
        _refuse(outside, rows["estimate"], source, f"lies outside its bounds {bounds}")
    _refuse(
        rows.duplicated(["arm", "reference", "measure", "rho"]),
        rows["rho"],
        source,
        "stands twice for one measure and pair of arms",
    )
    return rows


def checked_diagnostics(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Refuse a table of diagnostics (OUT.diagnostics.csv) with a cell that cannot be, and return it with numbers as numbers.

    A verdict is ok, warning, refusal or not checked, and stands once a diagnostic and arm; a p-value lies from 0 to 1.

    Parameters
    ----------
    table : DataFrame
        As :func:`causalms.causal.diagnostics_table` gives it: rows with a verdict, then points without one.
    source : str
        Name of the table in messages.

    Raises
    ------
    InputError
        Naming row and column.

    Examples
    --------
    >>> rows = pd.DataFrame({"diagnostic": ["composition"], "arm": "a", "value": [0.1], "verdict": "fine", "series": None})
    >>> checked_diagnostics(rows, "d.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: d.csv: row 1, column 'verdict': fine is none of ok, warning, refusal, not checked; correct it
    """
    rows = _numbers(table, source)
    judged = rows["verdict"].notna()
    _refuse(judged & ~rows["verdict"].isin(_VERDICTS), rows["verdict"], source, f"is none of {', '.join(_VERDICTS)}")
    again = judged & rows[judged].duplicated(["diagnostic", "arm"]).reindex(rows.index, fill_value=False)
    _refuse(again, rows["diagnostic"], source, "has two verdicts for one arm")
    return rows


def _numbers(table: pd.DataFrame, source: str, required: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table with its numbers as numbers, each in the range of its column."""
    present = [name for name in _RANGES if name in table]
    rows = table.reset_index(drop=True)
    for name in present:
        values = pd.Series(plain_numbers(rows[name]), index=rows.index, name=name)
        wrong = values.isna() & rows[name].notna()
        _refuse(wrong, rows[name], source, "is no number")
        _refuse(values.isna() & (name in required), rows[name], source, "is missing")
        low, high = _RANGES[name]
        infinite = np.isinf(values.to_numpy(dtype=float))
        _refuse(values.notna() & (~values.between(low, high) | infinite), rows[name], source, f"lies outside {low} to {high}")
        if name == "n":
            _refuse(values.notna() & (values != values.round()), rows[name], source, "is no whole number")
        rows[name] = values
    return rows


def _refuse(rows: pd.Series, values: pd.Series, source: str, fault: str) -> None:
    if rows.any():
        row = int(np.flatnonzero(rows.to_numpy(dtype=bool))[0])
        raise InputError(f"{source}: row {row + 1}, column {str(values.name)!r}: {values.iloc[row]} {fault}; correct it")


_VERDICT_COLOURS = {"ok": "#009E73", "warning": WARNING, "refusal": "#B00020", "not checked": QUIET}
_MARKS = {"ok": "o", "warning": "^", "refusal": "X", "not checked": "_"}
_SERIES = {
    "pushed back": SIMULATED,
    "there and back": SIMULATED,
    "independent redraw": QUIET,
    "counterfactual": WARNING,
    "do()": SIMULATED,
    "do(), model": SIMULATED,
    "randomised, observed": OBSERVED,
}


@house_style
def diagnostics_page(table: pd.DataFrame, arm: str | None = None, title: str = "") -> Figure:
    """Draw the diagnostics of a counterfactual run on one page: five panels, and every verdict with its value.

    Composition and reversibility compare counts with the fact (points on the line are exact), noise compares quantiles with
    N(0, 1), marginal and effectiveness compare shares of patients by count.

    Parameters
    ----------
    table : DataFrame
        From ``causalms.causal.diagnostics_table``: verdicts (``diagnostic``, ``arm``, ``value``, ``p_value``, ``verdict``)
        and rows of points (``series``, ``x``, ``y``, ``n``).
    arm : str, optional
        The world to draw; needed where the table has several.
    title : str

    Raises
    ------
    InputError
        If a column is missing, or the table has several worlds and none is named.

    Examples
    --------
    >>> table = pd.DataFrame({"diagnostic": ["composition", "composition"], "arm": "drug", "value": [0.0, np.nan],
    ...     "p_value": np.nan, "n": 9, "verdict": ["ok", None], "series": [None, "pushed back"], "x": [np.nan, 2.0],
    ...     "y": [np.nan, 2.0]})
    >>> diagnostics_page(table).get_label()
    'Diagnostics of counterfactuals under drug: composition 0 ok.'
    """
    require_columns(table, ("diagnostic", "arm", "value", "verdict", "series", "x", "y", "n"), "diagnostics page")
    worlds = list(table["arm"].unique())
    if arm is None and len(worlds) > 1:
        raise InputError(f"diagnostics page: the table has worlds {', '.join(map(str, worlds))}; name one with arm=")
    rows = table[table["arm"] == (worlds[0] if arm is None else arm)]
    if rows.empty:
        raise InputError(f"diagnostics page: no world {arm!r}; the table has {', '.join(map(str, worlds))}")
    verdicts, points = rows[rows["verdict"].notna()], rows[rows["series"].notna()]
    figure = new_figure(7.4)
    panels = figure.subplots(3, 2).ravel()
    _against_fact(panels[0], points, "composition", "Composition: pushed back")
    _against_fact(panels[1], points, "reversibility", "Reversibility: A, B, A")
    _noise(panels[2], points)
    _shares(panels[3], points, "marginal", "Counterfactual and do()")
    _shares(panels[4], points, "effectiveness", "Effectiveness")
    _verdicts(panels[5], verdicts)
    name = str(rows["arm"].iloc[0])
    headline(figure, title or f"Counterfactuals under {name}")
    words = ", ".join(f"{row.diagnostic} {significant(row.value, 3)} {row.verdict}" for row in each_row(verdicts))
    return describe(figure, f"Diagnostics of counterfactuals under {name}: {words}.")


def _panel(axes: Axes, points: pd.DataFrame, diagnostic: str, title: str) -> pd.DataFrame:
    axes.set_title(title, fontsize=9)
    of_diagnostic = points[points["diagnostic"] == diagnostic]
    if of_diagnostic.empty:
        axes.annotate("not checked", (0.5, 0.5), xycoords="axes fraction", ha="center", color=QUIET)
    return of_diagnostic


def _against_fact(axes: Axes, points: pd.DataFrame, diagnostic: str, title: str) -> None:
    """Counts after a trip against the factual count; the area of a point is the number of particles."""
    drawn = _panel(axes, points, diagnostic, title)
    for k, (series, rows) in enumerate(drawn.groupby("series", sort=False)):
        area = 6 + 60 * rows["n"] / drawn["n"].max()
        colour = _SERIES.get(str(series), CYCLE[k])
        axes.scatter(rows["x"], rows["y"], s=area, color=colour, alpha=0.6, linewidth=0, label=series, zorder=2 - k)
    if len(drawn):
        top = float(max(drawn["x"].max(), drawn["y"].max(), 1.0))
        axes.plot([0, top], [0, top], color=OBSERVED, linewidth=0.8, zorder=3)
        axes.set_xscale("symlog", linthresh=2)
        axes.set_yscale("symlog", linthresh=2)
        ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= top]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_yticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(top=30 * top)  # room for the legend above every point
        axes.legend(fontsize=7, loc="upper left", handletextpad=0.1)
    axes.set(xlabel="Factual count", ylabel="Count")


def _noise(axes: Axes, points: pd.DataFrame) -> None:
    drawn = _panel(axes, points, "noise", "Abducted noise")
    for k, (series, rows) in enumerate(drawn.groupby("series", sort=False)):
        axes.plot(rows["x"], rows["y"], ".-", color=CYCLE[k % len(CYCLE)], markersize=3, linewidth=0.8, label=series)
    axes.plot([-2, 2], [-2, 2], color=OBSERVED, linewidth=0.8)
    if len(drawn):
        axes.legend(fontsize=7, loc="upper left")
    axes.set(xlabel="Quantile of N(0, 1)", ylabel="Quantile")


def _shares(axes: Axes, points: pd.DataFrame, diagnostic: str, title: str) -> None:
    """Share of patients with at most so many lesions, as steps."""
    drawn = _panel(axes, points, diagnostic, title)
    for k, (series, rows) in enumerate(drawn.groupby("series", sort=False)):
        steps = rows.sort_values("x")
        x, y = np.append(steps["x"], drawn["x"].max()), np.append(steps["y"], 1.0)
        axes.step(x, y, where="post", color=_SERIES.get(str(series), CYCLE[k]), label=series, linewidth=1.4)
    if len(drawn):
        axes.set_xscale("symlog", linthresh=2)
        ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500) if t <= max(drawn["x"].max(), 1)]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.legend(fontsize=7, loc="lower right")
    axes.set(xlabel="NET2 lesions", ylabel="Share with at most", ylim=(0, 1.03))


def _verdicts(axes: Axes, verdicts: pd.DataFrame) -> None:
    axes.set_axis_off()
    axes.set_title("Verdicts", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(-len(verdicts) + 0.4, 0.6))
    for k, row in enumerate(each_row(verdicts)):
        colour = _VERDICT_COLOURS.get(str(row.verdict), QUIET)
        axes.plot(0.03, -k, _MARKS.get(str(row.verdict), "o"), color=colour, markersize=5)
        value = "" if pd.isna(row.value) else f" {significant(row.value, 3)}"
        axes.annotate(f"{row.diagnostic}{value}", (0.06, -k), va="center", fontsize=7)
        axes.annotate(str(row.verdict), (1.06, -k), va="center", ha="right", fontsize=7, color=colour)


@house_style
def bounds_page(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw probabilities of benefit and harm over the coupling, each inside the bounds that hold under every coupling.

    Parameters
    ----------
    table : DataFrame
        From ``rho_sweep``: ``rho``, ``measure``, ``estimate``, ``se_monte_carlo``, ``lower_bound``, ``upper_bound``,
        ``arm``, ``reference``, of one pair of arms; by choice ``truth``.
    title : str

    Examples
    --------
    >>> table = pd.DataFrame({"rho": [0.0, 1.0], "measure": "harm", "estimate": [0.1, 0.0], "se_monte_carlo": 0.01,
    ...     "lower_bound": 0.0, "upper_bound": 0.3, "arm": "drug", "reference": "placebo"})
    >>> bounds_page(table).get_label()
    'drug against placebo over the coupling: harm 0.100 at rho 0 to 0.000 at rho 1, bounds 0.000 to 0.300.'
    """
    columns = ("rho", "measure", "estimate", "se_monte_carlo", "lower_bound", "upper_bound", "arm", "reference")
    require_columns(table, columns, "bounds over rho")
    pairs = table[["arm", "reference"]].drop_duplicates()
    if len(pairs) > 1:
        raise InputError(f"bounds over rho: the table has {len(pairs)} pairs of arms; draw one pair at a time")
    measures = list(table["measure"].unique())
    figure = new_figure(0.8 + 1.7 * len(measures))
    panels = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
    shown = []
    for axes, measure in zip(panels, measures, strict=True):
        rows = table[table["measure"] == measure].sort_values("rho")
        holds = "holds under every coupling"
        shade(axes, rows["rho"], rows["lower_bound"], rows["upper_bound"], holds, colour=BAND)
        error = 1.959964 * rows["se_monte_carlo"]
        axes.errorbar(
            rows["rho"], rows["estimate"], error, fmt="o-", color=WARNING, markersize=3.5, linewidth=1.2, label="assumed coupling"
        )
        if "truth" in rows and rows["truth"].notna().all():
            axes.axhline(rows["truth"].iloc[0], color=OBSERVED, linestyle="--", linewidth=1, label="truth (simulated trial)")
        axes.set(ylabel=f"P({measure})", ylim=(-0.02, None))
        first, last = rows.iloc[0], rows.iloc[-1]
        shown.append(
            f"{measure} {fixed(first['estimate'], 3)} at rho {name_of(first['rho'])} to {fixed(last['estimate'], 3)} at rho "
            f"{name_of(last['rho'])}, bounds {fixed(first['lower_bound'], 3)} to {fixed(first['upper_bound'], 3)}"
        )
    panels[-1].set_xlabel("Coupling of the two worlds: -1 mirrored, 0 unrelated, 1 shared noise")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7.5)
    pair = f"{pairs['arm'].iloc[0]} against {pairs['reference'].iloc[0]}"
    headline(figure, title or pair)
    return describe(figure, f"{pair} over the coupling: {'; '.join(shown)}.")


def counterfactual_pages(table: pd.DataFrame, source: str = "table") -> tuple[list[tuple[Figure, str]], pd.DataFrame] | None:
    """Figures, with captions, and the rows worth reading of a table that ``causalms query`` writes beside its twins.

    Parameters
    ----------
    table : DataFrame
        OUT.diagnostics.csv (one page a world, its verdicts), OUT.bounds.csv or OUT.confounding.csv (one page a pair of arms);
        or the draws themselves, or forecast.csv: where the patients lie beside those learned from.
    source : str
        Name of the table in messages.

    Returns
    -------
    (list of (Figure, str), DataFrame) or None
        None for any other table.

    Raises
    ------
    InputError
        If a cell cannot be what its column says, naming row and column.

    Examples
    --------
    >>> counterfactual_pages(pd.DataFrame({"measure": ["rate ratio"]})) is None
    True
    """
    if {"diagnostic", "verdict", "series"} <= set(table.columns):
        table = checked_diagnostics(table, source)
        worlds = [str(arm) for arm in table["arm"].unique()]
        pages = [(diagnostics_page(table, arm), f"Diagnostics of counterfactuals under {arm}") for arm in worlds]
        read = [
            name
            for name in ("diagnostic", "arm", "value", "lower", "upper", "reference", "p_value", "n", "verdict", "words")
            if name in table
        ]
        return pages, table.loc[table["verdict"].notna(), read]
    if {"rho", "measure", "lower_bound", "upper_bound", "arm", "reference"} <= set(table.columns):
        table = checked_bounds(table, source)
        pairs = table.groupby(["arm", "reference"], sort=False)
        return [(bounds_page(rows), f"{arm} against {ref} over the coupling") for (arm, ref), rows in pairs], table
    if {"covariate", "outcome_ratio", "imbalance", "bias", "arm", "reference"} <= set(table.columns):
        contrasts = table.groupby(["arm", "reference", "analysis"], sort=False)
        words = "what an unmeasured cause would need to erase it"
        return [(confounding_plane(rows), f"{arm} against {ref}: {words}") for (arm, ref, _), rows in contrasts], table
    if (distances := distances_in(table)) is not None:
        caption = "Where the patients lie beside those that the model learned from"
        compared = [name for name in distances if name in COMPARED]
        return [(patients_outside(distances), caption)], distances[(distances[compared] > 1).any(axis=1)]
    return None
