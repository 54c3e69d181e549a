"""The log of a training run as a figure."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from causalms.report.style import describe, house_style, new_figure, require_columns
from causalms.tables import significant

_LABELS = {
    "loss": "training loss",
    "count_crps": "validation CRPS of the count",
    "place_log_score": "validation nats a lesion (place)",
}


@house_style
def training_log(log: pd.DataFrame) -> Figure:
    """Draw loss and validation scores against step, one row of panels a training stage.

    Parameters
    ----------
    log : DataFrame
        Columns stage, step, loss and, where validated, count_crps and place_log_score.

    Returns
    -------
    Figure

    Examples
    --------
    >>> log = pd.DataFrame({"stage": "risk", "step": [1, 2], "loss": [3.0, 2.0], "count_crps": [2.0, 1.9]})
    >>> len(training_log(log).axes)
    2
    """
    require_columns(log, ("stage", "step", "loss"), "training log")
    panels = [
        (stage, column)
        for stage, part in log.groupby("stage", sort=False)
        for column in _LABELS
        if column in part and part[column].notna().any()
    ]
    figure = new_figure(3.2, 4.2 * len(panels))
    for index, (stage, column) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        part = log[log["stage"] == stage]
        axes.plot(part["step"], part[column], marker="o", markersize=3, linewidth=1.2)
        axes.set(xlabel="step", ylabel=_LABELS[column], title=f"{stage} stage")
    words = [
        f"{stage}, {_LABELS[column]} {significant(log.loc[log['stage'] == stage, column].dropna().iloc[-1], 3)}"
        for stage, column in panels
    ]
    return describe(figure, f"Training log, last values: {'; '.join(words)}.")
