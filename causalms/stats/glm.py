"""Step 1, the working model: Poisson, logistic and linear regression by Newton's method, with exposure as time at risk.

The negative-binomial model has a file of its own, :mod:`causalms.stats.negbin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from causalms.errors import ConvergenceError, RefusalError

Array = NDArray[np.float64]
Family = Literal["poisson", "negbin", "logistic", "linear"]

FAMILIES: tuple[Family, ...] = ("poisson", "negbin", "logistic", "linear")
#: Families whose linear predictor is the log of the mean, so that exposure can enter as an offset.
LOG_LINK: tuple[Family, ...] = ("poisson", "negbin")
_ITERATIONS = 100
_TOLERANCE = 1e-11
_SEPARATION = 30.0


@dataclass(frozen=True)
class Fit:
    """A fitted working model.

    Attributes
    ----------
    family : {"poisson", "negbin", "logistic", "linear"}
    X : array (n, p)
        Design matrix.
    y : array (n,)
    exposure : array (n,)
        Time at risk; ones where none was given.
    coefficients : array (p,)
    alpha : float
        Negative-binomial dispersion: variance = mean + alpha mean^2; 0 for the other families.
    converged : bool
        True whenever a fit is returned: a fit that does not converge raises instead.
    at_poisson_boundary : bool
        The negative-binomial likelihood is largest at alpha = 0.
    """

    family: Family
    X: Array
    y: Array
    exposure: Array
    coefficients: Array
    alpha: float = 0.0
    converged: bool = True
    at_poisson_boundary: bool = False

    @property
    def mean(self) -> Array:
        """Fitted mean of each patient's outcome over the patient's own exposure, shape (n,)."""
        return self.exposure * self.predict(self.X)

    def predict(self, X: Array) -> Array:
        """Mean outcome for unit exposure at the rows of ``X``, shape (n,)."""
        return inverse_link(self.family, X @ self.coefficients)

    @property
    def slope(self) -> Array:
        """Derivative of the fitted mean by the linear predictor, shape (n,)."""
        mean = self.mean
        return {"logistic": mean * (1 - mean), "linear": np.ones_like(mean)}.get(self.family, mean)

    @property
    def variance_function(self) -> Array:
        """Variance of each outcome under the model, up to the scale of the linear model, shape (n,)."""
        mean = self.mean
        if self.family == "linear":
            return np.ones_like(mean)
        return mean * (1 - mean) if self.family == "logistic" else mean + self.alpha * mean**2

    @property
    def weights(self) -> Array:
        """Working weights slope^2 / variance, shape (n,)."""
        return self.slope**2 / self.variance_function

    @property
    def scores(self) -> Array:
        """Derivative of each patient's log likelihood by the coefficients, shape (n, p)."""
        return self.X * (self.slope / self.variance_function * (self.y - self.mean))[:, None]

    @property
    def information(self) -> Array:
        """Expected information of the coefficients X'WX, shape (p, p), for unit scale."""
        return (self.X * self.weights[:, None]).T @ self.X

    @property
    def leverage(self) -> Array:
        """Diagonal of the weighted hat matrix, shape (n,)."""
        root = self.X * np.sqrt(self.weights)[:, None]
        return np.einsum("ij,jk,ik->i", root, np.linalg.inv(self.information), root)


def inverse_link(family: Family, eta: Array) -> Array:
    """Mean for a linear predictor: exp for counts, logistic for binary outcomes, identity for the linear model.

    Examples
    --------
    >>> import numpy as np
    >>> inverse_link("logistic", np.array([0.0]))
    array([0.5])
    """
    if family == "linear":
        return eta
    if family == "logistic":
        return 0.5 * (1 + np.tanh(eta / 2))
    return np.exp(np.clip(eta, -700, 700))


def fit_model(family: Family, X: Array, y: Array, exposure: Array | None = None) -> Fit:
    r"""Maximum-likelihood fit of a working model.

    Counts: :math:`\log E[Y] = \log(\mathrm{exposure}) + x'\beta`; binary outcomes: :math:`\mathrm{logit} E[Y] = x'\beta`;
    means: :math:`E[Y] = x'\beta` by least squares.

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
        Newton's method did not reach the maximum.

    References
    ----------
    McCullagh and Nelder (1989), Generalized Linear Models, 2nd ed.

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
    if family == "linear":
        return Fit(family, X, y, exposure, np.asarray(np.linalg.lstsq(X, y, rcond=None)[0], dtype=float))
    if family == "negbin":
        from causalms.stats.negbin import fit_negbin

        return fit_negbin(X, y, exposure)
    return _newton(family, X, y, exposure)


def _newton(family: Family, X: Array, y: Array, exposure: Array) -> Fit:
    beta = starting_values(family, X, y, exposure)
    fit = Fit(family, X, y, exposure, beta)
    for _ in range(_ITERATIONS):
        step = newton_step(fit.information, fit.scores.sum(axis=0))
        new, fit = _damped(fit, step)
        if family == "logistic" and np.abs(X @ new).max() > _SEPARATION:
            raise RefusalError(
                "outcome: the arms or covariates separate patients with an event from those without (no finite logistic fit); "
                "leave out the covariate that does, or use the unadjusted estimator"
            )
        if np.abs(step).max() < _TOLERANCE * (1 + np.abs(new).max()):
            return fit
    raise ConvergenceError(f"the {family} working model did not converge in {_ITERATIONS} steps; leave out covariates")


def starting_values(family: Family, X: Array, y: Array, exposure: Array) -> Array:
    """Starting coefficients: least squares on a linear predictor smoothed towards the overall rate."""
    if family == "logistic":
        eta = np.log((y + 0.5) / (1.5 - y))
    else:
        if y.sum() <= 0:
            raise RefusalError("outcome: all counts are zero, so no rate can be compared; choose another outcome or visit")
        rate = y.sum() / exposure.sum()
        eta = np.log((y + rate * exposure.mean()) / (exposure + exposure.mean()))
    return np.asarray(np.linalg.lstsq(X, eta, rcond=None)[0])


def newton_step(information: Array, gradient: Array) -> Array:
    """Solve information x step = gradient; a singular matrix is an error in words."""
    try:
        step: Array = np.asarray(np.linalg.solve(information, gradient), dtype=float)
    except np.linalg.LinAlgError:
        step = np.full_like(gradient, np.nan)
    if not np.isfinite(step).all():
        raise ConvergenceError(
            "the working model has no finite fit: covariates are collinear, too large, "
            "or single out patients without events; leave these out"
        )
    return step


def _damped(fit: Fit, step: Array) -> tuple[Array, Fit]:
    """Take the step, halved until the log likelihood does not fall."""
    now = _log_likelihood(fit)
    for halving in range(30):
        beta = fit.coefficients + step / 2**halving
        candidate = Fit(fit.family, fit.X, fit.y, fit.exposure, beta)
        if _log_likelihood(candidate) >= now - 1e-9 * (1 + abs(now)):
            break
    return beta, candidate


def _log_likelihood(fit: Fit) -> float:
    """Log likelihood up to a constant of the data."""
    eta = fit.X @ fit.coefficients
    if fit.family == "logistic":
        return float(fit.y @ eta - np.logaddexp(0, eta).sum())
    return float(fit.y @ eta - fit.mean.sum())
