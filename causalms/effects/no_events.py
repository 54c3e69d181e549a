"""An arm without events: a ratio of 0 with a profile-likelihood upper bound, a likelihood-ratio p-value and an exact bound."""

from __future__ import annotations

import numpy as np

from causalms.effects.contrasts import Contrast
from causalms.effects.data import TrialData
from causalms.effects.tests import null_fit
from causalms.errors import ConvergenceError
from causalms.stats import Family, fit_model, log_likelihood
from causalms.tables import significant


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
        f"bound would be {significant(upper, 4)} (p {significant(p_value, 2)})"
    )
