"""Small-sample tests of no effect: a score test that survives overdispersion and a studentised permutation test."""

from __future__ import annotations

import numpy as np

from causalms.effects.data import TrialData
from causalms.errors import RefusalError, UsageError
from causalms.stats import (
    Family,
    Fit,
    extreme_permutations,
    fit_or_limit,
    mean_differences,
    normal_cdf,
    permuted_labels,
    welch_statistics,
)

TESTS = ("wald", "score", "permutation", "permutation-plain", "permutation-prognostic", "wilcoxon")
#: Fewest permutations: their smallest p-value is 1/100.
FEWEST_PERMUTATIONS = 99
_CHUNK = 1000


def score_test(data: TrialData, family: Family, arm: int) -> tuple[float, float]:
    r"""Robust score test of one arm against the reference.

    The working model is fitted without the arm to the patients of both arms; with :math:`s_i` the null score of the linear
    predictor and :math:`\tilde A_i` the arm indicator less its weighted projection on the covariates,

    .. math:: z = \frac{\sum_i \tilde A_i s_i}{\sqrt{\sum_i \tilde A_i^2 s_i^2}}.

    Returns
    -------
    statistic, p_value : float

    References
    ----------
    Boos (1992), The American Statistician 46:327-333; Guo et al. (2005), Biometrics 61:811-818.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [6, 2, 4, 5, 1, 2, 0, 1], "arm": list("aaaabbbb")})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a")
    >>> [round(value, 4) for value in score_test(data, "poisson", 1)]
    [-2.3026, 0.0213]
    """
    pair, fit = null_fit(data, family, arm)
    treated = (pair.arm == arm).astype(float)
    weights = fit.weights
    projection = fit.X @ (fit.inverse_information @ (fit.X.T @ (weights * treated)))
    terms = (treated - projection) * fit.predictor_scores
    spread = float(np.sqrt((terms**2).sum()))
    if spread == 0:
        raise RefusalError("outcome: does not vary, so there is nothing to test; choose another outcome")
    statistic = float(terms.sum()) / spread
    return statistic, 2 * normal_cdf(-abs(statistic))


def permutation_test(
    data: TrialData, family: Family, arm: int, permutations: int = 9_999, seed: int = 0, kind: str = "permutation"
) -> tuple[float, float]:
    r"""Permutation test of one arm against the reference.

    The residuals of the working model without the arm are compared by Welch's t, and the arm labels are permuted within trial and
    randomisation stratum; :math:`p = (1 + \#\{|T^*| \ge |T|\})/(1 + B)`.  Exact when the arms have the same law; because T is
    studentised, it keeps its level in large samples when only the means agree.

    Parameters
    ----------
    data : TrialData
    family : str
    arm : int
    permutations, seed : int
    kind : {"permutation", "permutation-plain", "permutation-prognostic"}
        ``permutation-plain`` compares the mean residuals themselves (exact when the arms have the same law, and only then);
        ``permutation-prognostic`` takes the outcome less the prognostic column's expected outcome, with no model fitted.

    Returns
    -------
    statistic, p_value : float

    References
    ----------
    Janssen (1997), Statistics and Probability Letters 36:9-21; Chung and Romano (2013), Annals of Statistics 41:484-507.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [6, 2, 4, 5, 1, 2, 0, 1], "arm": list("aaaabbbb")})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a")
    >>> permutation_test(data, "poisson", 1, permutations=999, seed=0)[1] < 0.1
    True
    """
    if permutations < FEWEST_PERMUTATIONS:
        raise UsageError(f"`replicates`: found {permutations}, expected at least {FEWEST_PERMUTATIONS} permutations")
    if kind == "permutation-prognostic":
        pair = pair_with_reference(data, arm)
        residuals = pair.outcome - (0.0 if pair.expected is None else pair.expected)
    else:
        pair, fit = null_fit(data, family, arm)
        residuals = fit.y - fit.mean
    statistics = mean_differences if kind == "permutation-plain" else welch_statistics
    treated = (pair.arm == arm).astype(float)
    observed = float(statistics(treated[None], residuals[None])[0, 0])
    if not np.isfinite(observed):
        raise RefusalError("outcome: does not vary, so there is nothing to test; choose another outcome")
    at_least = 0
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(-(-permutations // _CHUNK))):
        count = min(_CHUNK, permutations - number * _CHUNK)
        shuffled = permuted_labels(treated, blocks(pair), count, np.random.default_rng(child))
        at_least += int(extreme_permutations(np.array([observed]), statistics(shuffled, residuals[None]))[0])
    return observed, (1 + at_least) / (1 + permutations)


def pair_with_reference(data: TrialData, arm: int) -> TrialData:
    """The patients of one arm and the reference."""
    return data.take(np.flatnonzero((data.arm == 0) | (data.arm == arm)))


def null_fit(data: TrialData, family: Family, arm: int) -> tuple[TrialData, Fit]:
    """The patients of one arm and the reference, and their working model without the arm."""
    pair = pair_with_reference(data, arm)
    X = np.column_stack([np.ones(pair.n), pair.covariates])
    keep = [0]
    for index in range(1, X.shape[1]):
        if np.linalg.matrix_rank(X[:, [*keep, index]]) > len(keep):
            keep.append(index)
    return pair, fit_or_limit(family, X[:, keep], pair.outcome, pair.exposure)


def blocks(data: TrialData) -> list[np.ndarray]:
    """Rows of each randomisation stratum within each trial."""
    label = np.zeros(data.n, dtype=int) if data.strata is None else data.strata * 1
    if data.trial is not None:
        label = label * (len(np.unique(data.trial)) + 1) + np.unique(data.trial, return_inverse=True)[1]
    return [np.flatnonzero(label == value) for value in np.unique(label)]
