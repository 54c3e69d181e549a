"""Forecasts judged against a simulated trial's known rates and potential outcomes: what no real trial can show.

Patients are the rows and arms the columns of every array; intervals are percentiles of a patient bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from causalms.calibration.pit import pit_ends, pit_histogram
from causalms.errors import InputError
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, score


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


def judge(law: CountLaw, known: KnownOutcomes, repetitions: int = 500, seed: int = 0) -> pd.DataFrame:
    r"""Every score of a forecaster, with 95% intervals over patients.

    Parameters
    ----------
    law : CountLaw
        Of patients x arms, flattened patient by patient.
    known : KnownOutcomes
    repetitions : int
        Bootstrap samples of patients.
    seed : int

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
    >>> found = judge(NegativeBinomialLaw(known.rate.ravel(), [0.8] * 400), known, 50).set_index(["measure", "arm"])["estimate"]
    >>> [round(float(found[row]), 2) for row in (("mean ratio", "drug"), ("R2 of log rate", ""), ("PEHE", ""))]
    [1.0, 1.0, 0.0]
    """
    patients, arms = known.counts.shape
    if law.n != patients * arms:
        raise InputError(f"forecasts for {law.n} rows; expected {patients} patients x {arms} arms")
    if isinstance(law, DrawsLaw):  # half a lesion over all draws, so that no logarithm is of zero
        log_mean = np.log(law.mean + 0.5 / law.draws.shape[1]).reshape(patients, arms)
    else:
        log_mean = np.log(np.maximum(law.mean, 1e-9)).reshape(patients, arms)
    mean, variance = law.mean.reshape(patients, arms), law.variance.reshape(patients, arms)
    activity, y = law.activity.reshape(patients, arms), known.counts.ravel()
    true_law = NegativeBinomialLaw(known.rate.ravel(), np.full(patients * arms, known.size))
    low, high = pit_ends(law, y)
    inside = (np.minimum(high, 0.95) - np.maximum(low, 0.05)).clip(0) / np.maximum(high - low, 1e-300)
    scores = {label: score(name, law, y).reshape(patients, arms) for label, name in _SCORES.items()}
    scores["coverage of 90% intervals"] = inside.reshape(patients, arms)
    if not isinstance(law, DrawsLaw):
        scores["the same, expected under the true law"] = expected_coverage(law, true_law, 0.9).reshape(patients, arms)

    def ratio(rows: NDArray[np.intp]) -> Array:
        return np.asarray(mean[rows].mean(0) / known.rate[rows].mean(0))

    def part(rows: NDArray[np.intp], wanted: bool) -> Array:
        own = ratio(rows[known.marker[rows] == wanted])
        return own / own[0]

    def r2(rows: NDArray[np.intp]) -> Array:
        true, own = known.log_rate[rows], log_mean[rows]
        error = own - own.mean(0) - true + true.mean(0)
        return np.asarray(1 - (error**2).mean(0) / true.var(0))

    def pehe(rows: NDArray[np.intp]) -> Array:
        error = (mean - mean[:, :1] - known.rate + known.rate[:, :1])[rows, 1:]
        return np.array([np.sqrt((error**2).mean())])

    def total_variance(rows: NDArray[np.intp]) -> Array:
        true = true_law.variance.reshape(patients, arms)[rows].mean(0) + known.rate[rows].var(0)
        return np.asarray((variance[rows].mean(0) + mean[rows].var(0)) / true)

    def zeros(rows: NDArray[np.intp]) -> Array:
        return np.asarray((1 - activity[rows]).mean(0) / (1 - true_law.activity.reshape(patients, arms)[rows]).mean(0))

    def auc(rows: NDArray[np.intp]) -> Array:
        active = known.counts[rows].ravel() > 0
        one_class = active.all() or not active.any()
        return np.array([np.nan if one_class else roc_auc_score(active, activity[rows].ravel())])

    by_arm: dict[str, Callable[[NDArray[np.intp]], Array]] = {
        "mean ratio": ratio,
        "rate ratio / truth": lambda rows: ratio(rows) / ratio(rows)[0],
        "rate ratio / truth, marker positive": lambda rows: part(rows, True),
        "rate ratio / truth, marker negative": lambda rows: part(rows, False),
        "R2 of log rate, by arm": r2,
        "variance / truth": total_variance,
        "share of zeros / truth": zeros,
    }
    overall: dict[str, Callable[[NDArray[np.intp]], Array]] = {
        "R2 of log rate": lambda rows: r2(rows).mean(keepdims=True),
        "PEHE": pehe,
        "AUC of activity": auc,
        **{label: partial(_mean, of) for label, of in scores.items()},
    }
    everyone = np.arange(patients)
    samples = np.random.default_rng(seed).integers(patients, size=(repetitions, patients))
    rows = []
    for functions, labels in ((by_arm, known.arms), (overall, ("",))):
        for measure, function in functions.items():
            with np.errstate(invalid="ignore", divide="ignore"):
                estimate = function(everyone)
                ends = np.nanquantile([function(sample) for sample in samples], [0.025, 0.975], axis=0)
            rows += [(measure, label, *values, patients) for label, *values in zip(labels, estimate, *ends, strict=True)]
    own = np.arange(patients) * arms + known.randomised
    p_value = pit_histogram(law.take(own), y[own], repetitions=repetitions, seed=seed).p_value
    rows.append(("PIT p-value", "", p_value, np.nan, np.nan, patients))
    return pd.DataFrame(rows, columns=["measure", "arm", "estimate", "lower", "upper", "patients"])


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


def _mean(values: Array, rows: NDArray[np.intp]) -> Array:
    return np.array([values[rows].mean()])


_SCORES = {"CRPS": "crps", "log score": "log", "Brier score of activity": "brier"}
