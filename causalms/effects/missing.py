"""Missing outcomes by a named strategy: inverse probability weighting, or multiple imputation by a generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.analysis import analyse
from causalms.effects.contrasts import contrast_with_reference, wald
from causalms.effects.estimands import Estimand, measure_named
from causalms.effects.variance import Covariance
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import Array, fit_model
from causalms.tables import WEEKS_PER_YEAR, ResultRow, arm_order, as_frame, contrast_population, one_week, results_table

STRATEGIES = ("complete-case", "ipw", "multiple-imputation")
_HEAVY = 0.05


def effects_with_missing_outcomes(
    table: pd.DataFrame, *, strategy: str, outcome: str, reference: str, arm: str = "arm", **options: Any
) -> pd.DataFrame:
    """Effects with missing outcomes handled by a named strategy, as a results table that says which.

    Parameters
    ----------
    table : DataFrame
        One row a randomised patient; a missing outcome is an empty cell.
    strategy : {"complete-case", "ipw", "multiple-imputation"}
        ``complete-case`` needs outcomes missing completely at random within arms and covariates; ``ipw`` needs them
        missing at random given ``missing_given``; ``multiple-imputation`` needs the generator's law to hold for those who left.
    outcome, reference, arm : str
    **options
        Of :func:`causalms.effects.analyse`; for ``ipw`` also ``missing_given``, for ``multiple-imputation`` also ``draws``
        and ``week``.

    Returns
    -------
    DataFrame
    """
    table = as_frame(table)
    if strategy not in STRATEGIES:
        raise UsageError(f"`missing`: found {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    if strategy == "ipw":
        return inverse_probability_effects(table, outcome=outcome, reference=reference, arm=arm, **options)
    if strategy == "multiple-imputation":
        return multiply_imputed_effects(table, outcome=outcome, reference=reference, arm=arm, **options)
    results = analyse(table, outcome=outcome, reference=reference, arm=arm, **options).results
    return results.assign(estimator=results["estimator"] + "; complete cases")


def inverse_probability_effects(
    table: pd.DataFrame,
    *,
    outcome: str,
    reference: str,
    missing_given: str,
    arm: str = "arm",
    measure: str = "rate-ratio",
    exposure: str | None = None,
    level: float = 0.95,
    pool_trials: bool = False,
    source: str = "table",
) -> pd.DataFrame:
    r"""Arm means of complete cases weighted by the inverse probability of being complete.

    The probability :math:`\hat p_i` comes from a logistic model within each arm on ``missing_given``;
    :math:`\theta_a = \sum_{A_i=a} R_i Y_i/\hat p_i \big/ \sum_{A_i=a} R_i E_i/\hat p_i`.  The variance counts the weights as
    estimated: the influence values are what is left of them after projection on the scores of the missingness model.

    Raises
    ------
    InputError
        A covariate of ``missing_given`` is itself missing.
    RefusalError
        A patient's probability is so small that its weight decides the result (positivity).

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; Seaman and White (2013), Statistical Methods in Medical Research 22:278-295.
    """
    chosen = measure_named(measure)
    given = columns.column(table, arm, source)
    labels = given.map(columns.label).where(given.notna(), None)
    names = arm_order(labels, reference)
    if reference not in names or len(names) < 2:
        raise InputError(f"{source}: column {arm!r} needs {reference!r} and another arm; its arms are {', '.join(names)}")
    people = pd.DataFrame({"arm": labels} | ({"trial": table["trial"]} if "trial" in table and arm != "trial" else {}))
    needed = [outcome, *([exposure] if exposure else [])]
    observed = table[[columns.column(table, name, source).name for name in needed]].notna().all(axis=1).to_numpy()
    rows = np.flatnonzero(observed)
    y = np.zeros(len(table))
    y[rows] = _outcome(table[outcome], rows, outcome, chosen.outcome_kind, source)
    time = np.ones(len(table))
    if exposure:
        time[rows] = columns.times_at_risk(columns.numbers(table[exposure], rows, exposure, source), exposure, rows, source)
    covariates = columns.Covariates.of(table, missing_given, source)
    if not covariates.complete.all():
        row = int(np.flatnonzero(~covariates.complete)[0]) + 1
        raise InputError(f"{source}: row {row} lacks a covariate of {missing_given!r}; weights need it for every patient")
    x, _ = covariates.matrix(np.arange(len(table)))
    out = []
    for name in names[1:]:
        population = contrast_population(people, name, reference, pool=pool_trials)
        among = population.included
        present = arm_order(labels[among], reference)
        codes = np.array([present.index(label) if label in present else -1 for label in labels])
        theta, influence, heaviest = _weighted_means(codes, among, len(present), (observed, y, time, x))
        if heaviest > 0.5:
            raise RefusalError(
                f"{source}: one patient carries {heaviest:.0%} of an arm's weight; use fewer covariates in `missing_given`"
            )
        covariance = Covariance(influence.T @ influence, "influence function, weights estimated")
        index = present.index(name)
        contrast = contrast_with_reference(theta, covariance, index, scale=chosen.scale, level=level, arms=present)
        estimand = Estimand(
            population.words,
            f"{name} against {reference}",
            outcome,
            "treatment policy; missing outcomes by inverse probability weighting",
            f"marginal {chosen.name}",
        )
        missing = f"{int((~observed[among]).sum())} of {int(among.sum())} missing"
        estimator = f"inverse probability weighting ({missing}, given {missing_given})"
        estimator += f"; heaviest patient {heaviest:.0%} of its arm" if heaviest > _HEAVY else ""
        out.append(
            ResultRow(
                analysis=f"observed {outcome}",
                population=estimand.population,
                subgroup="all",
                arm=name,
                reference=reference,
                measure=chosen.name,
                estimand=estimand.sentence,
                estimator="; ".join(filter(None, (estimator, population.note))),
                variance=covariance.name,
                estimate=contrast.estimate,
                se=contrast.se,
                lower=contrast.lower,
                upper=contrast.upper,
                level=level,
                p_value=contrast.p_value,
                n=int((among & (codes == index)).sum()),
                n_reference=int((among & (codes == 0)).sum()),
                se_patient=contrast.se,
                randomised=population.randomised,
                rung=2,
            )
        )
    return results_table(out)


def _weighted_means(
    codes: np.ndarray, among: np.ndarray, count: int, columns_of: tuple[np.ndarray, Array, Array, Array]
) -> tuple[Array, Array, float]:
    """Weighted mean of every arm among the included patients, influence values (n, K), and the largest share of weight."""
    observed, y, time, x = columns_of
    theta, influence, heaviest = np.empty(count), np.zeros((len(codes), count)), 0.0
    for index in range(count):
        own = among & (codes == index)
        theta[index], influence[own, index], share = _weighted_arm(observed[own], y[own], time[own], x[own])
        heaviest = max(heaviest, share)
    return theta, influence, heaviest


def _outcome(values: pd.Series, rows: np.ndarray, name: str, kind: str, source: str) -> Array:
    numbers = columns.numbers(values, rows, name, source)
    if kind == "count":
        return columns.counts(numbers, name, rows, source)
    return columns.activity(numbers, name, rows, source)[0] if kind == "binary" else numbers


def _weighted_arm(observed: np.ndarray, y: Array, time: Array, x: Array) -> tuple[float, Array, float]:
    """Weighted mean of one arm, its influence values (summing to the estimate's error) and the largest share of weight."""
    if observed.sum() < 2:
        raise RefusalError("an arm has fewer than two observed outcomes; nothing can be weighted")
    probability, scores = np.ones(len(y)), np.empty((len(y), 0))
    if not observed.all():
        base = np.ones((len(y), 1))
        kept, _, _ = columns.independent_columns(base, x, tuple(map(str, range(x.shape[1]))))
        fit = fit_model("logistic", np.column_stack([base, kept]), observed.astype(float))
        probability, scores = fit.mean, fit.scores
    weight = observed / probability
    theta = float((weight * y).sum() / (weight * time).sum())
    values = weight * (y - theta * time) / (weight * time).sum()
    if scores.shape[1]:
        values = values - scores @ np.linalg.lstsq(scores, values, rcond=None)[0]
    return theta, values, float(weight.max() / weight.sum())


def multiply_imputed_effects(
    table: pd.DataFrame,
    *,
    outcome: str,
    reference: str,
    draws: pd.DataFrame,
    week: float | None = None,
    arm: str = "arm",
    draw_column: str = "net2_lesions",
    exposure: str | None = None,
    level: float = 0.95,
    source: str = "table",
    **options: Any,
) -> pd.DataFrame:
    r"""Effects with missing outcomes drawn by the generator under each patient's own arm, pooled by Rubin's rules.

    With M draws: :math:`T = \bar U + (1 + 1/M) B` and :math:`\nu = (M-1)\{1 + \bar U/((1+1/M)B)\}^2` degrees of freedom.  An
    imputed patient's exposure is the whole time to ``week``.

    Parameters
    ----------
    draws : DataFrame
        A draws table with the patient's own arm (arm equal to arm_randomised) at ``week`` for every patient who lacks an outcome.

    Raises
    ------
    RefusalError
        Fewer than two draws, or nobody lacks an outcome.
    InputError
        A patient who lacks an outcome has no draw.

    References
    ----------
    Rubin (1987), Multiple Imputation for Nonresponse in Surveys.
    """
    lacking = np.flatnonzero(columns.column(table, outcome, source).isna().to_numpy())
    if not len(lacking):
        raise RefusalError(f"{source}: column {outcome!r} lacks no value; use the complete-case strategy")
    week = one_week(draws, week, "draws")
    own = draws[(draws["arm"].astype(str) == draws["arm_randomised"].astype(str)) & (draws["visit_week"] == week)]
    wide = own.pivot_table(index=own["participant_id"].astype(str), columns="draw", values=draw_column, aggfunc="first")
    wanted = columns.column(table, "participant_id", source).astype(str).iloc[lacking]
    imputed = wide.reindex(wanted)
    if imputed.empty or imputed.isna().any(axis=None):
        without = wanted.iloc[0] if imputed.empty else wanted[imputed.isna().any(axis=1).to_numpy()].iloc[0]
        raise InputError(f"draws: patient {without!r} lacks a draw under the own arm at week {week:g}; query that arm and week")
    count = imputed.shape[1]
    if count < 2:
        raise RefusalError("draws: multiple imputation needs at least two draws; draw more")
    analyses = []
    for draw in imputed.columns:
        values = table[outcome].astype(float).to_numpy().copy()
        values[lacking] = imputed[draw].to_numpy()
        completed = table.assign(**{outcome: values})
        if exposure is not None:
            time = table[exposure].astype(float).to_numpy().copy()
            time[lacking] = week / WEEKS_PER_YEAR
            completed = completed.assign(**{exposure: time})
        analyses.append(
            analyse(
                completed, outcome=outcome, reference=reference, arm=arm, exposure=exposure, level=level, source=source, **options
            )
        )
    first = analyses[0]
    results = first.results.astype({"estimator": object, "variance": object})
    log = first.settings.measure.is_ratio
    estimates = np.array([run.results["estimate"].to_numpy() for run in analyses])
    variances = np.array([run.results["se"].to_numpy() ** 2 for run in analyses])
    for index in range(len(results)):
        values = np.log(estimates[:, index]) if log else estimates[:, index]
        within = float(np.mean(variances[:, index]))
        between = (1 + 1 / count) * float(values.var(ddof=1))
        degrees = (count - 1) * (1 + within / between) ** 2 if between > 0 else np.inf
        pooled = wald(float(values.mean()), float(np.sqrt(within + between)), log=log, level=level, degrees_of_freedom=degrees)
        for name in ("estimate", "se", "lower", "upper", "p_value"):
            results.loc[index, name] = getattr(pooled, name)
        results.loc[index, "se_patient"] = np.sqrt(within)
        results.loc[index, "se_monte_carlo"] = np.sqrt(between)
    share = len(lacking) / len(table)
    results["estimator"] += f"; {len(lacking)} missing outcomes ({share:.0%}) imputed by the generator, {count} draws"
    results["variance"] += "; Rubin's rules"
    return results
