"""Generalised estimating equations of counts: a log-linear marginal mean with a working correlation within patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalms.errors import ConvergenceError, UsageError
from causalms.stats.glm import Array
from causalms.stats.single_fit import fit_model

_STEPS, _ENOUGH = 200, 1e-11
#: Working correlations nearer to 1 than this have no stable inverse.
_LARGEST = 0.999


@dataclass(frozen=True)
class GeeFit:
    """A marginal log-linear model of counts with repeated visits.

    Attributes
    ----------
    coefficients : array (p,)
    correlation : float
        Working correlation of two neighbouring visits; 0 for independence.
    scale : float
        Mean square of the Pearson residuals (1 for Poisson counts).
    robust, bias_corrected, model : array (p, p)
        Covariance of the coefficients: sandwich over patients; the same with every patient's residuals freed of its own leverage
        (Mancl and DeRouen); that of the working model.
    """

    coefficients: Array
    correlation: float
    scale: float
    robust: Array
    bias_corrected: Array
    model: Array


def fit_gee(X: Array, y: Array, exposure: Array, patient: np.ndarray, visit: np.ndarray, *, structure: str) -> GeeFit:
    r"""Fit :math:`\log E[Y_{ij}] = \log e_{ij} + x_{ij}'\beta` with variance :math:`\phi\mu` and a working correlation.

    Solves :math:`\sum_i D_i'V_i^{-1}(y_i-\mu_i)=0`.  The scale is :math:`\hat\phi = N^{-1}\sum r_{ij}^2` of the Pearson
    residuals, and the correlation the least-squares fit of their products, as in R's geepack.

    Parameters
    ----------
    X : array (n, p)
    y, exposure : array (n,)
        Counts and time at risk, one a patient and visit.
    patient, visit : integer array (n,)
        Visits are numbered in their order; a number that a patient lacks is a visit missed.
    structure : {"exchangeable", "ar1", "independence"}

    Returns
    -------
    GeeFit

    Raises
    ------
    UsageError
        An unknown structure.
    ConvergenceError
        The estimating equations were not solved.

    References
    ----------
    Liang and Zeger (1986), Biometrika 73:13-22; Mancl and DeRouen (2001), Biometrics 57:126-134.

    Examples
    --------
    >>> X = np.ones((4, 1))
    >>> patient, visit = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> fit = fit_gee(X, np.array([1.0, 2, 3, 2]), np.ones(4), patient, visit, structure="exchangeable")
    >>> np.exp(fit.coefficients).round(6).tolist()
    [2.0]
    """
    if structure not in STRUCTURES:
        raise UsageError(f"`correlation`: found {structure!r}, expected one of {', '.join(STRUCTURES)}")
    patterns = _patterns(patient, visit)
    beta, correlation = fit_model("poisson", X, y, exposure).coefficients, 0.0
    for _ in range(_STEPS):
        mean = exposure * np.exp(np.clip(X @ beta, -700, 700))
        residuals = (y - mean) / np.sqrt(mean)
        scale = float((residuals**2).mean())
        correlation = STRUCTURES[structure](patterns, residuals / np.sqrt(max(scale, 1e-300)))
        bread, scores, _ = _sums(patterns, X * np.sqrt(mean)[:, None], residuals, correlation, structure)
        step = np.linalg.solve(bread, scores.sum(axis=0))
        beta = beta + step
        if np.abs(step).max() < _ENOUGH:
            break
    else:
        raise ConvergenceError("the estimating equations were not solved; use the independence correlation or fewer covariates")
    bread, scores, corrected = _sums(patterns, X * np.sqrt(mean)[:, None], residuals, correlation, structure)
    inverse = np.linalg.inv(bread)
    return GeeFit(
        beta,
        correlation,
        scale,
        inverse @ (scores.T @ scores) @ inverse,
        inverse @ (corrected.T @ corrected) @ inverse,
        np.asarray(scale * inverse),
    )


@dataclass(frozen=True)
class _Pattern:
    """Patients seen at the same visits: numbers of the visits (k,) and rows of the table (m, k)."""

    visits: np.ndarray
    rows: np.ndarray


def _patterns(patient: np.ndarray, visit: np.ndarray) -> list[_Pattern]:
    order = np.lexsort((visit, patient))
    starts = np.flatnonzero(np.r_[True, np.diff(patient[order]) != 0])
    together: dict[tuple[int, ...], list[np.ndarray]] = {}
    for rows in np.split(order, starts[1:]):
        together.setdefault(tuple(visit[rows].tolist()), []).append(rows)
    return [_Pattern(np.array(visits), np.stack(rows)) for visits, rows in together.items()]


def _sums(
    patterns: list[_Pattern], scaled: Array, residuals: Array, correlation: float, structure: str
) -> tuple[Array, Array, Array]:
    """Bread (p, p), and the patients' scores (n, p) plain and freed of their own leverage."""
    p = scaled.shape[1]
    carried, bread = [], np.zeros((p, p))
    for one in patterns:
        inverse = np.linalg.inv(_working_matrix(one.visits, correlation, structure))
        Z = scaled[one.rows]
        left = np.swapaxes(Z, -1, -2) @ inverse
        bread += (left @ Z).sum(axis=0)
        carried.append((Z, left, residuals[one.rows][..., None]))
    back = np.linalg.inv(bread)
    scores = np.concatenate([(left @ r)[..., 0] for _, left, r in carried])
    corrected = [(left @ np.linalg.solve(np.eye(Z.shape[1]) - Z @ back @ left, r))[..., 0] for Z, left, r in carried]
    return bread, scores, np.concatenate(corrected)


def _working_matrix(visits: np.ndarray, correlation: float, structure: str) -> Array:
    apart = np.abs(visits[:, None] - visits)
    if structure == "ar1":
        return np.asarray(np.where(apart > 0, np.sign(correlation) ** apart * np.abs(correlation) ** apart, 1.0))
    return np.where(apart > 0, correlation, 1.0)


def _products(patterns: list[_Pattern], residuals: Array) -> tuple[Array, Array]:
    """Sums and numbers of the products of two residuals of a patient, by how many visits they lie apart."""
    most = max(int(one.visits.max() - one.visits.min()) for one in patterns)
    total, number = np.zeros(most + 1), np.zeros(most + 1)
    for one in patterns:
        first, second = np.triu_indices(len(one.visits), 1)
        lags = one.visits[second] - one.visits[first]
        values = residuals[one.rows]
        np.add.at(total, lags, (values[:, first] * values[:, second]).sum(axis=0))
        np.add.at(number, lags, float(len(values)))
    return total, number


def _exchangeable(patterns: list[_Pattern], residuals: Array) -> float:
    total, number = _products(patterns, residuals)
    most = max(len(one.visits) for one in patterns)
    average = float(total.sum() / max(number.sum(), 1))
    return float(np.clip(average, -_LARGEST / max(most - 1, 1), _LARGEST))


def _ar1(patterns: list[_Pattern], residuals: Array) -> float:
    """Least squares of the products on powers of the correlation, by Newton's method from the neighbours' average."""
    total, number = _products(patterns, residuals)
    lags = np.flatnonzero(number)
    lags = lags[lags > 0]
    if not len(lags):
        return 0.0
    share, average = number[lags], total[lags] / number[lags]
    correlation = float(np.clip(average[0], -0.9, 0.9)) or 0.01
    for _ in range(100):
        slope = lags * correlation ** (lags - 1)
        step = float((share * slope * (average - correlation**lags)).sum() / (share * slope**2).sum())
        correlation = float(np.clip(correlation + step, -_LARGEST, _LARGEST))
        if abs(step) < 1e-13:
            break
    return correlation


#: Working correlations and how each is estimated from standardised residuals.
STRUCTURES: dict[str, Callable[[list[_Pattern], Array], float]] = {
    "exchangeable": _exchangeable,
    "ar1": _ar1,
    "independence": lambda patterns, residuals: 0.0,
}
