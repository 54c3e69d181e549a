r"""Sample size and power of a trial of counts: superiority, margins, unequal arms, drop-out, and what a prognostic score saves.

With T the time under observation, at most the planned one, the log rate ratio of n patients in the reference arm has variance
:math:`V/n`,

.. math::
    V = \left(\frac{1}{E[T]}\left(\frac{1}{\lambda_0} + \frac{1}{k\lambda_1}\right)
    + \alpha\,\frac{1+k}{k}\,\frac{E[T^2]}{E[T]^2}\right) (1-\rho^2),

of the ratio of events over time, or of a Poisson working model with a robust variance.  Without drop-out it is that of Zhu and
Lakkis (2014), times what the score leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.stats import normal_cdf, normal_quantile
from causalms.tables import WEEKS_PER_YEAR, name_of

#: Where the variance under the null hypothesis comes from: Zhu and Lakkis's approaches 2, 1 and 3.
NULL_VARIANCES = ("true", "reference", "pooled")
#: More patients than any trial has.
_MOST = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Planning:
    """What a plan takes into account beside rates, dispersion and level.

    Attributes
    ----------
    margin : float
        The claim is a rate ratio below this: 1 superiority, above 1 non-inferiority, below 1 superiority by a margin.
    dropout : float
        Share of the patients who leave before the end, at a constant hazard; their time until then counts.
    small_sample : bool
        Use t laws with n - 2 degrees of freedom in place of the normal.
    null_variance : {"true", "reference", "pooled"}
        Rates behind the variance under the null: the true ones, the reference's for both, or their mean.
    """

    margin: float = 1.0
    dropout: float = 0.0
    small_sample: bool = False
    null_variance: str = "true"


def time_moments(exposure_years: float, dropout: float = 0.0) -> tuple[float, float]:
    """Mean of the time under observation, and of its square, where a share leaves at a constant hazard.

    Examples
    --------
    >>> time_moments(2.0)
    (2.0, 4.0)
    >>> [round(moment, 4) for moment in time_moments(2.0, 0.2)]
    [1.7926, 3.4519]
    """
    if dropout == 0:
        return exposure_years, exposure_years**2
    hazard = -np.log1p(-dropout) / exposure_years
    square = 2 * (1 - (1 - dropout) * (1 + hazard * exposure_years)) / hazard**2
    return float(dropout / hazard), float(square)


def _variance(rates: tuple[float, float], dispersion: float, moments: tuple[float, float], allocation: float) -> float:
    poisson = (1 / rates[0] + 1 / (allocation * rates[1])) / moments[0]
    return poisson + dispersion * (1 + allocation) / allocation * moments[1] / moments[0] ** 2


@dataclass(frozen=True)
class _Plan:
    """A checked plan: the effect to be shown and the variances under the null and in truth, for one patient of the reference."""

    effect: float
    null: float
    truth: float
    allocation: float
    level: float
    small_sample: bool

    def power(self, n: float) -> float:
        """Power with n patients in the reference arm."""
        null, truth = np.sqrt(self.null / n), np.sqrt(self.truth / n)
        if not self.small_sample:
            z = normal_quantile((1 + self.level) / 2)
            return normal_cdf((self.effect - z * null) / truth)
        from scipy.special import nctdtr, stdtrit

        degrees = n * (1 + self.allocation) - 2
        if degrees < 1:
            return 0.0
        critical = float(stdtrit(degrees, (1 + self.level) / 2))
        return float(1 - nctdtr(degrees, self.effect / truth, critical * null / truth))

    def size(self, power: float) -> int:
        """Smallest number of patients in the reference arm with this power."""
        low, high = 0, 2
        while self.power(high) < power:
            low, high = high, 2 * high
            if high > _MOST:
                raise RefusalError(f"more than {_MOST:,} patients an arm would be needed; the ratio lies too near to its margin")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(middle) >= power else (middle, high)
        return high


def _plan(
    rate: float, ratio: float, dispersion: float, moments: tuple[float, float], level: float, allocation: float, left: float,
    planning: Planning,
) -> _Plan:  # fmt: skip
    positive = {"rate": rate, "ratio": ratio, "exposure_years": moments[0], "allocation": allocation, "margin": planning.margin}
    for name, value in positive.items():
        if not value > 0:
            raise UsageError(f"`{name}`: found {name_of(value)}, expected a number above 0")
    if dispersion < 0:
        raise UsageError(f"`dispersion`: found {name_of(dispersion)}, expected at least 0")
    _fractions(level=level)
    if not 0 < left < 2:
        raise UsageError(f"`variance_ratio`: found {name_of(left)}, expected a number above 0 and below 2 (1: nothing is saved)")
    if planning.null_variance not in NULL_VARIANCES:
        raise UsageError(f"`null_variance`: found {planning.null_variance!r}, expected one of {', '.join(NULL_VARIANCES)}")
    if planning.margin != 1 and planning.null_variance != "true":
        raise UsageError("`null_variance` of equal rates is that of superiority; with a `margin` leave it out")
    if ratio == planning.margin:
        raise RefusalError(
            f"`ratio`: a rate ratio of {name_of(ratio)} cannot be told from a margin of {name_of(planning.margin)} "
            "(it cannot be detected with any number of patients); name a smaller ratio"
        )
    if planning.margin != 1 and ratio > planning.margin:
        raise RefusalError(f"`ratio`: {name_of(ratio)} lies above the margin {name_of(planning.margin)}; name a smaller ratio")
    rates = rate, rate * ratio
    equal = {"true": rates, "reference": (rate, rate), "pooled": ((rate + allocation * rates[1]) / (1 + allocation),) * 2}
    null, truth = (
        left * _variance((pair[0], pair[1]), dispersion, moments, allocation) for pair in (equal[planning.null_variance], rates)
    )
    return _Plan(abs(float(np.log(ratio / planning.margin))), null, truth, allocation, level, planning.small_sample)


@named_arguments
def sample_size(
    *,
    rate: float,
    ratio: float,
    dispersion: float,
    exposure_years: float = 1.0,
    power: float = 0.9,
    level: float = 0.95,
    allocation: float = 1.0,
    variance_ratio: float = 1.0,
    planning: Planning = Planning(),
) -> tuple[int, int]:
    r"""Patients (reference arm, other arm) for a rate ratio, with or without prognostic adjustment.

    .. math:: n_0 = \frac{(z_{1-\alpha/2}\sqrt{V_0}+z_{1-\beta}\sqrt{V})^2}{(\log \mathrm{RR} - \log M)^2}

    Parameters
    ----------
    rate : float
        Events a year in the reference arm.
    ratio : float
        Rate ratio to be detected.
    dispersion : float
        Negative-binomial alpha.
    exposure_years, power, level : float
        The claim is one-sided at (1 - level) / 2.
    allocation : float
        Patients in the other arm for one in the reference arm.
    variance_ratio : float
        1 - rho^2 of the prognostic score, such as ``variance_ratio`` of an earlier trial; shrink it towards 1 in
        planning.
    planning : Planning
        Margin, drop-out, small-sample laws, variance under the null.

    References
    ----------
    Zhu and Lakkis (2014), Statistics in Medicine 33:376-387; Schuler et al. (2022), Int. J. Biostatistics 18:329.

    Examples
    --------
    >>> sample_size(rate=3, ratio=0.5, dispersion=2)
    (110, 110)
    >>> sample_size(rate=3, ratio=0.5, dispersion=2, variance_ratio=0.7)
    (77, 77)
    >>> sample_size(rate=3, ratio=1, dispersion=2, planning=Planning(margin=1.25, dropout=0.1, small_sample=True))
    (1023, 1023)
    """
    _fractions(power=power)
    moments = time_moments(exposure_years, _share(planning.dropout))
    size = _plan(rate, ratio, dispersion, moments, level, allocation, variance_ratio, planning).size(power)
    return size, int(np.ceil(size * allocation - 1e-9))


def prospective_power(
    n: int,
    *,
    rate: float,
    ratio: float,
    dispersion: float,
    exposure_years: float = 1.0,
    level: float = 0.95,
    allocation: float = 1.0,
    variance_ratio: float = 1.0,
    planning: Planning = Planning(),
) -> float:
    """Power of a trial with ``n`` patients in the reference arm; the inverse of :func:`sample_size`.

    Examples
    --------
    >>> round(prospective_power(110, rate=3, ratio=0.5, dispersion=2), 3)
    0.902
    """
    moments = time_moments(exposure_years, _share(planning.dropout))
    return _plan(rate, ratio, dispersion, moments, level, allocation, variance_ratio, planning).power(n)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What patients and scans cost.

    Attributes
    ----------
    budget : float
        For all patients and scans.
    cost_patient, cost_scan : float
        Of one patient without scans, and of one scan; the baseline scan is one of them.
    weeks : sequence of sequence of float
        Candidate schedules: weeks of the scans after baseline; the last one is the end.
    """

    budget: float
    cost_patient: float
    cost_scan: float
    weeks: Sequence[Sequence[float]] = ((48,), (24, 48), (12, 24, 36, 48), (96,), (48, 96), (24, 48, 72, 96))


@named_arguments
def scan_schedules(
    schedule: Schedule,
    *,
    rate: float,
    ratio: float,
    dispersion: float,
    level: float = 0.95,
    allocation: float = 1.0,
    variance_ratio: float = 1.0,
    planning: Planning = Planning(),
) -> pd.DataFrame:
    """Power of each candidate schedule of scans with as many patients as the budget pays for.

    New lesions of a patient who leaves are known up to the last scan before, so that more scans save time under observation where
    patients drop out; ``planning.dropout`` is the share that leaves in a year.

    Returns
    -------
    DataFrame
        ``weeks``, ``patients`` (both arms), ``observed_years`` (mean), ``scans`` (mean, with baseline), ``power``; best first.

    Examples
    --------
    >>> schedule = Schedule(budget=1e6, cost_patient=4000, cost_scan=800, weeks=((96,), (48, 96)))
    >>> table = scan_schedules(schedule, rate=3, ratio=0.6, dispersion=2, planning=Planning(dropout=0.15))
    >>> table[["weeks", "patients", "power"]].round(2).values.tolist()
    [['96', 185, 0.52], ['48, 96', 164, 0.51]]
    """
    if not (schedule.budget > 0 and schedule.cost_patient >= 0 and schedule.cost_scan > 0):
        raise UsageError("`budget` and `cost_scan`: expected numbers above 0, and `cost_patient` at least 0")
    _fractions(level=level)
    hazard = -np.log1p(-_share(planning.dropout))
    rows = []
    for weeks in schedule.weeks:
        years = np.asarray(weeks, float) / WEEKS_PER_YEAR
        if not len(years) or not (np.diff(np.r_[0.0, years]) > 0).all():
            raise UsageError(f"`weeks`: found {weeks}, expected rising weeks above 0")
        there = np.exp(-hazard * years)
        left_after = there - np.r_[there[1:], 0.0]
        # patients who leave before their first scan have no outcome, and are lost
        moments = float(left_after @ years / there[0]), float(left_after @ years**2 / there[0])
        scans = 1 + float(there.sum())
        patients = int(schedule.budget // (schedule.cost_patient + schedule.cost_scan * scans))
        reference = patients * there[0] / (1 + allocation)
        plan = _plan(rate, ratio, dispersion, (moments[0], moments[1]), level, allocation, variance_ratio, planning)
        power = plan.power(reference) if reference >= 2 else 0.0
        rows.append((", ".join(name_of(week) for week in weeks), patients, moments[0], scans, power))
    table = pd.DataFrame(rows, columns=["weeks", "patients", "observed_years", "scans", "power"])
    return table.sort_values("power", ascending=False, kind="stable").reset_index(drop=True)


def _share(value: float) -> float:
    if not 0 <= value < 1:
        raise UsageError(f"`dropout`: found {name_of(value)}, expected a share from 0 to less than 1")
    return value


def _fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < 1:
            raise UsageError(f"`{name}`: found {name_of(value)}, expected a number between 0 and 1")
