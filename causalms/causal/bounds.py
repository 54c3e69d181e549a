r"""Sharp bounds on what no trial identifies: they hold under every coupling of two worlds with these marginals.

Binary outcomes: Frechet-Hoeffding.  Differences of counts or volumes: Makarov, in the form with left limits that is sharp
for laws with atoms (Williamson and Downs 1990; Fan and Park 2010).  Conditional on covariates and then averaged, they
are narrower than from the averaged marginals.  A bound is not an interval of confidence: it does not shrink with n.

A law here is a pair (support, probabilities): increasing support points and their probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from causalms.errors import UsageError
from causalms.stats import NegativeBinomialLaw

FloatArray = npt.NDArray[np.floating[Any]]
_MOST_LESIONS = 1_000_000
#: Probabilities nearer to 0 or 1 than this are rounding error of a sum.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bound of one number.

    Attributes
    ----------
    lower, upper : float
    """

    lower: float
    upper: float

    def contains(self, value: float, slack: float = 1e-9) -> bool:
        """Whether a value lies inside, up to rounding."""
        return self.lower - slack <= value <= self.upper + slack


@dataclass(frozen=True)
class Law:
    """A discrete law of an outcome.

    Attributes
    ----------
    support : array, shape (k,)
        Increasing.
    probabilities : array, shape (k,)

    Examples
    --------
    >>> Law.of_draws([0, 0, 2]).probabilities.round(3).tolist()
    [0.667, 0.333]
    >>> Law.negative_binomial(1.0, 0.0).below(1.0).round(4).item()  # P(N < 1) = exp(-1)
    0.3679
    """

    support: FloatArray
    probabilities: FloatArray

    @classmethod
    def of_draws(cls, draws: npt.ArrayLike) -> Law:
        """Empirical law of draws.

        Raises
        ------
        UsageError
            If there are none, or one is not a number.
        """
        if np.size(draws) == 0 or not np.all(np.isfinite(np.asarray(draws, dtype=float))):
            raise UsageError("a law needs at least one draw and no missing ones; ask for more draws")
        support, counts = np.unique(np.asarray(draws, dtype=float), return_counts=True)
        return cls(support, counts / counts.sum())

    @classmethod
    def negative_binomial(cls, mean: float, dispersion: float) -> Law:
        """Count law with variance m + alpha m^2, cut where less than 1e-10 is left (the rest is put on the last point).

        Raises
        ------
        UsageError
            If mean or dispersion is no number at least 0, or the law reaches beyond a million lesions.
        """
        if not (np.isfinite(mean) and np.isfinite(dispersion) and mean >= 0 and dispersion >= 0):
            raise UsageError(f"a count law with mean {mean} and dispersion {dispersion} is none; both must be at least 0")
        law = NegativeBinomialLaw(np.array([mean]), np.array([1 / dispersion if dispersion > 1e-9 else np.inf]))
        if mean > _MOST_LESIONS or (last := int(law.quantile(1 - 1e-10)[0])) > _MOST_LESIONS:
            raise UsageError(
                f"a count law with mean {mean:g} and dispersion {dispersion:g} reaches beyond a million lesions; check the mean"
            )
        support = np.arange(last + 1, dtype=float)
        probabilities = law.pmf(support[None])[0]
        probabilities[-1] += max(1.0 - probabilities.sum(), 0.0)
        return cls(support, probabilities / probabilities.sum())

    def at_most(self, values: npt.ArrayLike) -> FloatArray:
        """P(Y <= y)."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.probabilities)])
        return np.asarray(cumulative[np.searchsorted(self.support, values, side="right")])

    def below(self, values: npt.ArrayLike) -> FloatArray:
        """P(Y < y)."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.probabilities)])
        return np.asarray(cumulative[np.searchsorted(self.support, values, side="left")])

    @property
    def mean(self) -> float:
        """Expectation."""
        return float(self.support @ self.probabilities)


def frechet_hoeffding(p: npt.ArrayLike, q: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    r"""Bounds of P(A and B) from P(A) = p and P(B) = q: :math:`\max(0, p+q-1) \le P(A \cap B) \le \min(p, q)`.

    Parameters
    ----------
    p, q : array_like
        Probabilities, broadcast against each other (one entry a patient or stratum).

    Returns
    -------
    lower, upper : array

    References
    ----------
    Frechet (1951); Hoeffding (1940).

    Examples
    --------
    >>> [round(float(b), 6) for b in frechet_hoeffding(0.7, 0.4)]
    [0.1, 0.4]
    """
    p, q = np.asarray(p, dtype=float), np.asarray(q, dtype=float)
    if np.any((p < 0) | (p > 1) | (q < 0) | (q > 1)):
        raise UsageError("probabilities must lie between 0 and 1")
    return np.maximum(0.0, p + q - 1.0), np.minimum(p, q)


def activity_harm_bounds(p_reference: npt.ArrayLike, p_arm: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Bounds of P(active under the arm and quiet under the reference).

    Examples
    --------
    >>> [round(float(b), 6) for b in activity_harm_bounds(p_reference=0.6, p_arm=0.3)]
    [0.0, 0.3]
    """
    return frechet_hoeffding(p_arm, 1.0 - np.asarray(p_reference, dtype=float))


def makarov(reference: Law, arm: Law, difference: float) -> Bounds:
    r"""Bounds of P(Y_arm - Y_reference <= d) that hold under every coupling, sharp.

    .. math::
        \sup_y \max\{F_1(y) - P(Y_0 < y-d),\, 0\} \;\le\; P(Y_1-Y_0 \le d) \;\le\; 1 - \sup_y \max\{F_0(y-d) - F_1(y),\, 0\} .

    Parameters
    ----------
    reference, arm : Law
    difference : float
        d, in the unit of the outcome.

    References
    ----------
    Makarov (1981) Theory Probab. Appl. 26; Williamson and Downs (1990) Int. J. Approx. Reason. 4; Fan and Park (2010)
    Econometric Theory 26.

    Examples
    --------
    >>> coin = Law(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    >>> makarov(coin, coin, -1.0)  # P(better by one): between never and half of the time
    Bounds(lower=0.0, upper=0.5)
    """
    points = np.unique(np.concatenate([arm.support, reference.support + difference]))
    back = points - difference
    # points - d can miss a support point of the reference by rounding: snap to it
    near = np.searchsorted(reference.support, back).clip(0, len(reference.support) - 1)
    for candidate in (near, (near - 1).clip(0)):
        same = np.isclose(reference.support[candidate], back, rtol=1e-12, atol=1e-12)
        back = np.where(same, reference.support[candidate], back)
    lower = float(np.max(arm.at_most(points) - reference.below(back), initial=0.0))
    # above the jump of the arm's law the supremum is approached from the right of y, hence P(Y_1 <= y) with F_0(y - d)
    above = float(np.max(reference.at_most(back) - arm.at_most(points), initial=0.0))
    return _ordered(lower, 1.0 - above)


def benefit_bounds(reference: Law, arm: Law) -> Bounds:
    r"""Bounds of P(Y_arm < Y_reference): fewer lesions (or less volume) under the arm.

    .. math::
        \sup_y \max\{F_1(y) - F_0(y),\, 0\} \le P(Y_1 < Y_0) \le 1 - \sup_y \max\{F_0(y) - P(Y_1 < y),\, 0\} .

    Examples
    --------
    >>> benefit_bounds(Law.of_draws([1, 1, 1, 2]), Law.of_draws([0, 0, 0, 3]))
    Bounds(lower=0.75, upper=0.75)
    """
    points = np.union1d(reference.support, arm.support)
    lower = float(np.max(arm.at_most(points) - reference.at_most(points), initial=0.0))
    not_better = float(np.max(reference.at_most(points) - arm.below(points), initial=0.0))
    return _ordered(lower, 1.0 - not_better)


def _ordered(lower: float, upper: float) -> Bounds:
    """Probabilities in order, where sums of thousands of terms round past 0, 1 or each other, or short of 0 and 1."""
    low = 0.0 if lower < ROUNDING else min(lower, 1.0)
    return Bounds(low, 1.0 if upper > 1 - ROUNDING else max(upper, low))


def harm_bounds(reference: Law, arm: Law) -> Bounds:
    """Bounds of P(Y_arm > Y_reference): the arms change places in :func:`benefit_bounds`.

    Examples
    --------
    >>> harm_bounds(Law.of_draws([1, 1, 1, 2]), Law.of_draws([0, 0, 0, 3]))
    Bounds(lower=0.25, upper=0.25)
    """
    return benefit_bounds(arm, reference)


def twin_mean_bounds(arm: Law, evidence_probability: float) -> Bounds:
    r"""Bounds of E[Y_arm | the factual event] where the event has probability p in the factual world.

    The event can sit on the lowest or the highest p of the law of Y_arm (trimming; Horowitz and Manski 1995): sharp.

    Examples
    --------
    >>> twin_mean_bounds(Law.of_draws([0, 1, 2, 3]), evidence_probability=0.5)
    Bounds(lower=0.5, upper=2.5)
    >>> twin_mean_bounds(Law.of_draws([0, 1, 2, 3]), evidence_probability=1.0)
    Bounds(lower=1.5, upper=1.5)
    """
    if not 0 < evidence_probability <= 1:
        raise UsageError(f"the evidence has probability {evidence_probability}; it must be above 0 and at most 1")
    low = _lowest_share_mean(arm.support, arm.probabilities, evidence_probability)
    high = -_lowest_share_mean(-arm.support[::-1], arm.probabilities[::-1], evidence_probability)
    return Bounds(low, high)


def _lowest_share_mean(support: FloatArray, probabilities: FloatArray, share: float) -> float:
    before = np.concatenate([[0.0], np.cumsum(probabilities)[:-1]])
    taken = np.clip(share - before, 0.0, probabilities)
    return float(support @ taken / taken.sum())
