"""Multiplicity: adjusted p-values over a family of contrasts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.stats.glm import Array

METHODS = ("holm", "hochberg", "hommel", "bonferroni", "fixed-sequence")


def adjusted_p_values(p_values: Array, method: str = "holm", *, missing: str = "refuse") -> Array:
    r"""Adjusted p-values, in the order given.

    Holm: :math:`\tilde p_{(i)} = \max_{j\le i} \min\{1, (m-j+1) p_{(j)}\}`, valid for any dependence.  Hochberg:
    :math:`\tilde p_{(i)} = \min_{j\ge i} \min\{1, (m-j+1) p_{(j)}\}`, valid for independent or positively dependent tests, as is
    Hommel's, which closes Simes' test and is never larger.
    Fixed sequence (gatekeeping by order): :math:`\tilde p_i = \max_{j\le i} p_j`, so a hypothesis is tested only after all
    before it have been rejected.

    Parameters
    ----------
    p_values : array (m,)
    method : {"holm", "hochberg", "hommel", "bonferroni", "fixed-sequence"}
    missing : {"refuse", "keep"}
        ``keep``: missing p-values stay missing and do not count as tests.

    Raises
    ------
    UsageError
        Unknown method.
    InputError
        A p-value is missing or outside 0 to 1.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6:65-70; Hochberg (1988), Biometrika 75:800-802; Hommel (1988),
    Biometrika 75:383-386.

    Examples
    --------
    >>> adjusted_p_values([0.01, 0.04, 0.03], "holm").round(4).tolist()
    [0.03, 0.06, 0.06]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "hochberg").round(4).tolist()
    [0.03, 0.04, 0.04]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "hommel").round(4).tolist()
    [0.03, 0.04, 0.04]
    >>> adjusted_p_values([0.01, 0.04, 0.03], "fixed-sequence").tolist()
    [0.01, 0.04, 0.04]
    >>> adjusted_p_values([0.01, float("nan"), 0.03], missing="keep").tolist()
    [0.02, nan, 0.03]
    """
    p = np.asarray(p_values, dtype=float)
    if method not in METHODS:
        raise UsageError(f"`multiplicity`: found {method!r}, expected one of {', '.join(METHODS)}")
    if missing == "keep":
        known, adjusted = ~np.isnan(p), np.full(len(p), np.nan)
        adjusted[known] = adjusted_p_values(p[known], method)
        return adjusted
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise InputError(f"p_value, row {int(np.flatnonzero(wrong)[0]) + 1}: found {p[wrong][0]}, expected a number from 0 to 1")
    count = len(p)
    if method == "fixed-sequence":
        return np.asarray(np.maximum.accumulate(p))
    if method == "bonferroni":
        return np.asarray(np.minimum(1, count * p))
    order = np.argsort(p, kind="stable")
    if method == "hommel":
        return _hommel(p, order)
    scaled = np.minimum(1, (count - np.arange(count)) * p[order])
    steps = np.maximum.accumulate(scaled) if method == "holm" else np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.full(count, np.nan)
    adjusted[order] = steps
    return adjusted


def _hommel(p: Array, order: np.ndarray) -> Array:
    """Hommel's adjusted p-values: for each m' <= m the smallest Simes p over the m' largest, and what the others add."""
    count, ranked = len(p), p[order]
    adjusted = np.full(count, (count * ranked / np.arange(1, count + 1)).min())
    for size in range(count - 1, 1, -1):
        first, others = np.arange(count - size + 1), np.arange(count - size + 1, count)
        least = (size * ranked[others] / np.arange(2, size + 1)).min()
        bound = np.empty(count)
        bound[first] = np.minimum(size * ranked[first], least)
        bound[others] = bound[count - size]
        adjusted = np.maximum(adjusted, bound)
    out = np.empty(count)
    out[order] = np.maximum(adjusted, ranked)
    return out


def with_adjusted_p_values(results: pd.DataFrame, method: str = "holm") -> pd.DataFrame:
    """A results table with the column ``p_adjusted`` over all its rows as one family, in their order for a fixed sequence.

    Examples
    --------
    >>> import pandas as pd
    >>> with_adjusted_p_values(pd.DataFrame({"p_value": [0.02, 0.01]}))["p_adjusted"].tolist()
    [0.02, 0.02]
    """
    return results.assign(p_adjusted=adjusted_p_values(results["p_value"].to_numpy(dtype=float), method))
