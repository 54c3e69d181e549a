"""Missing outcomes by a named strategy: inverse probability weighting, or multiple imputation by a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.contrasts import contrast_with_reference
from causalms.effects.covariance import Covariance
from causalms.effects.data import Design
from causalms.effects.design import Method, MissingOutcomes
from causalms.effects.estimands import Estimand, Measure, measure_named
from causalms.effects.observed import Analysis, analyse
from causalms.effects.pooling import pooled_results
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array, fit_model
from causalms.tables import (
    WEEKS_PER_YEAR,
    ContrastPopulation,
    ResultRow,
    arm_order,
    as_frame,
    contrast_population,
    name_of,
    names_of,
    note_left_out,
    one_week,
    percentage,
    refuse_arm_and_outcome_by_name,
    results_table,
)

_HEAVY = 0.05


@named_arguments
def effects_with_missing_outcomes(
    table: Any,
    *,
    outcome: str,
    reference: str,
    arm: str = "arm",
    measure: str = "rate-ratio",
    exposure: str | None = None,
    adjust: str | None = None,
    design: Design = Design(),
    method: Method = Method(),
) -> pd.DataFrame:
    r"""Effects with missing outcomes handled by a named strategy, as a results table that says which.

    ``ipw``: complete cases weighted by the inverse of the probability :math:`\hat p_i` of being complete, from a logistic model
    within each arm on ``missing_given``, :math:`\theta_a = \sum_{A_i=a} R_i Y_i/\hat p_i \big/ \sum_{A_i=a} R_i E_i/\hat p_i`.
    The variance counts the weights as estimated: influence values are what is left of them after projection on the scores of
    the missingness model.  Where several trials randomised both arms, this is done trial by trial and averaged over their
    patients.

    ``multiple-imputation``: outcomes drawn by the generator under each patient's own arm, pooled by Rubin's rules; with M draws
    :math:`T = \bar U + (1 + 1/M) B` and the degrees of freedom of Barnard and Rubin (1999), which count those of the completed
    table.  An imputed patient's exposure is the whole time to ``week``.  ``jump-to-reference``: the same with draws under the
    reference for everybody who lacks an outcome.

    Parameters
    ----------
    table : DataFrame, or path
        One row a randomised patient; a missing outcome is an empty cell.
    outcome, reference, arm, measure, exposure, adjust, design
        As in :func:`causalms.effects.analyse`.
    method : Method
        ``method.missing`` is the strategy; complete cases where none is named.

    Returns
    -------
    DataFrame

    Raises
    ------
    UsageError
        The strategy is unknown, or an argument has no meaning with it.
    InputError
        A covariate of ``missing_given`` is itself missing, or a patient who lacks an outcome has no draw.
    RefusalError
        A patient's probability is so small that its weight decides the result (positivity); fewer than two draws.

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; Seaman and White (2013), Statistical Methods in Medical Research 22:278-295.
    Rubin (1987), Multiple Imputation for Nonresponse in Surveys.

    Examples
    --------
    >>> table = pd.DataFrame({"y": [2.0, 4, np.nan, 3, 1, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> strategy = MissingOutcomes(strategy="complete-case")
    >>> results = effects_with_missing_outcomes(table, outcome="y", reference="p", method=Method(missing=strategy))
    >>> round(float(results["estimate"].iloc[0]), 3), "complete cases" in results["estimator"].iloc[0]
    (0.667, True)
    """
    missing = method.missing or MissingOutcomes()
    if missing.strategy not in STRATEGIES:
        raise UsageError(f"`missing`: found {missing.strategy!r}, expected one of {', '.join(STRATEGIES)}")
    analysis = _Analysis(
        as_frame(table), outcome, reference, arm, measure, exposure, adjust, design, replace(method, missing=None)
    )
    return STRATEGIES[missing.strategy](analysis, missing)


@dataclass(frozen=True)
class _Analysis:
    """Arguments of :func:`causalms.effects.analyse`."""

    table: pd.DataFrame
    outcome: str
    reference: str
    arm: str
    measure: str
    exposure: str | None
    adjust: str | None
    design: Design
    method: Method

    def run(self) -> Analysis:
        return analyse(**vars(self))


def _complete_cases(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    complete = analysis.run()
    left_out = [note for note in complete.notes if "left out" in note]
    results = complete.results
    return results.assign(estimator=["; ".join([text, "complete cases", *left_out]) for text in results["estimator"]])


def _inverse_probability(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    """Arm means of complete cases weighted by the inverse probability of being complete."""
    table, design, method = analysis.table, analysis.design, analysis.method
    source, missing_given = design.source, missing.missing_given
    if not missing_given:
        raise UsageError("`missing=ipw` needs what the missingness depends on: `missing_given`")
    unused: dict[str, object] = {"adjust": analysis.adjust, "strata": design.strata, "cluster": design.cluster}
    unused |= {"prognostic": method.prognostic, "interaction": method.interaction, "variance": method.variance}
    for name, value in unused.items():
        if value:
            raise UsageError(f"`missing=ipw` weights arm means; `{name}` has no meaning with it, leave it out")
    measure, arm, reference = measure_named(analysis.measure), analysis.arm, analysis.reference
    columns.one_row_a_patient(table, source)
    nobody = int(columns.column(table, arm, source).isna().sum())
    note_left_out(nobody, len(table), {arm: nobody}, source)
    patients = _weighted_patients(analysis, measure.outcome_kind, missing_given)
    names = arm_order(patients.labels, reference)
    if reference not in names or len(names) < 2:
        raise InputError(f"{source}: column {arm!r} needs {reference!r} and another arm; its arms are {', '.join(names)}")
    people = pd.DataFrame({"arm": patients.labels} | ({"trial": table["trial"]} if "trial" in table and arm != "trial" else {}))
    of_arm = [contrast_population(people, name, reference, pool=design.pool_trials) for name in names[1:]]
    return results_table(
        _weighted_row(patients, who, measure, f"given {missing_given}", analysis.outcome, method.level) for who in of_arm
    )


@dataclass(frozen=True)
class _Weighted:
    """Every patient: label of the arm, trial, whether complete, outcome, time at risk, covariates of the missingness."""

    labels: pd.Series
    trial: pd.Series
    observed: np.ndarray
    outcome: Array
    time: Array
    covariates: Array
    source: str


def _weighted_patients(analysis: _Analysis, kind: str, missing_given: str) -> _Weighted:
    table, outcome, exposure, source = analysis.table, analysis.outcome, analysis.exposure, analysis.design.source
    given = columns.column(table, analysis.arm, source)
    labels = names_of(given)
    needed = [outcome, *([exposure] if exposure else [])]
    observed = table[[columns.column(table, name, source).name for name in needed]].notna().all(axis=1).to_numpy()
    rows = np.flatnonzero(observed)
    y = np.zeros(len(table))
    y[rows] = _outcome(table[outcome], rows, outcome, kind, source)
    time = np.ones(len(table))
    if exposure:
        times = columns.numbers(table[exposure], rows, exposure, source)
        time[rows] = columns.times_at_risk(times, exposure, rows, source)[0]
    covariates = columns.Covariates.of(table, missing_given, source, "missing_given")
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, analysis.arm, outcome)
    if not covariates.complete.all():
        row = int(np.flatnonzero(~covariates.complete)[0]) + 1
        raise InputError(f"{source}: row {row} lacks a covariate of {missing_given!r}; weights need it for every patient")
    trial = names_of(table["trial"]).fillna("") if "trial" in table else pd.Series("", index=table.index)
    return _Weighted(labels, trial, observed, y, time, covariates.matrix(np.arange(len(table)))[0], source)


def _weighted_row(
    patients: _Weighted, who: ContrastPopulation, measure: Measure, given: str, outcome: str, level: float
) -> ResultRow:
    """One contrast of weighted arm means."""
    among, name, reference = who.included, who.arm, who.reference
    own = [among & (patients.labels == label).to_numpy() for label in (reference, name)]
    trials = who.trials if who.randomised and len(who.trials) > 1 else ()
    theta, influence, heaviest = _weighted_means(patients, among, own, trials)
    if heaviest > 0.5:
        raise RefusalError(
            f"{patients.source}: one patient carries {percentage(heaviest)} of an arm's weight; use fewer covariates in "
            "`missing_given`"
        )
    covariance = Covariance(influence.T @ influence, "influence function, weights estimated")
    contrast = contrast_with_reference(theta, covariance, 1, scale=measure.scale, level=level, arms=(reference, name))
    estimand = Estimand(
        who.words,
        f"{name} against {reference}",
        outcome,
        "treatment policy; missing outcomes by inverse probability weighting",
        f"marginal {measure.name}",
    )
    missing = f"{int((~patients.observed[among]).sum())} of {int(among.sum())} missing"
    estimator = f"inverse probability weighting ({missing}, {given})"
    estimator += f"; heaviest patient {percentage(heaviest)} of its arm" if heaviest > _HEAVY else ""
    estimator += f"; trial by trial, averaged over the patients of {', '.join(trials)}" if trials else ""
    return ResultRow(
        analysis=f"observed {outcome}",
        population=estimand.population,
        subgroup="all",
        arm=name,
        reference=reference,
        measure=measure.name,
        estimand=estimand.sentence,
        estimator="; ".join(filter(None, (estimator, who.note))),
        variance=covariance.name,
        **contrast.columns,
        n=int(own[1].sum()),
        n_reference=int(own[0].sum()),
        se_patient=contrast.se,
        randomised=who.randomised,
        rung=2,
    )


def _weighted_means(
    patients: _Weighted, among: np.ndarray, arms: list[np.ndarray], trials: Sequence[str]
) -> tuple[Array, Array, float]:
    r"""Weighted means of the arms, influence values (n, arms), and the largest share of weight.

    Over several trials :math:`\theta_a = \sum_s p_s \theta_{as}` with the trials' shares :math:`p_s` of the patients; their
    patients are a sample too, which adds :math:`(\theta_{as} - \theta_a)/n` to the influence of every patient of trial s.
    """
    theta, influence, heaviest = np.zeros(len(arms)), np.zeros((len(among), len(arms))), 0.0
    parts = [among & (patients.trial == trial).to_numpy() for trial in trials] or [among]
    for index, of_arm in enumerate(arms):
        means = []
        for part in parts:
            own, share = of_arm & part, float(part.sum() / among.sum())
            mean, values, largest = _weighted_arm(
                patients.observed[own], patients.outcome[own], patients.time[own], patients.covariates[own]
            )
            influence[own, index] += share * values
            heaviest = max(heaviest, share * largest)
            means.append((part, share, mean))
        theta[index] = sum(share * mean for _, share, mean in means)
        for part, _, mean in means:
            influence[part, index] += (mean - theta[index]) / among.sum()
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


def _jump_to_reference(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    """Missing outcomes imputed by the generator's draws under the reference, whatever the patient's arm."""
    return _multiple_imputation(analysis, missing, analysis.reference)


def _multiple_imputation(analysis: _Analysis, missing: MissingOutcomes, under: str | None = None) -> pd.DataFrame:
    """Effects of tables completed by the generator's draws, under the own arm or one arm for all, pooled by Rubin's rules."""
    table, source, exposure = analysis.table, analysis.design.source, analysis.exposure
    lacking = np.flatnonzero(columns.column(table, analysis.outcome, source).isna().to_numpy())
    if not len(lacking):
        raise RefusalError(f"{source}: column {analysis.outcome!r} lacks no value; use the complete-case strategy")
    if missing.draws is None:
        whose = "each patient's own arm" if under is None else f"{under!r}"
        raise UsageError(f"`missing={missing.strategy}` needs `draws` (under {whose})")
    imputed, week = _imputed_outcomes(table, lacking, missing, source, under)
    count = imputed.shape[1]
    if count < 2:
        raise RefusalError("draws: multiple imputation needs at least two draws; draw more")
    completed = table
    if exposure is not None:
        completed = _with_values(completed, exposure, lacking, week / WEEKS_PER_YEAR)
    analyses = [
        replace(analysis, table=_with_values(completed, analysis.outcome, lacking, imputed[draw].to_numpy())).run()
        for draw in imputed.columns
    ]
    results = pooled_results(analyses, analysis.method.level)
    left_out = "".join(f"; {note}" for note in analyses[0].notes if "left out" in note)
    share = len(lacking) / len(table)
    jumped = "" if under is None else f" under {under} (jump to reference)"
    results["estimator"] += (
        f"; {len(lacking)} missing outcomes ({percentage(share)}) imputed by the generator{jumped}, {count} draws{left_out}"
    )
    return results


def _with_values(table: pd.DataFrame, name: str, rows: np.ndarray, values: Array | float) -> pd.DataFrame:
    """A copy of the table with other numbers in some rows of a column."""
    column = table[name].astype(float).to_numpy().copy()
    column[rows] = values
    return table.assign(**{name: column})


def _imputed_outcomes(
    table: pd.DataFrame, lacking: np.ndarray, missing: MissingOutcomes, source: str, under: str | None
) -> tuple[pd.DataFrame, float]:
    """Draws of the patients who lack an outcome, one row a patient, one column a draw; and their week."""
    draws = missing.draws
    assert draws is not None
    week = one_week(draws, missing.week, "draws")
    wanted_arm = draws["arm_randomised"].astype(str) if under is None else under
    own = draws[(draws["arm"].astype(str) == wanted_arm) & (draws["visit_week"] == week)]
    wide = own.pivot_table(index=own["participant_id"].astype(str), columns="draw", values=missing.draw_column, aggfunc="first")
    wanted = names_of(columns.column(table, "participant_id", source)).iloc[lacking]
    imputed = wide.reindex(wanted)
    if imputed.empty or imputed.isna().any(axis=None):
        without = wanted.iloc[0] if imputed.empty else wanted[imputed.isna().any(axis=1).to_numpy()].iloc[0]
        whose = "the own arm" if under is None else repr(under)
        raise InputError(
            f"draws: patient {without!r} lacks a draw under {whose} at week {name_of(week)}; query that arm and week"
        )
    return imputed, week


#: Strategies for missing outcomes and their functions.
STRATEGIES: dict[str, Callable[[_Analysis, MissingOutcomes], pd.DataFrame]] = {
    "complete-case": _complete_cases,
    "ipw": _inverse_probability,
    "multiple-imputation": _multiple_imputation,
    "jump-to-reference": _jump_to_reference,
}
