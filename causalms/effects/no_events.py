"""An arm without events: ratios of rates, risks and odds at 0 or without a bound, by profile likelihood and an exact bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.polynomial import Polynomial

from causalms.effects.contrasts import Contrast
from causalms.effects.data import TrialData
from causalms.effects.tests import null_fit
from causalms.errors import ConvergenceError, RefusalError
from causalms.stats import Family, fit_model, log_likelihood
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


def silent_arms(data: TrialData) -> tuple[int, ...]:
    """Indices of the arms in which no patient has an event."""
    events = np.bincount(data.arm, weights=data.outcome, minlength=len(data.arms))
    return tuple(int(arm) for arm in np.flatnonzero(events == 0))


def profile_contrast(data: TrialData, family: Family, arm: int, level: float) -> Contrast:
    r"""Rate ratio of an arm without events against a reference with events, by the profile likelihood.

    With :math:`\ell(b)` the log-likelihood maximised over all but the arm's log rate ratio b, :math:`\ell(-\infty)` that of the
    reference alone, the estimate is 0, the upper bound solves :math:`2\{\ell(-\infty) - \ell(b)\} = \chi^2_{1,\,level}` and
    :math:`p = P(\chi^2_1 > 2\{\ell(-\infty) - \ell(0)\})`.  There is no standard error.

    Raises
    ------
    ConvergenceError
        A fit of the profile has no finite maximum.

    References
    ----------
    Venzon and Moolgavkar (1988), Applied Statistics 37:87-94.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [6, 2, 4, 5, 0, 0, 0, 0], "arm": list("aaaabbbb")})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a")
    >>> contrast = profile_contrast(data, "poisson", 1, 0.95)
    >>> contrast.estimate, round(contrast.upper, 4), round(contrast.p_value, 7)
    (0.0, 0.1196, 1.2e-06)
    """
    from scipy import optimize, stats

    pair, null = null_fit(data, family, arm)
    treated = pair.arm == arm
    alone = fit_model(family, _full_rank(null.X[~treated]), pair.outcome[~treated], pair.exposure[~treated])
    highest = log_likelihood(alone)

    def deviance(log_ratio: float) -> float:
        time = pair.exposure * np.where(treated, np.exp(log_ratio), 1.0)
        return float(2 * (highest - log_likelihood(fit_model(family, null.X, pair.outcome, time))))

    limit = float(stats.chi2.ppf(level, 1))
    low, high = -1.0, 0.0
    while deviance(high) < limit:
        low, high = high, high + 1
        if high > 40:
            raise ConvergenceError("an arm without events: the profile likelihood has no upper bound; adjust for less")
    while deviance(low) > limit:
        low, high = low - 2, low
    upper = float(np.exp(optimize.brentq(lambda b: deviance(b) - limit, low, high, xtol=1e-10)))
    p_value = float(stats.chi2.sf(max(deviance(0.0), 0.0), 1))
    return Contrast(0.0, np.nan, 0.0, upper, p_value, level)


def difference_contrast(data: TrialData, kind: str, arm: int, level: float) -> Contrast:
    r"""Difference of rates or risks where one of the two arms has no event, from the limits of each arm.

    With an arm's estimate :math:`m_a` and limits :math:`l_a, u_a`,

    .. math:: \Big(d-\sqrt{(m_1-l_1)^2+(u_0-m_0)^2},\; d+\sqrt{(u_1-m_1)^2+(m_0-l_0)^2}\Big), \qquad d=m_1-m_0.

    Limits of a risk are Wilson's; those of a rate with events Wald's on the log scale from the spread of its patients; those of a
    rate without events 0 and, by the likelihood ratio with the other arm's dispersion :math:`\alpha`, the u that solves
    :math:`\tfrac{2}{\alpha}\sum_i\log(1+\alpha u E_i)=\chi^2_{1,\,level}`.  There is no standard error; p is that of
    the likelihood ratio for rates, of Fisher's exact test for risks.

    References
    ----------
    Zou and Donner (2008), Statistics in Medicine 27:1693-1702; Newcombe (1998), Statistics in Medicine 17:873-890.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [6, 2, 4, 5, 0, 0, 0, 0], "arm": list("aaaabbbb")})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a")
    >>> contrast = difference_contrast(data, "rate", 1, 0.95)
    >>> contrast.estimate, round(contrast.lower, 2), round(contrast.upper, 2)
    (-4.25, -6.3, -2.79)
    """
    from scipy import stats

    m, low, high = np.transpose([_arm_limits(data, kind, one, (0, arm), level) for one in (0, arm)])
    d = m[1] - m[0]
    lower, upper = d - np.hypot(m[1] - low[1], high[0] - m[0]), d + np.hypot(high[1] - m[1], m[0] - low[0])
    if kind == "risk":
        events = [int(data.outcome[data.arm == one].sum()) for one in (0, arm)]
        p_value = float(stats.fisher_exact([events, [int(data.sizes[0]) - events[0], int(data.sizes[arm]) - events[1]]]).pvalue)
    else:
        p_value = _likelihood_ratio_p(data, arm, level)
    return Contrast(float(d), np.nan, float(lower), float(upper), p_value, level)


def _arm_limits(data: TrialData, kind: str, arm: int, pair: tuple[int, int], level: float) -> tuple[float, float, float]:
    """Estimate and limits of one arm."""
    from scipy import optimize, stats

    rows = data.arm == arm
    y, time = data.outcome[rows], data.exposure[rows]
    z, mean, n = float(stats.norm.ppf((1 + level) / 2)), float(y.sum() / time.sum()), len(y)
    if kind == "risk":
        centre = (mean + z**2 / 2 / n) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(mean * (1 - mean) / n + z**2 / 4 / n**2)
        return mean, max(0.0, float(centre - half)), min(1.0, float(centre + half))
    if y.any():
        se = float(np.sqrt(np.var(y - time * mean, ddof=1) / n) / time.mean() / mean)
        return mean, float(mean * np.exp(-z * se)), float(mean * np.exp(z * se))
    other = data.arm == next(one for one in pair if one != arm)
    alpha = float(fit_model("negbin", np.ones((int(other.sum()), 1)), data.outcome[other], data.exposure[other]).alpha)
    limit = float(stats.chi2.ppf(level, 1)) / 2
    if alpha == 0:
        return 0.0, 0.0, limit / float(time.sum())
    highest = np.expm1(alpha * limit) / alpha / time.max()  # the bound if this patient were alone
    return 0.0, 0.0, float(optimize.brentq(lambda u: np.log1p(alpha * u * time).sum() / alpha - limit, 0.0, highest, xtol=1e-14))


def _likelihood_ratio_p(data: TrialData, arm: int, level: float) -> float:
    """P of the likelihood ratio, whichever of the two arms has no event."""
    if data.outcome[data.arm == arm].sum() == 0:
        return profile_contrast(data, "negbin", arm, level).p_value
    swapped = np.where(data.arm == 0, arm, np.where(data.arm == arm, 0, data.arm))
    return profile_contrast(replace(data, arm=swapped), "negbin", arm, level).p_value


def _full_rank(X: np.ndarray) -> np.ndarray:
    """Columns that are not told by those before them."""
    kept: list[int] = []
    for index in range(X.shape[1]):
        if np.linalg.matrix_rank(X[:, [*kept, index]]) > len(kept):
            kept.append(index)
    return X[:, kept]


def exact_note(data: TrialData, arm: int, level: float) -> str:
    r"""The exact conditional bound and p-value that Poisson counts without covariates would have, in words.

    Given T events in all, those of the arm are binomial; none of them has probability :math:`\{E_0/(E_0 + rE_1)\}^T`.

    References
    ----------
    Przyborowski and Wilenski (1940), Biometrika 31:313-323.
    """
    events = float(data.outcome[data.arm == 0].sum())
    time = [float(data.exposure[data.arm == index].sum()) for index in (0, arm)]
    upper = time[0] / time[1] * (((1 - level) / 2) ** (-1 / events) - 1)
    p_value = min(1.0, 2 * (time[0] / (time[0] + time[1])) ** events)
    return (
        f"arm {data.arms[arm]!r} has no event: ratio 0, no standard error; were counts Poisson, the exact conditional upper "
        f"bound would be {shown(upper)} (p {significant(p_value, 2)})"
    )
