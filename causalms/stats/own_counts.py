r"""Test whether the counts that a trial observed contradict the generator that simulated it.

With :math:`y_i` the count of a patient of arm a, :math:`m_i` and :math:`v_i` the mean and variance that the generator states, and
weights :math:`w_i`, by default :math:`m_i / v_i` (the efficient score of a negative-binomial log mean, so that few large counts
do not decide), the arm is off by

.. math::
    s_a = \frac{\sum_{i \in a} w_i y_i}{\sum_{i \in a} w_i m_i} - 1.

Were the generator's stated error true,

.. math::
    \mathrm{cov}(s)_{ab} = [a = b]\, \frac{\sum_{i \in a} w_i^2 v_i}{(\sum_{i \in a} w_i m_i)^2} + \bar l_a' \bar l_b, \qquad
    \bar l_a = \frac{\sum_{i \in a} w_i m_i l_i}{\sum_{i \in a} w_i m_i},

:math:`l_i` the error of the log mean along independent standard normal directions.  The level is tested by the generalised least
squares mean of :math:`s`, the arm effects by what is left, on K - 1 degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import InputError
from causalms.stats.glm import Array

#: A probability of the observed arm effects below this contradicts the generator.
CONTRADICTION = 0.02


@dataclass(frozen=True)
class OwnCounts:
    """Observed against expected counts of a trial.

    Attributes
    ----------
    ratios : array (arms,)
        Sum of observed over sum of expected counts of every arm with expected ones, in the order of ``arms``.
    arms : tuple of int
    level_p, arms_p : float
        Probability of a level, and of arm effects, at least so far from the expected ones, were the generator's stated error
        true; the second is missing with a single arm.
    patients : int
    """

    ratios: Array
    arms: tuple[int, ...]
    level_p: float
    arms_p: float
    patients: int

    @property
    def contradicts(self) -> bool:
        """Whether the observed arm effects contradict the generator."""
        return bool(self.arms_p < CONTRADICTION)


def own_counts_test(
    counts: Array, expected: Array, variance: Array, arm: np.ndarray, loadings: Array, weights: Array | None = None
) -> OwnCounts:
    """Test of observed counts against a generator with its stated error.

    Parameters
    ----------
    counts, expected, variance : array (n,)
        Observed counts; the generator's mean and variance of each under the arm that was given.
    arm : int array (n,)
    loadings : array (n, directions)
        Error of each log mean along independent standard normal directions.
    weights : array (n,), optional
        By default mean over variance.  Means that were estimated from draws need weights that do not depend on those draws:
        a patient whose draws happen to be few would weigh more, and his count seem too high.

    Raises
    ------
    InputError
        If there is no patient, or no lesion is expected of any.

    Examples
    --------
    >>> arm, expected = np.repeat([0, 1], 200), np.repeat([8.0, 2.0], 200)
    >>> loadings = np.column_stack([np.full(400, 0.1), np.where(arm == 1, 0.1, 0.0)])
    >>> fair = own_counts_test(expected, expected, expected + 2 * expected**2, arm, loadings)
    >>> harmful = own_counts_test(np.repeat([8.0, 8.0], 200), expected, expected + 2 * expected**2, arm, loadings)
    >>> fair.contradicts, harmful.contradicts
    (False, True)
    """
    from scipy.stats import chi2, norm

    if not len(counts):
        raise InputError("no patient has both an observed and an expected count")
    if weights is None:
        weights = np.divide(expected, variance, out=np.ones(len(expected)), where=variance > 0)
    hoped = np.bincount(arm, expected)
    arms = tuple(int(value) for value in np.unique(arm) if hoped[value] > 0)
    if not arms:
        raise InputError("no lesion is expected of any patient with an observed count")
    own = (arm[:, None] == np.array(arms)).astype(float)
    total = own.T @ (weights * expected)
    shifts = own.T @ (weights * counts) / total - 1
    mean_loadings = (own * (weights * expected)[:, None]).T @ loadings / total[:, None]
    covariance = np.diag(own.T @ (weights**2 * variance) / total**2) + mean_loadings @ mean_loadings.T
    of_level = np.linalg.solve(covariance, np.ones(len(arms)))
    level = float(of_level @ shifts / of_level.sum())
    left = shifts - level
    statistic = float(left @ np.linalg.solve(covariance, left))
    return OwnCounts(
        own.T @ counts / (own.T @ expected),
        arms,
        float(2 * norm.sf(abs(level) * np.sqrt(of_level.sum()))),
        float(chi2.sf(statistic, len(arms) - 1)) if len(arms) > 1 else np.nan,
        len(counts),
    )
