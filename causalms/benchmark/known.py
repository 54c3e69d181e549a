"""Forecasts judged against a simulated trial's known rates and potential outcomes: what no real trial can show.

Patients are the rows and arms the columns of every array; intervals are percentiles of a patient bootstrap.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from causalms.calibration import pit_ends, pit_histogram
from causalms.errors import InputError
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, score

Rows = NDArray[np.intp]
Measure = Callable[[Rows], Array]


@dataclass(frozen=True)
class KnownOutcomes:
    """What is known of patients in a simulated trial.

    Parameters
    ----------
    arms : tuple of str
        The reference arm first.
    log_rate : array (patients, arms)
        Logarithm of the true expected counts.
    counts : int array (patients, arms)
        Potential outcomes.
    randomised : int array (patients,)
        Position of the arm each patient was randomised to.
    marker : bool array (patients,)
        A baseline subgroup, for example enhancing lesions.
    size : float
        Negative-binomial size of the true counts given the rate; infinite is Poisson.
    """

    arms: tuple[str, ...]
    log_rate: Array
    counts: NDArray[np.int64]
    randomised: NDArray[np.int64]
    marker: NDArray[np.bool_]
    size: float

    @property
    def rate(self) -> Array:
        """True expected counts."""
        return np.asarray(np.exp(self.log_rate))

    def part(self, patients: int, arms: tuple[int, ...]) -> KnownOutcomes:
        """The first patients under some of the arms; a patient randomised to none of these counts for the first of them."""
        own = np.array([arms.index(a) if a in arms else 0 for a in self.randomised[:patients]])
        columns = np.array(arms)
        names = tuple(self.arms[a] for a in arms)
        return KnownOutcomes(
            names, self.log_rate[:patients, columns], self.counts[:patients, columns], own, self.marker[:patients], self.size
        )


def judge(
    law: CountLaw, known: KnownOutcomes, repetitions: int = 500, seed: int = 0, against: CountLaw | None = None
) -> pd.DataFrame:
    r"""Every score of a forecaster, or its difference to another's, with 95% intervals over patients.

    Parameters
    ----------
    law : CountLaw
        Of patients x arms, flattened patient by patient.
    known : KnownOutcomes
    repetitions : int
        Bootstrap samples of patients.
    seed : int
    against : CountLaw, optional
        Another forecaster's law of the same rows: every estimate and interval is then of the difference, this less that, in the
        same samples of patients.

    Returns
    -------
    DataFrame
        ``measure``, ``arm`` (empty: all arms), ``estimate``, ``lower``, ``upper``, ``patients``.  Measures: mean ratio
        :math:`\sum \hat m / \sum m`; rate ratio / truth, over all, with and without the marker; R2 of the log rate
        :math:`1 - \sum (\hat l - l)^2 / \sum l^2`, both logarithms centred within the arm; PEHE, the root mean square over
        patients and arms of the error of the difference to the reference arm; CRPS, log score, Brier score and AUC of
        activity over all potential outcomes; coverage of 90% intervals randomised at their ends, of the outcomes and, for a
        parametric law, in expectation over the true law (:func:`expected_coverage`); PIT p-value in the randomised arm;
        variance and share of zeros of the arm's counts over those of the true law.

    Raises
    ------
    InputError
        If the law's rows are not patients x arms.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> rng = np.random.default_rng(0)
    >>> log_rate = rng.normal(size=(200, 1)) + np.log([2.0, 1.0])
    >>> counts = rng.poisson(rng.gamma(0.8, 1 / 0.8, (200, 1)) * np.exp(log_rate))
    >>> known = KnownOutcomes(("placebo", "drug"), log_rate, counts, rng.integers(2, size=200), rng.random(200) < 0.5, 0.8)
    >>> scores = judge(NegativeBinomialLaw(known.rate.ravel(), [0.8] * 400), known, 50).set_index(["measure", "arm"])["estimate"]
    >>> [round(float(scores[row]), 2) for row in (("mean ratio", "drug"), ("R2 of log rate", ""), ("PEHE", ""))]
    [1.0, 1.0, 0.0]
    """
    patients, arms = known.counts.shape
    for forecasts in (law.n, law.n if against is None else against.n):
        if forecasts != patients * arms:
            raise InputError(f"forecasts for {forecasts} rows; expected {patients} patients x {arms} arms")
    forecast, other = _Forecast.of(law, known), None if against is None else _Forecast.of(against, known)
    samples = np.random.default_rng(seed).integers(patients, size=(repetitions, patients))
    rows = []
    for part, labels in (("by_arm", known.arms), ("overall", ("",))):
        for measure, function in _differences(getattr(forecast, part), getattr(other, part, None)).items():
            with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "All-NaN slice")  # a measure that no sample has, such as a ratio to nothing
                estimate = function(np.arange(patients))
                ends = np.nanquantile([function(sample) for sample in samples], [0.025, 0.975], axis=0)
            rows += [(measure, label, *values, patients) for label, *values in zip(labels, estimate, *ends, strict=True)]
    if other is not None:
        return pd.DataFrame(rows, columns=_COLUMNS)
    own = np.arange(patients) * arms + known.randomised
    p_value = pit_histogram(law.take(own), known.counts.ravel()[own], repetitions=repetitions, seed=seed).p_value
    rows.append(("PIT p-value", "", p_value, np.nan, np.nan, patients))
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ["measure", "arm", "estimate", "lower", "upper", "patients"]


def _differences(own: dict[str, Measure], other: dict[str, Measure] | None) -> dict[str, Measure]:
    """Measures of one forecaster, or less those of another that has them too."""
    if other is None:
        return own
    return {name: partial(_difference, of, other[name]) for name, of in own.items() if name in other}


def _difference(own: Measure, other: Measure, rows: Rows) -> Array:
    return np.asarray(own(rows) - other(rows))


@dataclass(frozen=True)
class _Forecast:
    """Means, variances, activity probabilities and scores of a law, (patients, arms), beside the truth.

    Every measure is a function of the rows of a bootstrap sample.
    """

    known: KnownOutcomes
    mean: Array
    log_mean: Array
    variance: Array
    activity: Array
    true_variance: Array
    true_activity: Array
    scores: Mapping[str, Array]

    @classmethod
    def of(cls, law: CountLaw, known: KnownOutcomes) -> _Forecast:
        shape, y = known.counts.shape, known.counts.ravel()
        if isinstance(law, DrawsLaw):  # half a lesion over all draws, so that no logarithm is of zero
            log_mean = np.log(law.mean + 0.5 / law.draws.shape[1])
        else:
            log_mean = np.log(np.maximum(law.mean, 1e-9))
        true_law = NegativeBinomialLaw(known.rate.ravel(), np.full(y.size, known.size))
        low, high = pit_ends(law, y)
        scores = {label: score(name, law, y) for label, name in _SCORES.items()}
        scores["coverage of 90% intervals"] = (np.minimum(high, 0.95) - np.maximum(low, 0.05)).clip(0) / np.maximum(
            high - low, 1e-300
        )
        if not isinstance(law, DrawsLaw):
            scores["the same, expected under the true law"] = expected_coverage(law, true_law, 0.9)
        arrays = (law.mean, log_mean, law.variance, law.activity, true_law.variance, true_law.activity)
        mean, log_means, variance, activity, true_variance, true_activity = (array.reshape(shape) for array in arrays)
        shaped = {label: values.reshape(shape) for label, values in scores.items()}
        return cls(known, mean, log_means, variance, activity, true_variance, true_activity, shaped)

    @property
    def by_arm(self) -> dict[str, Measure]:
        """Measures with one value an arm."""
        return {
            "mean ratio": self.mean_ratio,
            "rate ratio / truth": self.rate_ratio,
            "rate ratio / truth, marker positive": lambda rows: self.rate_ratio(rows[self.known.marker[rows]]),
            "rate ratio / truth, marker negative": lambda rows: self.rate_ratio(rows[~self.known.marker[rows]]),
            "R2 of log rate, by arm": self.r2,
            "variance / truth": self.total_variance,
            "share of zeros / truth": self.zeros,
        }

    @property
    def overall(self) -> dict[str, Measure]:
        """Measures over all arms."""
        return {
            "R2 of log rate": lambda rows: self.r2(rows).mean(keepdims=True),
            "PEHE": self.pehe,
            "AUC of activity": self.auc,
            **{label: partial(_mean, values) for label, values in self.scores.items()},
        }

    def mean_ratio(self, rows: Rows) -> Array:
        return np.asarray(self.mean[rows].mean(0) / self.known.rate[rows].mean(0))

    def rate_ratio(self, rows: Rows) -> Array:
        ratio = self.mean_ratio(rows)
        return np.asarray(ratio / ratio[0])

    def r2(self, rows: Rows) -> Array:
        true, own = self.known.log_rate[rows], self.log_mean[rows]
        error = own - own.mean(0) - true + true.mean(0)
        return np.asarray(1 - (error**2).mean(0) / true.var(0))

    def pehe(self, rows: Rows) -> Array:
        rate = self.known.rate
        error = (self.mean - self.mean[:, :1] - rate + rate[:, :1])[rows, 1:]
        return np.array([np.sqrt((error**2).mean())])

    def total_variance(self, rows: Rows) -> Array:
        true = self.true_variance[rows].mean(0) + self.known.rate[rows].var(0)
        return np.asarray((self.variance[rows].mean(0) + self.mean[rows].var(0)) / true)

    def zeros(self, rows: Rows) -> Array:
        return np.asarray((1 - self.activity[rows]).mean(0) / (1 - self.true_activity[rows]).mean(0))

    def auc(self, rows: Rows) -> Array:
        active = self.known.counts[rows].ravel() > 0
        one_class = active.all() or not active.any()
        return np.array([np.nan if one_class else roc_auc_score(active, self.activity[rows].ravel())])


def expected_coverage(law: CountLaw, true_law: CountLaw, level: float) -> Array:
    r"""Probability that a count of the true law lies in the central interval of another law, randomised at the ends; (n,).

    With F the law, G the true one and q the smallest count with :math:`F(q) \ge u`, the randomised transform of a count
    of G is at most u with probability :math:`G(q - 1) + g(q) (u - F(q - 1)) / (F(q) - F(q - 1))`; the coverage is the
    difference of this at both ends.  Outcomes scatter about it: those of 500 patients by one percentage point.

    Parameters
    ----------
    law, true_law : CountLaw
    level : float

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> true, narrow = NegativeBinomialLaw([3.0], [0.5]), NegativeBinomialLaw([3.0], [2.0])
    >>> expected_coverage(true, true, 0.9).round(3).tolist(), expected_coverage(narrow, true, 0.9).round(3).tolist()
    ([0.9], [0.778])
    """
    ends = []
    for u in ((1 - level) / 2, (1 + level) / 2):
        count = law.quantile(u)
        low, high = pit_ends(law, count)
        ends.append(true_law.cdf(count - 1) + true_law.pmf(count) * ((u - low) / np.maximum(high - low, 1e-300)).clip(0, 1))
    return np.asarray(ends[1] - ends[0])


def _mean(values: Array, rows: Rows) -> Array:
    return np.array([values[rows].mean()])


_SCORES = {"CRPS": "crps", "log score": "log", "Brier score of activity": "brier"}
