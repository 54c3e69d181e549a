"""Ratios of risks and of odds where an arm has no event: a profile-likelihood and an exact bound."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial

from causalms.effects.contrasts import Contrast
from causalms.effects.data import TrialData
from causalms.errors import RefusalError
from causalms.tables import shown, significant


def profile_risk_contrast(data: TrialData, option: str, arm: int, level: float) -> Contrast:
    r"""Risk ratio or odds ratio of an arm without events among n patients, against x events among m, by the profile likelihood.

    With :math:`\ell(r)=\max_p\{x\log p+(m-x)\log(1-p)+n\log(1-q_r(p))\}`, where :math:`q_r(p)` is the arm's risk at ratio r, the
    upper bound solves :math:`2\{\ell(0)-\ell(r)\}=\chi^2_{1,level}` and :math:`p=P(\chi^2_1>2\{\ell(0)-\ell(1)\})`.  There is no
    standard error.

    References
    ----------
    Venzon and Moolgavkar (1988), Applied Statistics 37:87-94.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [1] * 5 + [0] * 5 + [0] * 10, "arm": ["a"] * 10 + ["b"] * 10})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a", kind="binary")
    >>> contrast = profile_risk_contrast(data, "odds-ratio", 1, 0.95)
    >>> contrast.estimate, round(contrast.upper, 4), round(contrast.p_value, 4)
    (0.0, 0.2903, 0.0033)
    """
    from scipy import optimize, stats

    events, size, treated = _counts(data, arm)
    highest = _likelihood(events, size, treated, option, 0.0)

    def fall(ratio: float) -> float:
        return 2 * (highest - _likelihood(events, size, treated, option, ratio))

    limit = float(stats.chi2.ppf(level, 1))
    high = 1.0
    while fall(high) < limit:
        if high > 1e9 or (option == "risk-ratio" and high * events / size > 1e6):
            raise RefusalError("outcome: too few patients for an upper bound of the ratio; ask for `measure=risk-difference`")
        high *= 2
    upper = float(optimize.brentq(lambda ratio: fall(ratio) - limit, 0.0, high, xtol=1e-14))
    return Contrast(0.0, np.nan, 0.0, upper, float(stats.chi2.sf(max(fall(1.0), 0.0), 1)), level)


def _counts(data: TrialData, arm: int) -> tuple[int, int, int]:
    """Events and patients of the reference, and patients of the arm without events."""
    return int(data.outcome[data.arm == 0].sum()), int(data.sizes[0]), int(data.sizes[arm])


def _likelihood(events: int, size: int, treated: int, option: str, ratio: float) -> float:
    """Binomial log likelihood at a ratio, maximised over the reference's risk: the root of its derivative inside its range."""
    from scipy.special import xlog1py, xlogy

    without = size - events
    p = Polynomial([0.0, 1.0])
    if option == "risk-ratio":  # x (1-p)(1-rp) - (m-x) p (1-rp) - n r p (1-p) = 0
        slope = events * (1 - p) * (1 - ratio * p) - without * p * (1 - ratio * p) - treated * ratio * p * (1 - p)
        top = min(1.0, 1 / ratio) if ratio > 0 else 1.0
    else:  # the arm's risk is rp / (1 - p + rp)
        odds = 1 - p + ratio * p
        slope = events * (1 - p) * odds - without * p * odds - treated * ratio * p
        top = 1.0
    roots = np.atleast_1d(slope.trim().roots())
    inside = [float(root.real) for root in roots if abs(root.imag) < 1e-9 and -1e-12 <= root.real <= top + 1e-12]
    values = []
    for risk in np.clip(inside, 0.0, top):
        other = ratio * risk if option == "risk-ratio" else ratio * risk / (1 - risk + ratio * risk) if risk < 1 or ratio else 0.0
        values.append(float(xlogy(events, risk) + xlog1py(without, -risk) + xlog1py(treated, -min(other, 1.0))))
    return max(values)


def exact_risk_note(data: TrialData, arm: int, level: float) -> str:
    """The exact conditional bound of the odds ratio and Fisher's p, in words.

    Given all events, those of the arm are hypergeometric; at the bound none has the probability of one tail.
    """
    from scipy import optimize, stats

    events, size, treated = _counts(data, arm)
    tail = (1 - level) / 2

    def none(log_odds: float) -> float:
        return float(stats.nchypergeom_fisher.pmf(0, size + treated, treated, events, np.exp(log_odds))) - tail

    upper = float(np.exp(optimize.brentq(none, -30.0, 30.0, xtol=1e-12))) if none(30.0) < 0 else np.inf
    p_value = float(stats.fisher_exact([[0, treated], [events, size - events]]).pvalue)
    return (
        f"arm {data.arms[arm]!r} has no event: ratio 0, no standard error; exact conditional upper bound of the odds ratio "
        f"{shown(upper)} (Fisher's exact p {significant(p_value, 2)})"
    )
