"""The treatment effect among patients with at least a given predicted benefit: AD(c), AR(c), and their bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from causalms.errors import UsageError
from causalms.subgroups.benefit import Benefit, Floats


def benefit_curves(
    data: Benefit, shares: tuple[float, ...] = tuple(np.arange(20, 2, -1) / 20), level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    r"""Average difference AD(c) and average ratio AR(c) among patients whose predicted benefit is at least c.

    .. math::
        AD(c) = E[Y(0) - Y(1) \mid s(X) \ge c], \qquad AR(c) = E[Y(1) \mid s(X) \ge c] / E[Y(0) \mid s(X) \ge c]

    Thresholds are the sample quantiles of the score that leave the asked shares, then taken as given.  The bands are
    simultaneous over the curve (multiplier bootstrap of its influence functions).

    Parameters
    ----------
    data : Benefit
    shares : tuple of float
        Shares of patients that the thresholds leave, from all to few.
    level : float
    seed : int

    Returns
    -------
    DataFrame
        ``share``, ``threshold``, ``n``; ``ad`` with ``ad_lower``, ``ad_upper``, ``ad_band_lower``, ``ad_band_upper``; the same
        for ``ar`` (missing where a mean is not positive).

    References
    ----------
    Zhao, Tian, Cai, Claggett, Wei (2013), JASA 108:527.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before * 0.6, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> benefit_curves(data, shares=(1.0, 0.25))[["ad", "ar"]].round(2).values.tolist()
    [[2.28, 0.4], [4.39, 0.4]]
    """
    if not all(0 < share <= 1 for share in shares):
        raise UsageError("shares of a benefit curve must be above 0 and at most 1")
    threshold = np.quantile(data.score, 1 - np.array(shares), method="lower")
    member = data.score[:, None] >= threshold
    count = member.sum(axis=0)
    table = pd.DataFrame({"share": member.mean(axis=0), "threshold": threshold, "n": count})
    ad = np.array([data.spared[inside].mean() for inside in member.T])
    ad_influence = member * (data.spared[:, None] - ad) / member.mean(axis=0)
    _add(table, "ad", ad, ad_influence, level, seed, count)
    under = np.array([[side[inside].mean() for inside in member.T] for side in (data.under_reference, data.under_drug)])
    positive = (under > 0).all(axis=0)
    safe = np.where(positive, under, 1.0)
    ratio = member * (data.under_drug[:, None] / safe[1] - data.under_reference[:, None] / safe[0]) / member.mean(axis=0)
    _add(table, "ar", np.log(safe[1] / safe[0]), np.where(positive, ratio, 0.0), level, seed, count)
    for name in ("ar", "ar_lower", "ar_upper", "ar_band_lower", "ar_band_upper"):
        table[name] = np.exp(table[name]).where(positive)
    return table


def _add(table: pd.DataFrame, name: str, value: Floats, influence: Floats, level: float, seed: int, count: Floats) -> None:
    """Pointwise (t) and simultaneous interval of a curve from its influence functions."""
    n = len(influence)
    # The small-sample factor is that of the patients inside the threshold.
    se = np.sqrt((influence**2).sum(axis=0)) / n * np.sqrt(count / np.maximum(count - 1, 1))
    pointwise = stats.t.ppf((1 + level) / 2, np.maximum(count - 2, 1)) * se
    noise = np.random.default_rng(seed).standard_normal((1000, n)) @ influence / n
    largest = np.max(np.abs(noise) / np.maximum(se, np.finfo(float).tiny), axis=1)
    simultaneous = np.maximum(np.quantile(largest, level) * se, pointwise)
    table[name] = value
    table[f"{name}_lower"], table[f"{name}_upper"] = value - pointwise, value + pointwise
    table[f"{name}_band_lower"], table[f"{name}_band_upper"] = value - simultaneous, value + simultaneous
