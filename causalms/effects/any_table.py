"""One door for observed tables, sampled draws and expected outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from causalms.effects.design import Method
from causalms.effects.draws import is_draws_table
from causalms.effects.observed import Analysis, analyse
from causalms.effects.printing import html_page, page, simulated_page
from causalms.effects.simulated import analyse_draws
from causalms.errors import UsageError, named_arguments
from causalms.tables import as_frame


@dataclass(frozen=True, repr=False)
class Effects:
    """Effects of every arm against a reference; printed, they read as on the command line.

    Attributes
    ----------
    results : DataFrame
        One row a contrast, in the schema of the results table.
    analysis : Analysis, optional
        Everything behind effects on observed outcomes; None for simulated ones.
    """

    results: pd.DataFrame
    analysis: Analysis | None = None

    def __repr__(self) -> str:
        """The page that the command line prints."""
        return simulated_page(self.results) if self.analysis is None else page(self.analysis)

    def _repr_html_(self) -> str:
        return html_page(self.results, repr(self))


@named_arguments
def estimate(
    table: Any,
    *,
    reference: str,
    measure: str = "rate-ratio",
    outcome: str | None = None,
    arm: str = "arm",
    exposure: str | None = None,
    adjust: str | None = None,
    week: float | None = None,
    level: float = 0.95,
) -> Effects:
    """Effects of every arm against a reference, from observed, sampled or expected outcomes.

    Parameters
    ----------
    table : DataFrame, or path
        pandas, polars or arrow, or a file: one row a patient, or a draws table, sampled or expected.
    reference : str
        The arm to compare with.
    measure : str
        One of :data:`causalms.effects.MEASURES`.
    outcome : str, optional
        Column of the outcome; may be left out for a draws table.
    arm, exposure, adjust : str, optional
        Of observed outcomes, as in :func:`causalms.effects.analyse`, which has more choices.
    week : float, optional
        One visit of a draws table; default all, a row each.
    level : float
        Of the intervals.

    Returns
    -------
    Effects
        ``.results`` is the table of results.

    Raises
    ------
    UsageError
        An argument has no meaning for this kind of table, or the outcome is not named.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> effects = estimate(table, outcome="relapses", reference="placebo")
    >>> effects.results[["arm", "measure", "estimate"]].round(3)
        arm     measure  estimate
    0  drug  rate ratio     0.333
    >>> print(effects)  # doctest: +ELLIPSIS
    arm      n  events  rate  95% CI
    ...
    """
    frame = as_frame(table)
    if is_draws_table(frame):
        for name, value in (("exposure", exposure), ("adjust", adjust)):
            if value is not None:
                raise UsageError(f"`{name}` has no meaning for a draws table, whose arms share their patients; leave it out")
        return Effects(analyse_draws(frame, reference=reference, measure=measure, outcome=outcome, week=week, level=level))
    if outcome is None:
        raise UsageError("`outcome` is missing: name the column of counts, of 0/1 or of numbers")
    if week is not None:
        raise UsageError("`week` has no meaning for a table with one row a patient; name the column of that visit")
    analysis = analyse(
        frame,
        outcome=outcome,
        reference=reference,
        arm=arm,
        measure=measure,
        exposure=exposure,
        adjust=adjust,
        method=Method(level=level),
    )
    return Effects(analysis.results, analysis)
