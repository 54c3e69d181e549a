r"""Fay and Graubard's small-sample sandwich of a coefficient, for R Poisson fits at once: a comparator.

With scores :math:`U_i`, information :math:`\Omega_i` of patient i and :math:`V=(\sum\Omega_i)^{-1}`, every score is multiplied by
:math:`H_i=\mathrm{diag}\{1-\min(0.75,(\Omega_iV)_{jj})\}^{-1/2}`, and t has the degrees of freedom
:math:`\mathrm{tr}(\Psi B)^2/\mathrm{tr}(\Psi B\Psi B)` of their formula, with :math:`\Psi` made of each patient's own
corrected scores.
"""

from __future__ import annotations

import numpy as np

from causalms.stats import Array, Fit

_BOUND = 0.75


def fay_graubard(fit: Fit, index: int) -> tuple[Array, Array]:
    """Variance of one coefficient and its degrees of freedom, shape (R,) each.

    References
    ----------
    Fay and Graubard (2001), Biometrics 57:1198-1206.

    Examples
    --------
    >>> from causalms.stats import fit_model
    >>> X = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    >>> fit = fit_model("poisson", X, np.array([4.0, 6, 2, 1, 3, 1]))
    >>> [round(float(value), 4) for value in fay_graubard(fit, 1)]
    [0.2687, 2.714]
    """
    X, weights, bread = fit.X, fit.weights, fit.inverse_information
    own = X * weights[..., None] * (X @ bread)  # diagonal of each patient's information times V
    factor = (1 - np.minimum(_BOUND, own)) ** -0.5
    scores = factor * fit.scores
    column = bread[..., index]
    meat = np.swapaxes(scores, -1, -2) @ scores
    variance = ((meat @ column[..., None])[..., 0] * column).sum(axis=-1)
    m = factor * column[..., None, :]
    v = (weights * (X * m).sum(axis=-1))[..., None] * (X @ bread)
    a = (scores * m).sum(axis=-1)[..., None]
    degrees = _degrees(a[..., 0] ** 2, (-a * scores, v), (v, v @ meat - a * scores))
    return np.asarray(variance), degrees


def _degrees(diagonal: Array, left: tuple[Array, Array], right: tuple[Array, Array]) -> Array:
    """tr(A)^2 / tr(A^2) of matrices A = diag(diagonal) + left right', never formed."""
    P, Q = np.concatenate(left, axis=-1), np.concatenate(right, axis=-1)
    inner, crossed = (P * Q).sum(axis=-1), np.swapaxes(Q, -1, -2) @ P
    mixed = (crossed * np.swapaxes(crossed, -1, -2)).sum((-1, -2))
    squared = (diagonal**2).sum(axis=-1) + 2 * (diagonal * inner).sum(axis=-1) + mixed
    return np.asarray((diagonal.sum(axis=-1) + inner.sum(axis=-1)) ** 2 / squared)
