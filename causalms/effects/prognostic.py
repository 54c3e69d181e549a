"""Prognostic adjustment: what a generator's expected counts save, and what that is worth in patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects.contrasts import transformed
from causalms.effects.observed import Analysis, analyse_data
from causalms.effects.variance import means_covariance
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import normal_cdf, normal_quantile
from causalms.tables import fixed, name_of, patient_order


@dataclass(frozen=True)
class Saving:
    r"""What adjustment saves in one contrast.

    Attributes
    ----------
    arm, reference : str
    variance_ratio : float
        Variance of the adjusted over that of the unadjusted estimate, both by influence functions; :math:`1-\rho^2` for a linear
        model.
    n : int
        Patients in the analysis.
    equivalent_n : float
        Patients an unadjusted trial would need for the same precision.
    """

    arm: str
    reference: str
    variance_ratio: float
    n: int

    @property
    def equivalent_n(self) -> float:
        """Size of an unadjusted trial with the same precision."""
        return self.n / self.variance_ratio

    @property
    def sentence(self) -> str:
        """One line for a report."""
        change = 100 * (1 - self.variance_ratio)
        verb = "saves" if change >= 0 else "costs"
        return (
            f"adjustment {verb} {fixed(abs(change), 1)}% of the variance of {self.arm} vs {self.reference}: "
            f"{self.n} patients count for {fixed(self.equivalent_n, 0)} unadjusted ones"
        )


def savings(analysis: Analysis) -> tuple[Saving, ...]:
    """Variance saved by the covariates (prognostic or other) of a standardized analysis, contrast by contrast.

    Raises
    ------
    UsageError
        The analysis is of a conditional coefficient, whose unadjusted version is another estimand.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> rng = np.random.default_rng(0)
    >>> score = np.exp(rng.normal(size=200))
    >>> table = pd.DataFrame({"y": rng.poisson(score), "score": score, "arm": ["a", "b"] * 100})
    >>> saved = savings(analyse(table, outcome="y", reference="a", method=Method(prognostic=["score"])))[0]
    >>> saved.variance_ratio < 0.6, saved.equivalent_n > 330
    (True, True)
    """
    return tuple(saving for part in analysis.parts for saving in _savings(part))


def _savings(analysis: Analysis) -> list[Saving]:
    if analysis.means is None:
        raise UsageError("what adjustment saves is known for means only; use `estimator=standardized`")
    plain = replace(analysis.settings, estimator="unadjusted", variance="influence", interaction=False, test="wald")
    crude = analyse_data(analysis.data, plain, analysis.outcome, analysis.populations)
    adjusted = means_covariance(analysis.means, "influence", analysis.settings.randomization)
    out = []
    for index in analysis.reported:
        arm = analysis.data.arms[index]
        pair = np.array([0, index])
        _, slopes = transformed(analysis.means.estimates[pair], analysis.settings.measure.scale)
        variance = adjusted.of_contrast(pair, slopes * np.array([-1.0, 1.0]))[0]
        ratio = variance / crude.contrasts[index - 1].se ** 2
        out.append(Saving(arm, analysis.data.arms[0], float(ratio), int(analysis.data.sizes[pair].sum())))
    return out


def cross_fitted(
    table: pd.DataFrame,
    learn: Callable[[pd.DataFrame], Callable[[pd.DataFrame], np.ndarray]],
    *,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Expected outcomes of every patient from a learner that never saw that patient.

    Needed when the prognostic model is trained on the trial that is analysed; a generator trained elsewhere needs none.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    learn : callable
        Takes the training rows and returns a function from rows to expected outcomes.
    folds, seed : int

    Returns
    -------
    array (n,)

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 2, 3, 4]})
    >>> def mean_of_the_others(train):
    ...     return lambda test: np.full(len(test), train["y"].mean())
    >>> cross_fitted(table, mean_of_the_others, folds=4).round(3).tolist()
    [3.0, 2.667, 2.333, 2.0]
    """
    if not 2 <= folds <= len(table):
        raise UsageError(f"folds: found {folds}, expected 2 to {len(table)} (the number of patients)")
    order = patient_order(table)
    table = table.iloc[order]
    fold = np.random.default_rng(seed).permutation(np.arange(len(table)) % folds)
    expected = np.empty(len(table))
    for number in range(folds):
        held = fold == number
        values = np.asarray(learn(table[~held])(table[held]), dtype=float)
        if values.shape != (int(held.sum()),) or not np.isfinite(values).all():
            raise InputError(f"cross-fitting, fold {number + 1}: the learner gave missing or misshapen expectations; check it")
        expected[order[held]] = values
    return expected


def log_ratio_variance(rate: float, ratio: float, dispersion: float, exposure_years: float, allocation: float = 1.0) -> float:
    r"""Variance of the log rate ratio times the size of the reference arm, for negative-binomial counts.

    .. math:: V = \frac{1}{t}\left(\frac{1}{\lambda_0} + \frac{1}{k\lambda_1}\right) + \alpha\,\frac{1+k}{k}

    References
    ----------
    Zhu and Lakkis (2014), Statistics in Medicine 33:376-387.
    """
    for name, value in (("rate", rate), ("ratio", ratio), ("exposure_years", exposure_years), ("allocation", allocation)):
        if not value > 0:
            raise UsageError(f"{name}: found {name_of(value)}, expected a number above 0")
    if dispersion < 0:
        raise UsageError(f"dispersion: found {name_of(dispersion)}, expected at least 0")
    poisson = (1 / rate + 1 / (allocation * rate * ratio)) / exposure_years
    return poisson + dispersion * (1 + allocation) / allocation


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
) -> tuple[int, int]:
    r"""Patients (reference arm, other arm) for a rate ratio, with or without prognostic adjustment.

    .. math:: n_0 = \frac{(z_{1-\alpha/2}+z_{1-\beta})^2 \, V}{(\log \mathrm{RR})^2}\,(1-\rho^2)

    Parameters
    ----------
    rate : float
        Events a year in the reference arm.
    ratio : float
        Rate ratio to be detected.
    dispersion : float
        Negative-binomial alpha.
    exposure_years, power, level : float
    allocation : float
        Patients in the other arm for one in the reference arm.
    variance_ratio : float
        1 - rho^2 of the prognostic score, such as ``variance_ratio`` of an earlier trial; shrink it towards 1 in
        planning.

    Examples
    --------
    >>> sample_size(rate=3, ratio=0.5, dispersion=2)
    (110, 110)
    >>> sample_size(rate=3, ratio=0.5, dispersion=2, variance_ratio=0.7)
    (77, 77)
    """
    if ratio == 1:
        raise RefusalError("ratio: a rate ratio of 1 cannot be detected with any number of patients; name a smaller effect")
    _fractions(power=power, level=level)
    if not 0 < variance_ratio <= 1:
        raise UsageError(f"variance_ratio: found {name_of(variance_ratio)}, expected a number above 0 and up to 1")
    z = normal_quantile((1 + level) / 2) + normal_quantile(power)
    size = z**2 * log_ratio_variance(rate, ratio, dispersion, exposure_years, allocation) / np.log(ratio) ** 2 * variance_ratio
    return int(np.ceil(size)), int(np.ceil(size * allocation))


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
) -> float:
    """Power of a trial with ``n`` patients in the reference arm; the inverse of :func:`sample_size`.

    Examples
    --------
    >>> round(prospective_power(110, rate=3, ratio=0.5, dispersion=2), 3)
    0.902
    """
    _fractions(level=level)
    se = np.sqrt(log_ratio_variance(rate, ratio, dispersion, exposure_years, allocation) * variance_ratio / n)
    z, effect = normal_quantile((1 + level) / 2), abs(np.log(ratio)) / se
    return normal_cdf(effect - z) + normal_cdf(-effect - z)


def _fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < 1:
            raise UsageError(f"{name}: found {name_of(value)}, expected a number between 0 and 1")
