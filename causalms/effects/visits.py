"""Counts per visit: rate ratios by estimating equations or proportional rates, rates of intervals, mean cumulative functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects.contrasts import Contrast, wald
from causalms.effects.data import Adjustment, Design
from causalms.effects.estimands import Estimand
from causalms.effects.means import design as design_matrix
from causalms.effects.observed import sets_of_patients
from causalms.effects.visit_data import VisitData, Visits, long_table, mean_curves, refuse_one_patient, visit_data, visit_rates
from causalms.effects.visit_weights import Compared, visit_weights
from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.stats import STRUCTURES, TIES, Array, GeeFit, fit_gee, fit_rates
from causalms.tables import ContrastPopulation, ResultRow, as_frame, fixed, p_value_text, results_table, significant

#: What each argument of a :class:`VisitMethod` may be.
VISIT_CHOICES: dict[str, tuple[str, ...]] = {
    "estimator": ("gee", "andersen-gill"),
    "correlation": tuple(STRUCTURES),
    "variance": ("robust", "bias-corrected", "model"),
    "ties": TIES,
}
#: Visits above which they are taken for dates of events and get no coefficient each.
_MOST_VISITS = 50
_FEW_PATIENTS = 50


@dataclass(frozen=True, kw_only=True)
class VisitMethod:
    """Estimator of an analysis of visits.

    Attributes
    ----------
    estimator : {"gee", "andersen-gill"}
        ``gee``: log-linear marginal rate with a coefficient a visit. ``andersen-gill``: proportional rates with an unspecified
        baseline (with the robust variance: Lin, Wei, Yang, Ying).
    correlation : {"exchangeable", "ar1", "independence"}
        Of ``gee``: working correlation within patients.
    variance : {"robust", "bias-corrected", "model"}
        ``bias-corrected`` (Mancl and DeRouen, t) is for few patients, of ``gee``; ``model`` believes the working model.
    ties : {"efron", "breslow"}, optional
        Of ``andersen-gill``; default Efron for rows with at most one event, as R's coxph, otherwise Breslow.
    ipcw_given : str, optional
        Of ``gee``: baseline covariates of dropping out; counts are weighted by the inverse probability of still being in the
        study given these, the visit and the patient's counts so far, with the independence correlation.
    by_visit : bool
        Of ``gee``: also a rate ratio for each visit, and the test that they are one.
    level : float
    """

    estimator: str = "gee"
    correlation: str = "exchangeable"
    variance: str = "robust"
    ties: str | None = None
    ipcw_given: str | None = None
    by_visit: bool = False
    level: float = 0.95


@dataclass(frozen=True, repr=False)
class VisitAnalysis:
    """Rate ratios over visits, with the rates of every visit and arm.

    Attributes
    ----------
    results : DataFrame
        One row a contrast, in the schema of the results table.
    rates : DataFrame
        One row a visit and arm: patients, events, exposure, rate and its interval.
    curves : DataFrame
        Mean cumulative function: ``arm``, ``time``, ``mean``, ``se``, ``lower``, ``upper``; empty where visits are names.
    estimands : tuple of Estimand
        One a row of the results.
    notes : tuple of str
    """

    results: pd.DataFrame
    rates: pd.DataFrame
    curves: pd.DataFrame
    estimands: tuple[Estimand, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """The page that the command line prints."""
        from causalms.effects.printing import visits_page

        return visits_page(self)


@named_arguments
def analyse_visits(
    table: Any,
    *,
    outcome: str,
    reference: str,
    visits: Visits = Visits(),
    arm: str = "arm",
    exposure: str | None = None,
    adjust: str | None = None,
    design: Design = Design(),
    method: VisitMethod = VisitMethod(),
) -> VisitAnalysis:
    r"""Rate ratios from a long table, one row a patient and visit, with robust variance over patients.

    ``gee`` solves the estimating equations of :math:`\log E[Y_{ij}] = \log e_{ij} + \alpha_j + \beta'\mathrm{arm}_i +
    \gamma'x_i`; ``andersen-gill`` the proportional rates model :math:`E[dN_i(t)] = Y_i(t)e^{\beta'\mathrm{arm}_i +
    \gamma'x_i}d\mu_0(t)`, a visit's count standing at the visit.  Rows without a count are not at risk, unbiased if
    visits are missed completely at random given arm and covariates.

    Parameters
    ----------
    table : DataFrame, or path
        One row a patient and visit.
    outcome : str
        Column of the count since the patient's row before.
    reference : str
        The arm to compare with.
    visits : Visits
        Columns of the visit and of the patient.
    arm : str
    exposure : str, optional
        Column of time at risk; by default the time since the patient's row before, where visits are numbers.
    adjust : str, optional
        Formula of baseline covariates.
    design : Design
        ``strata`` are strata of the proportional rates model.
    method : VisitMethod

    Returns
    -------
    VisitAnalysis

    Raises
    ------
    InputError, RefusalError, UsageError, ConvergenceError
        In one line that names the column or argument and the mend.

    References
    ----------
    Liang and Zeger (1986), Biometrika 73:13-22; Lin, Wei, Yang, Ying (2000), JRSS B 62:711-730.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": list("aabbccdd"), "arm": ["p"] * 4 + ["d"] * 4, "week": [24, 48] * 4})
    >>> table["y"] = [2, 1, 4, 3, 1, 1, 2, 1]
    >>> analysis = analyse_visits(table, outcome="y", reference="p", visits=Visits(visit="week"))
    >>> analysis.results[["arm", "estimate"]].round(3).values.tolist()
    [['d', 0.5]]
    """
    _refuse_contradictions(design, method)
    table = long_table(as_frame(table), visits, design.source)
    compared = Compared(outcome, arm, reference, exposure)
    adjustment = Adjustment(formula=adjust)
    everybody = visit_data(table, visits, compared, adjustment, design)
    if not everybody.rows.outcome.any():
        raise RefusalError(f"{design.source}: column {outcome!r}: no patient has an event, so arms cannot be compared")
    rows: list[tuple[ResultRow, Estimand]] = []
    notes: list[str] = [*everybody.rows.notes]
    for populations in sets_of_patients(everybody.rows, design.pool_trials):
        data, who = everybody, populations[0]
        factor = who.randomised and len(who.trials) > 1
        if factor or not who.included.all():
            own = table.iloc[np.sort(everybody.rows.rows[who.included])].reset_index(drop=True)
            data = visit_data(own, visits, compared, replace(adjustment, trial=factor), design)
            notes += data.rows.notes
        refuse_one_patient(data)
        if method.ipcw_given is not None:
            whose = table if data is everybody else own
            data = replace(data, weights=visit_weights(whose, data.rows.rows, compared, method.ipcw_given, design))
        made, more = _contrasts(data, populations, visits, outcome, design, method)
        rows += made
        notes += [*more, *filter(None, (population.note for population in populations))]
    return VisitAnalysis(
        results_table(row for row, _ in rows),
        visit_rates(everybody, method.level),
        mean_curves(everybody, method.level),
        tuple(estimand for _, estimand in rows),
        tuple(dict.fromkeys(notes)),
    )


def _refuse_contradictions(design: Design, method: VisitMethod) -> None:
    for name in ("estimator", "correlation", "variance"):
        if getattr(method, name) not in VISIT_CHOICES[name]:
            raise UsageError(f"`{name}`: found {getattr(method, name)!r}, expected one of {', '.join(VISIT_CHOICES[name])}")
    if not 0 < method.level < 1:
        raise UsageError(f"`level`: found {method.level!r}, expected a number between 0 and 1 such as 0.95")
    if design.cluster:
        raise UsageError("`cluster`: patients are the clusters of an analysis of visits; leave it out")
    if method.ipcw_given is not None and (method.estimator != "gee" or method.variance == "model"):
        raise UsageError("`ipcw_given` weights the counts of `estimator=gee`, with `variance=robust` or bias-corrected")
    if method.estimator == "gee":
        if design.strata:
            raise UsageError("`strata` are of `estimator=andersen-gill`; with gee adjust for them, as in `adjust=C(region)`")
        if method.ties is not None:
            raise UsageError("`ties` are of `estimator=andersen-gill`; leave them out")
    else:
        if method.by_visit:
            raise UsageError("`by_visit` is of `estimator=gee`; proportional rates are one for all visits")
        if method.variance == "bias-corrected":
            raise UsageError("`variance=bias-corrected` is of `estimator=gee`; use robust")


def _contrasts(
    data: VisitData, populations: Sequence[ContrastPopulation], visits: Visits, outcome: str, design: Design, method: VisitMethod
) -> tuple[list[tuple[ResultRow, Estimand]], list[str]]:
    """Rows of the results with their estimands, and notes, of the arms whose contrast is about these patients."""
    arms, sizes = data.rows.arms, data.patients_of_arm
    fitted = _gee(data, method) if method.estimator == "gee" else _andersen_gill(data, method)
    rows = []
    for subgroup, of_arm in fitted.contrasts.items():
        for population in populations:
            index = arms.index(population.arm)
            words = design.population or population.words
            variable = f"{outcome} per unit of exposure" if data.rows.has_exposure else f"{outcome} per visit"
            variable += "" if subgroup == "all" else f" at {visits.visit} {subgroup}"
            given = " given covariates" if data.rows.covariate_names else ""
            estimand = Estimand(
                words, f"{population.arm} against {arms[0]}", variable, design.intercurrent_events, f"{fitted.summary}{given}"
            )
            row = ResultRow(
                analysis=f"observed {outcome} by visit",
                population=words,
                subgroup=subgroup if subgroup == "all" else f"{visits.visit} = {subgroup}",
                arm=population.arm,
                reference=arms[0],
                measure="rate ratio",
                estimand=estimand.sentence,
                estimator=f"{fitted.estimator}, {_covariates(data)}",
                variance=fitted.variance,
                **of_arm[index - 1].columns,
                n=int(sizes[index]),
                n_reference=int(sizes[0]),
                se_patient=of_arm[index - 1].se,
                randomised=population.randomised,
                rung=2,
            )
            rows.append((row, estimand))
    notes = list(fitted.notes)
    if sizes.min() < _FEW_PATIENTS and method.variance == "robust" and method.estimator == "gee":
        notes.append(f"the smallest arm has {sizes.min()} patients: intervals may be short; see `variance=bias-corrected`")
    if method.variance == "model":
        notes.append(
            "the model's own variance takes a patient's counts for as dependent as the model says; see `variance=robust`"
        )
    return rows, notes


def _covariates(data: VisitData) -> str:
    names = data.rows.covariate_names
    return f"adjusted for {', '.join(names)}" if names else "no covariate"


@dataclass(frozen=True)
class _Fitted:
    """Contrasts of the arms (the reference left out) by visit or for ``all``, with the words that go with them."""

    contrasts: dict[str, list[Contrast]]
    summary: str
    estimator: str
    variance: str
    notes: tuple[str, ...]


def _gee(data: VisitData, method: VisitMethod) -> _Fitted:
    rows, arms, seen = data.rows, len(data.rows.arms), np.unique(data.visit)
    if len(seen) > _MOST_VISITS:
        raise UsageError(
            f"`visit` has {len(seen)} values: dates of events; use `estimator=andersen-gill`, without a term a visit"
        )
    of_visit = (data.visit[:, None] == seen).astype(float)
    _refuse_visits_without_events(data, of_visit, by_arm=False)
    X = np.column_stack([design_matrix(rows, interaction=False), of_visit[:, 1:]])
    contrasts, correlation = {}, 0.0
    contrasts["all"], fit = _gee_contrasts(data, X, np.eye(X.shape[1])[1:arms], method)
    correlation, notes = fit.correlation, []
    if method.by_visit:
        _refuse_visits_without_events(data, of_visit, by_arm=True)
        arm = np.eye(arms)[rows.arm][:, 1:]
        own = (of_visit[:, :, None] * arm[:, None, :]).reshape(len(arm), -1)
        X = np.column_stack([np.ones(len(arm)), own, rows.covariates, of_visit[:, 1:]])
        places = np.eye(X.shape[1])[1 : 1 + own.shape[1]]
        each, fit = _gee_contrasts(data, X, places, method)
        for index, number in enumerate(seen):
            contrasts[data.names[number]] = each[index * (arms - 1) : (index + 1) * (arms - 1)]
        notes.append(_same_at_every_visit(fit.coefficients, _covariance(fit, method), own.shape[1], arms - 1))
    working = method.correlation if method.correlation == "independence" else f"{method.correlation} {fixed(correlation, 3)}"
    weighted = "" if data.weights is None else f", {data.weights.words}"
    if weighted:
        working = "independence"
    names = {"robust": "sandwich over patients", "bias-corrected": "sandwich over patients, bias-corrected (Mancl-DeRouen, t)"}
    return _Fitted(
        contrasts,
        "marginal rate ratio",
        f"GEE (Poisson, log link, a term a visit, working correlation {working}){weighted}",
        names.get(method.variance, "working model") + (", weights counted as estimated" if weighted else ""),
        tuple(notes),
    )


def _covariance(fit: GeeFit, method: VisitMethod) -> Array:
    of_name: dict[str, Array] = {"robust": fit.robust, "bias-corrected": fit.bias_corrected, "model": fit.model}
    return of_name[method.variance]


def _gee_contrasts(data: VisitData, X: Array, places: Array, method: VisitMethod) -> tuple[list[Contrast], GeeFit]:
    rows = data.rows
    patients = int(data.patients_of_arm.sum())
    if X.shape[1] >= patients:
        raise RefusalError(f"the model has {X.shape[1]} coefficients for {patients} patients; adjust for fewer covariates")
    if data.weights is not None:
        fit = data.weights.fit(X, rows.outcome, rows.exposure, data.patient, data.visit)
    else:
        fit = fit_gee(X, rows.outcome, rows.exposure, data.patient, data.visit, structure=method.correlation)
    values, variances = places @ fit.coefficients, np.einsum("ap,pq,aq->a", places, _covariance(fit, method), places)
    degrees = patients - X.shape[1] if method.variance == "bias-corrected" else np.inf
    made = [
        wald(float(value), float(np.sqrt(variance)), log=True, level=method.level, degrees_of_freedom=degrees)
        for value, variance in zip(values, variances, strict=True)
    ]
    return made, fit


def _same_at_every_visit(coefficients: Array, covariance: Array, terms: int, arms: int) -> str:
    """The Wald test that the rate ratio of every arm is the same at all visits."""
    from scipy.special import chdtrc

    visits = terms // arms
    if visits < 2:
        return "one visit only: no interaction of arm and visit"
    differences = np.kron(np.column_stack([-np.ones(visits - 1), np.eye(visits - 1)]), np.eye(arms))
    values = differences @ coefficients[1 : 1 + terms]
    matrix = differences @ covariance[1 : 1 + terms, 1 : 1 + terms] @ differences.T
    statistic, degrees = float(values @ np.linalg.solve(matrix, values)), len(values)
    p = p_value_text(float(chdtrc(degrees, statistic)))
    return f"arm x visit: chi-square {significant(statistic, 4)} on {degrees} degrees of freedom, p {p}"


def _refuse_visits_without_events(data: VisitData, of_visit: Array, *, by_arm: bool) -> None:
    for arm, name in enumerate(data.rows.arms):
        own = data.rows.arm == arm
        events, present = of_visit[own].T @ data.rows.outcome[own], of_visit[own].sum(axis=0) > 0
        if not events.any():
            raise RefusalError(
                f"arm {name!r} has no event at any visit, so its rate ratio is not finite; sum the visits to one row a patient, "
                "which has an exact bound"
            )
        empty = np.flatnonzero((events == 0) & present if by_arm else of_visit.T @ data.rows.outcome == 0)
        if len(empty):
            visit = data.names[np.unique(data.visit)[empty[0]]]
            mend = "leave out `by_visit`" if by_arm else "join it with another visit, or use `estimator=andersen-gill`"
            raise RefusalError(f"visit {visit}: {f'arm {name!r} has' if by_arm else 'nobody has'} no event; {mend}")


def _andersen_gill(data: VisitData, method: VisitMethod) -> _Fitted:
    intervals, arms = data.intervals(), len(data.rows.arms)
    X = design_matrix(data.rows, interaction=False)[:, 1:]
    for arm, name in enumerate(data.rows.arms):
        if not data.rows.outcome[data.rows.arm == arm].any():
            raise RefusalError(
                f"arm {name!r} has no event, so its rate ratio is not finite; one row a patient has an exact bound"
            )
    ties = method.ties or ("breslow" if intervals.events.max() > 1 else "efron")
    fit = fit_rates(X, intervals, ties)
    covariance = fit.model if method.variance == "model" else fit.robust
    contrasts = [
        wald(float(fit.coefficients[index]), float(np.sqrt(covariance[index, index])), log=True, level=method.level)
        for index in range(arms - 1)
    ]
    strata = ", stratified baseline" if data.rows.strata is not None else ""
    return _Fitted(
        {"all": contrasts},
        "rate ratio (proportional mean cumulative counts)",
        f"Andersen-Gill proportional rates{strata}, {ties.capitalize()} ties",
        "Poisson process (Andersen-Gill)" if method.variance == "model" else "sandwich over patients (LWYY)",
        (),
    )
