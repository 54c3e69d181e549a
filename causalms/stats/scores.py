"""Proper scores of count forecasts, one a patient: log, ranked probability (CRPS), Dawid-Sebastiani, Brier of activity.

All are negatively oriented: smaller is better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalms.errors import UsageError
from causalms.stats.count_laws import CountLaw, DrawsLaw, NegativeBinomialLaw, TalliedLaw
from causalms.stats.glm import Array

#: Scores by the name under which they are asked for.
SCORES = {
    "log": "log score",
    "crps": "CRPS",
    "dawid-sebastiani": "Dawid-Sebastiani score",
    "brier": "Brier score of activity",
}


def score(name: str, law: CountLaw, observed: object) -> Array:
    r"""Score of every patient's forecast.

    With forecast distribution function :math:`F`, mean :math:`\mu`, variance :math:`\sigma^2` and observed count :math:`y`:

    - ``log``: :math:`-\log f(y)`
    - ``crps``: :math:`\sum_{k \ge 0} (F(k) - 1\{y \le k\})^2`
    - ``dawid-sebastiani``: :math:`(y - \mu)^2 / \sigma^2 + \log \sigma^2`
    - ``brier``: :math:`(P(Y > 0) - 1\{y > 0\})^2`

    Parameters
    ----------
    name : {"log", "crps", "dawid-sebastiani", "brier"}
    law : CountLaw
        Of a :class:`DrawsLaw` the CRPS and the Brier score are the fair ones (unbiased for the law that was drawn from,
        whatever the number of draws), and the log score is that of (D f + g) / (D + 1): f the draws' frequencies, g a
        negative binomial with the draws' mean and variance, so that an undrawn count does not cost infinity.
    observed : array (n,), or (n, m) for a :class:`NegativeBinomialLaw`

    Returns
    -------
    array
        Of the shape of ``observed``.

    Raises
    ------
    UsageError
        If the score is unknown.

    References
    ----------
    Czado, Gneiting, Held (2009), Biometrics 65:1254.  Ferro (2014), QJRMS 140:1917 (fair scores).

    Examples
    --------
    >>> law = NegativeBinomialLaw([1.0], [0.8])
    >>> [round(float(score(name, law, [1])[0]), 6) for name in ("log", "crps", "dawid-sebastiani")]
    [1.459674, 0.356453, 0.81093]
    """
    y = np.asarray(observed, np.int64)
    if name not in SCORES:
        raise UsageError(f"`name`: no score is called {name!r}; known are {', '.join(SCORES)}")
    if isinstance(law, DrawsLaw):
        pool = np.sort(np.column_stack([law.draws, y]), axis=1)
        position = (pool < y[:, None]).sum(axis=1)
        return np.asarray(pool_scores(name, pool)[np.arange(law.n), position])
    if isinstance(law, TalliedLaw) and name in ("crps", "brier"):
        return _tallied_score(name, law, y)
    if not isinstance(law, NegativeBinomialLaw):
        raise UsageError(f"a law of kind {type(law).__name__} has no scores; give a NegativeBinomialLaw or a DrawsLaw")
    columns = y if y.ndim > 1 else y[:, None]
    return (_crps(law, columns) if name == "crps" else _plain_score(name, law, columns)).reshape(y.shape)


def _tallied_score(name: str, law: TalliedLaw, y: NDArray[np.int64]) -> Array:
    """The fair CRPS and Brier score of draws that are known by their tallies."""
    draws, numbers = law.draws, law.numbers
    if name == "brier":
        share = law.activity
        return np.asarray((share - (y > 0)) ** 2 - share * (1 - share) / (draws - 1))
    to_observed = (numbers * np.abs(law.counts - y[:, None])).sum(axis=1) / draws
    upto, total = np.cumsum(numbers, axis=1), np.cumsum(numbers * law.counts, axis=1)
    apart = law.counts * upto - total + (total[:, -1:] - total) - law.counts * (draws - upto)  # sum over draws of |x - x_j|
    return np.asarray(to_observed - (numbers * apart).sum(axis=1) / (2.0 * draws * (draws - 1)))


def _plain_score(name: str, law: NegativeBinomialLaw, y: NDArray[np.int64]) -> Array:
    """Scores that need the law only at the observed count; y (n, m)."""
    if name == "log":
        return -law.log_pmf(y)
    if name == "dawid-sebastiani":
        return dawid_sebastiani(y, law.mean[:, None], law.variance[:, None])
    return (law.activity[:, None] - (y > 0)) ** 2


def dawid_sebastiani(y: NDArray[np.int64], mean: Array, variance: Array) -> Array:
    """(y - mean)^2 / variance + log variance; infinite where a forecast without variance is missed."""
    spread = np.maximum(variance, np.finfo(float).tiny)
    return np.asarray((y - mean) ** 2 / spread + np.log(spread))


def _crps(law: NegativeBinomialLaw, y: NDArray[np.int64]) -> Array:
    """CRPS at y (n, m), summing squared differences of distribution functions: no cancellation at any mean and size."""
    out = np.empty(y.shape)
    for rows, below in law.tables(np.zeros(law.n, np.int64)):
        heard = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(below**2, axis=1)], axis=1)
        missed = np.cumsum(((1 - below) ** 2)[:, ::-1], axis=1)[:, ::-1]
        missed = np.concatenate([missed, np.zeros((len(rows), 1))], axis=1)
        last = below.shape[1]
        at = np.minimum(y[rows], last)
        here = np.arange(len(rows))[:, None]
        out[rows] = heard[here, at] + missed[here, at] + np.maximum(y[rows] - last, 0)
    return out


def pool_scores(name: str, pool: NDArray[np.int64]) -> Array:
    """Score of every member of a sorted pool against the law of the others; (n, D + 1) in, (n, D + 1) out."""
    draws = pool.shape[1] - 1
    if name == "crps":
        rank = np.arange(draws + 1)
        total = np.cumsum(pool, axis=1, dtype=float)
        # Sum over the pool of |x_j - x_i|, from sorted partial sums.
        distance = pool * (rank + 1) - total + (total[:, -1:] - total) - pool * (draws - rank)
        pairs = distance.sum(axis=1, keepdims=True) / 2
        return np.asarray(distance / draws - (pairs - distance) / (draws * (draws - 1)))
    if name == "brier":
        active = pool > 0
        share = (active.sum(axis=1, keepdims=True) - active) / draws
        return np.asarray((share - active) ** 2 - share * (1 - share) / (draws - 1))
    mean, variance = others_moments(pool)
    if name == "dawid-sebastiani":
        # Draws that are all alike have no variance; one draw in D that differs by one is the least D draws can show.
        return dawid_sebastiani(pool, mean, np.maximum(variance, 1 / draws))
    ties = tie_counts(pool) - 1
    smooth = moment_law(mean.ravel(), variance.ravel()).log_pmf(pool.ravel()).reshape(pool.shape)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(draws + 1) - np.logaddexp(np.log(ties), smooth))


def others_moments(pool: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and variance of the pool without each member in turn."""
    draws = pool.shape[1] - 1
    total, square = pool.sum(axis=1, keepdims=True), (pool.astype(float) ** 2).sum(axis=1, keepdims=True)
    mean = (total - pool) / draws
    variance = np.maximum((square - pool.astype(float) ** 2) / draws - mean**2, 0.0) * draws / (draws - 1)
    return mean, variance


def tie_counts(pool: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many members of a sorted pool share each member's value."""
    below, upto = pool_ranks(pool)
    return upto - below


def pool_ranks(pool: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each member of a sorted pool, how many members are smaller, and how many are not larger."""
    n, size = pool.shape
    new = np.ones((n, size), bool)
    new[:, 1:] = pool[:, 1:] != pool[:, :-1]
    position = np.broadcast_to(np.arange(size), (n, size))
    below = np.maximum.accumulate(np.where(new, position, 0), axis=1)
    end = np.ones((n, size), bool)
    end[:, :-1] = new[:, 1:]
    upto = np.minimum.accumulate(np.where(end, position + 1, size)[:, ::-1], axis=1)[:, ::-1]
    return below, upto


def moment_law(mean: Array, variance: Array) -> NegativeBinomialLaw:
    """Negative binomial with a given mean and variance; Poisson where the variance does not exceed the mean.

    Examples
    --------
    >>> import numpy as np
    >>> moment_law(np.array([2.0, 2.0]), np.array([7.0, 1.0])).size.tolist()
    [0.8, inf]
    """
    # Draws that are all zero leave room for half a lesion among all of them rather than none for certain.
    floor = np.maximum(mean, 1e-3)
    excess = variance - floor
    size = np.where(excess > 1e-9, floor**2 / np.where(excess > 1e-9, excess, 1.0), np.inf)
    return NegativeBinomialLaw(floor, size)
