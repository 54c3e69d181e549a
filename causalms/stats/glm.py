"""Step 1, the working model: Poisson, negative-binomial, logistic and linear regression, with exposure as time at risk.

One loop fits one sample or many: :mod:`causalms.stats.batched`.  This file holds what a fit is and refuses what has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from causalms.stats.limits import Limit, determined

Array = NDArray[np.float64]
Family = Literal["poisson", "negbin", "logistic", "linear"]

FAMILIES: tuple[Family, ...] = ("poisson", "negbin", "logistic", "linear")
#: Families whose linear predictor is the log of the mean, so that exposure can enter as an offset.
LOG_LINK: tuple[Family, ...] = ("poisson", "negbin")


@dataclass(frozen=True)
class Fit:
    """A fitted working model, or R of them: every array may have a leading axis of replicates, shown as ``...``.

    Attributes
    ----------
    family : {"poisson", "negbin", "logistic", "linear"}
    X : array (..., n, p)
        Design matrix.
    y : array (..., n)
    exposure : array (..., n)
        Time at risk; ones where none was given.
    coefficients : array (..., p)
    alpha : float or array (...)
        Negative-binomial dispersion: variance = mean + alpha mean^2; 0 for the other families.
    converged : bool
        True whenever a single fit is returned: one that does not converge raises instead.
    limit : Limit, optional
        Of a single fit whose maximum lies at infinity (:func:`causalms.stats.fit_or_limit`): who is predicted 0 or 1.
    """

    family: Family
    X: Array
    y: Array
    exposure: Array
    coefficients: Array
    alpha: float | Array = 0.0
    converged: bool = True
    limit: Limit | None = None

    @property
    def at_poisson_boundary(self) -> bool:
        """Whether the negative-binomial likelihood is largest at alpha = 0."""
        return self.family == "negbin" and bool(np.all(self.alpha == 0))

    @property
    def rank(self) -> int:
        """Number of coefficients, without those of columns that others give."""
        return int(self.X.shape[-1] if self.limit is None else determined(self.X).sum())

    @cached_property
    def mean(self) -> Array:
        """Fitted mean of each patient's outcome over the patient's own exposure, shape (..., n)."""
        return np.asarray(self.exposure * self.predict(self.X))

    def predict(self, X: Array) -> Array:
        """Mean outcome for unit exposure at the rows of ``X``, shape (..., n)."""
        finite = inverse_link(self.family, np.asarray((X @ self.coefficients[..., None])[..., 0]))
        return finite if self.limit is None else self.limit.predictions(X, finite, self.family)

    @property
    def slope(self) -> Array:
        """Derivative of the fitted mean by the linear predictor, shape (..., n)."""
        return mean_slope(self.family, self.mean)

    @property
    def variance_function(self) -> Array:
        """Variance of each outcome under the model, up to the scale of the linear model, shape (..., n)."""
        mean = self.mean
        if self.family == "linear":
            return np.ones_like(mean)
        return mean * (1 - mean) if self.family == "logistic" else mean + np.asarray(self.alpha)[..., None] * mean**2

    @property
    def weights(self) -> Array:
        """Working weights slope^2 / variance, shape (..., n)."""
        return _ratio(self.slope**2, self.variance_function)

    @cached_property
    def scores(self) -> Array:
        """Derivative of each patient's log likelihood by the coefficients, shape (..., n, p)."""
        return np.asarray(self.X * self.predictor_scores[..., None])

    @property
    def predictor_scores(self) -> Array:
        """Derivative of each patient's log likelihood by its linear predictor, shape (..., n)."""
        return _ratio(self.slope, self.variance_function) * (self.y - self.mean)

    @cached_property
    def information(self) -> Array:
        """Expected information of the coefficients X'WX, shape (..., p, p), for unit scale."""
        return np.asarray(np.swapaxes(self.X * self.weights[..., None], -1, -2) @ self.X)

    @cached_property
    def inverse_information(self) -> Array:
        """Inverse of the expected information, over the finite coefficients, shape (..., p, p)."""
        return self.inverse(self.information)

    def inverse(self, matrix: Array) -> Array:
        """Inverse of a matrix over the coefficients (and what follows them); zero for coefficients at infinity."""
        return np.asarray(np.linalg.inv(matrix)) if self.limit is None else self.limit.inverse(matrix)

    @cached_property
    def leverage(self) -> Array:
        """Diagonal of the weighted hat matrix, shape (..., n)."""
        return np.asarray(((self.X @ self.inverse_information) * self.X).sum(axis=-1) * self.weights)


def pearson_chi_square(fit: Fit) -> tuple[float, int]:
    r"""Pearson's :math:`\chi^2=\sum (y_i-\hat\mu_i)^2/\mathrm{Var}(\hat\mu_i)` and its degrees of freedom, of a single fit.

    Examples
    --------
    >>> fit = Fit("poisson", np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([np.log(2.0)]))
    >>> chi_square, degrees = pearson_chi_square(fit)
    >>> round(chi_square, 6), degrees
    (1.0, 2)
    """
    terms = _ratio((fit.y - fit.mean) ** 2, fit.variance_function)
    estimated = fit.X.shape[1] if fit.limit is None else int(fit.limit.kept.sum())
    return float(terms.sum()), fit.X.shape[0] - estimated


def _ratio(above: Array, below: Array) -> Array:
    """Quotient, 0 where a prediction at its limit leaves neither slope nor variance."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def mean_slope(family: Family, mean: Array) -> Array:
    """Derivative of the mean by the linear predictor, given the mean."""
    if family == "linear":
        return np.ones_like(mean)
    return mean * (1 - mean) if family == "logistic" else mean


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
