"""Where patients lie beside those that a generator learned from, by what is compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import CYCLE, QUIET, WARNING, describe, headline, house_style, new_axes
from causalms.tables import COMPARED, MODEL_ERROR, patient_distances


def distances_in(table: pd.DataFrame) -> pd.DataFrame | None:
    """Distances of patients that a table of draws, or a table of forecasts, carries; None where it carries none.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": ["p1", "p1"], "distance_columns": [1.4, 1.4]})
    >>> distances_in(table).to_dict("records")
    [{'participant_id': 'p1', 'columns': 1.4}]
    """
    if {"participant_id", MODEL_ERROR} <= set(table.columns):
        found = patient_distances(table)
        return None if found.empty else found
    named = {f"distance_{name}": name for name in COMPARED if f"distance_{name}" in table}
    if not named or "participant_id" not in table:
        return None
    return table[["participant_id", *named]].drop_duplicates("participant_id").rename(columns=named).reset_index(drop=True)


@house_style
def patients_outside(distances: pd.DataFrame, title: str = "") -> Figure:
    """Share of patients at least so far away, by what is compared; beyond 1 lies one of 100 of those learned from.

    Parameters
    ----------
    distances : DataFrame
        participant_id, and some of the compared ``columns``, ``signals``, ``scanner``, as
        :func:`causalms.tables.patient_distances` gives them.
    title : str

    Examples
    --------
    >>> patients_outside(pd.DataFrame({"participant_id": ["p1", "p2"], "columns": [0.5, 1.4]})).get_label()
    'Distance from the patients learned from: 1 of 2 beyond the limit in baseline columns.'
    """
    figure, axes = new_axes(3.0)
    compared = [name for name in COMPARED if name in distances]
    top = max(2.0, 1.1 * float(distances[compared].max().max()))
    axes.axvspan(1.0, top, color=WARNING, alpha=0.12, linewidth=0)
    axes.axvline(1.0, color=QUIET, linewidth=0.9)
    axes.axhline(0.01, color=QUIET, linewidth=0.8, linestyle=(0, (3, 2)))
    words = []
    for place, name in enumerate(compared):
        far = np.sort(distances[name].dropna().to_numpy(float))
        axes.step(far, 1 - np.arange(len(far)) / max(len(far), 1), where="pre", color=CYCLE[place], label=COMPARED[name])
        words.append(f"{int((far > 1).sum())} of {len(far)} beyond the limit in {COMPARED[name]}")
    least = 0.5 / max(len(distances), 10)
    axes.set(yscale="log", ylim=(least, 1.05), xlim=(0, top))
    axes.set(xlabel="Distance (1: 99 of 100 patients learned from lie within)", ylabel="Share of patients so far or farther")
    axes.legend(loc="lower left")
    headline(figure, title)
    return describe(figure, f"Distance from the patients learned from: {', '.join(words)}.")
