"""How well a predicted benefit ranks patients: AUTOC and Qini, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from causalms.subgroups.benefit import Benefit, Floats
from causalms.tables import results_table

RANKINGS = {"AUTOC": "area under the targeting operator characteristic", "Qini": "area under the Qini curve"}


def ranking(data: Benefit, level: float = 0.95, resamples: int = 500, seed: int = 0) -> pd.DataFrame:
    r"""Rank-weighted average treatment effects of a predicted benefit.

    .. math::
        TOC(u) = E[Y(0) - Y(1) \mid \text{among the } u \text{ most promising}] - E[Y(0) - Y(1)], \quad
        AUTOC = \int_0^1 TOC(u)\,du, \quad Qini = \int_0^1 u\,TOC(u)\,du

    Both are zero if the ranking knows nothing.  AUTOC weighs the most promising few, Qini the many.

    Parameters
    ----------
    data : Benefit
    level : float
    resamples : int
        Half-sample bootstrap of patients, ranked anew in each.
    seed : int

    Returns
    -------
    DataFrame
        Results table of two rows.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill, Wager (2025), JASA 120:38.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> ranking(data, resamples=100)[["measure", "estimate"]].round(2).values.tolist()
    [['AUTOC', 1.52], ['Qini', 0.41]]
    """
    order = np.argsort(-data.score, kind="stable")
    score, spared = data.score[order], data.spared[order]
    values = areas(score, spared)
    rng = np.random.default_rng(seed)
    half = data.n // 2
    again = np.empty((resamples, 2))
    for number in range(resamples):
        rows = np.sort(rng.choice(data.n, half, replace=False))
        again[number] = areas(score[rows], spared[rows])
    # A half sample without replacement varies by (1/half - 1/n) sigma^2; the whole sample by sigma^2 / n.
    ses = again.std(axis=0, ddof=1) * np.sqrt(half / (data.n - half))
    quantile = float(stats.norm.ppf((1 + level) / 2))
    return results_table(
        [
            {
                "analysis": "benefit: ranking",
                "population": data.population,
                "subgroup": "all",
                "arm": data.drug,
                "reference": data.reference,
                "measure": name,
                "estimand": f"{RANKINGS[name]} of the predicted benefit: lesions spared",
                "estimator": "augmented inverse-probability scores, predictions held out",
                "variance": f"half-sample bootstrap of patients ({resamples})",
                "estimate": value,
                "se": se,
                "lower": value - quantile * se,
                "upper": value + quantile * se,
                "level": level,
                "p_value": float(2 * stats.norm.sf(abs(value) / se)) if se > 0 else np.nan,
                "n": data.n,
                "se_patient": se,
                "randomised": True,
                "rung": 2,
            }
            for name, value, se in zip(RANKINGS, values, ses, strict=True)
        ]
    )


def areas(score: Floats, spared: Floats) -> Floats:
    """AUTOC and Qini of patients in falling order of score; tied patients share their average, as if ordered at random."""
    n = len(score)
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
    sizes = np.diff(np.concatenate([starts, [n]]))
    level = np.repeat(np.add.reduceat(spared, starts) / sizes, sizes)
    among = np.arange(1, n + 1)
    excess = np.cumsum(level) / among - spared.mean()
    return np.array([excess.mean(), (among / n * excess).mean()])
