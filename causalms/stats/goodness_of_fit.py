"""Log-likelihood, deviance and AIC of a fitted working model, and the dispersion of a negative binomial with its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.stats.glm import Fit
from causalms.stats.negbin import log_likelihood


@dataclass(frozen=True)
class Goodness:
    r"""What a plan asks for beside the coefficients.

    Attributes
    ----------
    log_likelihood : float
        With the constants of the data.
    deviance : float
        Twice the log-likelihood ratio to the saturated model; of a linear model the residual sum of squares.
    residual_degrees : int
    aic : float
        :math:`-2\ell + 2k`, the dispersion (or residual variance) counted in k.
    theta, theta_se : float
        Size :math:`\theta=1/\alpha` of a negative binomial and its standard error at the fitted means, as R's ``glm.nb``.
    """

    log_likelihood: float
    deviance: float
    residual_degrees: int
    aic: float
    theta: float = np.nan
    theta_se: float = np.nan

    @property
    def alpha(self) -> float:
        """Dispersion: variance = mean + alpha mean^2."""
        return 1 / self.theta

    @property
    def alpha_se(self) -> float:
        """Standard error of the dispersion, by the delta method."""
        return self.theta_se / self.theta**2


def goodness(fit: Fit) -> Goodness:
    """Log-likelihood, deviance, AIC and dispersion of a single fit.

    References
    ----------
    Venables and Ripley (2002), Modern Applied Statistics with S, section 7.4.

    Examples
    --------
    >>> from causalms.stats.single_fit import fit_model
    >>> fit = fit_model("poisson", np.ones((4, 1)), np.array([1.0, 2, 3, 2]))
    >>> summary = goodness(fit)
    >>> [round(value, 4) for value in (summary.log_likelihood, summary.deviance, summary.aic)]
    [-5.6329, 1.0465, 13.2658]
    """
    from scipy.special import polygamma, xlogy

    y, mean, (n, p) = fit.y, fit.mean, fit.X.shape
    p = p if fit.limit is None else int(fit.limit.kept.sum())
    theta = theta_se = np.nan
    if fit.family == "linear":
        squares = float(((y - mean) ** 2).sum())
        value, deviance = -n / 2 * (np.log(2 * np.pi * squares / n) + 1), squares
    elif fit.family == "logistic":
        value = float((xlogy(y, mean) + xlogy(1 - y, 1 - mean)).sum())
        deviance = -2 * value
    else:
        value = float(log_likelihood(fit))
        alpha = float(fit.alpha)
        deviance = 2 * float((xlogy(y, y) - xlogy(y, mean) - (y - mean)).sum())
        if alpha > 0:
            theta = 1 / alpha
            ratio = np.log((y + theta) / (mean + theta))
            deviance = 2 * float((xlogy(y, y) - xlogy(y, mean) - (y + theta) * ratio).sum())
            own = (
                polygamma(1, theta) - polygamma(1, theta + y) - 1 / theta + 2 / (mean + theta) - (y + theta) / (mean + theta) ** 2
            )
            theta_se = float(own.sum()) ** -0.5
    scale = fit.family in ("linear", "negbin")
    return Goodness(float(value), deviance, n - p, float(-2 * value + 2 * (p + scale)), theta, theta_se)
