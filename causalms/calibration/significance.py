"""Tests of calibration by proper scores: the mean score beside what it would be if the forecasts were true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from causalms.calibration.replicates import replicates
from causalms.errors import UsageError
from causalms.stats import Array, CountLaw, NegativeBinomialLaw, crps_at, plain_score, score


@dataclass(frozen=True)
class CalibrationTest:
    """A calibration test: observed mean score, its expectation under calibration, z (normal form) and p."""

    score: str
    method: str
    mean: float
    expected: float
    z: float
    p_value: float
    n: int


def calibration_test(
    law: CountLaw, observed: object, name: str = "crps", method: str = "monte-carlo", repetitions: int = 999, seed: int = 0
) -> CalibrationTest:
    r"""Unconditional calibration test of count forecasts.

    ``normal``: :math:`z = n^{-1/2} \sum_i (s_i - E_i) / \sqrt{V_i}` with mean and variance of the score under each forecast
    (Wei and Held; the default of surveillance::calibrationTest in R).  ``monte-carlo``: the mean
    score among its replicates under calibration; its level is exact for skewed scores of few patients, and it is the only
    form for draws.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    name : {"log", "crps", "dawid-sebastiani", "brier"}
    method : {"monte-carlo", "normal"}
    repetitions, seed : int

    Returns
    -------
    CalibrationTest

    Raises
    ------
    UsageError
        If the method is unknown, or the normal form is asked for draws.

    References
    ----------
    Wei, Held (2014), Test 23:787.

    Examples
    --------
    >>> law = NegativeBinomialLaw([0.5, 1, 1, 2], [0.8] * 4)
    >>> round(calibration_test(law, [0, 0, 1, 3], "dawid-sebastiani", method="normal").p_value, 4)
    0.6239
    """
    scores = score(name, law, observed)
    if method == "normal":
        if not isinstance(law, NegativeBinomialLaw):
            raise UsageError("the normal form of a calibration test needs a formula; for draws use method='monte-carlo'")
        mean, variance = score_moments(name, law)
        z = float(((scores - mean) / np.sqrt(variance)).sum() / np.sqrt(law.n))
        return CalibrationTest(name, method, float(scores.mean()), float(mean.mean()), z, float(2 * stats.norm.sf(abs(z))), law.n)
    if method != "monte-carlo":
        raise UsageError(f"no calibration test by {method!r}; known are monte-carlo, normal")
    null = replicates(law, observed, repetitions, seed).score(name).mean(axis=0)
    p = two_sided_p(float(scores.mean()), null)
    spread = float(null.std(ddof=1))
    z = float((scores.mean() - null.mean()) / spread) if spread > 0 else float("nan")
    return CalibrationTest(name, method, float(scores.mean()), float(null.mean()), z, p, law.n)


def two_sided_p(observed: float, null: Array) -> float:
    """Monte-Carlo p: twice the smaller tail, the observed value counted in it.

    Examples
    --------
    >>> import numpy as np
    >>> two_sided_p(5.0, np.arange(99) / 99)
    0.02
    """
    smaller = min(int((null >= observed).sum()), int((null <= observed).sum()))
    return min(1.0, 2 * (1 + smaller) / (1 + len(null)))


def score_moments(name: str, law: NegativeBinomialLaw) -> tuple[Array, Array]:
    """Mean and variance of each patient's score if the forecast is true, by summation over the support."""
    mean, variance = np.empty(law.n), np.empty(law.n)
    for rows, below in law.tables(np.zeros(law.n, np.int64)):
        part = law.take(rows)
        counts = np.broadcast_to(np.arange(below.shape[1]), below.shape)
        chance = np.diff(np.concatenate([np.zeros((len(rows), 1)), below], axis=1), axis=1)
        values = crps_at(part, counts) if name == "crps" else plain_score(name, part, counts)
        values = np.where(chance > 0, values, 0.0)
        mean[rows] = (chance * values).sum(axis=1)
        variance[rows] = (chance * (values - mean[rows, None]) ** 2).sum(axis=1)
    return mean, variance
