"""The rows of a forest plot, with the tests of interaction over them, and their page in plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import CausalmsError, InputError, RefusalError
from causalms.stats import Array, adjusted_p_values
from causalms.subgroups.interaction import Interaction, correlated_interaction_test, interaction_test
from causalms.tables import (
    Grouping,
    ResultRow,
    fixed,
    grouping,
    p_value_text,
    percent_in_full,
    refuse_arm_and_outcome_by_name,
    refuse_copies,
    results_table,
    shown,
    significant,
    total_text,
)


def html_page(results: pd.DataFrame, text: str) -> str:
    """A results table for a notebook, and the plain-text page folded below it."""
    shown = results[["subgroup", "arm", "reference", "measure", "estimate", "lower", "upper", "p_value", "n", "n_reference"]]
    return f"{shown.to_html(index=False, border=0)}<details><summary>details</summary><pre>{escape(text)}</pre></details>"


_HEAD = f"{'n':>11s}{'events':>13s}{'estimate':>10s}{'interval':>18s}{'interaction p':>15s}{'Holm':>8s}"


def page(table: pd.DataFrame) -> str:
    """A forest in plain text: one line a subgroup, the interaction p at the first line of its factor."""
    text = []
    for (source, arm), rows in table.groupby(["source", "arm"], sort=False):
        first = rows.iloc[0]
        origin = "" if source == "simulated" or first["randomised"] == 1 else "; not randomised against each other"
        head = f"{source}: {arm} against {first['reference']}, {first['measure']}"
        text.append(f"{head} ({percent_in_full(first['level'])} interval{origin})")
        width = max(28, 1 + int(rows["subgroup"].str.len().max()))
        text.append(f"  {'subgroup':{width}s}{_HEAD}")
        factors = {"all"}
        for row in rows.to_dict("records"):
            text.append(_line(row, width, first_of_factor=row["factor"] not in factors))
            factors.add(row["factor"])
    return "\n".join(text)


def _line(row: dict[Any, Any], width: int, first_of_factor: bool) -> str:
    n = "" if math.isnan(row["n"]) else f"{fixed(row['n'], 0)}/{fixed(row['n_reference'], 0)}"
    events = "" if math.isnan(row["events"]) else f"{total_text(row['events'])}/{total_text(row['events_reference'])}"
    if isinstance(row.get("note"), str) and row["note"]:
        return f"  {row['subgroup']:{width}s}{n:>11s}{events:>13s}  not estimable: {row['note']}"
    unknown = row["source"] == "simulated" and math.isnan(row["lower"])
    interval = "error unknown" if unknown else f"{shown(row['lower'], 3)} to {shown(row['upper'], 3)}"
    wide = 14 if shown(1 / 3, 3) == "0.333" else 8 + len(shown(1 / 3))
    tested = first_of_factor and not math.isnan(row.get("interaction_p", math.nan))
    p = (
        f"{p_value_text(row['interaction_p']):>15s}{p_value_text(row['interaction_p_holm']):>{max(8, wide - 4)}s}"
        if tested
        else ""
    )
    numbers = f"{shown(row['estimate'], 3):>{wide - 4}s}{interval:>{2 * wide - 10}s}"
    return f"  {row['subgroup']:{width}s}{n:>11s}{events:>13s}{numbers}{p}"


#: Standard errors below this are rounding error (a constant simulated effect); no interaction test is made.
SMALLEST_STANDARD_ERROR = 1e-10


@dataclass(frozen=True, repr=False)
class Forest:
    """Effects by subgroup; printed, it is the page of ``causalms subgroups``.

    Attributes
    ----------
    table : DataFrame
        What a forest plot is drawn from, one row a subgroup and arm: the columns of the results table and ``source``,
        ``factor``, ``events``, ``events_reference``, ``df``, ``interaction_p``, ``interaction_p_holm`` (over the factors of
        ``by``) and ``note``.
    results : DataFrame
        The same in the schema of the results table, with one more row a factor and arm for its interaction.
    notes : tuple of str
        Rows left out of the whole analysis and patients of no group, counted, with the reason.
    """

    table: pd.DataFrame
    results: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The page that the command line prints."""
        return "\n".join([page(self.table), *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return html_page(self.results, repr(self))


def baseline_divisions(
    people: pd.DataFrame, by: Sequence[str], *, arm: str | None, outcome: str, source: str = "table"
) -> list[Grouping]:
    """Divisions of patients by what was known at baseline.

    Parameters
    ----------
    people : DataFrame
    by : sequence of str
    arm : str or None
        Column of the arm whose patients are compared; None where every patient counts under every arm.
    outcome : str
    source : str
        What messages call the table.

    Raises
    ------
    UsageError
        If a factor names the arm or the outcome, or is none.
    InputError
        If a factor is a recoded arm or outcome.
    """
    divisions = [grouping(people, name, source) for name in by]
    for division in divisions:
        refuse_arm_and_outcome_by_name(division, arm, outcome)
        if [name for name in people.columns if name in (arm, outcome)] not in ([arm, outcome], [outcome, arm]):
            continue  # no arm to copy, or a column that the analysis refuses
        known = (division.labels != "") & people[[arm, outcome]].notna().all(axis=1).to_numpy()
        if known.any():
            labels, seen = pd.DataFrame({division.name: division.labels[known]}), people[known]
            arms = pd.factorize(seen[arm])[0]
            refuse_copies(labels, arms, pd.factorize(seen[outcome])[0], argument=division.argument)
    return divisions


_ERRORS = ("se_patient", "se_monte_carlo", "se_generator")
_EFFECT = ("estimate", "se", "lower", "upper", "p_value", *_ERRORS)


def assemble(
    people: pd.DataFrame,
    divisions: Sequence[Grouping],
    effects_of: Callable[[pd.DataFrame], pd.DataFrame],
    source: str,
    level: float,
) -> Forest:
    """Apply an analysis to the whole population and to every group of every factor; shared by observed and simulated effects."""
    whole = effects_of(people).assign(factor="all", subgroup="all")
    parts, tests, notes = [whole], [], list(whole.attrs.get("notes", ()))
    for division in divisions:
        name = division.name
        if len(division.groups) < 2:
            one = "".join(division.groups)
            what = f"all patients are in one group ({one})" if one else "it is missing for every patient"
            raise RefusalError(f"`by` {name!r}: {what}; nothing to compare")
        if division.missing:
            notes.append(f"{name}: {division.missing} of {len(people)} patients in no group for a missing value")
        rows = pd.concat([_one(people, division, group, effects_of, whole) for group in division.groups], ignore_index=True)
        parts.append(rows)
        tests.append(_interactions(rows, name, level))
    table = pd.concat(parts, ignore_index=True)
    interactions = pd.concat(tests, ignore_index=True) if tests else pd.DataFrame(columns=["factor", "arm", "interaction_p"])
    interactions["interaction_p_holm"] = np.nan
    for _, rows in interactions.groupby("arm"):
        interactions.loc[rows.index, "interaction_p_holm"] = adjusted_p_values(rows["interaction_p"].to_numpy(), missing="keep")
    table = table.merge(interactions[["factor", "arm", "interaction_p", "interaction_p_holm"]], on=["factor", "arm"], how="left")
    table.insert(0, "source", source)
    table = table.drop(columns="model_error_direction", errors="ignore")
    return Forest(table, results_table(_results(table, interactions, source, level)), tuple(notes))


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
        reasons = [rows.attrs.get("refusals", {}).get(arm, f"no patient of this arm in {group}") for arm in absent["arm"]]
        empty = absent.assign(n=np.nan, n_reference=np.nan, events=np.nan, events_reference=np.nan, note=reasons)
        empty[list(_EFFECT)] = np.nan
        rows = pd.concat([rows, empty], ignore_index=True)
    place = {arm: number for number, arm in enumerate(whole["arm"])}  # arms stand in one order in every subgroup
    rows = rows.sort_values("arm", key=lambda arms: arms.map(place), kind="stable")
    return rows.assign(factor=division.name, subgroup=group)


def _interactions(rows: pd.DataFrame, name: str, level: float) -> pd.DataFrame:
    tests = []
    for arm, lines in rows.groupby("arm", sort=False):
        ratio = bool(lines["measure"].str.endswith("ratio").all())
        estimated = lines[lines["se"] > SMALLEST_STANDARD_ERROR]
        values = (np.log(estimated["estimate"]) if ratio else estimated["estimate"]).to_numpy()
        test: dict[str, Any] = {"factor": name, "arm": arm, "ratio": ratio, "groups": len(estimated), "interaction_p": np.nan}
        if len(estimated) >= 2:
            tested, se = _tested(values, estimated)
            bare = estimated["variance"].str.contains("given the model", regex=False).any()  # its model's error is left out
            test["interaction_p"] = np.nan if bare else tested.p_value
            if len(estimated) == 2:
                test |= _difference(values, estimated, (se, tested.df_within), ratio, level) | _errors(estimated)
        tests.append(test)
    return pd.DataFrame(tests)


def _tested(values: Array, estimated: pd.DataFrame) -> tuple[Interaction, float]:
    """The test over subgroups, and the standard error of the difference of the first two.

    Errors of observed subgroups are independent; the own error of one simulating model is common to its subgroups.
    """
    known = "model_error_direction" in estimated and all(one is not None for one in estimated["model_error_direction"])
    if not known:
        test = interaction_test(values, estimated["se"].to_numpy(), estimated["df"].to_numpy())
        return test, float(np.hypot(*estimated["se"].iloc[:2]))
    directions = np.stack(estimated["model_error_direction"].tolist())
    own = np.sqrt(np.maximum(estimated["se"].to_numpy() ** 2 - (directions**2).sum(axis=1), 0.0))
    test = correlated_interaction_test(values, own, directions)
    return test, float(np.linalg.norm([*own[:2], *(directions[0] - directions[1])]))


def _errors(estimated: pd.DataFrame) -> dict[str, float]:
    """The errors of a difference of two subgroups by source; what one model's error has in common with itself cancels."""
    errors = {name: float(np.hypot(*estimated[name].to_numpy(float))) for name in _ERRORS}
    if "model_error_direction" in estimated and all(one is not None for one in estimated["model_error_direction"]):
        first, second = (np.asarray(one, dtype=float) for one in estimated["model_error_direction"])
        errors["se_generator"] = float(np.linalg.norm(first - second))
    return errors


def _difference(values: Array, estimated: pd.DataFrame, error: tuple[float, float], ratio: bool, level: float) -> dict[str, Any]:
    from scipy import stats

    se, df = error
    gap = float(values[0] - values[1])
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    back = np.exp if ratio else float
    first, second = estimated["subgroup"]
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
        seen = [total_text(line[name]) for name in ("events", "events_reference")]
        events = "" if pd.isna(line["events"]) else f"; {' against '.join(seen)} events"
        refusal = f"; not estimable: {line['note']}" if line["note"] else ""
        own = {key: line[key] for key in (*shared, "subgroup", "n", "n_reference", *_EFFECT)}
        estimand = f"{line['estimand']}, in: {line['subgroup']}{events}{refusal}"
        rows.append(ResultRow(analysis=f"{source} effect by subgroup", estimand=estimand, **own))
    for test in tests.to_dict("records"):
        first = table[(table["factor"] == test["factor"]) & (table["arm"] == test["arm"])].iloc[0]
        what = f"ratio of {first['measure']}s" if test["ratio"] else f"difference of {first['measure']}s"
        between, kind = test.get("between"), "Wald" if source == "simulated" else "Welch"
        own = {key: first[key] for key in shared} | {
            key: test.get(key, np.nan) for key in ("estimate", "se", "lower", "upper", *_ERRORS)
        }
        own |= {
            "measure": what if isinstance(between, str) else f"interaction of {first['measure']}",
            "estimator": f"{first['estimator']} in each subgroup",
            "variance": f"{first['variance']}; {kind} test; Holm-adjusted p = {significant(test['interaction_p_holm'], 4)}",
        }
        estimand = f"{what} {between}" if isinstance(between, str) else f"equality of effects over {test['factor']}"
        if pd.isna(own["estimate"]) and pd.isna(test["interaction_p"]):
            estimand += "; not tested: fewer than two groups have an effect with a standard error"
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
