"""The law of counts around cross-fitted means: levels at the mean of the first stage's posterior, and one size for all arms.

Arms depart from both as far as evidence says: of estimates with normal errors, `e_a ~ N(c + d_a, s_a^2)`, `d_a ~ N(0, t^2)`, the
`t` of the largest marginal likelihood is taken, and every `d_a` is its posterior mean (docs/decisions/count_law.md).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from causalms.stats import Array

#: Standard deviations between arms that evidence chooses from.
_BETWEEN = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
#: Normal prior of an arm's log size about that of all: it says nothing but where an arm has next to no counts.
_WIDE = 2.0
_LEAST, _MOST = -5.0, 5.0


def shrunk(estimates: Array, errors: Array, centre: float | None = None) -> Array:
    """Estimates of arms shrunk towards ``centre``, or towards their common mean, as far as evidence says.

    Parameters
    ----------
    estimates, errors : array (arms,)
        With their standard errors.
    centre : float, optional

    Examples
    --------
    >>> shrunk(np.array([0.1, -0.1, 0.05]), np.full(3, 0.2)).round(3).tolist()
    [0.017, 0.017, 0.017]
    >>> shrunk(np.array([1.1, -0.9, 0.1]), np.full(3, 0.2), centre=0.0).round(2).tolist()
    [1.04, -0.85, 0.09]
    """
    options = []
    for between in _BETWEEN:
        variance = errors**2 + between**2
        middle = float((estimates / variance).sum() / (1 / variance).sum()) if centre is None else centre
        evidence = -0.5 * float((np.log(variance) + (estimates - middle) ** 2 / variance).sum())
        options.append((evidence, middle + (estimates - middle) * between**2 / variance))
    return np.asarray(max(options, key=lambda option: option[0])[1])


def own_errors(covariance: Array) -> Array:
    """Standard errors (arms,) of arms, without what all arms share, as the error of a trial's level.

    Examples
    --------
    >>> own_errors(np.array([[0.05, 0.04], [0.04, 0.08]])).round(2).tolist()
    [0.1, 0.2]
    """
    variance, arms = np.diag(covariance), len(covariance)
    shared = (covariance.sum() - variance.sum()) / max(arms * (arms - 1), 1)
    return np.asarray(np.sqrt(np.maximum(variance - max(shared, 0.0), 0.1 * variance)))


def log_sizes(counts: Array, log_mean: Array, arm: np.ndarray, arms: int) -> Array:
    """Log negative-binomial sizes (arms,) of counts (n,) whose log means are known, by maximum likelihood, arms shrunk.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(4 * rng.gamma(0.5, 2, 6000))
    >>> np.exp(log_sizes(counts, np.full(6000, np.log(4.0)), rng.integers(0, 3, 6000), 3)).round(2).tolist()
    [0.51, 0.51, 0.51]
    """
    common = _largest(counts, log_mean, 0.0, 10.0)[0]
    each = [_largest(counts[arm == a], log_mean[arm == a], common, _WIDE) for a in range(arms)]
    estimates, errors = np.array(each).T
    return shrunk(estimates, errors)


def _largest(counts: Array, log_mean: Array, centre: float, sd: float) -> tuple[float, float]:
    """Log size of the largest likelihood under a normal prior, and its standard error from the curvature."""
    mean = np.exp(log_mean)

    def cost(log_size: float) -> float:
        size = np.exp(log_size)
        total = special.gammaln(counts + size) - special.gammaln(size) - (counts + size) * np.log1p(mean / size)
        return float(0.5 * ((log_size - centre) / sd) ** 2 - (total - counts * log_size).sum())

    best = float(optimize.minimize_scalar(cost, bounds=(_LEAST, _MOST), method="bounded", options={"xatol": 1e-4}).x)
    curvature = (cost(best + 0.05) - 2 * cost(best) + cost(best - 0.05)) / 0.05**2
    return best, float(1 / np.sqrt(max(curvature, sd**-2)))
