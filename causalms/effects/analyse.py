"""The four steps in one call: an observed trial table in, effects with their estimand, estimator and variance out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects.contrasts import Contrast, contrast_with_reference, wald
from causalms.effects.data import TrialData, trial_data
from causalms.effects.estimands import Estimand
from causalms.effects.means import ArmMeans, counterfactual_means, fit_working_model, unadjusted_means
from causalms.effects.settings import BOOTSTRAPS, Settings, checked_settings
from causalms.effects.variance import (
    Covariance,
    cluster_coefficient_covariance,
    coefficient_covariance,
    coefficient_variance_name,
    means_covariance,
)
from causalms.effects.wording import POPULATION, TEST_NAMES, TREATMENT_POLICY, estimand_of, estimator_name, notes_of
from causalms.errors import InputError, RefusalError
from causalms.stats.glm import Fit
from causalms.tables import results_table


@dataclass(frozen=True)
class Analysis:
    """Effects of every arm against the reference, with all that is needed to read and check them.

    Attributes
    ----------
    data : TrialData
        The patients that were used.
    settings : Settings
    fit : Fit
        The working model.
    means : ArmMeans or None
        Counterfactual means; None for a conditional coefficient.
    covariance : Covariance
        Of the means, or of the coefficients for a conditional estimator.
    contrasts : tuple of Contrast
        One an arm other than the reference, in the order of ``data.arms``.
    estimands : tuple of Estimand
    notes : tuple of str
    """

    data: TrialData
    settings: Settings
    fit: Fit
    means: ArmMeans | None
    covariance: Covariance
    contrasts: tuple[Contrast, ...]
    estimands: tuple[Estimand, ...]
    outcome: str
    estimator_name: str
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> pd.DataFrame:
        """One row a contrast, in the schema of the results table."""
        rows = []
        for index, (contrast, estimand) in enumerate(zip(self.contrasts, self.estimands, strict=True), start=1):
            randomised = self.data.in_one_trial(0, index)
            rows.append(
                {
                    "analysis": f"observed {self.outcome}",
                    "population": estimand.population,
                    "subgroup": "all",
                    "arm": self.data.arms[index],
                    "reference": self.data.arms[0],
                    "measure": self.settings.measure.name,
                    "estimand": estimand.sentence,
                    "estimator": self.estimator_name,
                    "variance": self.covariance.name,
                    "estimate": contrast.estimate,
                    "se": contrast.se,
                    "lower": contrast.lower,
                    "upper": contrast.upper,
                    "level": contrast.level,
                    "p_value": contrast.p_value,
                    "n": self.data.sizes[index],
                    "n_reference": self.data.sizes[0],
                    "se_patient": contrast.se,
                    "randomised": randomised,
                    "rung": 2,
                }
            )
        return results_table(rows)

    @property
    def arms(self) -> pd.DataFrame:
        """One row an arm: patients, events, exposure, crude and estimated rate (risk, mean) with its interval."""
        events = np.bincount(self.data.arm, weights=self.data.outcome, minlength=len(self.data.arms))
        exposure = np.bincount(self.data.arm, weights=self.data.exposure, minlength=len(self.data.arms))
        table = pd.DataFrame({"arm": self.data.arms, "n": self.data.sizes, "events": events, "exposure": exposure})
        table["crude"] = events / exposure
        for name in ("estimate", "lower", "upper"):
            table[name] = np.nan
        if self.means is None:
            return table
        for index in range(len(self.data.arms)):
            value, slope = self.means.estimates[index], 1.0
            log = self.settings.measure.kind == "rate" and value > 0
            if log:
                value, slope = np.log(value), 1 / value
            se = float(np.sqrt(max(self.covariance.matrix[index, index], 0)) * slope)
            own = self.covariance.arm_degrees
            degrees = self.covariance.degrees_of_freedom if own is None else float(own[index])
            table.loc[index, "estimate"] = self.means.estimates[index]
            if se > 0:
                interval = wald(value, se, log=log, level=self.settings.level, degrees_of_freedom=degrees)
                table.loc[index, ["lower", "upper"]] = interval.lower, interval.upper
        return table


def analyse(
    table: pd.DataFrame,
    *,
    outcome: str,
    reference: str,
    arm: str = "arm",
    measure: str = "rate-ratio",
    exposure: str | None = None,
    adjust: str | None = None,
    interaction: bool = False,
    prognostic: Sequence[str] = (),
    strata: str | None = None,
    cluster: str | None = None,
    estimator: str = "standardized",
    working_model: str | None = None,
    variance: str | None = None,
    rate: str = "unit",
    randomization: str | None = None,
    level: float = 0.95,
    test: str = "wald",
    replicates: int = 10_000,
    seed: int = 0,
    population: str = POPULATION,
    intercurrent_events: str = TREATMENT_POLICY,
    source: str = "table",
) -> Analysis:
    """Estimate treatment effects from one row a patient.

    Parameters
    ----------
    table : DataFrame
    outcome : str
        Column of counts (rates), of 0/1 or counts (risks: any against none), or of numbers (means).
    reference : str
        The arm to compare with.
    arm : str
        Column of the randomised arm.
    measure : str
        One of :data:`causalms.effects.estimands.MEASURES`.
    exposure : str, optional
        Column of time at risk (not its logarithm), for rates.
    adjust : str, optional
        Formula of baseline covariates, such as ``"age + C(site)"``.
    interaction : bool
        Let every covariate's coefficient differ by arm.
    prognostic : sequence of str
        Columns of prognostic expected outcomes.
    strata, cluster : str, optional
        Columns of randomisation strata and of clusters.
    estimator : {"standardized", "negbin", "conditional", "unadjusted"}
        ``negbin`` is the arm coefficient of the negative-binomial model; ``conditional`` that of ``working_model``.
    working_model : {"poisson", "negbin", "logistic", "linear"}, optional
        Default: Poisson for rates, logistic for risks, linear for means.
    variance : str, optional
        Default: ``influence`` for means, ``model-sas`` for conditional coefficients.
    rate : {"unit", "exposure-weighted"}
    randomization : {"simple", "permuted-block"}, optional
        Default: permuted blocks when ``strata`` is given.
    level : float
    test : {"wald", "score", "permutation"}
        Where the p-value comes from; intervals stay those of ``variance``.
    replicates, seed : int
        Of the bootstrap and of the permutations.
    population, intercurrent_events : str
        Attributes of the estimand that a table cannot tell.
    source : str
        Name of the table in messages.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError, RefusalError, UsageError, ConvergenceError
        In one line that names the column or option and the mend.

    References
    ----------
    ICH E9(R1) (2019); FDA (2023), Adjusting for Covariates in Randomized Clinical Trials; Ye et al. (2023), JASA 118:2370-2382.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> result = analyse(table, outcome="relapses", reference="placebo").results
    >>> result[["estimate", "se"]].round(4).values.tolist()
    [[0.3333, 0.6086]]
    """
    settings = checked_settings(
        measure,
        estimator,
        working_model,
        variance,
        rate,
        randomization,
        interaction,
        level,
        exposure,
        adjust,
        strata,
        cluster,
        prognostic,
        test,
        replicates,
        seed,
    )
    data = trial_data(
        table,
        outcome=outcome,
        arm=arm,
        reference=reference,
        kind=settings.measure.outcome_kind,
        exposure=exposure,
        adjust=adjust,
        prognostic=prognostic,
        log_prognostic=settings.family != "linear",
        strata=strata,
        cluster=cluster,
        source=source,
    )
    if settings.family == "poisson" and (data.outcome < 0).any():
        raise InputError(f"{source}: column {outcome!r} holds negative values; use --working-model linear")
    if settings.family != "linear" and not data.outcome.any():
        raise RefusalError(
            f"{source}: column {outcome!r}: no patient has an event, so arms cannot be compared; choose another outcome or visit"
        )
    return analyse_data(data, settings, outcome, population, intercurrent_events)


def analyse_data(
    data: TrialData,
    settings: Settings,
    outcome: str,
    population: str = POPULATION,
    intercurrent_events: str = TREATMENT_POLICY,
) -> Analysis:
    """The four steps on checked data; see :func:`analyse`."""
    more: tuple[str, ...] = ()
    if settings.estimator in ("negbin", "conditional"):
        fit, means = fit_working_model(data, settings.family), None
        covariance = _conditional_covariance(data, fit, settings.variance)
        contrasts = _coefficients(data, fit, covariance, settings)
    else:
        means = estimate_means(data, settings)
        fit = means.fit
        variance = "influence" if settings.variance in BOOTSTRAPS else settings.variance
        covariance = means_covariance(means, variance, settings.randomization)
        contrasts = tuple(
            contrast_with_reference(
                means.estimates, covariance, index, scale=settings.measure.scale, level=settings.level, arms=data.arms
            )
            for index in range(1, len(data.arms))
        )
        if settings.variance in BOOTSTRAPS:
            contrasts, covariance, more = _bootstrapped(means, covariance, settings)
    if settings.test != "wald":
        contrasts = _tested(data, contrasts, settings)
        covariance = replace(covariance, name=f"{covariance.name}; p: {TEST_NAMES[settings.test]}")
    estimands = tuple(estimand_of(data, settings, outcome, arm, population, intercurrent_events) for arm in data.arms[1:])
    notes = data.notes + more + notes_of(data, settings, fit)
    return Analysis(data, settings, fit, means, covariance, contrasts, estimands, outcome, estimator_name(data, settings), notes)


def _bootstrapped(
    means: ArmMeans, covariance: Covariance, settings: Settings
) -> tuple[tuple[Contrast, ...], Covariance, tuple[str, ...]]:
    """Bootstrap contrasts in place of the Wald ones."""
    from causalms.effects.bootstrap import bootstrap

    interval = "percentile" if settings.variance == "bootstrap-percentile" else "bca"
    log = settings.measure.is_ratio
    drawn = bootstrap(
        means,
        scale=settings.measure.scale,
        replicates=settings.replicates,
        seed=settings.seed,
        interaction=settings.interaction,
    )
    count = range(len(means.data.arms) - 1)
    contrasts = tuple(drawn.contrast(index, log=log, level=settings.level, interval=interval) for index in count)
    kind = "percentile" if interval == "percentile" else "BCa"
    name = f"bootstrap of patients within trial and arm ({settings.replicates} replicates, {kind})"
    notes = (f"{drawn.failed} bootstrap replicates without a finite fit are left out",) if drawn.failed else ()
    return contrasts, replace(covariance, name=name), notes


def _tested(data: TrialData, contrasts: tuple[Contrast, ...], settings: Settings) -> tuple[Contrast, ...]:
    """The same contrasts with the p-value of the named test."""
    from causalms.effects.tests import permutation_test, score_test

    tested = []
    for arm, contrast in enumerate(contrasts, start=1):
        if settings.test == "score":
            p_value = score_test(data, settings.family, arm)[1]
        else:
            p_value = permutation_test(data, settings.family, arm, settings.replicates - 1, settings.seed)[1]
        tested.append(replace(contrast, p_value=p_value))
    return tuple(tested)


def estimate_means(data: TrialData, settings: Settings) -> ArmMeans:
    """Steps 1 and 2: working model and bias-corrected means, or the plain arm means."""
    if settings.estimator == "unadjusted":
        return unadjusted_means(data, counts=settings.measure.kind == "rate")
    fit = fit_working_model(data, settings.family, settings.interaction)
    return counterfactual_means(data, fit, settings.interaction, settings.rate)


def _conditional_covariance(data: TrialData, fit: Fit, variance: str) -> Covariance:
    if data.cluster is not None:
        return cluster_coefficient_covariance(fit, data.cluster)
    n, p = fit.X.shape
    with_t = variance == "hc3-t" or (variance == "model-r" and fit.family == "linear")
    return Covariance(coefficient_covariance(fit, variance), coefficient_variance_name(variance), n - p if with_t else np.inf)


def _coefficients(data: TrialData, fit: Fit, covariance: Covariance, settings: Settings) -> tuple[Contrast, ...]:
    return tuple(
        wald(
            float(fit.coefficients[index]),
            float(np.sqrt(max(covariance.matrix[index, index], 0.0))),
            log=settings.measure.is_ratio,
            level=settings.level,
            degrees_of_freedom=covariance.degrees_of_freedom,
        )
        for index in range(1, len(data.arms))
    )
