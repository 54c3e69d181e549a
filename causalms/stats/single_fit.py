"""The fit of one sample: the shared loop with one replicate, and a refusal in words where none exists."""

from __future__ import annotations

import numpy as np

from causalms.errors import ConvergenceError, RefusalError
from causalms.stats.batched import Batch, fit_batch
from causalms.stats.glm import LOG_LINK, Array, Family, Fit


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
