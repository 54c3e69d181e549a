"""Step 2, counterfactual means: what every patient would have under every arm, corrected by the arm's own residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.data import TrialData
from causalms.errors import RefusalError
from causalms.stats import LOG_LINK, Array, Family, Fit, fit_or_limit, mean_slope

#: What a rate is averaged over: patients, each for a unit of exposure, or units of exposure.
RATES = ("unit", "exposure-weighted")


@dataclass(frozen=True)
class ArmMeans:
    """Mean outcome (or rate) of the whole population under each arm, of one trial or of R replicates (leading axis, ``...``).

    Attributes
    ----------
    data : TrialData
    fit : Fit
        The working model behind the means.
    rate : {"unit", "exposure-weighted"}
    estimates : array (..., K)
        Counterfactual mean or rate of every arm.
    predictions : array (..., n, K)
        Patient i's contribution to the mean of arm a; its average over patients is the estimate.
    residuals : array (..., n)
        Own-arm residual on the scale of the mean; its average within each arm is zero.
    gradient : array (..., K, p)
        Derivative of each estimate by the working model's coefficients, with outcomes held fixed.
    drift : array (..., K, p)
        What remains of the gradient in large samples: zero unless exposure goes with the covariates.
    counts : bool
        Whether outcomes are counts, whose law can hold up a variance.
    """

    data: TrialData
    fit: Fit
    rate: str
    estimates: Array
    predictions: Array
    residuals: Array
    gradient: Array
    drift: Array
    counts: bool = False

    @property
    def shares(self) -> Array:
        """Share of the patients in each arm, shape (K,)."""
        return self.data.sizes / len(self.data.arm)


def design(data: TrialData, interaction: bool, arm: int | None = None) -> Array:
    """Design matrix: intercept, arms, covariates and, when asked, arm x covariate; every patient set to ``arm`` if given.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.arange(2)
    >>> data = TrialData(np.array([1., 2.]), np.array([0, 1]), ("a", "b"), np.ones(2), np.array([[-1.], [1.]]), ("x",), rows)
    >>> design(data, interaction=False)
    array([[ 1.,  0., -1.],
           [ 1.,  1.,  1.]])
    """
    codes = data.arm if arm is None else np.full(len(data.arm), arm)
    lead = data.covariates.shape[:-2]
    arms = np.broadcast_to(np.eye(len(data.arms))[codes][:, 1:], (*lead, len(codes), len(data.arms) - 1))
    blocks = [np.ones((*lead, len(codes), 1)), arms, data.covariates]
    if interaction and data.covariates.shape[-1]:
        blocks.append((arms[..., :, None] * data.covariates[..., None, :]).reshape(*lead, len(codes), -1))
    return np.concatenate(blocks, axis=-1)


def fit_working_model(data: TrialData, family: Family, interaction: bool = False) -> Fit:
    """Fit the working model to a trial; refuses more coefficients than patients and, for a log link, an arm without events."""
    X = design(data, interaction)
    if X.shape[1] >= data.n:
        raise RefusalError(f"the working model has {X.shape[1]} coefficients for {data.n} patients; adjust for fewer covariates")
    if family != "linear":
        events = np.bincount(data.arm, weights=data.outcome, minlength=len(data.arms))
        if not events.any():
            raise RefusalError("outcome: no patient has an event, so arms cannot be compared; choose another outcome or visit")
        for arm, total, size in zip(data.arms, events, data.sizes, strict=True):
            if total == 0 or (family == "logistic" and total == size):
                what = "no event" if total == 0 else "an event in every patient"
                raise RefusalError(f"outcome: arm {arm!r} has {what}, so the {family} working model has no finite fit")
    return fit_or_limit(family, X, data.outcome, data.exposure)


def counterfactual_means(data: TrialData, fit: Fit, interaction: bool = False, rate: str = "unit") -> ArmMeans:
    r"""Standardise a fitted working model over all patients of the table, with the arm-wise bias correction (AIPW).

    With time at risk :math:`E_i`, predicted rate :math:`r_i(a)` and arm :math:`A_i`,

    .. math::
        c_a = \frac{\sum_{A_i=a} Y_i - E_i r_i(a)}{\sum_{A_i=a} E_i}, \qquad
        \theta_a = \frac{1}{n}\sum_i r_i(a) + c_a \;\text{(unit)}, \qquad
        \theta_a = \frac{\sum_i E_i r_i(a)}{\sum_i E_i} + c_a \;\text{(exposure-weighted)}.

    Without exposure both are the mean outcome.  ``unit`` counts every patient for one unit of exposure and needs exposure that
    tells nothing of the rate beyond the covariates; ``exposure-weighted`` counts every unit of exposure once.

    Returns
    -------
    ArmMeans

    References
    ----------
    Ye, Shao, Yi, Zhao (2023), JASA 118:2370-2382; Bannick, Shao, Liu, Du, Yi, Ye (2025), Biometrika.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> table = pd.DataFrame({"y": [2, 4, 1, 1], "t": [1, 2, 1, 1], "arm": ["a", "a", "b", "b"]})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a", exposure="t")
    >>> counterfactual_means(data, fit_working_model(data, "poisson")).estimates.round(6)
    array([2., 1.])
    """
    time = data.exposure
    weight = time if rate == "exposure-weighted" else np.ones_like(time)
    parts = [_arm_part(data, fit, interaction, arm, weight) for arm in range(len(data.arms))]
    rates = np.stack([part[0] for part in parts], axis=-1)
    correction = np.stack([part[1] for part in parts], axis=-1)
    gradient, drift = (np.stack([part[index] for part in parts], axis=-2) for index in (2, 3))
    estimates = _average(rates, weight) + correction
    corrected = rates + correction[..., None, :]
    share = (weight / weight.mean(axis=-1, keepdims=True))[..., None]
    predictions = estimates[..., None, :] + share * (corrected - estimates[..., None, :])
    own = corrected[..., np.arange(len(data.arm)), data.arm]
    residuals = (data.outcome - time * own) / mean_exposure(data)
    return ArmMeans(data, fit, rate, estimates, predictions, residuals, gradient, drift, fit.family in LOG_LINK)


def _arm_part(data: TrialData, fit: Fit, interaction: bool, arm: int, weight: Array) -> tuple[Array, Array, Array, Array]:
    """Rates (..., n) of everybody under one arm, the correction (...), and gradient and drift of the mean, (..., p) each."""
    X, own, time = design(data, interaction, arm), data.arm == arm, data.exposure
    rates = fit.predict(X)
    slope = X * mean_slope(fit.family, rates)[..., None]
    average, inside = _average(slope, weight), _average(slope[..., own, :], time[..., own])
    left = (data.outcome[..., own] - time[..., own] * rates[..., own]).sum(axis=-1)
    return rates, left / time[..., own].sum(axis=-1), average - inside, average - _average(slope, time)


def _average(values: Array, weight: Array) -> Array:
    """Weighted average over patients: values (..., n, k), weights (..., n)."""
    return np.asarray((weight[..., None, :] @ values)[..., 0, :] / weight.sum(axis=-1)[..., None])


def mean_exposure(data: TrialData) -> Array:
    """Mean exposure of each patient's arm, shape (..., n)."""
    own = np.eye(len(data.arms))[data.arm]
    return np.asarray((data.exposure @ own / data.sizes)[..., data.arm])


def unadjusted_means(data: TrialData, counts: bool = False) -> ArmMeans:
    """Observed mean (or events per unit of exposure) of each arm, with no model and no covariate."""
    arms = len(data.arms)
    events = np.bincount(data.arm, weights=data.outcome, minlength=arms)
    time = np.bincount(data.arm, weights=data.exposure, minlength=arms)
    estimates = events / time
    mean_time = (time / data.sizes)[data.arm]
    residuals = (data.outcome - data.exposure * estimates[data.arm]) / mean_time
    fit = Fit("linear", np.eye(arms)[data.arm], data.outcome, data.exposure, estimates)
    none = np.zeros((arms, arms))
    return ArmMeans(data, fit, "unit", estimates, np.tile(estimates, (data.n, 1)), residuals, none, none, counts)
