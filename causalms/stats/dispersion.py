"""Dispersion of each arm by adjusted profile likelihood, for variances that hold in small or unequally dispersed arms."""

from __future__ import annotations

import numpy as np

from causalms.stats.count_sums import CountSums
from causalms.stats.glm import Array

#: Arm size up to which the counts own law holds up a variance in full.
FULL_WEIGHT = 50
_RIDGE = 1e-10
_LOG_ALPHA = np.linspace(-7.0, 5.0, 97)


def adjusted_alpha(y: Array, mean: Array, X: Array) -> float:
    r"""Negative-binomial dispersion of one arm given its fitted means, corrected for the coefficients that were estimated.

    Maximises the Cox-Reid adjusted profile likelihood
    :math:`\ell(\alpha) - \tfrac12\log\det X'WX`, :math:`W = \mathrm{diag}\{\mu/(1+\alpha\mu)\}`; plain maximum likelihood is
    too small in small arms.

    Parameters
    ----------
    y : array (m,)
        Counts of one arm.
    mean : array (m,)
        Fitted means over each patient's exposure.
    X : array (m, k)
        Columns estimated within the arm.

    References
    ----------
    Cox and Reid (1987), JRSS B 49:1-39; Robinson and Smyth (2008), Biostatistics 9:321-332.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([0.0, 1, 0, 9, 2, 0])
    >>> round(adjusted_alpha(y, np.full(6, 2.0), np.ones((6, 1))), 1)
    3.8
    """
    return float(adjusted_alphas(y[None], mean[None], X[None])[0])


def adjusted_alphas(y: Array, mean: Array, X: Array) -> Array:
    """:func:`adjusted_alpha` for R replicates: counts and means (R, m), designs (R, m, k); returns shape (R,)."""
    sums = CountSums.of(y)
    values = np.empty((len(y), len(_LOG_ALPHA)))
    size = (X**2 * mean[:, :, None]).mean(axis=(1, 2)) * X.shape[1]
    ridge = _RIDGE * size[:, None, None] * np.eye(X.shape[2])  # a covariate that is constant in an arm adds a constant
    for index, alpha in enumerate(np.exp(_LOG_ALPHA)):
        log_variance = np.log1p(alpha * mean)
        information = np.matmul((X * (mean / (1 + alpha * mean))[:, :, None]).transpose(0, 2, 1), X)
        likelihood = sums.value(np.full(len(y), alpha)) - ((y + 1 / alpha) * log_variance).sum(axis=1)
        values[:, index] = likelihood - np.linalg.slogdet(information + ridge)[1] / 2
    at = values.argmax(axis=1)
    inner = np.clip(at, 1, len(_LOG_ALPHA) - 2)
    rows = np.arange(len(y))
    below, here, above = values[rows, inner - 1], values[rows, inner], values[rows, inner + 1]
    offset = np.where(at == inner, 0.5 * (below - above) / (below - 2 * here + above), at - inner)
    alpha = np.exp(_LOG_ALPHA[inner] + offset * (_LOG_ALPHA[1] - _LOG_ALPHA[0]))
    return np.where(at == 0, 0.0, alpha)
