"""From a table to the arrays an analysis needs: checked, complete rows only, covariates by formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.estimable import one_arm_strata, refuse_lone_clusters
from causalms.errors import InputError, RefusalError, UsageError, near_or_all
from causalms.stats import Array
from causalms.tables import (
    arm_order,
    left_out_words,
    name_of,
    names_of,
    patient_order,
    percentage,
    refuse_arm_and_outcome_by_name,
    refuse_copies,
    refuse_lookalikes,
)

_MANY_MISSING = 0.05
#: What is done with a missing baseline covariate.
MISSING_COVARIATES = ("indicator", "drop")
MEAN_STANDS_IN = (
    "baseline missing: {} of {} rows; by default the mean stands in, with an indicator from 10 rows on "
    "(`missing_covariates=drop` leaves these rows out)"
)
TREATMENT_POLICY = "treatment policy (outcomes used as observed, whatever followed randomisation)"


@dataclass(frozen=True, kw_only=True)
class Design:
    """How patients were randomised and whom the contrasts are about.

    Attributes
    ----------
    strata, cluster : str, optional
        Columns of randomisation strata and of clusters.
    randomization : {"simple", "permuted-block"}, optional
        Default: permuted blocks when ``strata`` is given.
    pool_trials : bool
        Compare all patients of all trials; a contrast over several trials is then not randomised. Otherwise each contrast is
        about the patients of the trials that randomised both arms (:func:`causalms.tables.contrast_population`).
    missing_covariates : {"indicator", "drop"}
        A missing baseline covariate is its mean (a factor: its commonest level) beside an indicator, or leaves the patient out.
    population, intercurrent_events : str
        Attributes of the estimand that a table cannot tell; the population is found from the trials unless named.
    source : str
        Name of the table in messages.

    Examples
    --------
    >>> Design(strata="region").randomization is None  # permuted blocks within regions
    True
    """

    strata: str | None = None
    cluster: str | None = None
    randomization: str | None = None
    pool_trials: bool = False
    missing_covariates: str = "indicator"
    population: str | None = None
    intercurrent_events: str = TREATMENT_POLICY
    source: str = "table"


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """Baseline variables of a working model.

    Attributes
    ----------
    formula : str, optional
        Right-hand side of a formula, such as ``"age + C(site)"``.
    prognostic : sequence of str
        Columns of expected outcomes; they enter as logarithms when ``log_prognostic``.
    log_prognostic : bool
    trial : bool
        Let the column ``trial`` be a factor.
    """

    formula: str | None = None
    prognostic: Sequence[str] = ()
    log_prognostic: bool = True
    trial: bool = False


@dataclass(frozen=True)
class TrialData:
    """One row a patient, complete.

    Attributes
    ----------
    outcome : array (n,)
    arm : integer array (n,)
        Index into ``arms``; 0 is the reference.
    arms : tuple of str
    exposure : array (n,)
        Time at risk; ones where the table gives none.
    covariates : array (n, q)
        Centred and scaled columns of the adjustment formula, without intercept, full rank beside the arms.
    covariate_names : tuple of str
    rows : integer array (n,)
        Row numbers of the table that are used.
    has_exposure : bool
    strata, cluster : integer array (n,), optional
    cluster_names : tuple of str
        Of the integers of ``cluster``.
    trial : array of str, optional
    expected : array (n,), optional
        The prognostic column itself, where one is named.
    factors : tuple of (str, array of str (n,))
        Names and levels of the covariates that are factors.
    notes : tuple of str
        What was left out or recoded, for the reader.
    """

    outcome: Array
    arm: np.ndarray
    arms: tuple[str, ...]
    exposure: Array
    covariates: Array
    covariate_names: tuple[str, ...]
    rows: np.ndarray
    has_exposure: bool = False
    strata: np.ndarray | None = None
    cluster: np.ndarray | None = None
    cluster_names: tuple[str, ...] = ()
    trial: np.ndarray | None = None
    expected: Array | None = None
    factors: tuple[tuple[str, np.ndarray], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.outcome)

    @property
    def sizes(self) -> np.ndarray:
        """Number of patients an arm, shape (K,)."""
        return np.bincount(self.arm, minlength=len(self.arms))

    def take(self, rows: np.ndarray) -> TrialData:
        """The same analysis on chosen patients (a bootstrap or leave-one-out sample)."""

        def pick(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return replace(
            self,
            outcome=self.outcome[rows],
            arm=self.arm[rows],
            exposure=self.exposure[rows],
            covariates=self.covariates[rows],
            rows=self.rows[rows],
            strata=pick(self.strata),
            cluster=pick(self.cluster),
            trial=pick(self.trial),
            expected=pick(self.expected),
            factors=tuple((name, values[rows]) for name, values in self.factors),
        )


def trial_data(
    table: pd.DataFrame,
    *,
    outcome: str,
    arm: str,
    reference: str,
    kind: str = "count",
    exposure: str | None = None,
    adjustment: Adjustment = Adjustment(),
    design: Design = Design(),
) -> TrialData:
    """Check a table and take from it what an analysis needs; rows with a missing value are left out, counted and named.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    outcome, arm : str
        Columns.
    reference : str
        The arm that every other arm is compared with.
    kind : {"count", "binary", "number"}
        Counts must be whole and not negative; for ``binary`` an outcome other than 0/1 is read as any (> 0) against none.
    exposure : str, optional
        Column of time at risk, above zero.
    adjustment : Adjustment
        Baseline variables of the working model.
    design : Design
        Columns of the randomisation strata and of the clusters, and the name of the table in messages.

    Raises
    ------
    InputError
        Naming the column and row at fault.
    RefusalError
        Fewer than two arms, or an arm with fewer than two patients.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [0, 2, 1, 4], "drug": ["a", "a", "b", "b"]})
    >>> trial_data(table, outcome="y", arm="drug", reference="a").arms
    ('a', 'b')
    """
    source, strata, cluster, prognostic = design.source, design.strata, design.cluster, adjustment.prognostic
    if table.empty:
        raise InputError(f"{source}: holds no rows; give a table with at least two patients an arm")
    columns.one_row_a_patient(table, source)
    _separate_roles({"outcome": outcome, "arm": arm, "exposure": exposure, "strata": strata, "cluster": cluster}, prognostic)
    wanted = [outcome, arm, *(name for name in (exposure, strata, cluster, *prognostic) if name)]
    used = pd.DataFrame({name: columns.column(table, name, source) for name in dict.fromkeys(wanted)})
    formula = columns.Covariates.of(table, adjustment.formula, source)
    if formula.formula is not None:
        refuse_arm_and_outcome_by_name(formula.formula, arm, outcome)
    columns.refuse_values_outside_life(formula.table, source)
    formula, used, notes = _completed(formula, used, prognostic, design)
    rows = np.flatnonzero(complete := used.notna().all(axis=1).to_numpy() & formula.complete)
    if not len(rows):
        raise RefusalError(f"{source}: no row is complete in {', '.join(used.columns)}; nothing can be estimated")
    codes, arms = _arms(used[arm].iloc[rows], reference, arm, source)
    values = columns.numbers(used[outcome], rows, outcome, source)
    notes += _left_out(pd.concat([used, formula.table], axis=1), complete) + _missing_by_arm(used[outcome], used[arm], outcome)
    for name in filter(None, (strata, cluster)):
        if not pd.api.types.is_numeric_dtype(used[name]):
            refuse_lookalikes(used[name].unique(), f"values of {name}", source)
    if cluster is not None:
        refuse_lone_clusters(used[cluster].iloc[rows], codes, arms, cluster, source)
    notes += () if strata is None else one_arm_strata(used[strata].iloc[rows], codes, strata)
    if kind == "count":
        columns.counts(values, outcome, rows, source)
    elif kind == "binary":
        values, recoded = columns.activity(values, outcome, rows, source)
        notes += recoded
    matrix, names = formula.matrix(rows)
    built = pd.DataFrame(matrix, columns=list(names))
    expected, expected_names = _prognostic(used, rows, prognostic, adjustment.log_prognostic, source)
    if adjustment.trial:
        trials, trial_names = _trial_columns(names_of(table["trial"].iloc[rows]))
        expected, expected_names = np.column_stack([expected, trials]), expected_names + trial_names
    matrix = np.column_stack([matrix, expected])
    matrix, names, dropped = columns.independent_columns(np.eye(len(arms))[codes], matrix, names + expected_names)
    time = np.ones(len(rows))
    by_patient = patient_order(_identified(table, used, formula.table).iloc[rows])
    if exposure is not None:
        time, more = columns.times_at_risk(columns.numbers(used[exposure], rows, exposure, source), exposure, rows, source)
        notes += more
    data = TrialData(
        outcome=values,
        arm=codes,
        arms=arms,
        exposure=time,
        covariates=matrix,
        covariate_names=names,
        rows=rows,
        has_exposure=exposure is not None,
        strata=None if strata is None else _codes(used[strata].iloc[rows], by_patient),
        cluster=None if cluster is None else _codes(used[cluster].iloc[rows], by_patient),
        trial=names_of(table["trial"].iloc[rows]).to_numpy() if "trial" in table and arm != "trial" else None,
        expected=columns.numbers(used[prognostic[0]], rows, prognostic[0], source) if len(prognostic) == 1 else None,
        factors=tuple((name, names_of(values.iloc[rows]).to_numpy()) for name, values in formula.factors),
        notes=notes + dropped,
    )
    _refuse_copies(formula, built, used[list(dict.fromkeys(prognostic))].iloc[rows], data)
    return replace(data.take(by_patient), cluster_names=_first_met(used, cluster, rows[by_patient]))


def _completed(
    formula: columns.Covariates, used: pd.DataFrame, prognostic: Sequence[str], design: Design
) -> tuple[columns.Covariates, pd.DataFrame, tuple[str, ...]]:
    """Baseline variables and prognostic columns without holes, unless patients who lack one are to be left out; and a note."""
    if design.missing_covariates not in MISSING_COVARIATES:
        raise UsageError(
            f"`missing_covariates`: found {design.missing_covariates!r}, expected one of {', '.join(MISSING_COVARIATES)}"
        )
    rows = np.flatnonzero(used.drop(columns=list(dict.fromkeys(prognostic))).notna().all(axis=1).to_numpy())
    if design.missing_covariates == "drop" or not len(rows):
        return formula, used, ()
    filled = formula.filled(rows, None if design.cluster is None else used[design.cluster])
    expected = {name: used[name].fillna(columns.typical_value(columns.as_numbers(used[name]).iloc[rows])) for name in prognostic}
    before = pd.concat([formula.table, used[list(dict.fromkeys(prognostic))]], axis=1).iloc[rows].isna().sum()
    missing = ", ".join(f"{name} ({count})" for name, count in before[before > 0].items())
    return filled, used.assign(**expected), (MEAN_STANDS_IN.format(missing, len(rows)),) if missing else ()


def _separate_roles(roles: Mapping[str, str | None], prognostic: Sequence[str]) -> None:
    """Refuse one column in two roles, such as the outcome as exposure or as a prognostic column."""
    taken: dict[str, str] = {}
    for role, name in [*roles.items(), *(("prognostic", name) for name in dict.fromkeys(prognostic))]:
        if name is not None and taken.get(name, role) != role and {role, taken[name]} != {"strata", "cluster"}:
            raise UsageError(f"`{role}`: {name!r} is also the {taken[name]}; name another column")
        if name is not None:
            taken.setdefault(name, role)


def _refuse_copies(formula: columns.Covariates, built: pd.DataFrame, prognostic: pd.DataFrame, data: TrialData) -> None:
    """Refuse covariates, their design columns and prognostic columns that are copies of the arm or of the outcome."""
    given = formula.table.iloc[data.rows].reset_index(drop=True)
    baseline = pd.concat([given, built.drop(columns=given.columns, errors="ignore")], axis=1)
    refuse_copies(baseline, data.arm, data.outcome, cluster=data.cluster)
    refuse_copies(prognostic, data.arm, data.outcome, cluster=data.cluster, argument="prognostic")


def _arms(values: pd.Series, reference: str, name: str, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integer codes and arm names, the reference first, the others as first met."""
    refuse_lookalikes(values.unique(), "arms", source)
    labels = [name_of(value) for value in values.unique()]
    arms = list(dict.fromkeys(labels))
    if str(reference) not in arms:
        mend = near_or_all(reference, arms, "its arms are", always=True)
        raise InputError(f"{source}: column {name!r} has no arm {reference!r}; {mend}")
    if len(arms) < 2:
        raise RefusalError(f"{source}: column {name!r} holds one arm only ({arms[0]}); an effect needs two")
    order = arm_order(arms, str(reference))
    position = np.array([order.index(label) for label in labels])
    codes = position[pd.factorize(values)[0]]
    sizes = np.bincount(codes, minlength=len(order))
    if sizes.min() < 2:
        lonely = order[int(sizes.argmin())]
        raise RefusalError(
            f"{source}: arm {lonely!r} has one patient with complete data; at least two are needed, or leave it out"
        )
    return codes, order


def _trial_columns(trials: pd.Series) -> tuple[Array, tuple[str, ...]]:
    """Indicators of every trial but the first in alphabetical order."""
    names = sorted(trials.unique())[1:]
    return np.column_stack([(trials == name).to_numpy(dtype=float) for name in names]), tuple(f"trial {name}" for name in names)


def _identified(table: pd.DataFrame, *used: pd.DataFrame) -> pd.DataFrame:
    """The columns that an analysis uses, and who the patients are."""
    return pd.concat([*([table[["participant_id"]]] if "participant_id" in table else []), *used], axis=1)


def _codes(values: pd.Series, by_patient: np.ndarray) -> np.ndarray:
    """Numbers of strata or clusters, in the order of the patients that ``by_patient`` puts first."""
    codes = np.empty(len(values), dtype=int)
    codes[by_patient] = pd.factorize(values.iloc[by_patient])[0]
    return codes


def _first_met(used: pd.DataFrame, cluster: str | None, rows: np.ndarray) -> tuple[str, ...]:
    """Names of clusters in the order of their numbers, that of the patients."""
    return () if cluster is None else tuple(name_of(value) for value in used[cluster].iloc[rows].unique())


def _left_out(used: pd.DataFrame, complete: np.ndarray) -> tuple[str, ...]:
    """Say how many rows are left out, for which columns and which rows."""
    if complete.all():
        return ()
    rows = np.flatnonzero(~complete)
    used = used.loc[:, ~used.columns.duplicated()]
    missing = {name: int(used[name].isna().sum()) for name in used.columns}
    shown = ", ".join(str(row + 1) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
    return (f"{left_out_words(len(rows), len(complete), missing, 'rows')}: row {shown}",)


def _missing_by_arm(values: pd.Series, arms: pd.Series, name: str) -> tuple[str, ...]:
    """Warn where more than one outcome in twenty is missing in an arm: complete cases then carry an assumption."""
    known = arms.notna()
    shares = values[known].isna().groupby(names_of(arms[known])).mean()
    if not (shares > _MANY_MISSING).any():
        return ()
    each = ", ".join(f"{percentage(share)} of {arm}" for arm, share in shares.items())
    return (
        f"{name} is missing in {each}: complete cases are unbiased only if that tells nothing of the outcome; "
        "compare causalms.effects.effects_with_missing_outcomes",
    )


def _prognostic(
    used: pd.DataFrame, rows: np.ndarray, names: Sequence[str], as_log: bool, source: str
) -> tuple[Array, tuple[str, ...]]:
    """Expected outcomes as covariates, logarithms for a log link."""
    matrix = np.empty((len(rows), len(names)))
    for index, name in enumerate(names):
        matrix[:, index] = columns.numbers(used[name], rows, name, source)
        if as_log and (matrix[:, index] <= 0).any():
            at = int(np.flatnonzero(matrix[:, index] <= 0)[0])
            raise InputError(
                f"{source}: column {name!r}, row {rows[at] + 1}: found {name_of(matrix[at, index])}, expected a count "
                "above 0; mend it"
            )
    return (np.log(matrix), tuple(f"log({name})" for name in names)) if as_log else (matrix, tuple(names))
