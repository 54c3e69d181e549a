"""Counts of a patient's visits that share a gamma frailty: the multivariate negative binomial model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import ConvergenceError
from causalms.stats.glm import Array
from causalms.stats.single_fit import fit_model

_STEPS, _ENOUGH = 200, 1e-9


@dataclass(frozen=True)
class FrailtyFit:
    r"""Counts :math:`Y_{ij}\mid u_i \sim \mathrm{Poisson}(u_i\mu_{ij})`, :math:`u_i\sim\mathrm{Gamma}(1/\alpha, 1/\alpha)`.

    Attributes
    ----------
    parameters : array (p + 1,)
        Coefficients of :math:`\log\mu` and, last, :math:`\log\alpha`.
    covariance : array (p + 1, p + 1)
        Inverse of the observed information.
    """

    parameters: Array
    covariance: Array


def fit_shared_frailty(X: Array, y: Array, exposure: Array, patient: np.ndarray) -> FrailtyFit:
    r"""Maximum likelihood of the shared-frailty model, by Newton's method over coefficients and :math:`\log\alpha`.

    The information of :math:`\log\alpha` is by differences of the analytic score.  Counts without overdispersion between patients
    end at a dispersion of 1e-6.

    Parameters
    ----------
    X : array (n, p)
    y, exposure : array (n,)
        Counts and time at risk, one a patient and visit.
    patient : integer array (n,)

    Raises
    ------
    ConvergenceError
        The maximum was not reached.

    References
    ----------
    Lawless (1987), Canadian Journal of Statistics 15:209-225; Cook and Lawless (2007), Statistical Analysis of Recurrent
    Events, 2.2.

    Examples
    --------
    >>> fit = fit_shared_frailty(np.ones((4, 1)), np.array([1.0, 2, 5, 6]), np.ones(4), np.array([0, 0, 1, 1]))
    >>> np.exp(fit.parameters).round(3).tolist()
    [3.5, 0.22]
    """
    codes = np.unique(patient, return_inverse=True)[1]
    theta = np.append(fit_model("poisson", X, y, exposure).coefficients, np.log(0.5))
    for _ in range(_STEPS):
        score, information = _score(theta, X, y, exposure, codes), _information(theta, X, y, exposure, codes)
        if information[-1, -1] <= 0:  # far from the maximum in the dispersion: a step of the score's sign
            information[-1, :-1] = information[:-1, -1] = 0.0
            information[-1, -1] = abs(score[-1])
        step = np.linalg.solve(information, score)
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))
        theta = theta + step
        theta[-1] = np.clip(theta[-1], np.log(1e-6), np.log(1e3))
        if np.abs(step[:-1]).max() < _ENOUGH and (abs(step[-1]) < 1e-7 or theta[-1] <= np.log(1e-6)):
            break
    else:
        raise ConvergenceError("the model of counts that share a frailty did not converge; use fewer covariates or visits")
    information = _information(theta, X, y, exposure, codes)
    if theta[-1] <= np.log(1e-6):  # at the boundary the dispersion is held there
        information[-1, :-1] = information[:-1, -1] = 0.0
        information[-1, -1] = 1e12
    return FrailtyFit(theta, np.asarray(np.linalg.inv(information), dtype=float))


def _score(theta: Array, X: Array, y: Array, exposure: Array, codes: np.ndarray) -> Array:
    from scipy.special import digamma

    alpha = np.exp(theta[-1])
    mean = exposure * np.exp(np.clip(X @ theta[:-1], -700, 700))
    total, expected = np.bincount(codes, weights=y), np.bincount(codes, weights=mean)
    shrunk = (1 + alpha * total) / (1 + alpha * expected)
    size = 1 / alpha
    by_size = digamma(total + size) - digamma(size) - np.log1p(expected * alpha) + 1 - (total + size) / (expected + size)
    return np.append(X.T @ (y - mean * shrunk[codes]), -size * by_size.sum())


def _information(theta: Array, X: Array, y: Array, exposure: Array, codes: np.ndarray) -> Array:
    alpha = np.exp(theta[-1])
    mean = exposure * np.exp(np.clip(X @ theta[:-1], -700, 700))
    total, expected = np.bincount(codes, weights=y), np.bincount(codes, weights=mean)
    shrunk = (1 + alpha * total) / (1 + alpha * expected)
    sums = np.column_stack([np.bincount(codes, weights=mean * column) for column in X.T])
    weight = alpha * (1 + alpha * total) / (1 + alpha * expected) ** 2
    inner = (X * (mean * shrunk[codes])[:, None]).T @ X - (sums * weight[:, None]).T @ sums
    near = 1e-4
    up, down = (theta + sign * near * np.eye(len(theta))[-1] for sign in (1, -1))
    by_dispersion = -(_score(up, X, y, exposure, codes) - _score(down, X, y, exposure, codes)) / (2 * near)
    return np.block([[inner, by_dispersion[:-1, None]], [by_dispersion[None, :-1], by_dispersion[-1:, None]]])
