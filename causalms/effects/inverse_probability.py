r"""Missing outcomes by inverse probability weights: arm means of complete cases, or augmented by a model of the outcome.

Of patient i with arm :math:`A_i`, complete or not (:math:`R_i`), with probability :math:`p_i` of being complete by a logistic
model within each arm, the weight is :math:`w_i=R_i/p_i`.  The outcome model is fitted with these weights, :math:`r_i(a)` is its
rate under arm a, and

.. math::
    \theta_a = \frac1n\sum_i r_i(a) + \frac{\sum_{A_i=a} w_i\{Y_i - E_i r_i(a)\}}{\sum_{A_i=a} w_i E_i},

over all randomised patients, complete or not: right if either model is.  Without covariates it is the weighted mean of the arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.contrasts import contrast_with_reference
from causalms.effects.covariance import Covariance
from causalms.effects.data import Adjustment, Design, TrialData, trial_data
from causalms.effects.design import Method, MissingOutcomes, Settings, checked_settings
from causalms.effects.estimands import Estimand
from causalms.effects.means import design as design_matrix
from causalms.effects.observed import sets_of_patients
from causalms.errors import ConvergenceError, InputError, RefusalError, UsageError
from causalms.stats import Array, Family, Fit, fit_model, inverse_link, mean_slope
from causalms.tables import (
    ContrastPopulation,
    ResultRow,
    note_left_out,
    percentage,
    refuse_arm_and_outcome_by_name,
    results_table,
)

#: Share of an arm's weight from which a patient is named.
_HEAVY = 0.05
_VARIANCES = ("leave-one-out-t", "influence")


@dataclass(frozen=True)
class _Weighing:
    """A trial whose outcomes may be missing.

    Attributes
    ----------
    data : TrialData
        All patients; outcome 0 and time at risk 1 stand where they are missing.
    observed : array (n,) of bool
    given : array (n, q)
        Covariates of the missingness.
    settings : Settings
    """

    data: TrialData
    observed: np.ndarray
    given: Array
    settings: Settings

    def take(self, rows: np.ndarray) -> _Weighing:
        """The same for chosen patients, without covariates that are constant among them."""
        data = self.data.take(rows)
        base, names = np.eye(len(data.arms))[data.arm], tuple(map(str, range(data.covariates.shape[1])))
        data = replace(data, covariates=columns.independent_columns(base, data.covariates, names)[0])
        return replace(self, data=data, observed=self.observed[rows], given=self.given[rows])


def inverse_probability_effects(
    table: pd.DataFrame,
    compared: dict[str, str | None],
    adjust: str | None,
    design: Design,
    method: Method,
    missing: MissingOutcomes,
) -> pd.DataFrame:
    """Results of :func:`effects_with_missing_outcomes` with the strategy ``ipw``.

    ``compared`` holds outcome, arm, reference, measure and exposure.

    Raises
    ------
    UsageError, InputError, RefusalError
        An argument has no meaning with weights, or one patient carries more than half of an arm's weight.

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; Bang and Robins (2005), Biometrics 61:962-973.
    """
    if not missing.missing_given:
        raise UsageError("`missing=ipw` needs what the missingness depends on: `missing_given`")
    _refuse_without_meaning(design, method)
    outcome, exposure = str(compared["outcome"]), compared["exposure"]
    settings = checked_settings(str(compared["measure"]), exposure, adjust, design, replace(method, variance=None))
    settings = replace(settings, variance=method.variance or _VARIANCES[0])
    adjustment = Adjustment(formula=adjust, prognostic=method.prognostic, log_prognostic=settings.family != "linear")
    nobody = columns.column(table, str(compared["arm"]), design.source).isna().to_numpy()
    note_left_out(int(nobody.sum()), len(table), {str(compared["arm"]): int(nobody.sum())}, design.source)
    table = table[~nobody].reset_index(drop=True)
    whole = _weighing(table, compared, adjustment, design, missing.missing_given, settings)
    rows = []
    for populations in sets_of_patients(whole.data, design.pool_trials):
        own, included = whole, populations[0].included
        if not included.all():
            patients = table.iloc[whole.data.rows[included]].reset_index(drop=True)
            own = _weighing(patients, compared, adjustment, design, missing.missing_given, settings)
        theta, influence, heaviest = _means(own, populations[0])
        if heaviest > 0.5:
            raise RefusalError(
                f"{design.source}: one patient carries {percentage(heaviest)} of an arm's weight; use fewer covariates in "
                "`missing_given`"
            )
        made = _covariance(own, influence)
        for population in populations:
            rows.append(_row(own, population, (theta, made, heaviest), outcome, missing.missing_given, design))
    return results_table(rows)


def _refuse_without_meaning(design: Design, method: Method) -> None:
    unused: dict[str, object] = {"strata": design.strata, "cluster": design.cluster, "rate": method.rate != "unit"}
    unused |= {"test": method.test != "wald", "estimator": method.estimator != "standardized"}
    for name, value in unused.items():
        if value:
            raise UsageError(f"`missing=ipw` weights patients one by one; `{name}` has no meaning with it, leave it out")
    if method.variance not in (None, *_VARIANCES):
        raise UsageError(f"`variance={method.variance}`: with `missing=ipw` use {' or '.join(_VARIANCES)}")
    if method.working_model == "negbin":
        raise UsageError("`working_model=negbin` has no weights; with `missing=ipw` use poisson, whose variance is robust")


def _weighing(
    table: pd.DataFrame,
    compared: dict[str, str | None],
    adjustment: Adjustment,
    design: Design,
    missing_given: str,
    settings: Settings,
) -> _Weighing:
    """The table as arrays, every patient whose arm is known."""
    outcome, arm, exposure, source = str(compared["outcome"]), str(compared["arm"]), compared["exposure"], design.source
    needed = [outcome, *([exposure] if exposure else [])]
    observed = table[[str(columns.column(table, name, source).name) for name in needed]].notna().all(axis=1).to_numpy()
    filled = table.assign(**{outcome: table[outcome].where(observed, 0)})
    if exposure:
        filled[exposure] = table[exposure].where(observed, table[exposure].median())
    data = trial_data(
        filled,
        outcome=outcome,
        arm=arm,
        reference=str(compared["reference"]),
        kind=settings.measure.outcome_kind,
        exposure=exposure,
        adjustment=adjustment,
        design=design,
    )
    covariates = columns.Covariates.of(table, missing_given, source, "missing_given")
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, arm, outcome)
    if design.missing_covariates == "drop" and not covariates.complete[data.rows].all():
        row = int(data.rows[~covariates.complete[data.rows]].min()) + 1
        raise InputError(f"{source}: row {row} lacks a covariate of {missing_given!r}; weights need it for every patient")
    given = covariates.filled(data.rows).matrix(data.rows)[0]
    return _Weighing(data, observed[data.rows], given, settings)


def _means(own: _Weighing, population: ContrastPopulation) -> tuple[Array, Array, float]:
    r"""Means of the arms (K,), influence values (n, K), and the largest share of an arm's weight.

    Over several trials :math:`\theta_a = \sum_s p_s \theta_{as}` with the trials' shares :math:`p_s` of the patients; their
    patients are a sample too, which adds :math:`(\theta_{as} - \theta_a)/n` to the influence of every patient of trial s.
    """
    if own.data.trial is None or not (population.randomised and len(population.trials) > 1):
        return _means_of_one(own)
    n, arms = own.data.n, len(own.data.arms)
    theta, influence, heaviest = np.zeros(arms), np.zeros((n, arms)), 0.0
    parts = [np.flatnonzero(own.data.trial == trial) for trial in population.trials]
    of_trial = []
    for rows in parts:
        mean, values, largest = _means_of_one(own.take(rows))
        of_trial.append(mean)
        theta += len(rows) / n * mean
        influence[rows] += len(rows) / n * values
        heaviest = max(heaviest, largest)
    for rows, mean in zip(parts, of_trial, strict=True):
        influence[rows] += (mean - theta) / n
    return theta, influence, heaviest


def _means_of_one(own: _Weighing) -> tuple[Array, Array, float]:
    """Means, influence values (summing to the estimates' error) and the largest share of weight, of one set of patients.

    The influence is that of the stacked estimating equations: weights and outcome model count as estimated.  Residuals are
    divided by one minus their leverage unless ``variance`` is ``influence``.
    """
    data, family, arms = own.data, own.settings.family, range(len(own.data.arms))
    weight, slopes, errors = _weights(own)
    X = design_matrix(data, own.settings.interaction)
    fit = _weighted_fit(family, X, data, weight, own.observed)
    slope = fit.slope
    bread = np.linalg.inv((X * (weight * slope)[:, None]).T @ X)
    free = np.clip(1 - weight * slope * ((X @ bread) * X).sum(axis=1), 1e-8, None)
    stretch = 1 / free if own.settings.variance == "leave-one-out-t" else np.ones(data.n)
    residual = data.outcome - fit.mean
    of_weights = errors @ (slopes * residual[:, None]).T @ X  # (n, p): what the estimated weights add to the scores
    of_model = (X * (weight * residual * stretch)[:, None] + of_weights) @ bread
    theta, influence = np.empty(len(arms)), np.empty((data.n, len(arms)))
    for arm in arms:
        under, inside = design_matrix(data, own.settings.interaction, arm), data.arm == arm
        rate = fit.predict(under)
        total = float((weight * data.exposure)[inside].sum())
        left = np.where(inside, data.outcome - data.exposure * rate, 0.0)
        correction = float((weight * left).sum()) / total
        left = np.where(inside, left - correction * data.exposure, 0.0)
        change = under * mean_slope(family, rate)[:, None]
        by_model = change.mean(axis=0) - (change * (weight * data.exposure * inside)[:, None]).sum(axis=0) / total
        theta[arm] = rate.mean() + correction
        influence[:, arm] = (rate - rate.mean()) / data.n + weight * left * stretch / total + of_model @ by_model
        influence[:, arm] += errors @ (slopes * left[:, None]).sum(axis=0) / total
    share = max(float(weight[data.arm == arm].max() / weight[data.arm == arm].sum()) for arm in arms)
    return theta, influence, share


def _weights(own: _Weighing) -> tuple[Array, Array, Array]:
    """Weights (n,), their derivative by the coefficients of all arms (n, g), and the errors of these coefficients (n, g)."""
    weight, parts = np.zeros(own.data.n), []
    for arm, name in enumerate(own.data.arms):
        rows = np.flatnonzero(own.data.arm == arm)
        observed = own.observed[rows]
        if observed.sum() < 2:
            raise RefusalError(f"arm {name!r} has fewer than two observed outcomes; nothing can be weighted")
        weight[rows] = observed
        if observed.all():
            continue
        base = np.ones((len(rows), 1))
        given = own.given[rows]
        kept = columns.independent_columns(base, given, tuple(map(str, range(given.shape[1]))))[0]
        try:
            fit = fit_model("logistic", np.column_stack([base, kept]), observed.astype(float))
        except (RefusalError, ConvergenceError):
            raise RefusalError(
                f"arm {name!r}: the model of who is complete has no finite fit ({int((~observed).sum())} of {len(observed)} lack "
                f"the outcome, {kept.shape[1]} covariates); use fewer covariates in `missing_given`, or impute"
            ) from None
        weight[rows] = observed / fit.mean
        slope, error = np.zeros((2, own.data.n, fit.X.shape[1]))
        slope[rows] = -(weight[rows] * (1 - fit.mean))[:, None] * fit.X
        error[rows] = fit.scores @ fit.inverse_information
        parts.append((slope, error))
    nothing = np.zeros((own.data.n, 0))
    return weight, np.hstack([nothing, *(part[0] for part in parts)]), np.hstack([nothing, *(part[1] for part in parts)])


def _weighted_fit(family: Family, X: Array, data: TrialData, weight: Array, observed: np.ndarray) -> Fit:
    """The working model fitted to complete cases with weights, by Newton's method from the fit without."""
    start = fit_model(family, X[observed], data.outcome[observed], data.exposure[observed])
    beta = start.coefficients
    for _ in range(100):
        rate = inverse_link(family, X @ beta)
        slope = data.exposure * mean_slope(family, rate)
        step = np.linalg.solve((X * (weight * slope)[:, None]).T @ X, X.T @ (weight * (data.outcome - data.exposure * rate)))
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300)) if family != "linear" else beta + step
        if np.abs(step).max() <= 1e-11 * max(1.0, float(np.abs(beta).max())):
            return Fit(family, X, data.outcome, data.exposure, beta)
    raise ConvergenceError(f"the weighted {family} model did not converge; use fewer covariates in `adjust`")


def _covariance(own: _Weighing, influence: Array) -> Covariance:
    """Covariance of the means; t by Welch from the observed patients of each arm where residuals are left out one by one."""
    words = "influence function, weights estimated"
    matrix = influence.T @ influence
    if own.settings.variance != "leave-one-out-t":
        return Covariance(matrix, words)
    seen = np.bincount(own.data.arm, weights=own.observed, minlength=len(own.data.arms))
    return Covariance(
        matrix, f"leave-one-out {words}, Welch t", arm_variances=np.diag(matrix), arm_degrees=seen.astype(float) - 1
    )


def _row(
    own: _Weighing,
    who: ContrastPopulation,
    made: tuple[Array, Covariance, float],
    outcome: str,
    missing_given: str,
    design: Design,
) -> ResultRow:
    """One contrast of weighted arm means."""
    theta, covariance, heaviest = made
    data, measure = own.data, own.settings.measure
    index = data.arms.index(who.arm)
    contrast = contrast_with_reference(theta, covariance, index, scale=measure.scale, level=own.settings.level, arms=data.arms)
    variable = f"{outcome} per unit of exposure" if data.has_exposure else outcome
    treatment = f"{who.arm} against {who.reference}"
    estimand = Estimand(
        design.population or who.words, treatment, variable, design.intercurrent_events, f"marginal {measure.name}"
    )
    missing = f"{int((~own.observed).sum())} of {data.n} missing"
    estimator = f"inverse probability weighting ({missing}, given {missing_given})"
    if data.covariate_names:
        model = {"poisson": "Poisson", "logistic": "logistic", "linear": "linear"}[own.settings.family]
        estimator = f"augmented {estimator}, {model} model adjusted for {', '.join(data.covariate_names)}"
    notes = [note for note in data.notes if "stands in" in note]
    notes += [f"heaviest patient {percentage(heaviest)} of its arm"] if heaviest > _HEAVY else []
    if who.randomised and len(who.trials) > 1:
        notes.append(f"trial by trial, averaged over the patients of {', '.join(who.trials)}")
    return ResultRow(
        analysis=f"observed {outcome}",
        population=estimand.population,
        subgroup="all",
        arm=who.arm,
        reference=who.reference,
        measure=measure.name,
        estimand=estimand.sentence,
        estimator="; ".join([estimator, *notes, *filter(None, [who.note])]),
        variance=covariance.name,
        **contrast.columns,
        n=int(data.sizes[index]),
        n_reference=int(data.sizes[0]),
        se_patient=contrast.se,
        randomised=who.randomised,
        rung=2,
    )
