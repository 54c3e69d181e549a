"""Treatment effects in prespecified subgroups: the rows of a forest plot and the tests of interaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.effects import Analysis, analyse
from causalms.errors import CausalmsError, ConvergenceError, InputError, RefusalError
from causalms.stats import adjusted_p_values
from causalms.subgroups.interaction import interaction_test
from causalms.tables import Grouping, ResultRow, contrast_population, grouping, results_table

#: Standard errors of small subgroups: leave-one-out influence function with t (see :mod:`causalms.effects.variance`).
VARIANCE = "leave-one-out-t"
#: Standard errors below this are rounding error (a constant simulated effect); no interaction test is made.
SMALLEST_STANDARD_ERROR = 1e-10


@dataclass(frozen=True)
class Forest:
    """Effects by subgroup.

    Attributes
    ----------
    table : DataFrame
        What a forest plot is drawn from, one row a subgroup and arm: the columns of the results table and ``source``,
        ``factor``, ``events``, ``events_reference``, ``df``, ``interaction_p``, ``interaction_p_holm`` (over the factors asked
        for) and ``note``.
    results : DataFrame
        The same in the schema of the results table, with one more row a factor and arm for its interaction.
    """

    table: pd.DataFrame
    results: pd.DataFrame


def forest(
    people: pd.DataFrame, by: Sequence[str], *, outcome: str, reference: str, level: float = 0.95, **options: Any
) -> Forest:
    """Estimate the effect of every arm in every prespecified subgroup.

    Each subgroup is analysed by itself, as a small trial of its own, so subgroups are independent and their
    effects may be compared by their standard errors alone.  In a table of several trials an arm is compared with the
    reference patients of the trials that randomised both.

    Parameters
    ----------
    people : DataFrame
        One row a patient.
    by : sequence of str
        Prespecified factors: columns, conditions (``"age >= 40"``) or quantiles (``"quantiles(age, 3)"``).
    outcome, reference : str
        Column of the outcome, and the arm to compare with.
    level : float
    **options
        As in :func:`causalms.effects.analyse`; the variance is leave-one-out with t unless another is named.

    Returns
    -------
    Forest

    Raises
    ------
    UsageError
        If a factor is no column, condition or quantile.
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
    >>> found = forest(people, ["age >= 40"], outcome="lesions", reference="a")
    >>> found.table[["subgroup", "n", "estimate"]].round(2).values.tolist()
    [['all', 60.0, 0.79], ['age >= 40', 26.0, 0.6], ['age < 40', 34.0, 0.87]]
    """
    variance = options.pop("variance", None) or (None if options.get("estimator") in ("negbin", "conditional") else VARIANCE)

    arm = options.get("arm", "arm")

    def effects_of(part: pd.DataFrame) -> pd.DataFrame:
        if len(part) < len(people) and arm in part and reference not in set(part[arm].dropna().astype(str)):
            raise RefusalError(f"no patient of {reference} in this group")
        rows, refusals = [], {}
        for other, chosen in _contrasts(part, arm, reference):
            try:
                rows.append(
                    _rows(analyse(chosen, outcome=outcome, reference=reference, level=level, variance=variance, **options))
                )
            except (RefusalError, ConvergenceError) as refusal:
                if other is None:
                    raise
                refusals[other] = refusal
        if not rows:
            raise next(iter(refusals.values()))
        together = pd.concat(rows, ignore_index=True)
        together.attrs["refusals"] = {other: str(refusal) for other, refusal in refusals.items()}
        return together

    return assemble(people, by, effects_of, source="observed", level=level)


def assemble(
    people: pd.DataFrame, by: Sequence[str], effects_of: Callable[[pd.DataFrame], pd.DataFrame], source: str, level: float
) -> Forest:
    """Apply an analysis to the whole population and to every group of every factor; shared by observed and simulated effects."""
    whole = effects_of(people).assign(factor="all", subgroup="all")
    parts, tests = [whole], []
    for name in by:
        division = grouping(people, name)
        if len(division.groups) < 2:
            raise RefusalError(f"`by` {name!r}: all patients are in one group ({', '.join(division.groups)}); nothing to compare")
        rows = pd.concat([_one(people, division, group, effects_of, whole) for group in division.groups], ignore_index=True)
        parts.append(rows)
        tests.append(_interactions(rows, name, level))
    table = pd.concat(parts, ignore_index=True)
    found = pd.concat(tests, ignore_index=True) if tests else pd.DataFrame(columns=["factor", "arm", "interaction_p"])
    found["interaction_p_holm"] = np.nan
    for _, rows in found.groupby("arm"):
        found.loc[rows.index, "interaction_p_holm"] = adjusted_p_values(rows["interaction_p"].to_numpy(), missing="keep")
    table = table.merge(found[["factor", "arm", "interaction_p", "interaction_p_holm"]], on=["factor", "arm"], how="left")
    table.insert(0, "source", source)
    return Forest(table, results_table(_results(table, found, source, level)))


def _rows(found: Analysis) -> pd.DataFrame:
    """Forest columns of an analysis of observed data."""
    events = np.bincount(found.data.arm, weights=found.data.outcome, minlength=len(found.data.arms))
    rows = found.results.assign(df=found.covariance.degrees_of_freedom, note="")
    rows["events"] = events[1:]
    rows["events_reference"] = events[0]
    return rows


def _contrasts(part: pd.DataFrame, arm: str, reference: str) -> list[tuple[str | None, pd.DataFrame]]:
    """The table as it is if it is of one trial; else, arm by arm, the patients of its contrast with the reference.

    Who is compared is decided by :func:`causalms.tables.contrast_population`.
    """
    if "trial" not in part or part["trial"].nunique() < 2 or arm not in part:
        return [(None, part)]
    names = part[arm].astype(object).where(part[arm].notna(), "").map(str)
    contrasts: list[tuple[str | None, pd.DataFrame]] = []
    for other in sorted(set(names) - {"", reference}):
        included = contrast_population(part, other, reference, arm_column=arm).included
        contrasts.append((other, part[included & names.isin([other, reference]).to_numpy()].reset_index(drop=True)))
    return contrasts


_EFFECT = ("estimate", "se", "lower", "upper", "p_value", "se_patient", "se_monte_carlo", "se_generator")


def _one(
    people: pd.DataFrame,
    division: Grouping,
    group: str,
    effects_of: Callable[[pd.DataFrame], pd.DataFrame],
    whole: pd.DataFrame,
) -> pd.DataFrame:
    part = people.iloc[division.rows(group)].reset_index(drop=True)
    try:
        rows = effects_of(part)
    except InputError:
        raise
    except CausalmsError as refusal:  # a group without events or without an arm has no effect, which the reader must see
        rows = whole.assign(n=np.nan, n_reference=np.nan, events=np.nan, events_reference=np.nan, note=str(refusal))
        rows[list(_EFFECT)] = np.nan
    absent = whole[~whole["arm"].isin(rows["arm"])]
    if len(absent):
        told = [rows.attrs.get("refusals", {}).get(arm, f"no patient of this arm in {group}") for arm in absent["arm"]]
        empty = absent.assign(n=np.nan, n_reference=np.nan, events=np.nan, events_reference=np.nan, note=told)
        empty[list(_EFFECT)] = np.nan
        rows = pd.concat([rows, empty], ignore_index=True)
    return rows.assign(factor=division.name, subgroup=group)


def _interactions(rows: pd.DataFrame, name: str, level: float) -> pd.DataFrame:
    tests = []
    for arm, lines in rows.groupby("arm", sort=False):
        ratio = bool(lines["measure"].str.endswith("ratio").all())
        told = lines[lines["se"] > SMALLEST_STANDARD_ERROR]
        values = np.log(told["estimate"]) if ratio else told["estimate"]
        test: dict[str, Any] = {"factor": name, "arm": arm, "ratio": ratio, "groups": len(told), "interaction_p": np.nan}
        if len(told) >= 2:
            found = interaction_test(values.to_numpy(), told["se"].to_numpy(), told["df"].to_numpy())
            test["interaction_p"] = found.p_value
            if len(told) == 2:
                test |= _difference(values.to_numpy(), told, found.df_within, ratio, level)
        tests.append(test)
    return pd.DataFrame(tests)


def _difference(values: np.ndarray, told: pd.DataFrame, df: float, ratio: bool, level: float) -> dict[str, Any]:
    gap = float(values[0] - values[1])
    se = float(np.hypot(*told["se"]))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    back = np.exp if ratio else float
    first, second = told["subgroup"]
    return {
        "estimate": back(gap),
        "se": se,
        "lower": back(gap - half),
        "upper": back(gap + half),
        "between": f"{first} against {second}",
    }


def _results(table: pd.DataFrame, tests: pd.DataFrame, source: str, level: float) -> list[ResultRow]:
    shared = ("population", "arm", "reference", "measure", "estimator", "variance", "level", "randomised", "rung")
    rows: list[ResultRow] = []
    for line in table.to_dict("records"):
        events = "" if pd.isna(line["events"]) else f"; {line['events']:.6g} against {line['events_reference']:.6g} events"
        refusal = f"; not estimable: {line['note']}" if line["note"] else ""
        own = {key: line[key] for key in (*shared, "subgroup", "n", "n_reference", *_EFFECT)}
        estimand = f"{line['estimand']}, in: {line['subgroup']}{events}{refusal}"
        rows.append(ResultRow(analysis=f"{source} effect by subgroup", estimand=estimand, **own))
    for test in tests.to_dict("records"):
        first = table[(table["factor"] == test["factor"]) & (table["arm"] == test["arm"])].iloc[0]
        what = f"ratio of {first['measure']}s" if test["ratio"] else f"difference of {first['measure']}s"
        between = test.get("between")
        own = {key: first[key] for key in shared} | {key: test.get(key, np.nan) for key in ("estimate", "se", "lower", "upper")}
        own |= {
            "measure": what if isinstance(between, str) else f"interaction of {first['measure']}",
            "estimator": f"{first['estimator']} in each subgroup",
            "variance": f"{first['variance']}; Welch test; Holm-adjusted p = {test['interaction_p_holm']:.4g}",
        }
        estimand = f"{what} {between}" if isinstance(between, str) else f"equality of effects over {test['factor']}"
        rows.append(
            ResultRow(
                analysis=f"{source} interaction",
                subgroup=test["factor"],
                estimand=estimand,
                p_value=test["interaction_p"],
                **own,
            )
        )
    return rows
