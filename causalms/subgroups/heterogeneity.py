"""Does predicted benefit agree with the benefit that randomisation shows?  Best linear predictor, groups, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.errors import RefusalError, UsageError
from causalms.subgroups.benefit import Benefit, Floats
from causalms.tables import results_table


def best_linear_predictor(data: Benefit, level: float = 0.95) -> pd.DataFrame:
    r"""Regress the benefit on its prediction: average effect, heterogeneity, and calibration for benefit.

    :math:`\Gamma_i = \beta_1 + \beta_2 (s_i - \bar s) + \epsilon_i` by least squares with HC3 and t.  ``average benefit`` is
    :math:`\beta_1`, the mean of :math:`\Gamma`, whose error also counts that other patients would have other scores
    (the regression's own would not); ``calibration slope for benefit`` is :math:`\beta_2`, zero if the prediction knows nothing of who benefits
    and one if it is calibrated; ``calibration in the large for benefit`` is :math:`\beta_1 - \bar s`.  P-values are two-sided,
    against zero; the slope has a second row against one.

    Returns
    -------
    DataFrame
        Results table.

    Raises
    ------
    RefusalError
        If every patient has the same predicted benefit.

    References
    ----------
    Chernozhukov, Demirer, Duflo, Fernandez-Val (2025), Econometrica 93:1121.  Maas et al. (2023), BMC Med Res Methodol 23:74.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> found = best_linear_predictor(data).set_index("measure")["estimate"].round(2)
    >>> float(found["average benefit"]), float(found["calibration slope for benefit"].iloc[0])
    (2.28, 0.6)
    """
    if np.ptp(data.score) < 1e-12 * max(1.0, np.abs(data.score).max()):
        raise RefusalError("benefit: every patient has the same predicted benefit; nothing can be said of heterogeneity")
    X = np.column_stack([np.ones(data.n), data.score - data.score.mean()])
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ data.spared
    leverage = np.einsum("ij,jk,ik->i", X, inverse, X)
    meat = X * ((data.spared - X @ beta) / (1 - leverage))[:, None]
    covariance = inverse @ (meat.T @ meat) @ inverse
    large = data.spared - data.score
    rows = [
        ("average benefit", "mean lesions spared", beta[0], data.spared.std(ddof=1) / np.sqrt(data.n), 0.0),
        (
            "calibration in the large for benefit",
            "mean lesions spared minus mean predicted",
            large.mean(),
            large.std(ddof=1) / np.sqrt(data.n),
            0.0,
        ),
        (
            "calibration slope for benefit",
            "slope of lesions spared on predicted; p against 0",
            beta[1],
            covariance[1, 1] ** 0.5,
            0.0,
        ),
        (
            "calibration slope for benefit",
            "slope of lesions spared on predicted; p against 1",
            beta[1],
            covariance[1, 1] ** 0.5,
            1.0,
        ),
    ]
    return results_table([_row(data, "benefit: best linear predictor", *row, level, data.n - 2) for row in rows])


def _row(
    data: Benefit, analysis: str, measure: str, estimand: str, value: float, se: float, null: float, level: float, df: float
) -> dict[str, Any]:
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    return {
        "analysis": analysis,
        "population": data.population,
        "subgroup": "all",
        "arm": data.drug,
        "reference": data.reference,
        "measure": measure,
        "estimand": estimand,
        "estimator": "augmented inverse-probability scores, predictions held out",
        "variance": "HC3, t",
        "estimate": value,
        "se": se,
        "lower": value - half,
        "upper": value + half,
        "level": level,
        # Both tails: a one-sided tail taken for the p-value would double the type I error.
        "p_value": float(2 * stats.t.sf(abs(value - null) / se, df)) if se > 0 else np.nan,
        "n": data.n,
        "se_patient": se,
        "randomised": True,
        "rung": 2,
    }


def benefit_groups(data: Benefit, groups: int = 4, level: float = 0.95) -> pd.DataFrame:
    """Sorted groups (GATES): observed beside predicted benefit in quantile groups of the prediction.

    Parameters
    ----------
    data : Benefit
    groups : int
    level : float

    Returns
    -------
    DataFrame
        ``group`` (1 = least promising), ``n``, ``predicted``, ``observed``, ``se``, ``lower``, ``upper``, ``level``, and in the
        last row ``group`` = "last - first" with the ``p_value`` of their difference (Welch).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(0.6 * before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> benefit_groups(data, 2)[["group", "predicted", "observed"]].round(2).values.tolist()
    [['1', 1.14, 1.14], ['2', 3.42, 3.42], ['last - first', 2.28, 2.28]]
    """
    if not 2 <= groups <= data.n // 4:
        raise UsageError(f"{groups} groups of {data.n} patients; give at least 2 groups of at least 4 patients")
    cuts = np.quantile(data.score, np.arange(1, groups) / groups)
    place = np.searchsorted(cuts, data.score, side="left")
    rows = []
    for number in np.unique(place):
        inside = place == number
        rows.append(_group(str(number + 1), data.score[inside], data.spared[inside], level))
    if len(rows) < 2:
        raise RefusalError("benefit: every patient has the same predicted benefit; there are no groups")
    first, last = rows[0], rows[-1]
    se = float(np.hypot(first["se"], last["se"]))
    df = se**4 / (first["se"] ** 4 / (first["n"] - 1) + last["se"] ** 4 / (last["n"] - 1)) if se > 0 else np.inf
    gap = last["observed"] - first["observed"]
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    rows.append(
        {
            "group": "last - first",
            "n": first["n"] + last["n"],
            "predicted": last["predicted"] - first["predicted"],
            "observed": gap,
            "se": se,
            "lower": gap - half,
            "upper": gap + half,
            "level": level,
            "p_value": float(2 * stats.t.sf(abs(gap) / se, df)) if se > 0 else np.nan,
        }
    )
    return pd.DataFrame(rows)


def _group(name: str, score: Floats, spared: Floats, level: float) -> dict[str, Any]:
    n = len(score)
    se = float(spared.std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
    half = float(stats.t.ppf((1 + level) / 2, max(n - 1, 1))) * se
    observed = float(spared.mean())
    return {
        "group": name,
        "n": n,
        "predicted": float(score.mean()),
        "observed": observed,
        "se": se,
        "lower": observed - half,
        "upper": observed + half,
        "level": level,
    }
