"""The fit of one sample: the shared loop with one replicate, a refusal in words where none exists, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalms.errors import ConvergenceError, RefusalError
from causalms.stats.batched import Batch, fit_batch
from causalms.stats.glm import LOG_LINK, Array, Family, Fit
from causalms.stats.limits import Limit, determined, limit_of_fit
from causalms.stats.negbin import log_likelihood


def fit_model(family: Family, X: Array, y: Array, exposure: Array | None = None) -> Fit:
    r"""Maximum-likelihood fit of a working model.

    Counts: :math:`\log E[Y] = \log(\mathrm{exposure}) + x'\beta`; binary outcomes: :math:`\mathrm{logit} E[Y] = x'\beta`;
    means: :math:`E[Y] = x'\beta` by least squares.  ``negbin`` adds :math:`\mathrm{Var}(Y) = \mu + \alpha\mu^2` and
    maximises over both; when the score of alpha at zero, :math:`\tfrac12\sum (y-\mu)^2 - y`, is not positive, the maximum is
    the Poisson model: the fit then has ``alpha = 0`` and ``at_poisson_boundary``.

    Parameters
    ----------
    family : {"poisson", "negbin", "logistic", "linear"}
    X : array (n, p)
        Full-rank design matrix, intercept included.
    y : array (n,)
    exposure : array (n,), optional
        Time at risk (not its logarithm); only with a log link.

    Returns
    -------
    Fit

    Raises
    ------
    RefusalError
        No event at all, or covariates that separate a binary outcome.
    ConvergenceError
        Newton's method did not reach the maximum, or covariates are collinear.

    References
    ----------
    McCullagh and Nelder (1989), Generalized Linear Models, 2nd ed.; Lawless (1987), Canadian Journal of Statistics
    15:209-225.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(4), [0, 0, 1, 1]])
    >>> fit = fit_model("poisson", X, np.array([4.0, 6.0, 2.0, 3.0]))
    >>> np.exp(fit.coefficients).round(6)
    array([5. , 0.5])
    """
    exposure = np.ones(len(y)) if exposure is None else np.asarray(exposure, float)
    X, y = np.asarray(X, float), np.asarray(y, float)
    if family in LOG_LINK and y.sum() <= 0:
        raise RefusalError("outcome: all counts are zero, so no rate can be compared; choose another outcome or visit")
    fit = fit_batch(family, Batch(X, y[None], exposure[None]), exact=True)
    if not fit.converged[0]:
        raise _failure(family, fit.reason[0])
    return Fit(family, X, y, exposure, fit.coefficients[0], float(fit.alpha[0]))


def fit_or_limit(family: Family, X: Array, y: Array, exposure: Array | None = None) -> Fit:
    """The fit, or its limit where a level of a covariate has no event (or only events): predictions there are 0 (or 1).

    Parameters
    ----------
    family, X, y, exposure
        As for :func:`fit_model`.

    Returns
    -------
    Fit
        ``limit`` says who is predicted 0 or 1; coefficients are those of the other patients.

    Raises
    ------
    RefusalError, ConvergenceError
        Those of :func:`fit_model` where there is no limit either.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(6), [0, 0, 0, 0, 1, 1]])
    >>> fit_or_limit("poisson", X, np.array([1.0, 2, 0, 3, 0, 0])).mean.round(6).tolist()
    [1.5, 1.5, 1.5, 1.5, 0.0, 0.0]
    """
    X, y = np.asarray(X, float), np.asarray(y, float)
    whole = determined(X)
    if not whole.all():  # an interaction with a level that an arm lacks: left out, as in R
        part = fit_or_limit(family, X[:, whole], y, exposure)
        return _among_all(part, X, whole)
    try:
        fit = fit_model(family, X, y, exposure)
        if family == "linear" or _inside(fit):
            return fit
    except (RefusalError, ConvergenceError):
        limit = None if family == "linear" else limit_of_fit(family, X, y)
        if limit is None or (not y[limit[1]].any() if family in LOG_LINK else not limit[1].any()):
            raise
    else:
        limit = limit_of_fit(family, X, y)
        if limit is None:
            return fit
    infinite, left = limit
    time = np.ones(len(y)) if exposure is None else np.asarray(exposure, float)
    finite = fit_model(family, X[left][:, infinite.kept], y[left], time[left])
    coefficients = np.zeros(X.shape[1])
    coefficients[infinite.kept] = finite.coefficients
    return Fit(family, X, y, time, coefficients, finite.alpha, limit=infinite)


def _among_all(part: Fit, X: Array, whole: NDArray[np.bool_]) -> Fit:
    """A fit of the columns that no others give, as one of all columns; the others have coefficient 0 and no variance."""
    limit = part.limit or Limit(np.empty((0, int(whole.sum()))), np.ones(int(whole.sum()), dtype=bool))
    kept, directions, coefficients = (
        np.zeros(len(whole), bool),
        np.zeros((len(limit.directions), len(whole))),
        np.zeros(len(whole)),
    )
    kept[whole], directions[:, whole], coefficients[whole] = limit.kept, limit.directions, part.coefficients
    return Fit(part.family, X, part.y, part.exposure, coefficients, part.alpha, limit=Limit(directions, kept))


def _inside(fit: Fit) -> bool:
    """Whether no prediction is so near its end that the maximum may lie at infinity."""
    rate = fit.predict(fit.X)
    return bool(rate.min() > 1e-8 * rate.max() and (fit.family != "logistic" or rate.max() < 1 - 1e-8))


def _failure(family: Family, reason: str) -> Exception:
    """Why a single sample has no fit, in words."""
    if reason == "separated":
        return RefusalError(
            "outcome: the arms or covariates separate patients with an event from those without (no finite logistic fit); "
            "leave out the covariate that does, or use the unadjusted estimator"
        )
    if reason == "singular":
        return ConvergenceError(
            "the working model has no finite fit: covariates are collinear, too large, "
            "or single out patients without events; leave these out"
        )
    if family == "negbin":
        return ConvergenceError(
            "the negative-binomial working model did not converge; use the Poisson working model or fewer covariates"
        )
    return ConvergenceError(f"the {family} working model did not converge; leave out covariates")


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
