"""The test that an effect is the same in every subgroup: Welch's, over independent subgroups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.stats import Array


@dataclass(frozen=True)
class Interaction:
    """A test of equal effects over independent subgroups.

    Attributes
    ----------
    statistic : float
        Welch's F.
    df_between, df_within : float
        Its degrees of freedom; ``df_within`` is infinite when the subgroup intervals are normal.
    p_value : float
    """

    statistic: float
    df_between: float
    df_within: float
    p_value: float


def interaction_test(effects: Array, ses: Array, dfs: Array | float = np.inf) -> Interaction:
    r"""Test that independent subgroups share one effect.

    With weights :math:`w_g = 1 / se_g^2` the statistic is :math:`Q = \sum_g w_g (\hat\theta_g - \bar\theta)^2`, referred to
    Welch's F so that small subgroups, whose standard errors are themselves uncertain, do not raise the type I error; with
    infinite degrees of freedom it is the usual chi-squared test, and for two subgroups the (Welch) test of their difference.

    Parameters
    ----------
    effects : array (g,)
        On the scale of inference: logarithms of ratios.
    ses : array (g,)
    dfs : array (g,) or float
        Degrees of freedom of each standard error.

    Returns
    -------
    Interaction

    References
    ----------
    Welch (1951), Biometrika 38:330.

    Examples
    --------
    >>> import numpy as np
    >>> round(interaction_test(np.array([0.0, 1.0]), np.array([0.3, 0.4])).p_value, 4)
    0.0455
    """
    from scipy import stats

    effects, ses = np.asarray(effects, float), np.asarray(ses, float)
    dfs = np.broadcast_to(np.asarray(dfs, float), effects.shape)
    groups, weights = len(effects), 1 / ses**2
    centre = np.sum(weights * effects) / weights.sum()
    between = float(np.sum(weights * (effects - centre) ** 2)) / (groups - 1)
    uncertainty = float(np.sum((1 - weights / weights.sum()) ** 2 / dfs))
    if uncertainty == 0:
        return Interaction(between, groups - 1, np.inf, float(stats.chi2.sf(between * (groups - 1), groups - 1)))
    statistic = between / (1 + 2 * (groups - 2) * uncertainty / (groups**2 - 1))
    df_within = (groups**2 - 1) / (3 * uncertainty)
    return Interaction(statistic, groups - 1, df_within, float(stats.f.sf(statistic, groups - 1, df_within)))


def correlated_interaction_test(effects: Array, ses: Array, directions: Array) -> Interaction:
    r"""Wald test that subgroups share one effect, where the simulating model's own error is common to them.

    With independent variances :math:`D` and the model's error along independent directions :math:`L` (g, e), effects have
    covariance :math:`V = D + LL'`; with :math:`C` the differences to the first subgroup the statistic is
    :math:`(C\hat\theta)'(CVC')^{-1}C\hat\theta`, chi-squared with g - 1 degrees of freedom.

    Parameters
    ----------
    effects, ses : array (g,)
        On the scale of inference; standard errors without the model's own.
    directions : array (g, e)

    Examples
    --------
    >>> import numpy as np
    >>> common = np.array([[0.5], [0.5]])  # an error that both subgroups share says nothing of their difference
    >>> round(correlated_interaction_test(np.array([0.0, 1.0]), np.array([0.3, 0.4]), common).p_value, 4)
    0.0455
    """
    from scipy import stats

    C = np.eye(len(effects))[1:] - np.eye(len(effects))[0]
    covariance = C @ (np.diag(np.asarray(ses, float) ** 2) + directions @ directions.T) @ C.T
    gaps = C @ effects
    statistic = float(gaps @ np.linalg.solve(covariance, gaps))
    between = len(effects) - 1
    return Interaction(statistic / between, between, np.inf, float(stats.chi2.sf(statistic, between)))
