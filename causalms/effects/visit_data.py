"""A long table, one row a patient and visit, as the arrays of an analysis: intervals at risk, counts, order of visits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.data import Adjustment, Design, TrialData, trial_data
from causalms.effects.visit_weights import PATIENT, Compared, VisitWeights
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import Array, Intervals, mean_cumulative, normal_quantile
from causalms.tables import name_of, names_of

_IDENTIFIERS = ("participant_id", "USUBJID", "usubjid")


@dataclass(frozen=True, kw_only=True)
class Visits:
    """Columns of a long table, one row a patient and visit.

    Attributes
    ----------
    visit : str
        When the row's count was taken: a number (weeks since randomisation), or a name.
        The count is that since the patient's row before.
    patient : str
    start : str, optional
        When the row's time at risk began; without it the patient's row before, and 0 for the first.

    Examples
    --------
    >>> Visits(visit="week").patient
    'participant_id'
    """

    visit: str = "visit_week"
    patient: str = "participant_id"
    start: str | None = None


@dataclass(frozen=True)
class VisitData:
    """Counts of visits, one row a patient and visit that has one.

    Attributes
    ----------
    rows : TrialData
        Outcome, arm, exposure and covariates of every row; its clusters are the patients.
    visit : integer array (n,)
        Number of the visit in the order of all visits.
    names : tuple of str
        The visits in their order.
    start, stop : array (n,), optional
        Ends of the time at risk; None where visits are names.
    weights : VisitWeights, optional
        Of patients who may drop out.
    """

    rows: TrialData
    visit: np.ndarray
    names: tuple[str, ...]
    start: Array | None
    stop: Array | None
    weights: VisitWeights | None = None

    @property
    def patient(self) -> np.ndarray:
        """Number of every row's patient."""
        assert self.rows.cluster is not None
        return self.rows.cluster

    @property
    def patients_of_arm(self) -> np.ndarray:
        """Number of patients an arm, shape (K,)."""
        first = np.unique(self.patient, return_index=True)[1]
        return np.bincount(self.rows.arm[first], minlength=len(self.rows.arms))

    def intervals(self, among: np.ndarray | None = None) -> Intervals:
        """The intervals at risk, of chosen rows or of all; strata are those of the design."""
        if self.start is None or self.stop is None:
            raise UsageError("`visit` holds names; times at risk need numbers, such as weeks since randomisation")
        among = np.ones(len(self.visit), dtype=bool) if among is None else among
        strata = np.zeros(len(self.visit), dtype=int) if self.rows.strata is None else self.rows.strata
        return Intervals(self.start[among], self.stop[among], self.rows.outcome[among], self.patient[among], strata[among])


def long_table(table: pd.DataFrame, visits: Visits, source: str) -> pd.DataFrame:
    """The table with its times at risk, sorted by patient and visit; doubled rows and intervals that overlap are refused.

    Adds hidden columns of the interval where visits are numbers, of the number of the visit in order, and of the patient.
    """
    patient = columns.column(table, visits.patient, source)
    visit = columns.column(table, visits.visit, source)
    for values, name in ((patient, visits.patient), (visit, visits.visit)):
        if values.isna().any():
            row = int(np.flatnonzero(values.isna())[0]) + 1
            raise InputError(
                f"{source}: column {name!r}, row {row}: is empty; name the {'visit' if name == visits.visit else 'patient'}"
            )
    again = pd.DataFrame({"p": names_of(patient), "v": names_of(visit)}).duplicated()
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise InputError(
            f"{source}: row {row + 1}: patient {name_of(patient.iloc[row])!r} has two rows of visit {name_of(visit.iloc[row])}; "
            "give one row a patient and visit"
        )
    known = table.assign(**{PATIENT: names_of(patient)})
    if not pd.api.types.is_numeric_dtype(visit):
        if visits.start is not None:
            raise UsageError("`start` needs visits that are numbers, such as weeks since randomisation")
        return known.assign(**{"\x00visit": pd.factorize(names_of(visit))[0]})
    stop = columns.numbers(visit, np.arange(len(table)), visits.visit, source)
    known = known.assign(**{"\x00stop": stop, "\x00visit": pd.factorize(stop, sort=True)[0]})
    before = known.sort_values("\x00stop", kind="stable").groupby(PATIENT)["\x00stop"].shift().reindex(known.index)
    if visits.start is None:
        start = before.fillna(0.0)
    else:
        given = columns.column(table, visits.start, source)
        start = pd.Series(columns.numbers(given, np.arange(len(table)), visits.start, source), index=known.index)
    wrong = (start >= known["\x00stop"]) | (start < before.fillna(-np.inf))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{source}: row {row + 1}: the time from {name_of(start.iloc[row])} to {name_of(stop[row])} is empty or overlaps the "
            f"patient's row before; visits count from 0, the day of randomisation"
        )
    return known.assign(**{"\x00start": start})


def visit_data(table: pd.DataFrame, visits: Visits, compared: Compared, adjustment: Adjustment, design: Design) -> VisitData:
    """Checked arrays of a long table made by :func:`long_table`; rows with a missing value are left out, counted and named."""
    source = design.source
    _constant_within_patients(table, [compared.arm, *([design.strata] if design.strata else [])], source)
    if adjustment.formula:
        covariates = columns.Covariates.of(table, adjustment.formula, source)
        _constant_within_patients(table, list(covariates.table.columns), source)
    exposure, has_times = compared.exposure, "\x00start" in table
    if exposure is None and has_times:
        table = table.assign(**{_exposure_name(visits): table["\x00stop"] - table["\x00start"]})
        exposure = _exposure_name(visits)
    kept = table.drop(columns=[name for name in _IDENTIFIERS if name in table])
    of_rows = replace(design, cluster=PATIENT)
    rows = trial_data(kept, **vars(replace(compared, exposure=exposure)), adjustment=adjustment, design=of_rows)
    used = table.iloc[rows.rows]
    labels = table.drop_duplicates("\x00visit").set_index("\x00visit")[visits.visit].sort_index()
    notes = tuple(note for note in rows.notes if "days? rates" not in note)
    rows = replace(rows, notes=notes + _missing_visits(table, compared.outcome, compared.arm))
    return VisitData(
        rows,
        used["\x00visit"].to_numpy(),
        tuple(map(name_of, labels)),
        used["\x00start"].to_numpy() if has_times else None,
        used["\x00stop"].to_numpy() if has_times else None,
    )


def _exposure_name(visits: Visits) -> str:
    return f"time between rows of {visits.visit}"


def _constant_within_patients(table: pd.DataFrame, names: list[str], source: str) -> None:
    for name in names:
        values = columns.column(table, name, source).astype(object).where(table[name].notna(), "\x00")
        differs = pd.DataFrame({"p": table[PATIENT], "v": values}).drop_duplicates()["p"].duplicated()
        if differs.any():
            row = int(differs.index[differs][0])
            raise InputError(
                f"{source}: column {name!r} changes within patient {table[PATIENT].loc[row]!r}; arm, strata and covariates are "
                "baseline values, the same in every row of a patient"
            )


def _missing_visits(table: pd.DataFrame, outcome: str, arm: str) -> tuple[str, ...]:
    """A note on patients without a row, or with an empty one, at the last visit, by arm."""
    last = table[table["\x00visit"] == table["\x00visit"].max()]
    seen = set(last.loc[last[outcome].notna(), PATIENT])
    people = table.drop_duplicates(PATIENT)
    absent = ~people[PATIENT].isin(seen)
    if not absent.any() or absent.mean() > 0.9:  # ends of follow-up that differ by design have no last visit in common
        return ()
    each = ", ".join(
        f"{int(part.sum())} of {len(part)} {name}" for name, part in absent.groupby(names_of(people[arm]), sort=False)
    )
    return (f"no count at the last visit: {each}",)


def refuse_one_patient(data: VisitData) -> None:
    """An arm with one patient has no variance between patients."""
    for arm, size in zip(data.rows.arms, data.patients_of_arm, strict=True):
        if size < 2:
            raise RefusalError(f"arm {arm!r} has one patient with a count; at least two are needed")


def visit_rates(data: VisitData, level: float) -> pd.DataFrame:
    """Rates of every visit and arm; the interval is from patients' residuals, on the logarithm."""
    made, quantile = [], normal_quantile((1 + level) / 2)
    for number in np.unique(data.visit):
        for index, arm in enumerate(data.rows.arms):
            own = (data.visit == number) & (data.rows.arm == index)
            events, time = data.rows.outcome[own].sum(), data.rows.exposure[own].sum()
            rate = events / time if time > 0 else np.nan
            se = np.sqrt(((data.rows.outcome[own] - data.rows.exposure[own] * rate) ** 2).sum()) / time if time > 0 else np.nan
            wide = np.exp(quantile * se / rate) if rate > 0 and own.sum() > 1 else np.nan
            made.append((data.names[number], arm, int(own.sum()), events, time, rate, rate / wide, rate * wide))
    return pd.DataFrame(made, columns=["visit", "arm", "patients", "events", "exposure", "rate", "lower", "upper"])


def mean_curves(data: VisitData, level: float) -> pd.DataFrame:
    """Mean cumulative functions of the arms with robust standard errors and pointwise intervals, on the logarithm."""
    made, quantile = [], normal_quantile((1 + level) / 2)
    if data.start is not None:
        for index, arm in enumerate(data.rows.arms):
            times, mean, se = mean_cumulative(data.intervals(data.rows.arm == index))
            wide = np.exp(quantile * se / mean)
            made.append(
                pd.DataFrame({"arm": arm, "time": times, "mean": mean, "se": se, "lower": mean / wide, "upper": mean * wide})
            )
    return pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=["arm", "time", "mean", "se", "lower", "upper"])
