"""Each patient's forecast under the arm he or she was randomised to, beside what was observed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.effects import counts_against_draws, own_counts_words
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw, TalliedLaw
from causalms.tables import (
    LARGEST_COUNT,
    TALLY,
    as_frame,
    columns_given,
    completed_draws,
    grouping,
    name_of,
    net2_column,
    one_week,
    participant_key,
    refuse_arm_and_outcome_by_name,
    tally_of,
)


@dataclass(frozen=True)
class Pairs:
    """Forecasts and observations, one row a patient.

    Attributes
    ----------
    frame : DataFrame
        ``participant_id``, ``trial``, ``arm`` (as randomised), ``observed`` and every other column of the participants.
    law : CountLaw
        Predictive law of the count, in the same order.
    activity : array (n,)
        Predicted probability of at least one lesion.
    week : float
    left_out : int
        Patients with a forecast whose count at this week is missing.
    outcome : str
        What is counted.
    notes : tuple of str
        What the observed counts say of the model with its stated error (:func:`causalms.effects.counts_against_draws`).
    """

    frame: pd.DataFrame
    law: CountLaw
    activity: Array
    week: float
    left_out: int = 0
    outcome: str = "net2_lesions"
    notes: tuple[str, ...] = ()

    @property
    def observed(self) -> NDArray[np.int64]:
        """Observed counts."""
        return self.frame["observed"].to_numpy(np.int64)

    @property
    def n(self) -> int:
        """Number of patients."""
        return len(self.frame)

    def take(self, rows: NDArray[np.intp]) -> Pairs:
        """Some of the patients."""
        return replace(
            self, frame=self.frame.iloc[rows].reset_index(drop=True), law=self.law.take(rows), activity=self.activity[rows]
        )

    def groups(self, by: str | None = None) -> list[tuple[str, Pairs]]:
        """Split by a column, a condition such as ``"age >= 40"`` or ``"quantiles(age, 3)"``; see :mod:`causalms.tables`."""
        if by is None:
            return [("all", self)]
        # The column of outcomes is no property of a patient at baseline, and not one of the table that the user knows.
        division = grouping(self.frame.drop(columns="observed"), by)
        refuse_arm_and_outcome_by_name(division, None, net2_column(int(self.week), self.outcome))
        return [(group, self.take(division.rows(group))) for group in division.groups]


@dataclass(frozen=True)
class Sources:
    """What messages call the two tables: the names of their files, where they come from files."""

    draws: str = "draws"
    observed: str = "observed table"


UNNAMED = Sources()


@named_arguments
def pair(
    draws: pd.DataFrame,
    participants: pd.DataFrame,
    week: float | None = None,
    outcome: str = "net2_lesions",
    sources: Sources = UNNAMED,
) -> Pairs:
    """Join forecasts to observed counts: same patient, arm as randomised, one visit week.

    Parameters
    ----------
    draws : DataFrame
        Draws table, sampled or expected (schemas ``draws`` and ``expected``; an expected table may hold ``zero_inflation``, the
        probability of a zero beside the negative binomial's).  Only interventional rows are used: a
        counterfactual has seen the outcome that it would be judged by.
    participants : DataFrame
        With ``participant_id``, ``arm`` and the wide outcome columns (``net2_lesions_week48``).
    week : float, optional
        Visit week; may be left out when the draws have one only.
    outcome : str
        ``net2_lesions`` or, for sampled draws, a count by region such as ``net2_lesions_periventricular``.
    sources : Sources, optional
        What to call the tables in an error message.

    Returns
    -------
    Pairs

    Raises
    ------
    InputError
        If a column is missing, or an observed count is negative or fractional.
    RefusalError
        If no patient has both a forecast for his or her own arm and an observed count.
    UsageError
        If there are several weeks, or several queries, and none is chosen, or the week chosen is not there.

    Examples
    --------
    >>> import pandas as pd
    >>> draws = pd.DataFrame({"participant_id": "a", "draw": [0, 1, 2], "net2_lesions": [0, 1, 2], "net2_volume_ml": 0.1})
    >>> draws = draws.assign(trial="T", arm="placebo", arm_randomised="placebo", visit_week=48)
    >>> draws = draws.assign(query="interventional", query_id="q")
    >>> seen = pd.DataFrame({"participant_id": ["a"], "trial": "T", "arm": "placebo", "net2_lesions_week48": [2]})
    >>> pairs = pair(draws, seen)
    >>> pairs.observed.tolist(), pairs.law.mean.tolist()
    ([2], [1.0])
    """
    draws, participants = as_frame(draws), as_frame(participants)
    name = sources.draws
    draws = completed_draws(draws, participants, week, name)
    outcome = "net2_lesions" if outcome == "count" and "count" in draws else outcome
    rows = _forecasts(draws, name)
    week = one_week(rows, week, name)
    rows = rows[rows["visit_week"] == week]
    seen = observed_counts(participants, week, outcome, sources.observed)
    if TALLY in rows and outcome == "net2_lesions":
        wide, law_of = _tallied(rows)
    elif "draw" in rows:
        wide, law_of = _sampled(rows, outcome, name)
    else:
        if outcome != "net2_lesions":
            raise UsageError(f"{name}: an expected table holds no law of {outcome!r}; give sampled draws for counts by region")
        wide, law_of = _expected(rows, name)
    keyed = wide.merge(seen, left_on="key", right_on="key", how="inner", suffixes=("_forecast", "")).sort_values("key")
    if keyed.empty:
        raise RefusalError(
            f"{name}: none of its patients is in {sources.observed}; give the participants that the draws were made for"
        )
    if (wrong := keyed["arm_randomised"] != keyed["arm"].astype(str)).any():
        first = keyed[wrong].iloc[0]
        raise InputError(
            f"{name}: participant {first['participant_id']} was randomised to {first['arm_randomised']!r} there and to "
            f"{first['arm']!r} in {sources.observed}; make both from the same trial"
        )
    present = keyed["observed"].notna()
    if not present.any():
        raise RefusalError(f"{sources.observed}: no observed {outcome} at week {name_of(week)}; choose a week that was observed")
    kept = keyed[present].reset_index(drop=True)
    kept["observed"] = kept["observed"].astype(np.int64)
    law, activity = law_of(kept["position"].to_numpy())
    frame = kept.drop(columns=["key", "position", "arm_randomised"]).copy()
    notes = own_counts_words(counts_against_draws(rows, participants, week, name)) if outcome == "net2_lesions" else []
    return Pairs(frame, law, activity, float(week), int((~present).sum()), outcome, tuple(notes))


def forecast_law(rows: pd.DataFrame, outcome: str = "net2_lesions", source: str = "draws") -> tuple[pd.DataFrame, CountLaw]:
    """Keys of the patients, and the law of their counts, of the rows of one arm and visit of a draws table."""
    wide, law_of = _sampled(rows, outcome, source) if "draw" in rows else _expected(rows, source)
    first = rows.drop_duplicates("participant_id")[[*_KEPT, "trial", "arm", "visit_week"]].reset_index(drop=True)
    return first, law_of(wide["position"].to_numpy())[0]


def observed_counts(
    participants: pd.DataFrame, week: float, outcome: str = "net2_lesions", source: str = "observed table"
) -> pd.DataFrame:
    """Participants with a column ``observed`` of counts at a week, checked, and a join ``key``."""
    column = net2_column(int(week), outcome)
    for name in ("participant_id", "arm", column):
        if name not in participants:
            raise InputError(f"{source}: no column {name!r}; add it (columns found: {', '.join(participants.columns[:20])})")
    values = pd.to_numeric(participants[column], errors="coerce")
    impossible = (values < 0) | (values > LARGEST_COUNT) | (values % 1 != 0)
    wrong = participants[column].notna() & (impossible | values.isna())
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value, expected = participants[column].iloc[row], f"expected a count 0, 1, 2, ..., at most {LARGEST_COUNT:,.0f}"
        raise InputError(f"{source}: column {column!r}, row {row + 1}: found {value}, {expected}; correct it")
    keyed = participants.assign(observed=values, key=participant_key(participants["participant_id"]))
    if (twice := keyed["key"].duplicated()).any():
        repeated = participants["participant_id"][twice].iloc[0]
        raise InputError(f"{source}: participant {repeated!r} has two rows, expected one a patient; remove one")
    return keyed


def _forecasts(draws: pd.DataFrame, source: str) -> pd.DataFrame:
    rows = draws[draws["query"] == "interventional"]
    if rows.empty:
        raise RefusalError(
            f"{source}: no interventional rows; calibration is judged on forecasts that have not seen the outcome "
            "(a query with `do`, without `given_factual`)"
        )
    rows = rows[rows["arm"] == rows["arm_randomised"]]
    if rows.empty:
        raise RefusalError(f"{source}: no patient under the arm as randomised; query the randomised arms too")
    queries = sorted(rows.groupby(["participant_id", "visit_week"])["query_id"].nunique().loc[lambda number: number > 1].index)
    if queries:
        raise UsageError(f"{source}: participant {queries[0][0]} has forecasts of several queries; give the draws of one query")
    return rows


_KEPT = ["participant_id", "arm_randomised"]
#: The law and the activity of patients at given positions.
_LawOf = Callable[[NDArray[np.intp]], tuple[CountLaw, Array]]


def _sampled(rows: pd.DataFrame, outcome: str, source: str) -> tuple[pd.DataFrame, _LawOf]:
    if outcome not in rows:
        counts = ", ".join(column for column in columns_given(rows) if column == "count" or column.startswith("net2_lesions"))
        raise InputError(f"{source}: no column {outcome!r}; counts found: {counts or 'none'}")
    first = rows.drop_duplicates("participant_id")[[*_KEPT, "trial"]].reset_index(drop=True)
    many = rows.groupby("participant_id").size()
    if many.nunique() > 1:
        raise InputError(
            f"{source}: participant {many.idxmin()} has {many.min()} draws and {many.idxmax()} has {many.max()}; "
            "give every patient the same number"
        )
    order = rows.sort_values("participant_id", kind="stable")
    values = order[outcome].to_numpy().reshape(len(many), -1)
    place = {participant: index for index, participant in enumerate(sorted(many.index))}
    first["position"] = first["participant_id"].map(place)

    def law_of(position: NDArray[np.intp]) -> tuple[CountLaw, Array]:
        law = DrawsLaw(values[position])
        return law, law.activity

    first["key"] = participant_key(first["participant_id"])
    return first[["key", "arm_randomised", "position"]], law_of


def _tallied(rows: pd.DataFrame) -> tuple[pd.DataFrame, _LawOf]:
    first = rows.reset_index(drop=True)
    first = first.assign(position=np.arange(len(first)), key=participant_key(first["participant_id"]))

    def law_of(position: NDArray[np.intp]) -> tuple[CountLaw, Array]:
        law = TalliedLaw(*tally_of(first[TALLY].iloc[position]))
        return law, law.activity

    return first[["key", "arm_randomised", "position"]], law_of


def _expected(rows: pd.DataFrame, source: str) -> tuple[pd.DataFrame, _LawOf]:
    first = rows.reset_index(drop=True)
    if (twice := first["participant_id"].duplicated()).any():
        raise InputError(
            f"{source}: participant {first['participant_id'][twice].iloc[0]} has two expected rows, expected one; remove one"
        )
    first = first.assign(position=np.arange(len(first)), key=participant_key(first["participant_id"]))

    def law_of(position: NDArray[np.intp]) -> tuple[CountLaw, Array]:
        chosen = first.iloc[position]
        alpha = chosen["dispersion"].to_numpy(float)
        size = np.where(alpha > 0, 1 / np.where(alpha > 0, alpha, 1.0), np.inf)
        zero = chosen["zero_inflation"].to_numpy(float) if "zero_inflation" in chosen else np.zeros(len(chosen))
        law = NegativeBinomialLaw(chosen["expected_net2_lesions"].to_numpy(float), size, zero)
        return law, chosen["activity_probability"].to_numpy(float)

    return first[["key", "arm_randomised", "position"]], law_of
