"""Counts of visits after drop-out imputed under a named assumption: as in the own arm, or by reference to another arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.data import Design
from causalms.effects.design import Method
from causalms.effects.draws import patient_means
from causalms.effects.observed import analyse
from causalms.effects.pooling import pooled_results
from causalms.effects.visit_data import Visits, long_table
from causalms.effects.visit_weights import PATIENT
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array, FrailtyFit, fit_shared_frailty, keyed_generator
from causalms.tables import WEEKS_PER_YEAR, arm_order, as_frame, name_of, names_of, percentage, refuse_arm_and_outcome_by_name

#: What a patient's rate is taken to be after drop-out, with the words of a results row.
ASSUMPTIONS = {
    "missing-at-random": "missing at random: as patients of the own arm with these counts",
    "jump-to-reference": "jump to reference: the reference's rate from drop-out on",
    "copy-reference": "copy reference: as if in the reference from randomisation on",
    "copy-increments": "copy increments: the own rate at drop-out, changing over visits as the reference's does",
}


@dataclass(frozen=True, kw_only=True)
class VisitImputation:
    """How counts of missing visits are imputed.

    Attributes
    ----------
    assumption : {"missing-at-random", "jump-to-reference", "copy-reference", "copy-increments"}
        For visits after a patient's last count, in arms other than the reference; visits missed before it, and the reference, are
        missing at random.
    delta : float
        Multiplies the imputed rate of arms other than the reference after drop-out.
    draws : DataFrame, optional
        Outcomes simulated under every arm at every scheduled visit, counted from baseline; their means by patient, arm and visit
        then take the place of regression, times one factor an arm that the trial's counts estimate.
    imputations, seed : int
    level : float
    """

    assumption: str = "missing-at-random"
    draws: pd.DataFrame | None = None
    delta: float = 1.0
    imputations: int = 50
    seed: int = 0
    level: float = 0.95


@named_arguments
def impute_visits(
    table: Any,
    *,
    outcome: str,
    reference: str,
    visits: Visits = Visits(),
    arm: str = "arm",
    adjust: str | None = None,
    design: Design = Design(),
    method: VisitImputation = VisitImputation(),
) -> pd.DataFrame:
    r"""Rate ratio of whole follow-up, missing visits imputed by regression and pooled by Rubin's rules.

    Imputation model: :math:`Y_{ij}\mid u_i\sim\mathrm{Poisson}(u_i e_{ij}\lambda_{a(i)j}e^{\gamma'x_i})` with a gamma frailty
    :math:`u_i`, a rate for each arm and visit; with ``draws`` it is :math:`u_i\mu_{ij}(a_i)c_{a(i)}` of the generator's expected
    counts :math:`\mu_{ij}(a)`.  Each imputation draws the parameters from their asymptotic law, the frailty
    given the patient's counts, and the missing counts with the rates that the assumption names.  Completed totals are analysed by
    :func:`analyse` (standardized rate ratio).  Rubin's variance of reference-based imputation is wider than the spread over
    repeated trials: it keeps the information lost by drop-out.

    Parameters
    ----------
    table : DataFrame, or path
        One row a patient and visit; a missing count is an empty cell or a missing row.
    outcome, reference, visits, arm, adjust, design
        As in :func:`analyse_visits`.
    method : VisitImputation

    Returns
    -------
    DataFrame
        In the schema of the results table.

    Raises
    ------
    UsageError, InputError, RefusalError
        Visits are names, a covariate is missing, or an arm has no event at a visit.

    References
    ----------
    Keene, Roger, Hartley, Kenward (2014), Pharmaceutical Statistics 13:258-264.  Cro, Carpenter, Kenward (2019),
    JRSS A 182:623-645.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": np.repeat(range(8), 2), "visit_week": [24, 48] * 8})
    >>> table["arm"] = ["p"] * 8 + ["d"] * 8
    >>> table["y"] = [2, 1, 4, 3, 1, 2, 3, np.nan, 1, 1, 2, 1, 0, 1, 1, np.nan]
    >>> strategy = VisitImputation(assumption="jump-to-reference", imputations=5)
    >>> bool(impute_visits(table, outcome="y", reference="p", method=strategy)["lower"].notna().all())
    True
    """
    if method.assumption not in ASSUMPTIONS:
        raise UsageError(f"`impute`: found {method.assumption!r}, expected one of {', '.join(ASSUMPTIONS)}")
    if method.imputations < 2:
        raise UsageError("`imputations`: multiple imputation needs at least two")
    if not method.delta > 0:
        raise UsageError(f"`delta`: found {name_of(method.delta)}, expected a factor above 0 (1 changes nothing)")
    grid = _grid(
        long_table(as_frame(table), visits, design.source), outcome, reference, visits, arm, adjust, design, method.draws
    )
    fit = fit_shared_frailty(*grid.regression())
    analyses = [
        analyse(
            grid.people.assign(**{"\x00total": grid.imputed(fit, method, draw), "\x00time": grid.slots.sum()}),
            outcome="\x00total",
            reference=reference,
            arm=arm,
            exposure="\x00time",
            adjust=adjust,
            design=design,
            method=Method(level=method.level),
        )
        for draw in range(method.imputations)
    ]
    results = pooled_results(analyses, method.level)
    lacking = ~grid.covered
    share = percentage(lacking.mean())
    dropped = int(grid.after_last.any(axis=1).sum())
    words = f"{int(lacking.sum())} of {lacking.size} visits imputed ({share}; {dropped} patients after drop-out)"
    words += "" if method.draws is None else " from the generator's draws, a factor an arm"
    words += f", {method.imputations} imputations; {ASSUMPTIONS[method.assumption]}"
    words += f"; delta {name_of(method.delta)}" if method.delta != 1 else ""
    results["estimator"] = [f"{text}; {words}" for text in results["estimator"]]
    results["analysis"] = f"observed {outcome}, missing visits imputed"
    results["estimand"] = results["estimand"].str.replace("\x00total", f"{outcome} over all visits", regex=False)
    return results


def tipping_point(
    analysis: Callable[[VisitImputation], pd.DataFrame], method: VisitImputation, deltas: Sequence[float]
) -> pd.DataFrame:
    """Estimates of :func:`impute_visits` over a grid of ``delta``, one row an arm and delta.

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": np.repeat(range(8), 2), "visit_week": [24, 48] * 8})
    >>> table["arm"] = ["p"] * 8 + ["d"] * 8
    >>> table["y"] = [2, 1, 4, 3, 1, 2, 3, np.nan, 1, 1, 2, 1, 0, 1, 1, np.nan]
    >>> def analysis(method):
    ...     return impute_visits(table, outcome="y", reference="p", method=method)
    >>> tipping_point(analysis, VisitImputation(imputations=5), (1.0, 4.0))["estimate"].is_monotonic_increasing
    True
    """
    rows = [analysis(replace(method, delta=delta)).assign(delta=delta) for delta in deltas]
    return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True)
class _Grid:
    """Patients by scheduled visits.

    Attributes
    ----------
    people : DataFrame
        One row a patient, with arm and covariates.
    arm : integer array (n,)
    arms : int
    covariates : array (n, q)
    slots : array (V,)
        Time between scheduled visits.
    covered : array (n, V) of bool
        Whether the time before a visit is covered by a count.
    rows : DataFrame
        Counts: ``patient`` (number), ``visit`` (number), ``time``, ``count``, and ``first``, number of the first slot covered.
    simulated : array (K, n, V), optional
        Counts that a generator expects between visits under every arm.
    """

    people: pd.DataFrame
    arm: np.ndarray
    arms: int
    covariates: Array
    slots: Array
    covered: np.ndarray
    rows: pd.DataFrame
    simulated: Array | None = None

    @property
    def after_last(self) -> np.ndarray:
        """Visits after a patient's last count, shape (n, V)."""
        later = np.flip(np.maximum.accumulate(np.flip(self.covered, axis=1), axis=1), axis=1)
        return np.asarray(~later)

    def design(self, arm: np.ndarray, patient: np.ndarray, visit: np.ndarray) -> Array:
        """An indicator of every arm and visit, and the covariates."""
        cells = np.eye(self.arms * len(self.slots))[arm * len(self.slots) + visit]
        return np.column_stack([cells, self.covariates[patient]])

    def regression(self) -> tuple[Array, Array, Array, np.ndarray]:
        """Design, counts, time at risk and patients of the imputation model."""
        patient, visit = self.rows["patient"].to_numpy(), self.rows["visit"].to_numpy()
        if self.simulated is not None:
            expected = self.of_rows(self.simulated[self.arm, np.arange(len(self.arm))])
            return np.eye(self.arms)[self.arm[patient]], self.rows["count"].to_numpy(float), expected, patient
        X = self.design(self.arm[patient], patient, visit)
        return X, self.rows["count"].to_numpy(float), self.rows["time"].to_numpy(float), patient

    def of_rows(self, means: Array) -> Array:
        """Expected counts of the rows from those between visits (n, V)."""
        patient, visit, first = (self.rows[name].to_numpy() for name in ("patient", "visit", "first"))
        if self.simulated is None:
            return np.asarray(self.rows["time"].to_numpy() * (means / self.slots)[patient, visit])
        sums = np.column_stack([np.zeros(len(means)), np.cumsum(means, axis=1)])
        return np.asarray(sums[patient, visit + 1] - sums[patient, first])

    def means(self, arm: np.ndarray, beta: Array) -> Array:
        """Expected counts between visits had every patient the given arm, shape (n, V)."""
        n, V = self.covered.shape
        if self.simulated is not None:
            return np.asarray(self.simulated[arm, np.arange(n)] * np.exp(beta[arm])[:, None])
        patient, visit = np.repeat(np.arange(n), V), np.tile(np.arange(V), n)
        linear = self.design(arm[patient], patient, visit) @ beta
        return np.exp(np.clip(linear, -50, 50)).reshape(n, V) * self.slots

    def imputed(self, fit: FrailtyFit, method: VisitImputation, draw: int) -> Array:
        """Totals of one completed table."""
        rng = keyed_generator(method.seed, f"visits imputed {draw}")
        theta = rng.multivariate_normal(fit.parameters, fit.covariance)
        beta, size = theta[:-1], float(np.exp(-np.clip(theta[-1], np.log(1e-6), np.log(1e3))))
        n, V = self.covered.shape
        own, of_reference = self.means(self.arm, beta), self.means(np.zeros(n, dtype=int), beta)
        last = np.where(self.covered.any(axis=1), V - 1 - np.argmax(np.flip(self.covered, axis=1), axis=1), -1)
        later = own if method.assumption == "missing-at-random" else of_reference
        if method.assumption == "copy-increments":
            at = (np.arange(n), np.maximum(last, 0))
            later = of_reference * np.where(last >= 0, own[at] / of_reference[at], 1.0)[:, None]
        later = later * np.where(self.arm > 0, method.delta, 1.0)[:, None]
        before = of_reference if method.assumption == "copy-reference" else own
        rows = self.rows["patient"].to_numpy()
        expected = np.bincount(rows, weights=self.of_rows(before), minlength=n)
        total = np.bincount(rows, weights=self.rows["count"], minlength=n)
        frailty = rng.gamma(size + total) / (size + expected)
        mean = np.where(self.after_last, later, own) * ~self.covered
        return np.asarray(total + rng.poisson(frailty[:, None] * mean).sum(axis=1), dtype=float)


def _grid(
    table: pd.DataFrame,
    outcome: str,
    reference: str,
    visits: Visits,
    arm: str,
    adjust: str | None,
    design: Design,
    draws: pd.DataFrame | None,
) -> _Grid:
    source = design.source
    if "\x00stop" not in table:
        raise UsageError("`visit` holds names; to impute visits give their weeks since randomisation")
    schedule = np.unique(table["\x00stop"])
    if len(schedule) > 50:
        raise UsageError(
            f"`visit` has {len(schedule)} values: dates, not a schedule; visits that were never planned cannot be imputed"
        )
    people = table.drop_duplicates(PATIENT).reset_index(drop=True)
    covariates = columns.Covariates.of(people, adjust, source)
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, arm, outcome)
    if design.missing_covariates == "indicator":
        covariates = covariates.filled(np.arange(len(people)))
    if not covariates.complete.all() or people[arm].isna().any():
        lonely = people[PATIENT][~covariates.complete | people[arm].isna()].iloc[0]
        raise InputError(f"{source}: patient {lonely!r} lacks the arm or a covariate; imputation needs them for every patient")
    labels = names_of(people[arm])
    arms = arm_order(labels, reference)
    if reference not in arms or len(arms) < 2:
        raise InputError(f"{source}: column {arm!r} needs {reference!r} and another arm; its arms are {', '.join(arms)}")
    code = np.array([arms.index(label) for label in labels])
    number = pd.Series(np.arange(len(people)), index=people[PATIENT])
    seen = table[columns.column(table, outcome, source).notna()]
    counts = columns.numbers(seen[outcome], np.arange(len(seen)), outcome, source)
    columns.counts(counts, outcome, np.arange(len(seen)), source)
    patient, visit = number[seen[PATIENT]].to_numpy(), seen["\x00visit"].to_numpy()
    starts = np.r_[0.0, schedule[:-1]]
    covered = np.zeros((len(people), len(schedule)), dtype=bool)
    for row, start, stop in zip(patient, seen["\x00start"], seen["\x00stop"], strict=True):
        covered[row, (starts >= start) & (schedule <= stop)] = True
    if covered.all():
        raise RefusalError(f"{source}: column {outcome!r} lacks no visit; nothing is imputed")
    rows = pd.DataFrame({"patient": patient, "visit": visit, "time": seen["\x00stop"] - seen["\x00start"], "count": counts})
    rows["first"] = np.searchsorted(starts, seen["\x00start"])
    if draws is not None:
        if not np.isin(seen["\x00start"], starts).all():
            raise UsageError("`start` does not lie at scheduled visits; draws are counted between visits, leave it out")
        simulated = _simulated_slots(draws, people[PATIENT], arms, schedule)
        return _Grid(people, code, len(arms), np.empty((len(people), 0)), schedule - starts, covered,
                     rows.reset_index(drop=True), simulated)  # fmt: skip
    events = np.zeros((len(arms), len(schedule)))
    np.add.at(events, (code[patient], visit), counts)
    if (events == 0).any():
        arm_number, slot = np.argwhere(events == 0)[0]
        raise RefusalError(
            f"visit {name_of(schedule[slot])}: arm {arms[arm_number]!r} has no event, so no rate to impute from; join visits"
        )
    base = np.eye(len(arms))[code]
    matrix, names = covariates.matrix(np.arange(len(people)))
    kept = columns.independent_columns(base, matrix, names)[0]
    return _Grid(people, code, len(arms), kept, schedule - starts, covered, rows.reset_index(drop=True))


def _simulated_slots(draws: pd.DataFrame, patients: pd.Series, arms: Sequence[str], schedule: Array) -> Array:
    """Counts expected between scheduled visits by the means of draws, shape (K, n, V)."""
    means = patient_means(draws, reference=arms[0])  # counts a year
    known = set(map(float, means["visit_week"].unique()))
    absent = [week for week in schedule if float(week) not in known]
    lost = [name for name in arms if name not in means]
    if absent or lost:
        raise InputError(
            f"draws: nothing under {lost[0]!r}; query every arm"
            if lost
            else f"draws: no week {name_of(absent[0])}; query every scheduled visit ({', '.join(map(name_of, schedule))})"
        )
    means = means.set_index([means["participant_id"].astype(str), "visit_week"])[list(arms)]
    wanted = pd.MultiIndex.from_product([patients.astype(str), schedule])
    totals = means[~means.index.duplicated()].reindex(wanted)
    if totals.isna().any(axis=None):
        raise InputError(
            f"draws: patient {wanted[int(totals.isna().any(axis=1).argmax())][0]!r} lacks a draw; query all patients"
        )
    cumulative = totals.to_numpy(float).reshape(len(patients), len(schedule), len(arms)) * schedule[:, None] / WEEKS_PER_YEAR
    slots = np.diff(cumulative, axis=1, prepend=0.0)
    least = 0.01 * max(float(slots.mean()), 1e-12)  # means of few draws may be zero, rates are not
    return np.asarray(np.moveaxis(np.maximum(slots, least), -1, 0))
