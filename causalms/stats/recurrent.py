"""Recurrent events: the Andersen-Gill model with robust variance (LWYY) and the mean cumulative function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.errors import ConvergenceError, RefusalError, UsageError
from causalms.stats.glm import Array

_MOST_STEPS, _TOLERANCE = 100, 1e-11
TIES = ("efron", "breslow")


@dataclass(frozen=True)
class RateFit:
    """A proportional rates model: coefficients (p,), robust covariance over patients, and that of the Poisson process."""

    coefficients: Array
    robust: Array
    model: Array


@dataclass(frozen=True)
class Intervals:
    """At-risk intervals: (start, stop] of a patient with a number of events at its end.

    Attributes
    ----------
    start, stop : array (n,)
    events : array (n,)
    patient : integer array (n,)
    stratum : integer array (n,)
        Baseline rates differ between strata.
    """

    start: Array
    stop: Array
    events: Array
    patient: np.ndarray
    stratum: np.ndarray


def fit_rates(X: Array, intervals: Intervals, ties: str) -> RateFit:
    r"""Proportional rates :math:`E[dN_i(t)] = Y_i(t)\,e^{x_i'\beta}\,d\mu_0(t)`, with robust variance over patients.

    The estimate is that of Andersen and Gill's model; the sandwich over patients holds whatever the dependence of a patient's
    events.  Events of one time are tied by Breslow's or, where no interval has more than one, Efron's rule.

    Parameters
    ----------
    X : array (n, p)
    intervals : Intervals
    ties : {"efron", "breslow"}

    Returns
    -------
    RateFit

    Raises
    ------
    UsageError
        Unknown ties, or Efron's rule for several events at the end of one interval.
    ConvergenceError
        The partial likelihood has no maximum.

    References
    ----------
    Andersen and Gill (1982), Annals of Statistics 10:1100-1120; Lin, Wei, Yang, Ying (2000), JRSS B 62:711-730.

    Examples
    --------
    >>> every = np.arange(4)
    >>> rows = Intervals(np.zeros(4), np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 1, 1]), every, np.zeros(4, dtype=int))
    >>> fit_rates(np.array([[0.0], [1], [0], [1]]), rows, "efron").coefficients.round(4).tolist()
    [-0.9406]
    """
    if ties not in TIES:
        raise UsageError(f"`ties`: found {ties!r}, expected one of {', '.join(TIES)}")
    if ties == "efron" and intervals.events.max() > 1:
        raise UsageError("`ties=efron` needs at most one event a row; use breslow for counts")
    beta = np.zeros(X.shape[1])
    strata = [np.flatnonzero(intervals.stratum == one) for one in np.unique(intervals.stratum)]
    for _ in range(_MOST_STEPS):
        parts = [_Stratum(X[rows], intervals, rows, beta, ties) for rows in strata]
        information = sum(part.information for part in parts)
        step = np.linalg.solve(information, sum(part.score for part in parts))
        step = step / max(1.0, float(np.abs(step).max()) / 2)
        beta = beta + step
        if np.abs(step).max() < _TOLERANCE:
            break
        if np.abs(beta).max() > 30:
            raise RefusalError("a covariate or arm has events in all or none of its intervals, so its rate ratio is not finite")
    else:
        raise ConvergenceError("the partial likelihood has no maximum; leave out covariates")
    residuals = np.zeros_like(X)
    for part, rows in zip(parts, strata, strict=True):
        residuals[rows] = part.residuals()
    model = np.linalg.inv(np.asarray(information))
    sums = np.column_stack([np.bincount(intervals.patient, weights=column) for column in residuals.T]) @ model
    return RateFit(beta, np.asarray(sums.T @ sums, dtype=float), model)


class _Stratum:
    """Score, information and score residuals of one stratum at given coefficients."""

    def __init__(self, X: Array, intervals: Intervals, rows: np.ndarray, beta: Array, ties: str) -> None:
        self.X, self.weight = X, np.exp(X @ beta)
        self.start, self.stop, self.events = intervals.start[rows], intervals.stop[rows], intervals.events[rows]
        self.times = np.unique(self.stop[self.events > 0])
        self.ends_at = np.searchsorted(self.times, self.stop)
        happened = self.events > 0
        at = self.ends_at[happened]
        count = np.bincount(at, weights=self.events[happened], minlength=len(self.times))
        p = X.shape[1]
        products = self.weight[:, None] * np.column_stack(
            [np.ones(len(X)), X, (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)]
        )
        at_risk = self._over_risk_sets(products)
        tied = np.zeros_like(at_risk)
        if ties == "efron":
            np.add.at(tied, at, products[happened])
        number = count.astype(int) if ties == "efron" else np.ones(len(count), dtype=int)
        self.term = np.repeat(np.arange(len(self.times)), number)  # a term of the partial likelihood a tied event
        first = np.cumsum(number) - number
        self.share = (np.arange(len(self.term)) - first[self.term]) / number[self.term]
        self.events_of_term = (count / number)[self.term]
        sums = at_risk[self.term] - self.share[:, None] * tied[self.term]
        self.total = sums[:, 0]
        self.average = sums[:, 1 : p + 1] / self.total[:, None]
        second = sums[:, p + 1 :].reshape(-1, p, p) / self.total[:, None, None]
        spread = second - self.average[:, :, None] * self.average[:, None, :]
        self.information = (self.events_of_term[:, None, None] * spread).sum(axis=0)
        self.score = (self.events[:, None] * X).sum(axis=0) - (self.events_of_term[:, None] * self.average).sum(axis=0)

    def _over_risk_sets(self, values: Array) -> Array:
        """Sums of values over the intervals that hold each event time: start < time <= stop."""

        def later(ends: Array) -> Array:
            order = np.argsort(ends)
            sums = np.vstack([np.cumsum(values[order][::-1], axis=0)[::-1], np.zeros(values.shape[1])])
            return np.asarray(sums[np.searchsorted(ends[order], self.times, side="left")])

        return later(self.stop) - later(self.start)

    def residuals(self) -> Array:
        """Score residuals: what each interval adds to the score beyond its expectation."""
        rate = self.events_of_term / self.total
        steps, lifts = np.zeros(len(self.times)), np.zeros((len(self.times), self.X.shape[1]))
        np.add.at(steps, self.term, rate)
        np.add.at(lifts, self.term, rate[:, None] * self.average)
        rates = np.r_[0.0, np.cumsum(steps)]
        averages = np.vstack([np.zeros(self.X.shape[1]), np.cumsum(lifts, axis=0)])
        low, high = (np.searchsorted(self.times, end, side="right") for end in (self.start, self.stop))
        expected = self.X * (rates[high] - rates[low])[:, None] - (averages[high] - averages[low])
        out = -self.weight[:, None] * expected
        own, own_step, own_lift = np.zeros_like(lifts), np.zeros(len(steps)), np.zeros_like(lifts)
        number = np.bincount(self.term, minlength=len(self.times))
        np.add.at(own, self.term, self.average / number[self.term][:, None])
        np.add.at(own_step, self.term, self.share * rate)
        np.add.at(own_lift, self.term, (self.share * rate)[:, None] * self.average)
        happened = np.flatnonzero(self.events > 0)
        at = self.ends_at[happened]
        X, weight = self.X[happened], self.weight[happened][:, None]
        out[happened] += self.events[happened][:, None] * (X - own[at]) + weight * (X * own_step[at][:, None] - own_lift[at])
        return np.asarray(out)


def mean_cumulative(intervals: Intervals) -> tuple[Array, Array, Array]:
    r"""Mean cumulative function :math:`\hat M(t)=\sum_{s\le t} dN(s)/Y(s)` and its robust standard error over patients.

    Returns
    -------
    tuple of array (k,)
        Times of the events, mean number of events up to then, standard error.

    References
    ----------
    Lawless and Nadeau (1995), Technometrics 37:158-168.

    Examples
    --------
    >>> every = np.arange(2)
    >>> rows = Intervals(np.zeros(2), np.array([1.0, 2.0]), np.array([1.0, 2.0]), every, np.zeros(2, dtype=int))
    >>> [part.round(3).tolist() for part in mean_cumulative(rows)]
    [[1.0, 2.0], [0.5, 2.5], [0.354, 0.354]]
    """
    times = np.unique(intervals.stop[intervals.events > 0])
    patient = np.unique(intervals.patient, return_inverse=True)[1]
    low, high = (np.searchsorted(times, end, side="right") for end in (intervals.start, intervals.stop))
    changes = np.zeros((int(patient.max()) + 1, len(times) + 1))
    np.add.at(changes, (patient, low), 1.0)
    np.add.at(changes, (patient, high), -1.0)
    at_risk = np.cumsum(changes, axis=1)[:, :-1]
    happened = np.zeros_like(at_risk)
    with_events = intervals.events > 0
    ends_at = np.searchsorted(times, intervals.stop[with_events])
    np.add.at(happened, (patient[with_events], ends_at), intervals.events[with_events])
    size = at_risk.sum(axis=0)
    steps = happened.sum(axis=0) / size
    influence = np.cumsum((happened - at_risk * steps) / size, axis=1)
    return times, np.cumsum(steps), np.sqrt((influence**2).sum(axis=0))
