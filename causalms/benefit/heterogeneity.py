"""How well predicted benefit ranks patients (AUTOC, Qini, AD(c), AR(c)), and whether it agrees with what randomisation shows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.benefit.predict import Benefit, benefit_row
from causalms.benefit.redraws import Floats, Redraws
from causalms.benefit.statistics import (
    Inference,
    NullDistribution,
    Pair,
    rank_areas,
    regression,
    slice_log_ratios,
    slice_means,
    studentised,
)
from causalms.errors import RefusalError, UsageError
from causalms.tables import results_table

RANKINGS = {"AUTOC": "area under the targeting operator characteristic", "Qini": "area under the Qini curve"}


def ranking(data: Benefit, inference: Inference = Inference()) -> pd.DataFrame:
    r"""Rank-weighted average treatment effects of a predicted benefit.

    .. math::
        TOC(u) = E[Y(0) - Y(1) \mid \text{among the } u \text{ most promising}] - E[Y(0) - Y(1)], \quad
        AUTOC = \int_0^1 TOC(u)\,du, \quad Qini = \int_0^1 u\,TOC(u)\,du

    Both are zero if the ranking knows nothing.  AUTOC weighs the most promising few, Qini the many.

    Parameters
    ----------
    data : Benefit
    inference : Inference

    Returns
    -------
    DataFrame
        Results table of two rows.

    Raises
    ------
    RefusalError
        If every patient has the same predicted benefit.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill, Wager (2025), JASA 120:38.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> ranking(data)[["measure", "estimate"]].round(2).values.tolist()
    [['AUTOC', 1.52], ['Qini', 0.41]]
    """
    if data.constant:
        raise RefusalError("benefit: every patient has the same predicted benefit; nothing can be ranked")
    values, ses = _areas(data.score, data.spared)
    null_distribution = data.null_distribution(
        inference, lambda trials: studentised(*rank_areas(trials.spared), rank_areas(trials.law_spared)[0]), data.n - 1
    )
    statistics = null_distribution.statistics(values, ses, inference.level)
    return results_table(
        benefit_row(data, "ranking", name, f"{RANKINGS[name]} of the predicted benefit: lesions spared", statistic)
        for name, statistic in zip(RANKINGS, statistics, strict=True)
    )


def areas(score: Floats, spared: Floats) -> Floats:
    """AUTOC and Qini of patients in falling order of score; tied patients share their average, as if ordered at random."""
    return _areas(score, spared)[0]


def _areas(score: Floats, spared: Floats) -> Pair:
    order = np.argsort(-score, kind="stable")
    ties = np.cumsum(np.diff(score[order], prepend=score[order[0]]) != 0)
    return rank_areas(spared[order], ties)


def best_linear_predictor(data: Benefit, inference: Inference = Inference()) -> pd.DataFrame:
    r"""Regress the benefit on its prediction: average effect, heterogeneity, and calibration for benefit.

    :math:`\Gamma_i = \beta_1 + \beta_2 (s_i - \bar s) + \epsilon_i` by least squares with HC3.  ``average benefit`` is
    :math:`\beta_1`, the mean of :math:`\Gamma`, whose error also counts that other patients would have other scores (the
    regression's own would not); ``calibration slope for benefit`` is :math:`\beta_2`, zero if the prediction knows nothing of
    who benefits and one if it is calibrated; ``calibration in the large for benefit`` is :math:`\beta_1 - \bar s`.  P-values
    are two-sided, against zero; the slope has a second row against one.

    Parameters
    ----------
    data : Benefit
    inference : Inference

    Returns
    -------
    DataFrame
        Results table.

    Raises
    ------
    RefusalError
        If every patient has the same predicted benefit.

    References
    ----------
    Chernozhukov, Demirer, Duflo, Fernandez-Val (2025), Econometrica 93:1121.  Maas et al. (2023), BMC Med Res Methodol 23:74.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> results = best_linear_predictor(data).set_index("measure")["estimate"].round(2)
    >>> float(results["average benefit"]), float(results["calibration slope for benefit"].iloc[0])
    (2.28, 0.6)
    """
    if data.constant:
        raise RefusalError("benefit: every patient has the same predicted benefit; nothing can be said of heterogeneity")
    values, ses = regression(data.score, data.spared)

    def of(trials: Redraws) -> Floats:
        truth = regression(trials.law_score, trials.law_spared)[0]
        return studentised(*regression(trials.score, trials.spared), truth)

    null_distribution = data.null_distribution(inference, of, data.n - 2)
    statistics = null_distribution.statistics(values, ses, inference.level)
    # Both tails: a one-sided tail taken for the p-value would double the type I error.
    statistics.append(null_distribution.statistics(values, ses, inference.level, null=1.0)[2])
    measures = ("average benefit", "calibration in the large for benefit", *["calibration slope for benefit"] * 2)
    slope = "slope of lesions spared on predicted; p against"
    estimands = ("mean lesions spared", "mean lesions spared minus mean predicted", f"{slope} 0", f"{slope} 1")
    return results_table(
        benefit_row(data, "best linear predictor", measure, estimand, statistic)
        for measure, estimand, statistic in zip(measures, estimands, statistics, strict=True)
    )


def benefit_groups(data: Benefit, groups: int = 4, inference: Inference = Inference()) -> pd.DataFrame:
    """Sorted groups (GATES): observed beside predicted benefit in quantile groups of the prediction.

    Parameters
    ----------
    data : Benefit
    groups : int
    inference : Inference

    Returns
    -------
    DataFrame
        ``group`` (1 = least promising), ``n``, ``predicted``, ``observed``, ``se``, ``lower``, ``upper``, ``level``, and in the
        last row ``group`` = "last - first" with the ``p_value`` of their difference; ``variance``.

    Raises
    ------
    UsageError
        If a group would have fewer than four patients.
    RefusalError
        If every patient has the same predicted benefit.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(0.6 * before, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> benefit_groups(data, 2)[["group", "predicted", "observed"]].round(2).values.tolist()
    [['1', 1.14, 1.14], ['2', 3.42, 3.42], ['last - first', 2.28, 2.28]]
    """
    if not 2 <= groups <= data.n // 4:
        raise UsageError(f"{groups} groups of {data.n} patients; give at least 2 groups of at least 4 patients")
    if data.constant:
        raise RefusalError("benefit: every patient has the same predicted benefit; there are no groups")
    cuts = np.quantile(data.score, np.arange(1, groups) / groups)
    top = data.score.max()
    cuts = np.unique(np.minimum(cuts, data.score[data.score < top].max()))  # most may stand at the top: the others are a group
    place = np.searchsorted(cuts, data.score, side="left")
    present = np.unique(place)[::-1]
    order = np.argsort(-data.score, kind="stable")
    ends = np.cumsum([0, *((place == number).sum() for number in present)])
    slices = [(int(a), int(b)) for a, b in pairwise(ends)]
    observed, ses = _with_difference(*slice_means(data.spared[order], slices))
    sizes = np.array([b - a for a, b in slices])

    def of(trials: Redraws) -> Floats:
        before, after = slice_truth(trials, slices)
        truth = _with_difference(before - after, np.zeros(before.shape))[0]
        return studentised(*_with_difference(*slice_means(trials.spared, slices)), truth)

    null_distribution = data.null_distribution(inference, of, np.append(np.maximum(sizes - 1, 1), _welch(ses, sizes)))
    lower, upper = null_distribution.interval(observed, ses, inference.level)
    predicted = [data.score[place == number].mean() for number in present]
    table = pd.DataFrame(
        {
            "group": [*(str(number + 1) for number in present), "last - first"],
            "n": [*sizes, sizes[0] + sizes[-1]],
            "predicted": [*predicted, predicted[0] - predicted[-1]],
            "observed": observed,
            "se": ses,
            "lower": lower,
            "upper": upper,
            "level": inference.level,
            "p_value": [*[np.nan] * len(present), null_distribution.p_value(observed, ses)[-1]],
            "variance": null_distribution.name,
        }
    )
    return table.iloc[[*range(len(present))[::-1], len(present)]].reset_index(drop=True)


def _with_difference(means: Floats, ses: Floats) -> Pair:
    """Group means from the most to the least promising, and the difference of these two ends."""
    gap, error = means[..., [0]] - means[..., [-1]], np.hypot(ses[..., [0]], ses[..., [-1]])
    return np.concatenate([means, gap], axis=-1), np.concatenate([ses, error], axis=-1)


def _welch(ses: Floats, sizes: NDArray[np.intp]) -> float:
    """Degrees of freedom of the difference of the first and the last group."""
    parts = [(ses[at] ** 4, sizes[at] - 1) for at in (0, len(sizes) - 1)]
    below = sum(part / max(df, 1) for part, df in parts)
    return float(ses[-1] ** 4 / below) if below > 0 else np.inf


SHARES = tuple(float(share) for share in np.arange(20, 2, -1) / 20)


def benefit_curves(data: Benefit, shares: tuple[float, ...] = SHARES, inference: Inference = Inference()) -> pd.DataFrame:
    r"""Average difference AD(c) and average ratio AR(c) among patients whose predicted benefit is at least c.

    .. math::
        AD(c) = E[Y(0) - Y(1) \mid s(X) \ge c], \qquad AR(c) = E[Y(1) \mid s(X) \ge c] / E[Y(0) \mid s(X) \ge c]

    Thresholds are the sample quantiles of the score that leave the shares, then taken as given.  Intervals hold one
    point, bands the whole curve.

    Parameters
    ----------
    data : Benefit
    shares : tuple of float
        Shares of patients that the thresholds leave, from all to few; a share that ties make equal to an earlier one and one that
        leaves fewer than two patients are left out.
    inference : Inference

    Returns
    -------
    DataFrame
        ``share``, ``threshold``, ``n``; ``ad`` with ``ad_se``, ``ad_lower``, ``ad_upper``, ``ad_band_lower``, ``ad_band_upper``;
        the same for ``ar`` (``ar_se`` is of the logarithm; missing where a mean is not positive); ``variance``.

    References
    ----------
    Zhao, Tian, Cai, Claggett, Wei (2013), JASA 108:527.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before * 0.6, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> benefit_curves(data, shares=(1.0, 0.25))[["ad", "ar"]].round(2).values.tolist()
    [[2.28, 0.4], [4.41, 0.4]]
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise UsageError("shares of a benefit curve must be above 0 and at most 1")
    threshold = np.unique(np.quantile(data.score, 1 - np.array(shares), method="higher"))
    count = np.array([(data.score >= cut).sum() for cut in threshold])
    threshold, count = threshold[count >= 2], count[count >= 2]
    order = np.argsort(-data.score, kind="stable")
    slices = [(0, int(size)) for size in count]
    reference, drug = data.under_reference[order], data.under_drug[order]
    redraws = data.redraws(inference.redraws, inference.seed)
    table = pd.DataFrame({"share": count / data.n, "threshold": threshold, "n": count})
    inside = data.score[order][:, None] >= threshold
    own = slice_means(reference - drug, slices)
    law = None if redraws is None else slice_truth(redraws, slices)
    drawn = None if redraws is None or law is None else studentised(*slice_means(redraws.spared, slices), law[0] - law[1])
    _add(
        table,
        "ad",
        own,
        NullDistribution(drawn, np.maximum(count - 2, 1)),
        inference.level,
        inside * ((reference - drug)[:, None] - own[0]),
    )
    own = slice_log_ratios(reference, drug, slices)
    if redraws is not None and law is not None:
        drawn = studentised(*slice_log_ratios(redraws.under_reference, redraws.under_drug, slices), np.log(law[1] / law[0]))
    means = [slice_means(side, slices)[0] for side in (reference, drug)]
    with np.errstate(divide="ignore", invalid="ignore"):
        influence = inside * (drug[:, None] / means[1] - reference[:, None] / means[0])
    influence = np.nan_to_num(influence, posinf=0, neginf=0)
    _add(table, "ar", own, NullDistribution(drawn, np.maximum(count - 2, 1)), inference.level, influence)
    names = ["ar", "ar_lower", "ar_upper", "ar_band_lower", "ar_band_upper"]
    table[names] = np.exp(table[names])
    return table.assign(variance=NullDistribution(drawn, 1.0).name)


def _add(table: pd.DataFrame, name: str, own: Pair, null_distribution: NullDistribution, level: float, influence: Floats) -> None:
    """Curve with its pointwise and simultaneous limits."""
    value, se = own
    table[name], table[f"{name}_se"] = value, se
    table[f"{name}_lower"], table[f"{name}_upper"] = null_distribution.interval(value, se, level)
    table[f"{name}_band_lower"], table[f"{name}_band_upper"] = null_distribution.band(value, se, level, influence)


def slice_truth(redraws: Redraws, slices: list[tuple[int, int]]) -> tuple[Floats, Floats]:
    """True means under both arms in slices of redrawn trials, whose thresholds move and are then taken as given; (B, slices).

    Where a cut falls among tied patients, as many of the tied patients of the law are inside as of those of the redrawn trial.
    """
    starts, ends = (np.array(places) for places in zip(*slices, strict=True))
    shape = redraws.score.shape
    known = np.broadcast_to(-redraws.law_score, shape)
    place = np.stack([_places(own, law, np.concatenate([starts, ends])) for own, law in zip(-redraws.score, known, strict=True)])
    first, last = place[:, : len(starts)], place[:, len(starts) :]
    empty = last - first < 1e-9  # learned scores of a redrawn trial may all lie above those of the law: its nearest patient
    last = np.where(empty, np.maximum(last, 1.0), last)
    first = np.where(empty, last - 1, first)
    sides = []
    for mean in (redraws.law_reference, redraws.law_drug):
        total = np.pad(np.cumsum(np.broadcast_to(mean, shape), axis=1), ((0, 0), (1, 0)))
        sides.append((_between(total, last) - _between(total, first)) / (last - first))
    return sides[0], sides[1]


def _places(own: Floats, known: Floats, sizes: NDArray[np.intp]) -> Floats:
    """Number of patients of the law that stand above each cut of a trial; both scores negated and rising."""
    cut = own[np.maximum(sizes, 1) - 1]
    above, through = np.searchsorted(own, cut, "left"), np.searchsorted(own, cut, "right")
    begin, end = np.searchsorted(known, cut, "left"), np.searchsorted(known, cut, "right")
    return np.where(sizes > 0, begin + (sizes - above) / (through - above) * (end - begin), 0.0)


def _between(total: Floats, place: Floats) -> Floats:
    """Cumulative sums (B, n + 1) at places (B, K) between two patients."""
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, total.shape[1] - 1)
    below, above = np.take_along_axis(total, low, 1), np.take_along_axis(total, high, 1)
    return np.asarray(below + (place - low) * (above - below))
