"""Across contrasts: how closely simulated effects rise and fall with the randomised ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.errors import RefusalError
from causalms.tables import results_table


def correlate(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    r"""Correlation of simulated with randomised effects over the contrasts of an agreement table.

    Pearson's correlation of the logarithms (of the effects themselves for a difference), with Fisher's z interval, which exists
    for at least four contrasts, and Lin's concordance, which also counts distance from the line of equality.  Contrasts that
    share an arm are not independent; the interval does not know.

    Parameters
    ----------
    table : DataFrame
        ``table`` of :class:`causalms.agreement.Agreement`; unverified published rows are left out.
    level : float

    Returns
    -------
    DataFrame
        Results table of two rows a measure.

    Raises
    ------
    RefusalError
        With fewer than three contrasts of a measure.

    References
    ----------
    Lin (1989), Biometrics 45:255.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4, 0.6, 0.9],
    ...     "simulated_estimate": [0.25, 0.35, 0.6, 1.0]})
    >>> correlate(table)[["measure", "estimate", "n"]].round(2).values.tolist()
    [['correlation of rate ratios', 0.97, 4.0], ['concordance of rate ratios', 0.97, 4.0]]
    """
    known = table[table["target"].fillna(True).astype(bool)] if "target" in table else table
    rows: list[dict[str, Any]] = []
    for measure, lines in known.groupby("measure", sort=False):
        if len(lines) >= 3:
            rows += _rows(str(measure), lines, level)
    if not rows:
        raise RefusalError("fewer than three contrasts of one measure; a correlation over trials needs more")
    return results_table(rows)


def _rows(measure: str, lines: pd.DataFrame, level: float) -> list[dict[str, Any]]:
    pair = lines[["randomised_estimate", "simulated_estimate"]].to_numpy(float)
    x, y = (np.log(pair) if measure.endswith("ratio") else pair).T
    n = len(x)
    r = float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan  # one effect for all ranks nothing
    concordance = float(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))
    common = {
        "analysis": "agreement across contrasts",
        "population": f"{n} contrasts",
        "subgroup": "all",
        "level": level,
        "n": n,
        "randomised": True,
        "rung": 2,
        "estimator": "logarithms of the effects" if measure.endswith("ratio") else "effects",
    }
    fisher: dict[str, Any] = {"variance": "Fisher's z; none below four contrasts"}
    if n >= 4 and abs(r) < 1:
        half = float(stats.norm.ppf((1 + level) / 2)) / np.sqrt(n - 3)
        fisher |= {"lower": np.tanh(np.arctanh(r) - half), "upper": np.tanh(np.arctanh(r) + half), "se": 1 / np.sqrt(n - 3)}
    return [
        {
            **common,
            **fisher,
            "measure": f"correlation of {measure}s",
            "estimand": f"Pearson correlation of simulated with randomised {measure}s over contrasts",
            "estimate": r,
        },
        {
            **common,
            "measure": f"concordance of {measure}s",
            "estimand": f"Lin's concordance of simulated with randomised {measure}s over contrasts",
            "estimate": concordance,
        },
    ]
