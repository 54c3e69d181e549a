"""A draws table, sampled or expected, as complete arrays: patients x arms x generators x draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects.estimands import Measure, measure_named
from causalms.effects.tallied import Moments, moments_of_tallies
from causalms.errors import InputError, RefusalError, near_or_all
from causalms.stats import Array
from causalms.tables import (
    DRAWS_KEYS,
    MODEL_ERROR,
    TALLY,
    WEEKS_PER_YEAR,
    ModelError,
    arm_order,
    columns_given,
    completed_draws,
    distances_of_cells,
    first_model_errors,
    is_foreign,
    name_of,
    one_week,
    visit_words,
)

#: Words of an interval that leaves out the model's own error, and the source of an error that is left out.
GIVEN_MODEL = "given the model: its own error is left out"
RUNG = {"interventional": 2, "counterfactual": 3}
_EXPECTED = {
    ("rate", "net2_lesions"): "expected_net2_lesions",
    ("mean", "net2_lesions"): "expected_net2_lesions",
    ("mean", "net2_volume_ml"): "expected_net2_volume_ml",
    ("risk", "net2_lesions"): "activity_probability",
}


@dataclass(frozen=True)
class SimulatedOutcomes:
    """Simulated outcomes of one query at one visit, complete over patients x arms x generators x draws.

    Attributes
    ----------
    values : array (N, K, G, D)
        Outcomes on the scale that is averaged (lesions a year, activity 0/1, volume); D = 1 for an expected table.
    arms : tuple of str
        The reference first.
    patients : DataFrame
        participant_id, trial and arm_randomised of each patient, N rows.
    week : float
    query : {"interventional", "counterfactual"}
    sampled : bool
        False for expected outcomes, which have no Monte-Carlo error.
    model_error : array (N, K, E), optional
        Error of every patient's mean outcome along E independent standard normal directions; None where it is unknown.
    error_source : str
        What that error was learned on, in words.
    distances : DataFrame, optional
        How far every patient lies from those the model learned from (:func:`causalms.tables.patient_distances`), N rows.
    moments : Moments, optional
        Of draws that are not held: ``values`` are their means, G = D = 1.
    """

    values: Array
    arms: tuple[str, ...]
    patients: pd.DataFrame
    week: float
    query: str
    sampled: bool
    model_error: Array | None = None
    error_source: str = ""
    distances: pd.DataFrame | None = None
    moments: Moments | None = None

    @property
    def drawn(self) -> tuple[int, int]:
        """How many generators, and how many draws a patient and arm of each."""
        generators, draws = self.values.shape[2:]
        return (generators, draws) if self.moments is None else (1, self.moments.draws)

    @property
    def patient_means(self) -> Array:
        """Mean outcome of every patient under every arm, shape (N, K)."""
        return np.asarray(self.values.mean(axis=(2, 3)))

    def randomised_together(self, arm: int) -> str:
        """In which trials of the population this arm and the reference were randomised together, in words."""
        per_trial = self.patients.groupby("trial", observed=True)["arm_randomised"].agg(set)
        trials = [str(trial) for trial, arms in per_trial.items() if {self.arms[0], self.arms[arm]} <= arms]
        return f"randomised together in {', '.join(trials) if trials else 'no trial: transported'}"

    def where(self, chosen: np.ndarray) -> SimulatedOutcomes:
        """The same outcomes for chosen patients only."""
        patients = self.patients[chosen].reset_index(drop=True)
        error = None if self.model_error is None else self.model_error[chosen]
        distances = None if self.distances is None else self.distances[chosen]
        moments = self.moments
        if moments is not None:
            moments = Moments(moments.draws, moments.variance[chosen], moments.covariance[chosen])
        return replace(
            self, values=self.values[chosen], patients=patients, model_error=error, distances=distances, moments=moments
        )


def default_outcome(measure: Measure, draws: pd.DataFrame) -> str:
    """Volume for means, lesion counts for rates and risks, and for draws of another simulator their ``count``."""
    if measure.kind != "mean":
        return "net2_lesions"
    return "count" if "count" in draws and "net2_volume_ml" not in draws else "net2_volume_ml"


def is_draws_table(table: pd.DataFrame) -> bool:
    """True for a draws table, sampled or expected, also of another simulator."""
    own = "query" in table and "arm_randomised" in table and ("draw" in table or "expected_net2_lesions" in table)
    return own or TALLY in table or is_foreign(table)


def simulated_outcomes(
    draws: pd.DataFrame,
    *,
    reference: str,
    measure: str = "rate-ratio",
    outcome: str | None = None,
    week: float | None = None,
    source: str = "draws",
) -> Iterator[SimulatedOutcomes]:
    """Read a draws table into complete arrays, one for each query and visit week.

    Parameters
    ----------
    draws : DataFrame
        Sampled or expected, in the schema of :mod:`causalms.tables`; an optional column ``generator`` names the
        member of an ensemble.
    reference : str
    measure : str
    outcome : str, optional
        Default: net2_lesions for rates and risks, net2_volume_ml for means.
    week : float, optional
        One visit; default all.
    source : str

    Raises
    ------
    InputError
        A column is missing, or a patient lacks an arm or a draw that others have.
    UsageError
        The draws do not hold the week; theirs are listed.
    """
    draws = completed_draws(draws, week=week, source=source)
    chosen = measure_named(measure)
    outcome = outcome or default_outcome(chosen, draws)
    for name in DRAWS_KEYS:
        if name not in draws:
            raise InputError(
                f"{source}: no column {name!r}; give a draws table (columns found: {', '.join(map(str, draws.columns[:12]))})"
            )
    sampled, tallied = "draw" in draws or TALLY in draws, TALLY in draws
    if tallied and outcome != "net2_lesions":
        raise InputError(f"{source}: holds tallies of lesion counts only, none of {outcome!r}; name `outcome=net2_lesions`")
    name = TALLY if tallied else outcome if sampled else _EXPECTED.get((chosen.kind, outcome), "")
    if name not in draws:
        raise InputError(f"{source}: no column for a {chosen.name} of {outcome!r}; columns are {', '.join(columns_given(draws))}")
    table = draws[draws["query"].astype(str).isin(list(RUNG))]
    if table.empty:
        raise RefusalError(f"{source}: no simulated outcome, only rows of query 'observed'")
    if week is not None:
        table = table[table["visit_week"] == one_week(table, week, source)]
    keys = table[["query", "visit_week"]].drop_duplicates()
    for query, at in sorted({(str(query), float(at)) for query, at in keys.itertuples(index=False)}):
        part = table[(table["query"].astype(str) == query) & (table["visit_week"] == at)]
        if tallied:
            complete = _of_tallies(part, chosen, str(reference), query, at, source)
        else:
            complete = _complete(part, name, chosen, str(reference), query, at, sampled, source)
        yield _with_model_error(complete, part, chosen, outcome, source)


def _arms_of(part: pd.DataFrame, reference: str, week: float, source: str) -> tuple[list[str], tuple[str, ...]]:
    """Arms as they were found, and with the reference first."""
    arms_found = list(arm_order(part["arm"].unique()))
    if reference not in arms_found:
        where = f"{source}: no draws under arm {reference!r} at {visit_words(week)}"
        raise InputError(f"{where}; {near_or_all(reference, arms_found, 'arms are', always=True)}")
    if len(arms_found) < 2:
        raise RefusalError(f"{source}: draws under one arm only ({reference}); query at least two arms")
    return arms_found, arm_order(arms_found, reference)


def _of_tallies(part: pd.DataFrame, measure: Measure, reference: str, query: str, week: float, source: str) -> SimulatedOutcomes:
    _, arms = _arms_of(part, reference, week, source)
    factor = float(_scaled(np.ones(1), measure, week, False, source)[0])
    people, means, moments = moments_of_tallies(part, arms, measure.kind == "risk", factor, source)
    return SimulatedOutcomes(means[:, :, None, None], arms, people, week, query, True, moments=moments)


def _complete(
    part: pd.DataFrame, name: str, measure: Measure, reference: str, query: str, week: float, sampled: bool, source: str
) -> SimulatedOutcomes:
    arms_found, arms = _arms_of(part, reference, week, source)
    values = pd.to_numeric(part[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(values).all() or (values < 0).any():
        row = int(np.flatnonzero(~np.isfinite(values) | (values < 0))[0])
        raise InputError(
            f"{source}: column {name!r}: found {part[name].iloc[row]!r}, expected a number of at least 0; correct it"
        )
    patient, patients = pd.factorize(pd.MultiIndex.from_frame(part[["trial", "participant_id"]].astype(str)))
    arm = np.array([arms.index(label) for label in arms_found])[
        pd.Categorical(part["arm"].astype(str), categories=arms_found).codes
    ]
    generator = pd.factorize(part["generator"])[0] if "generator" in part else np.zeros(len(part), dtype=int)
    draw = pd.factorize(part["draw"])[0] if sampled else np.zeros(len(part), dtype=int)
    shape = (len(patients), len(arms), int(generator.max()) + 1, int(draw.max()) + 1)
    if shape[0] < 2:
        raise RefusalError(f"{source}: simulated outcomes of one patient only; an average effect needs at least two")
    cell = np.ravel_multi_index((patient, arm, generator, draw), shape)
    filled = np.bincount(cell, minlength=int(np.prod(shape)))
    if (filled != 1).any():
        first_wrong = int(np.flatnonzero(filled != 1)[0])
        at = [int(index) for index in np.unravel_index(first_wrong, shape)]
        what = "no row" if filled[first_wrong] == 0 else "more than one row"
        raise InputError(
            f"{source}: {what} for patient {patients[at[0]][1]!r} under arm {arms[at[1]]!r}, draw {at[3]}, {visit_words(week)}; "
            "give every patient the same arms and draws once"
        )
    cube = np.empty(len(filled))
    cube[cell] = _scaled(values, measure, week, sampled, source)
    first = pd.DataFrame({"patient": patient, "arm_randomised": part["arm_randomised"].astype(str).to_numpy()}).drop_duplicates(
        "patient"
    )
    people = pd.DataFrame({"trial": patients.get_level_values(0), "participant_id": patients.get_level_values(1)})
    people["arm_randomised"] = first.sort_values("patient")["arm_randomised"].to_numpy()
    return SimulatedOutcomes(cube.reshape(shape), arms, people, week, query, sampled)


def _with_model_error(
    outcomes: SimulatedOutcomes, part: pd.DataFrame, measure: Measure, outcome: str, source: str
) -> SimulatedOutcomes:
    """The outcomes with their generator's own error, where the table holds it and it speaks of this outcome.

    To first order the mean count and the mean volume err in proportion to themselves, P(any) by its slope; the dispersion and
    the mean volume of a lesion add a direction of their own in every arm.
    """
    people = outcomes.patients[["trial", "participant_id"]].astype(str)
    place = pd.MultiIndex.from_frame(people).get_indexer(pd.MultiIndex.from_frame(part[["trial", "participant_id"]].astype(str)))
    arm = np.array([outcomes.arms.index(name) for name in part["arm"].astype(str)])
    shape = (len(people), len(outcomes.arms))
    errors = first_model_errors(part, place * shape[1] + arm, shape[0] * shape[1], source)
    if errors is None or outcome not in ("net2_lesions", "net2_volume_ml"):
        return outcomes
    distances = distances_of_cells(errors[:: shape[1]])
    log_mean = np.array([error.log_mean for error in errors]).reshape(*shape, -1)
    means = outcomes.patient_means
    if measure.kind == "risk" and outcome == "net2_lesions":
        slope, own = (
            np.reshape([getattr(error, name) for error in errors], shape) for name in ("activity_slope", "activity_size")
        )
    elif outcome == "net2_volume_ml" and measure.kind == "mean":
        slope, own = means, means * np.reshape([error.log_volume for error in errors], shape)
    elif outcome == "net2_lesions":
        slope, own = means, np.zeros(shape)
    else:
        return outcomes
    if not np.isfinite(own).all():
        return outcomes
    per_arm = own[:, :, None] * np.eye(shape[1])
    return replace(
        outcomes,
        model_error=np.concatenate([slope[:, :, None] * log_mean, per_arm], axis=2),
        error_source=errors[0].source,
        distances=distances,
    )


def _scaled(values: Array, measure: Measure, week: float, sampled: bool, source: str) -> Array:
    """Lesions a year for rates, activity for risks, the outcome itself for means."""
    if measure.kind == "rate":
        if week <= 0:
            raise InputError(f"{source}: visit_week {name_of(week)} gives no time at risk; rates need a week above 0")
        return values * (WEEKS_PER_YEAR / week if np.isfinite(week) else 1.0)  # of a visit that is not named: lesions until then
    return (values > 0).astype(float) if measure.kind == "risk" and sampled else values


def taking_the_model_for_true(draws: pd.DataFrame) -> pd.DataFrame:
    """The same draws as of a model without error: what is computed from them has the narrower interval "given the model".

    Members of an ensemble become draws of one model, or are averaged where they are expected outcomes.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse_draws
    >>> rows = [(p, arm, 2.0 + p + (arm == "b")) for p in range(4) for arm in "ab"]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"])
    >>> draws = draws.assign(trial="T", arm_randomised="a", visit_week=48.0, query="interventional", query_id="q")
    >>> analyse_draws(taking_the_model_for_true(draws), reference="a")[["lower", "upper", "p_value"]].round(2).values.tolist()
    [[1.19, 1.39, nan]]
    """
    table = draws.copy()
    if "generator" in table:
        member, table = pd.factorize(table["generator"])[0], table.drop(columns="generator")
        if "draw" in table:
            table["draw"] = table["draw"] * (member.max() + 1) + member
        else:
            keys = [name for name in (*DRAWS_KEYS, "arm", "query_id") if name in table]
            table = table.groupby(list(dict.fromkeys(keys)), sort=False, as_index=False).mean(numeric_only=True)
    nothing = ModelError("given", GIVEN_MODEL, np.zeros(1), 0.0, 0.0, 0.0, 0.0).text()
    return table.assign(**{MODEL_ERROR: nothing})


def patient_effects(draws: pd.DataFrame, *, arm: str, reference: str, week: float | None = None) -> pd.DataFrame:
    """Every patient's own simulated effect on the count, before any outcome is seen, with its errors apart.

    There is no error of patients: the effect is one patient's.  With other draws and another generator it would differ.

    Returns
    -------
    DataFrame
        One row a patient, query and week: ``difference`` (lesions under the reference less those under the arm) and
        ``log_rate_ratio``, each with ``_se_generator`` (missing where the model's own error is unknown) and ``_se_monte_carlo``;
        ``log_rate_ratio_shrunk``, the point estimate: drawn to the arm's mean by what errors explain of deviations from it.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(1, "a", 4.0), (1, "b", 1.0), (2, "a", 2.0), (2, "b", 1.0)]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"]).assign(
    ...     trial="t", arm_randomised="a", visit_week=48.0, query="interventional", query_id="q")
    >>> patient_effects(draws, arm="b", reference="a")[["difference", "log_rate_ratio", "difference_se_generator"]].round(2)
       difference  log_rate_ratio  difference_se_generator
    0         3.0           -1.39                      NaN
    1         1.0           -0.69                      NaN
    """
    parts = []
    rows = draws[draws["arm"].astype(str).isin([str(arm), str(reference)])]
    for outcomes in simulated_outcomes(rows, reference=reference, measure="mean-ratio", outcome="net2_lesions", week=week):
        if arm not in outcomes.arms:
            raise InputError(f"draws: no arm {arm!r}; {near_or_all(arm, outcomes.arms, 'arms are', always=True)}")
        means, error = outcomes.patient_means, outcomes.model_error
        members, each = outcomes.drawn
        drawn = np.full(means.shape, np.nan)
        if each > 1:
            held = outcomes.moments
            within = outcomes.values.var(axis=3, ddof=1).mean(axis=2) if held is None else held.variance
            drawn = within / (members * each)
        drawn = drawn if outcomes.sampled else np.zeros(means.shape)
        table = outcomes.patients.assign(query=outcomes.query, visit_week=outcomes.week)
        with np.errstate(divide="ignore", invalid="ignore"):  # a patient without a drawn lesion has no log ratio
            for name, value, slopes in (
                ("difference", means[:, 0] - means[:, 1], np.tile([1.0, -1.0], (len(means), 1))),
                ("log_rate_ratio", np.log(means[:, 1] / means[:, 0]), np.array([-1.0, 1.0]) / means),
            ):
                table[name] = value
                along = None if error is None else np.einsum("na,nae->ne", slopes, error)
                table[f"{name}_se_generator"] = np.nan if along is None else np.linalg.norm(along, axis=1)
                table[f"{name}_se_monte_carlo"] = np.sqrt((slopes**2 * drawn).sum(axis=1))
            own, drawn_se = (table[f"log_rate_ratio{end}"].to_numpy(float) for end in ("", "_se_monte_carlo"))
            table["log_rate_ratio_shrunk"] = np.nan if along is None else _shrunk(own, along, drawn_se)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _shrunk(own: Array, along: Array, monte_carlo: Array) -> Array:
    r"""Log ratios (n,) drawn to their mean by evidence.

    The deviation of patient i, of error :math:`s_i` along the model's directions (n, E) and Monte Carlo, is multiplied by
    :math:`\tau^2/(\tau^2 + s_i^2)`, :math:`\tau^2 = \max(0, \overline{\delta^2 - s^2})`.
    """
    known = np.isfinite(own)
    deviation, apart = own - own[known].mean(), along - along[known].mean(axis=0)
    variance = (apart**2).sum(axis=1) + np.nan_to_num(monte_carlo) ** 2
    between = max(0.0, float((deviation[known] ** 2 - variance[known]).mean()))
    return np.asarray(own - deviation * (variance / (between + variance + 1e-300)))


def patient_means(
    draws: pd.DataFrame, *, reference: str, measure: str = "rate-ratio", outcome: str | None = None, week: float | None = None
) -> pd.DataFrame:
    """Mean simulated outcome of every patient under every arm, one row a patient, query and week, one column an arm.

    Examples
    --------
    >>> import pandas as pd
    >>> keys = ["participant_id", "trial", "arm", "arm_randomised", "visit_week", "query", "query_id"]
    >>> counts = [(1, "a", 2), (1, "b", 1), (2, "a", 4), (2, "b", 0)]
    >>> rows = [(p, "t", arm, "a", 48, "interventional", "q", 0, y) for p, arm, y in counts]
    >>> draws = pd.DataFrame(rows, columns=[*keys, "draw", "net2_lesions"])
    >>> means = patient_means(draws, reference="a", measure="mean-difference", outcome="net2_lesions")
    >>> means[["a", "b"]].values.tolist()
    [[2.0, 1.0], [4.0, 0.0]]
    """
    parts = []
    for outcomes in simulated_outcomes(draws, reference=reference, measure=measure, outcome=outcome, week=week):
        means = pd.DataFrame(outcomes.patient_means, columns=list(outcomes.arms))
        parts.append(pd.concat([outcomes.patients.assign(query=outcomes.query, visit_week=outcomes.week), means], axis=1))
    return pd.concat(parts, ignore_index=True)
