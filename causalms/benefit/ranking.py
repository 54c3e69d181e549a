"""How well a predicted benefit ranks patients: AUTOC and Qini, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.benefit.predict import Benefit, benefit_row
from causalms.benefit.redraws import Floats
from causalms.benefit.statistics import Pair, rank_areas
from causalms.benefit.studentised import REDRAWS, NullDistribution, studentised
from causalms.errors import RefusalError
from causalms.tables import results_table

RANKINGS = {"AUTOC": "area under the targeting operator characteristic", "Qini": "area under the Qini curve"}


def ranking(data: Benefit, level: float = 0.95, redraws: int = REDRAWS, seed: int = 0) -> pd.DataFrame:
    r"""Rank-weighted average treatment effects of a predicted benefit.

    .. math::
        TOC(u) = E[Y(0) - Y(1) \mid \text{among the } u \text{ most promising}] - E[Y(0) - Y(1)], \quad
        AUTOC = \int_0^1 TOC(u)\,du, \quad Qini = \int_0^1 u\,TOC(u)\,du

    Both are zero if the ranking knows nothing.  AUTOC weighs the most promising few, Qini the many.

    Parameters
    ----------
    data : Benefit
    level : float
    redraws : int
        Trials drawn again for the quantiles of (estimate - truth) / se; 0 takes those of t.
    seed : int
        Of the redraws.

    Returns
    -------
    DataFrame
        Results table of two rows.

    Raises
    ------
    RefusalError
        If every patient has the same predicted benefit.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill, Wager (2025), JASA 120:38.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> ranking(data)[["measure", "estimate"]].round(2).values.tolist()
    [['AUTOC', 1.52], ['Qini', 0.41]]
    """
    if data.constant:
        raise RefusalError("benefit: every patient has the same predicted benefit; nothing can be ranked")
    values, ses = _areas(data.score, data.spared)
    again = data.redraws(redraws, seed)
    drawn = None
    if again is not None:
        drawn = studentised(*rank_areas(again.spared), rank_areas(again.law_spared)[0])
    null_distribution = NullDistribution(drawn, data.n - 1)
    lower, upper = null_distribution.interval(values, ses, level)
    p = null_distribution.p_value(values, ses)
    return results_table(
        [
            benefit_row(
                data,
                "ranking",
                name,
                f"{RANKINGS[name]} of the predicted benefit: lesions spared",
                null_distribution.name,
                estimate=values[at],
                se=ses[at],
                lower=lower[at],
                upper=upper[at],
                level=level,
                p_value=p[at],
            )
            for at, name in enumerate(RANKINGS)
        ]
    )


def areas(score: Floats, spared: Floats) -> Floats:
    """AUTOC and Qini of patients in falling order of score; tied patients share their average, as if ordered at random."""
    return _areas(score, spared)[0]


def _areas(score: Floats, spared: Floats) -> Pair:
    order = np.argsort(-score, kind="stable")
    ties = np.cumsum(np.diff(score[order], prepend=score[order[0]]) != 0)
    return rank_areas(spared[order], ties)
