r"""Firth's penalised likelihood of logistic and Poisson regression: finite estimates where events are few or none.

The log likelihood gains :math:`\tfrac12\log\det I(\beta)` (Jeffreys' prior), which takes the first-order bias away.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalms.errors import ConvergenceError
from causalms.stats.glm import Array, Family, Fit

_STEPS = 200
_LONGEST = 5.0
_TOLERANCE = 1e-11


def fit_firth(
    family: Family, X: Array, y: Array, exposure: Array | None = None, *, fixed: tuple[int, float] | None = None
) -> Fit:
    r"""Maximise the penalised likelihood by Newton's method with step halving.

    The score of coefficient r is :math:`\sum_i \{y_i - \mu_i + h_i c_i\} x_{ir}` with leverages :math:`h_i` and
    :math:`c_i = \tfrac12 - \mu_i` (logistic) or :math:`\tfrac12` (Poisson).

    Parameters
    ----------
    family : {"logistic", "poisson"}
    X, y, exposure
        As for :func:`causalms.stats.fit_model`.
    fixed : (int, float), optional
        A coefficient that is held at a value, for a profile; the penalty is that of the whole information.

    Raises
    ------
    ConvergenceError

    References
    ----------
    Firth (1993), Biometrika 80:27-38; Heinze and Schemper (2002), Statistics in Medicine 21:2409-2419.

    Examples
    --------
    >>> X = np.column_stack([np.ones(8), np.repeat([0, 1], 4)])
    >>> fit = fit_firth("logistic", X, np.array([1.0, 1, 0, 1, 0, 0, 0, 0]))
    >>> round(float(np.exp(fit.coefficients[1])), 6)  # (0.5 / 4.5) / (3.5 / 1.5)
    0.047619
    """
    time = np.ones(len(y)) if exposure is None else np.asarray(exposure, dtype=float)
    start = np.zeros(X.shape[1])
    if family == "poisson":
        start[0] = np.log((y.sum() + 0.5) / time.sum())
    free = np.ones(X.shape[1], dtype=bool)
    if fixed is not None:
        free[fixed[0]], start[fixed[0]] = False, fixed[1]
    fit = Fit(family, X, y, time, start)
    value = penalised_likelihood(fit)
    for _ in range(_STEPS):
        score = X.T @ (y - fit.mean + fit.leverage * ((0.5 - fit.mean) if family == "logistic" else 0.5))
        step = np.zeros(len(start))
        step[free] = np.linalg.solve(fit.information[np.ix_(free, free)], score[free])
        longest = float(np.abs(step).max())
        step *= min(1.0, _LONGEST / max(longest, 1e-300))
        for _ in range(40):
            moved = replace(fit, coefficients=fit.coefficients + step)
            new = penalised_likelihood(moved)
            if new >= value - 1e-12 * abs(value):
                break
            step = step / 2
        fit, value = moved, new
        if longest < _TOLERANCE * (1 + np.abs(fit.coefficients).max()):
            return fit
    raise ConvergenceError("Firth's penalised likelihood did not converge; leave out covariates")


def penalised_likelihood(fit: Fit) -> float:
    r"""Log likelihood (without constants of the data) plus :math:`\tfrac12\log\det I`."""
    sign, size = np.linalg.slogdet(fit.information)
    if sign <= 0 or not np.isfinite(size):
        return -np.inf
    eta = fit.X @ fit.coefficients
    cumulant = np.logaddexp(0.0, eta) if fit.family == "logistic" else fit.mean
    return float((fit.y * eta - cumulant).sum() + size / 2)
