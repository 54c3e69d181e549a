"""The results table: one row a statistic."""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalms.errors import UsageError
from causalms.tables.schema import RESULTS_COLUMNS, validate


def results_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Build a results table from rows; columns not given are missing, the package version is filled in.

    Parameters
    ----------
    rows : list of dict
        Keys are names of :data:`RESULTS_COLUMNS`; ``randomised`` must be given.

    Examples
    --------
    >>> row = {"analysis": "primary", "measure": "rate ratio", "estimate": 0.5, "randomised": True, "rung": 2}
    >>> results_table([row])[["measure", "estimate", "randomised"]]
          measure  estimate  randomised
    0  rate ratio       0.5        True
    """
    from causalms import __version__

    unknown = {key for row in rows for key in row} - set(RESULTS_COLUMNS)
    if unknown:
        raise UsageError(f"results have no column {', '.join(sorted(unknown))}; known are {', '.join(RESULTS_COLUMNS)}")
    table = pd.DataFrame(rows, columns=list(RESULTS_COLUMNS))
    table["package_version"] = __version__
    return validate(table, "results", "results")[list(RESULTS_COLUMNS)]
