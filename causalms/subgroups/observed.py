"""Treatment effects in prespecified subgroups: observed in a trial, or simulated in a draws table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import COEFFICIENTS, Analysis, analyse, analyse_draws, grouped_arguments
from causalms.errors import CausalmsError, ConvergenceError, InputError, RefusalError, named_arguments
from causalms.subgroups.table import Forest, assemble, baseline_divisions
from causalms.tables import as_frame, names_of, net2_column, one_week, participant_key, significant

#: Standard errors of small subgroups: leave-one-out influence function with t.
VARIANCE = "leave-one-out-t"


@dataclass(frozen=True)
class SubgroupAnalysis:
    """How each subgroup is analysed: arguments of :func:`causalms.effects.analyse` of the same names.

    Attributes
    ----------
    exposure, adjust, strata, cluster : str, optional
    interaction : bool
    prognostic : sequence of str
    estimator : str
    working_model : str, optional
    variance : str, optional
        Default: ``leave-one-out-t``, and ``model-sas`` for conditional coefficients.
    rate : str
    randomization : str, optional
    missing_covariates : str
    """

    exposure: str | None = None
    adjust: str | None = None
    interaction: bool = False
    prognostic: Sequence[str] = ()
    strata: str | None = None
    cluster: str | None = None
    estimator: str = "standardized"
    working_model: str | None = None
    variance: str | None = None
    rate: str = "unit"
    randomization: str | None = None
    missing_covariates: str = "indicator"


@named_arguments
def forest(
    people: Any,
    by: Sequence[str],
    *,
    outcome: str,
    reference: str,
    arm: str = "arm",
    measure: str = "rate-ratio",
    method: SubgroupAnalysis | None = None,
    level: float = 0.95,
    source: str = "table",
) -> Forest:
    """Estimate the effect of every arm in every prespecified subgroup.

    Each subgroup is analysed by itself, as a small trial of its own, so subgroups are independent and their
    effects may be compared by their standard errors alone.  In a table of several trials an arm is compared with the
    reference among the patients of the trials that randomised both.

    Parameters
    ----------
    people : DataFrame, or path
        One row a patient; pandas, polars or arrow, or a file that holds one.
    by : sequence of str
        Prespecified factors: columns, conditions (``"age >= 40"``) or quantiles (``"quantiles(age, 3)"``).
    outcome, reference, arm : str
        Column of the outcome, the arm to compare with, and the column of the arm.
    measure : str
        One of :data:`causalms.effects.estimands.MEASURES`.
    method : SubgroupAnalysis, optional
        Exposure, adjustment, estimator and variance.
    level : float
    source : str
        Name of the table in messages.

    Returns
    -------
    Forest

    Raises
    ------
    UsageError
        If a factor is no column, condition or quantile, or names the arm or the outcome.
    InputError
        If a factor is a recoded arm or outcome.
    RefusalError
        If the effect cannot be estimated in the whole population.  A subgroup that cannot be estimated is a row without an
        estimate whose ``note`` says why.

    References
    ----------
    Kent et al. (2020), Ann Intern Med 172:35 (PATH statement).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"arm": ["a", "b"] * 60, "age": rng.uniform(20, 60, 120), "lesions": rng.poisson(2, 120)})
    >>> by_age = forest(people, ["age >= 40"], outcome="lesions", reference="a")
    >>> by_age.table[["subgroup", "n", "estimate"]].round(2).values.tolist()
    [['all', 60.0, 0.79], ['age >= 40', 26.0, 0.6], ['age < 40', 34.0, 0.87]]
    """
    people = as_frame(people)
    chosen = asdict(method or SubgroupAnalysis())
    if chosen["variance"] is None and chosen["cluster"] is None and chosen["estimator"] not in COEFFICIENTS:
        chosen["variance"] = VARIANCE
    chosen |= {"outcome": outcome, "reference": reference, "arm": arm, "measure": measure, "level": level, "source": source}

    def effects_of(part: pd.DataFrame) -> pd.DataFrame:
        if len(part) < len(people) and arm in part and reference not in set(names_of(part[arm])):
            raise RefusalError(f"no patient of {reference} in this group")
        try:
            return _rows(analyse(part, **grouped_arguments(chosen)))
        except (RefusalError, ConvergenceError):
            if "trial" not in part or part["trial"].nunique() < 2 or arm not in part:
                raise
            return _arm_by_arm(part, arm, reference, chosen)

    divisions = baseline_divisions(people, by, arm=arm, outcome=outcome, source=source)
    return assemble(people, divisions, effects_of, source="observed", level=level)


def _rows(analysis: Analysis) -> pd.DataFrame:
    """Forest columns of an analysis: every contrast has the degrees of freedom and the events of its own patients."""
    tables = []
    for part in analysis.parts:
        events = np.bincount(part.data.arm, weights=part.data.outcome, minlength=len(part.data.arms))
        _refuse_ratios_of_zero(part)
        degrees = np.atleast_1d(np.asarray(part.covariance.degrees_of_freedom, dtype=float))
        of_contrasts = degrees[list(part.reported)] if len(degrees) > 1 else degrees[0]  # one a coefficient under CR2
        rows = part.results.assign(df=of_contrasts, note="")
        rows["events"] = events[list(part.reported)]
        rows["events_reference"] = events[0]
        tables.append(rows)
    together = pd.concat(tables, ignore_index=True)
    together.attrs["notes"] = tuple(dict.fromkeys(note for part in analysis.parts for note in part.data.notes))
    return together


def _refuse_ratios_of_zero(part: Analysis) -> None:
    """A ratio of 0 (an arm without events) has no standard error to compare subgroups by."""
    for index in part.reported:
        contrast = part.contrasts[index - 1]
        if np.isnan(contrast.se):
            raise RefusalError(
                f"arm {part.data.arms[index]!r} has no event: ratio 0, upper bound "
                f"{significant(contrast.upper, 3)} (profile likelihood)"
            )


def _arm_by_arm(part: pd.DataFrame, arm: str, reference: str, chosen: dict[str, Any]) -> pd.DataFrame:
    """A group of several trials in which one contrast cannot be estimated: the others, and the reasons of those left out."""
    names = names_of(part[arm])
    tables: list[pd.DataFrame] = []
    refusals: dict[str, CausalmsError] = {}
    for other in sorted(set(names.dropna()) - {reference}):
        try:
            both = part[names.isin([other, reference]).to_numpy()].reset_index(drop=True)
            tables.append(_rows(analyse(both, **grouped_arguments(chosen))))
        except (RefusalError, ConvergenceError) as refusal:
            refusals[other] = refusal
    if not tables:
        raise next(iter(refusals.values()))
    together = pd.concat(tables, ignore_index=True)
    together.attrs["refusals"] = {other: str(refusal) for other, refusal in refusals.items()}
    return together


@named_arguments
def simulated_forest(
    draws: Any,
    people: Any,
    by: Sequence[str],
    *,
    reference: str,
    measure: str = "rate-ratio",
    outcome: str | None = None,
    week: float | None = None,
    level: float = 0.95,
    source: str = "participants",
) -> Forest:
    """Simulated effect of every arm in every prespecified subgroup of the patients of a draws table.

    Every patient counts under every arm, so a subgroup's ``n`` is the same in both arms.  Intervals hold the model's own error,
    and the test of interaction its part that differs between subgroups; where it is unknown there is neither.

    Parameters
    ----------
    draws : DataFrame, or path
        Draws table, sampled or expected, interventional, of one visit week.
    people : DataFrame, or path
        Participants with the columns that ``by`` names.
    by : sequence of str
        As for :func:`causalms.subgroups.forest`.
    reference, measure, outcome, level
        As for :func:`causalms.effects.analyse_draws`.
    week : float, optional
        Needed where the draws hold several.
    source : str
        Name of the participants in messages.

    Returns
    -------
    Forest
        ``events`` are missing: nobody was observed.

    Raises
    ------
    UsageError
        If the draws hold several weeks and none is named, or not the one named; if a factor names the observed outcome.
    InputError
        If patients of the draws are not among the participants.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(p, arm, 1 + p % 3 + (arm == "a") * (1 + p % 2)) for p in range(8) for arm in "ab"]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"])
    >>> draws = draws.assign(trial="T", arm_randomised="a", visit_week=48.0, query="interventional", query_id="q")
    >>> people = pd.DataFrame({"participant_id": range(8), "sex": ["F"] * 4 + ["M"] * 4})
    >>> by_sex = simulated_forest(draws, people, ["sex"], reference="a")
    >>> by_sex.table[["subgroup", "n", "estimate"]].round(3).values.tolist()
    [['all', 8.0, 0.556], ['sex = F', 4.0, 0.538], ['sex = M', 4.0, 0.571]]
    """
    draws, people = as_frame(draws), as_frame(people)
    rows = draws[draws["query"] == "interventional"]
    if rows.empty:
        raise RefusalError("draws: no interventional rows; a subgroup effect is of rung 2 (query with `do`)")
    week = one_week(rows, week, "draws")
    rows = rows[rows["visit_week"] == week]
    keyed = rows.assign(key=participant_key(rows["participant_id"]))
    keys = participant_key(people["participant_id"])
    if lost := set(keyed["key"]) - set(keys):
        raise InputError(f"{source}: no participant {min(lost)}, of whom there are draws; give the trial that was queried")
    members = people[keys.isin(set(keyed["key"])).to_numpy()].reset_index(drop=True)

    def effects_of(part: pd.DataFrame) -> pd.DataFrame:
        chosen = keyed[keyed["key"].isin(set(participant_key(part["participant_id"])))].drop(columns="key")
        effects = analyse_draws(chosen, reference=reference, measure=measure, outcome=outcome, level=level)
        directions = pd.Series(effects.attrs["model_error_directions"], index=effects.index, dtype=object)
        return effects.assign(
            df=np.inf, note="", events=np.nan, events_reference=np.nan, randomised=False, model_error_direction=directions
        )

    column = net2_column(int(week), outcome or "net2_lesions")
    divisions = baseline_divisions(members, by, arm=None, outcome=column, source=source)
    return assemble(members, divisions, effects_of, source="simulated", level=level)
