"""The arm's coefficient by Firth's penalised likelihood: finite where an arm or a level has few events, or none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalms.effects.contrasts import Contrast
from causalms.effects.covariance import Covariance
from causalms.effects.data import TrialData
from causalms.effects.design import Settings
from causalms.effects.means import design
from causalms.errors import ConvergenceError
from causalms.stats import Fit, fit_firth, penalised_likelihood

#: How far from the estimate, in standard errors, a limit is looked for.
_FARTHEST = 64.0


def firth_contrasts(data: TrialData, settings: Settings) -> tuple[Fit, Covariance, tuple[Contrast, ...]]:
    r"""Odds ratios (logistic) or rate ratios (Poisson) with limits of the penalised profile likelihood.

    With :math:`\ell^*` the penalised log likelihood, limits solve
    :math:`2\{\ell^*(\hat\beta)-\ell^*(b)\}=\chi^2_{1,level}` and p is that of :math:`2\{\ell^*(\hat\beta)-\ell^*(0)\}`.

    Raises
    ------
    ConvergenceError
        A limit lies beyond 64 standard errors.

    References
    ----------
    Heinze and Schemper (2002), Statistics in Medicine 21:2409-2419.
    """
    fit = fit_firth(settings.family, design(data, False), data.outcome, data.exposure)
    contrasts = tuple(_contrast(data, fit, arm, settings.level) for arm in range(1, len(data.arms)))
    return fit, Covariance(fit.inverse_information, "penalised profile likelihood (Firth), likelihood-ratio p"), contrasts


def _contrast(data: TrialData, fit: Fit, arm: int, level: float) -> Contrast:
    from scipy import stats

    best, value = penalised_likelihood(fit), float(fit.coefficients[arm])
    se = float(np.sqrt(fit.inverse_information[arm, arm]))

    def fall(at: float) -> float:
        held = fit_firth(fit.family, fit.X, data.outcome, data.exposure, fixed=(arm, at))
        return 2 * (best - penalised_likelihood(held))

    limit = float(stats.chi2.ppf(level, 1))
    lower, upper = (_limit(fall, value, side * se, limit) for side in (-1, 1))
    p_value = float(stats.chi2.sf(max(fall(0.0), 0.0), 1))
    return Contrast(float(np.exp(value)), se, float(np.exp(lower)), float(np.exp(upper)), p_value, level)


def _limit(fall: Callable[[float], float], value: float, step: float, limit: float) -> float:
    """Where the penalised likelihood has fallen by the limit, beyond ``value`` in the direction of ``step``."""
    from scipy import optimize

    reach = 2.0
    while fall(value + reach * step) < limit:
        reach *= 2
        if reach > _FARTHEST:
            raise ConvergenceError("Firth's penalised likelihood does not bound the arm's effect; leave out covariates")
    return float(optimize.brentq(lambda at: fall(at) - limit, *sorted((value, value + reach * step)), xtol=1e-11))
