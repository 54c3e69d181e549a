"""One door for observed tables, sampled draws and expected outcomes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalms.effects.analyse import analyse
from causalms.effects.draws import is_draws_table
from causalms.effects.simulated import analyse_draws


def estimate(table: pd.DataFrame, *, reference: str, measure: str = "rate-ratio", **options: Any) -> pd.DataFrame:
    """Effects of every arm against a reference, as a results table.

    Parameters
    ----------
    table : DataFrame
        One row a patient (``outcome=`` names the column; further options as in :func:`causalms.effects.analyse`), or a draws
        table, sampled or expected (options as in :func:`causalms.effects.analyse_draws`).
    reference : str
        The arm to compare with.
    measure : str
        One of :data:`causalms.effects.MEASURES`.
    **options
        Of :func:`causalms.effects.analyse` or :func:`causalms.effects.analyse_draws`.

    Returns
    -------
    DataFrame
        One row a contrast, in the schema of the results table.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> estimate(table, outcome="relapses", reference="placebo")[["arm", "measure", "estimate"]].round(3)
        arm     measure  estimate
    0  drug  rate ratio     0.333
    """
    if is_draws_table(table):
        return analyse_draws(table, reference=reference, measure=measure, **options)
    return analyse(table, reference=reference, measure=measure, **options).results
