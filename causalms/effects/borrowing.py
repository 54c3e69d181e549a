r"""Borrowing for the control arm: priors on the log rate made of simulated or historical controls, and what they do to an effect.

Everything is on the log-rate scale, where an estimate of an arm's rate is close to normal.  A source h of controls has an
estimate :math:`y_h` and a standard error :math:`s_h`; a simulated source's holds the model's own error.  Each prior is a mixture
of normal laws (by a sum over the heterogeneity :math:`\tau` where it is unknown), so that posteriors are exact given those
estimates.

``power``: :math:`N(\bar y, \bar s^2/a)`, the sources pooled with weights :math:`1/s_h^2` and discounted by :math:`a`.
``robust-map``: the predictive law of a new trial's rate under :math:`y_h \sim N(\mu, s_h^2+\tau^2)`, with weight w, and beside it
a law with the information of one patient.  ``commensurate``: the trial's own rate lies around that of the pooled sources with
standard deviation 0 (spike, weight w) or :math:`\tau` (slab).  :math:`\tau` is half-normal; a flat prior for :math:`\mu`.

References
----------
Ibrahim and Chen (2000), Statistical Science 15:46-60; Schmidli et al. (2014), Biometrics 70:1023-1032; Hobbs, Sargent, Carlin
(2012), Bayesian Analysis 7:639-674; Neuenschwander et al. (2020), Biometrics 76:578-587, on the ELIR effective sample size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.effects.columns import counts_and_times
from causalms.effects.draws import simulated_outcomes
from causalms.effects.simulated import mean_variances
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import Array, NormalMixture
from causalms.tables import as_frame, name_of, names_of

#: The priors, each with the weight it takes where none is given.
PRIORS = {"power": 0.5, "robust-map": 0.8, "commensurate": 0.5}


@dataclass(frozen=True)
class ControlSource:
    """Controls that are borrowed: the log rate and its standard error.

    Attributes
    ----------
    name : str
    log_rate : float
        Log of events a year.
    se : float
        Standard error of the log rate; the model's own error is part of it.
    patients : int
    se_model : float
        The model's own part of ``se``; 0 for patients who were observed.
    """

    name: str
    log_rate: float
    se: float
    patients: int
    se_model: float = 0.0


@dataclass(frozen=True)
class ControlPrior:
    """A prior of the log rate of the trial's control arm.

    Attributes
    ----------
    kind : {"power", "robust-map", "commensurate"}
    law : NormalMixture
    sources : tuple of ControlSource
    weight, heterogeneity : float
    unit_sd : float
        Standard deviation of the log rate estimated from one patient, the unit of effective sample sizes.
    """

    kind: str
    law: NormalMixture
    sources: tuple[ControlSource, ...]
    weight: float
    heterogeneity: float
    unit_sd: float

    @property
    def ess_elir(self) -> float:
        r"""Effective sample size by expected local information ratio, :math:`E[-(\log p)'']\,\sigma^2`."""
        return self.law.expected_information() * self.unit_sd**2

    @property
    def ess_moment(self) -> float:
        r"""Effective sample size by moments, :math:`\sigma^2/\mathrm{Var}`: patients whose estimate is as wide as the prior."""
        return self.unit_sd**2 / float(self.law.variance)

    @property
    def words(self) -> str:
        """What the prior is, in words."""
        names = ", ".join(source.name for source in self.sources)
        spread = "" if self.kind == "power" else f", half-normal heterogeneity {name_of(self.heterogeneity)}"
        return f"{self.kind} prior (weight {name_of(self.weight)}{spread}) of {names}"


def historical_source(table: object, *, outcome: str, exposure: str | None = None, name: str = "historical") -> ControlSource:
    r"""Observed controls as a source: :math:`\log(\sum y/\sum t)` and its variance by influence functions.

    Parameters
    ----------
    table : DataFrame, or path
        One row a control patient.
    outcome : str
        Column of counts.
    exposure : str, optional
        Column of time at risk.
    name : str

    Examples
    --------
    >>> source = historical_source(pd.DataFrame({"y": [2, 4, 3, 1]}), outcome="y")
    >>> round(source.log_rate, 4), round(source.se, 4), source.patients
    (0.9163, 0.2582, 4)
    """
    frame = as_frame(table)
    y, t, _ = counts_and_times(frame, outcome, exposure, name)
    if len(y) < 2:
        raise InputError(f"{name}: column {outcome!r}: {len(y)} controls with a count, expected two or more")
    if not y.any():
        raise RefusalError(
            f"{name}: column {outcome!r}: no control has an event, so there is no log rate to borrow; leave it out"
        )
    residual = y - t * y.sum() / t.sum()
    variance = float(residual @ residual) / y.sum() ** 2 * len(y) / (len(y) - 1)
    return ControlSource(name, float(np.log(y.sum() / t.sum())), float(np.sqrt(variance)), len(y))


def historical_sources(
    table: object,
    *,
    outcome: str,
    exposure: str | None = None,
    arm: str = "arm",
    reference: str | None = None,
    source: str = "historical",
) -> tuple[ControlSource, ...]:
    """One source a trial (column ``trial``), or one for the whole table where there is no such column.

    Parameters
    ----------
    table : DataFrame, or path
        Control patients; where it has the column ``arm``, those of ``reference`` are taken.
    outcome : str
    exposure, arm, reference : str, optional
    source : str
        Name of the table in messages.
    """
    frame = as_frame(table)
    if reference is not None and arm in frame:
        frame = frame[(names_of(frame[arm]) == reference).to_numpy()].reset_index(drop=True)
        if frame.empty:
            raise InputError(f"{source}: column {arm!r}: no patient of arm {reference!r}; give controls of that arm")
    if "trial" not in frame:
        return (historical_source(frame, outcome=outcome, exposure=exposure, name=source),)
    trials = names_of(frame["trial"])
    return tuple(
        historical_source(
            frame[(trials == trial).to_numpy()].reset_index(drop=True),
            outcome=outcome,
            exposure=exposure,
            name=f"{source}, {trial}",
        )
        for trial in sorted(trials.dropna().unique())
    )


def simulated_source(
    draws: pd.DataFrame, *, arm: str, week: float | None = None, source: str = "draws", model_known: bool = False
) -> ControlSource:
    r"""A simulated control arm as a source, the model's own error (column ``model_error`` or an ensemble) in its variance.

    .. math:: s^2 = (\hat\sigma^2_{patients} + \hat\sigma^2_{Monte Carlo} + \hat\sigma^2_{model}) / \hat\lambda^2

    Parameters
    ----------
    draws : DataFrame
    arm : str
        The control.
    week : float, optional
    source : str
    model_known : bool
        Take the model for true; without it draws of a model that does not know its own error are refused.

    Raises
    ------
    RefusalError
        The model's own error is unknown.
    """
    parts = list(simulated_outcomes(draws, reference=arm, week=week, source=source))
    if len(parts) != 1:
        raise UsageError(f"{source}: holds {len(parts)} visits or queries; name one with `week`")
    part = parts[0]
    rates = part.values[:, :1]
    rate = float(rates.mean())
    if not rate > 0:
        raise RefusalError(f"{source}: arm {arm!r} has no simulated event, so there is no log rate to borrow")
    patient, monte_carlo = mean_variances(rates[:, 0], sampled=part.sampled)
    generators = rates.shape[2]
    model = np.nan
    if generators > 1:
        model = (1 + 1 / generators) * float(rates[:, 0].mean(axis=(0, 2)).var(ddof=1))
    elif part.model_error is not None:
        direction = part.model_error[:, 0].mean(axis=0)
        model = float(direction @ direction)
    if np.isnan(model):
        if not model_known:
            raise RefusalError(
                f"{source}: the model's own error is unknown, so a prior made of its draws would be too narrow; "
                "simulate with a model that knows its error, or take the model for true with `given_model`"
            )
        model = 0.0
    if model_known:
        model = 0.0
    variance = (patient + float(np.nan_to_num(monte_carlo)) + model) / rate**2
    return ControlSource(
        f"{source} (simulated)", float(np.log(rate)), float(np.sqrt(variance)), len(rates), float(np.sqrt(model)) / rate
    )


def control_prior(
    sources: Sequence[ControlSource],
    *,
    kind: str = "robust-map",
    weight: float | None = None,
    heterogeneity: float = 0.5,
    unit_sd: float,
) -> ControlPrior:
    """Prior of the log rate of the trial's control arm.

    Parameters
    ----------
    sources : sequence of ControlSource
    kind : {"power", "robust-map", "commensurate"}
    weight : float, optional
        How much is borrowed, 0 to 1: the power; the weight of the MAP beside the weak component; that of the spike.  Default
        0.5, 0.8, 0.5.
    heterogeneity : float
        Scale of the half-normal prior of the standard deviation between trials, on the log scale.
    unit_sd : float
        Standard deviation of the log rate estimated from one patient.

    Raises
    ------
    UsageError
        An unknown kind, or a weight or heterogeneity out of range.

    Examples
    --------
    >>> source = ControlSource("earlier trial", 1.0, 0.1, 150)
    >>> prior = control_prior([source], kind="power", weight=0.5, unit_sd=1.2247)
    >>> round(float(np.sqrt(prior.law.variance)), 4), round(prior.ess_elir), round(prior.ess_moment)
    (0.1414, 75, 75)
    """
    if kind not in PRIORS:
        raise UsageError(f"`prior`: found {kind!r}, expected one of {', '.join(PRIORS)}")
    if not sources:
        raise UsageError("`sources`: none given; name simulated or historical controls")
    weight = PRIORS[kind] if weight is None else weight
    if not 0 < weight <= 1:
        raise UsageError(f"`weight`: found {name_of(weight)}, expected a number above 0 and up to 1")
    if not (heterogeneity > 0 and unit_sd > 0):
        raise UsageError(f"`heterogeneity`: found {name_of(heterogeneity)}, expected a number above 0 such as 0.5")
    y, s = np.array([source.log_rate for source in sources]), np.array([source.se for source in sources])
    pooled_variance = 1 / (1 / s**2).sum()
    pooled = pooled_variance * (y / s**2).sum()
    if kind == "power":
        law = NormalMixture(np.ones(1), np.array([pooled]), np.array([np.sqrt(pooled_variance / weight)]))
    elif kind == "commensurate":
        tau, mass = _half_normal(heterogeneity)
        sds = np.sqrt(pooled_variance + np.r_[0.0, tau] ** 2)
        law = NormalMixture(np.r_[weight, (1 - weight) * mass], np.full(len(sds), pooled), sds)
    else:
        predictive = meta_analytic_predictive(y, s, heterogeneity)
        law = NormalMixture(
            np.r_[weight * predictive.weights, 1 - weight],
            np.r_[predictive.means, float(predictive.mean)],
            np.r_[predictive.sds, unit_sd],
        )
    kept = law.weights > 0
    law = NormalMixture(law.weights[kept], law.means[kept], law.sds[kept])
    return ControlPrior(kind, law, tuple(sources), weight, heterogeneity, unit_sd)


def meta_analytic_predictive(y: Array, s: Array, heterogeneity: float) -> NormalMixture:
    r"""Predictive law of a new trial's parameter: a sum over :math:`\tau`, weighted by its posterior.

    Parameters
    ----------
    y, s : array (H,)
        Estimates and standard errors of the earlier trials.
    heterogeneity : float
        Scale of the half-normal prior of :math:`\tau`.

    Examples
    --------
    >>> law = meta_analytic_predictive(np.array([0.0, 0.2]), np.array([0.1, 0.1]), 0.2)
    >>> round(float(law.mean), 6), round(float(np.sqrt(law.variance)), 2)
    (0.1, 0.23)
    """
    tau, mass = _half_normal(heterogeneity)
    variance = s[:, None] ** 2 + tau**2
    precision = (1 / variance).sum(axis=0)
    centre = (y[:, None] / variance).sum(axis=0) / precision
    log_likelihood = -0.5 * (
        np.log(variance).sum(axis=0) + np.log(precision) + ((y[:, None] - centre) ** 2 / variance).sum(axis=0)
    )
    weights = mass * np.exp(log_likelihood - log_likelihood.max())
    return NormalMixture(weights / weights.sum(), centre, np.sqrt(1 / precision + tau**2))


def _half_normal(scale: float) -> tuple[Array, Array]:
    """Nodes and masses of a half-normal law: 64-point Gauss-Legendre up to eight scales."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    tau = 4 * scale * (nodes + 1)
    mass = weights * np.exp(-0.5 * (tau / scale) ** 2)
    return tau, mass / mass.sum()
