"""The treatment effect among patients with at least a given predicted benefit: AD(c), AR(c), and their bands."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.benefit.predict import Benefit
from causalms.benefit.redraws import Floats, Redraws
from causalms.benefit.statistics import Inference, NullDistribution, Pair, slice_log_ratios, slice_means, studentised
from causalms.errors import UsageError

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
