"""Simulated effects against published ones, when only a paper's aggregates are at hand: weighted to its baseline, then judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.agreement.against_randomised import interventional
from causalms.agreement.published import efficacy_ranks, published_baseline, published_contrasts
from causalms.agreement.result import Agreement, Effect, Rule, distance_row, judge, ratio_of, row_again
from causalms.effects import analyse_draws
from causalms.errors import RefusalError, named_arguments
from causalms.stats import entropy_balance
from causalms.tables import ResultRow, arm_order, as_frame, fixed, name_of, names_of, participant_key, results_table

Floats = NDArray[np.float64]

#: A simulated visit is compared with a published one that is at most this many weeks away (96 for 104).
WEEKS_APART = 8
#: Least effective size of the weighted patients, as a share of their number.
LEAST_EFFECTIVE_SHARE = 0.1


@named_arguments
def agree_published(
    draws: Any,
    participants: Any,
    *,
    margin: float = 1.25,
    level: float = 0.95,
    matched: bool = True,
    source: str = "draws",
) -> Agreement:
    """Agreement of simulated effects with published contrasts.

    All simulated patients are compared under both arms; where the published report gives baseline means, they are weighted to
    them (:func:`causalms.agreement.match_baseline`).  The contrast is transported to the published population,
    so it is never marked as randomised, and the remaining assumption is that baseline differences beyond the matched
    means do not modify the effect.

    Parameters
    ----------
    draws : DataFrame, or path
        Draws table, sampled or expected; its interventional rows are used.
    participants : DataFrame, or path
        Covariates for the weighting.
    margin, level
        As for :func:`causalms.agreement.agree`.
    matched : bool
        Weight to the published baseline where it is known.
    source : str
        Name of the draws in messages.

    Returns
    -------
    Agreement
        ``table`` has the columns of :func:`causalms.agreement.agree` (randomised = published) and ``target``, ``how``,
        ``definition``, ``matched_on``, ``effective_size``, ``source_title``, ``source_url``, ``note``.  Where no interval was
        published, the ratio has none either and no agreement is judged.  Unverified numbers have ``target`` False, no
        judgement, and say so in their label.  A contrast whose published baseline these patients cannot be weighted to is not
        compared: ``refused`` says why, and names arms of the draws that no published contrast is about.

    Raises
    ------
    UsageError
        If the margin is no ratio above 1.
    RefusalError
        If no published contrast has both arms and its visit week among the draws, or none can be matched.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": range(8), "age": range(32, 48, 2), "sex": ["F", "F", "F", "M"] * 2})
    >>> keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": 96.0, "query": "interventional", "query_id": "q"}
    >>> draws = pd.concat([people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=mean + people.index / 9,
    ...     activity_probability=0.5) for arm, mean in (("placebo", 10.0), ("dimethyl-fumarate", 2.0))])
    >>> table = agree_published(draws, people).table
    >>> table.loc[table["trial"] == "DEFINE", ["measure", "randomised_estimate", "simulated_estimate"]].round(2).values.tolist()
    [['rate ratio', 0.15, 0.23], ['risk ratio', 0.75, 1.0]]
    """
    rule = Rule(is_ratio=True, margin=margin, level=level)
    rows = interventional(as_frame(draws), source)
    people = as_frame(participants)
    people = people.assign(participant_id=participant_key(people["participant_id"]))
    table: list[dict[str, Any]] = []
    results: list[ResultRow] = []
    refused: list[str] = []
    for record in published_contrasts().to_dict("records"):
        contrast = {str(name): value for name, value in record.items()}
        part = _nearest_visit(rows, contrast)
        if part is None:
            continue
        try:
            line, added = _compare(part, contrast, _matched(part, people, contrast["trial"], matched), rule)
        except RefusalError as refusal:
            refused.append(f"{contrast['trial']}, {contrast['measure']}, week {name_of(contrast['week'])}: {refusal}")
            continue
        table.append(line)
        results += added
    if not table:
        none = f"{source}: no published contrast has both arms and its week among the draws; simulate more arms or week 96"
        raise RefusalError("; ".join([*_unpublished(rows), *(refused or [none])]))
    return Agreement(pd.DataFrame(table), results_table(results), (*_unpublished(rows), *refused))


def _unpublished(rows: pd.DataFrame) -> list[str]:
    """The arms of the draws that no published contrast is about, in words; empty if there are none."""
    ranks = efficacy_ranks()
    unknown = [arm for arm in arm_order(rows["arm"]) if arm not in ranks]
    known = ", ".join(ranks)
    return [f"{', '.join(unknown)}: no published contrast at hand, only of {known}"] if unknown else []


def _nearest_visit(rows: pd.DataFrame, contrast: dict[str, Any]) -> pd.DataFrame | None:
    """Draws under both arms at the simulated visit nearest to the published one."""
    part = rows[rows["arm"].isin([contrast["arm"], contrast["reference"]])]
    if part["arm"].nunique() < 2:
        return None
    weeks = part["visit_week"].unique()
    nearest = weeks[np.abs(weeks - contrast["week"]).argmin()]
    if abs(nearest - contrast["week"]) > WEEKS_APART:
        return None
    at_visit: pd.DataFrame = part[part["visit_week"] == nearest]
    return at_visit


@dataclass(frozen=True)
class _Matched:
    """Weights of the simulated patients (None: as they are), what was matched or why nothing was, and the effective size."""

    weights: pd.Series | None
    words: str
    effective_size: float


def _matched(part: pd.DataFrame, people: pd.DataFrame, trial: str, matched: bool) -> _Matched:
    """Weights to the published baseline of a trial, as far as it is known."""
    simulated = set(part["key"])
    if not matched:
        return _Matched(None, "not matched on request", float(len(simulated)))
    targets = published_baseline(trial)
    targets = targets[targets["column"].isin(people.columns)]
    if targets.empty:
        return _Matched(None, "no verified baseline mean of a column at hand", float(len(simulated)))
    members = people[people["participant_id"].isin(simulated)].reset_index(drop=True)
    matching = match_baseline(members, targets, f"published baseline of {trial}")
    if matching.effective_size < LEAST_EFFECTIVE_SHARE * len(members):
        raise RefusalError(
            f"published baseline of {trial}: weighting {len(members)} patients to it leaves an effective number of "
            f"{fixed(matching.effective_size, 1)}; simulate patients more like that trial's"
        )
    means = [
        " ".join(filter(None, (row["column"], row["value"], name_of(row["target"]))))
        for row in matching.balance.to_dict("records")
    ]
    return _Matched(matching.weights, ", ".join(means), matching.effective_size)


def _compare(
    part: pd.DataFrame, contrast: dict[str, Any], matching: _Matched, rule: Rule
) -> tuple[dict[str, Any], list[ResultRow]]:
    """One published contrast: its line of the agreement table and its rows of the results table."""
    weighted = f"simulated patients weighted to the published baseline of {contrast['trial']} ({matching.words})"
    simulated = analyse_draws(
        part.drop(columns="participant_id").rename(columns={"key": "participant_id"}),
        reference=contrast["reference"],
        measure=contrast["measure"],
        level=rule.level,
        weights=None if matching.weights is None else matching.weights.rename(weighted),
    ).iloc[0]
    unverified = "" if contrast["target"] else ", UNVERIFIED"
    line: dict[str, Any] = {
        "label": f"{contrast['trial']} (published{unverified}): {contrast['arm']} against {contrast['reference']}",
        "trial": contrast["trial"],
        "arm": contrast["arm"],
        "reference": contrast["reference"],
        "measure": simulated["measure"],
        "week": float(part["visit_week"].iloc[0]),
        "published_week": contrast["week"],
        "n": int(simulated["n"]),
        **{f"randomised_{name}": contrast[name] for name in ("estimate", "lower", "upper")},
        **{f"simulated_{name}": simulated[name] for name in ("estimate", "lower", "upper", "p_value")},
        **_judged(simulated, contrast, rule),
        **{name: contrast[name] for name in ("target", "how", "definition", "source_title", "source_url", "note")},
        "matched_on": matching.words,
        "effective_size": matching.effective_size,
    }
    return line, _rows(line, simulated, contrast)


def _judged(simulated: pd.Series, contrast: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """Ratio of simulated to published; its interval and the agreements only where an interval was published and verified."""
    lower, upper = contrast["lower"], contrast["upper"]
    target = Effect(contrast["estimate"], lower, upper, significant=not lower <= 1 <= upper)
    effect = Effect(simulated["estimate"], simulated["lower"], simulated["upper"], bool(simulated["p_value"] < 1 - rule.level))
    se = float(np.hypot(simulated["se"], contrast["se"])) if contrast["target"] else np.nan
    return judge(target, effect, se, rule)


def _rows(line: dict[str, Any], simulated: pd.Series, contrast: dict[str, Any]) -> list[ResultRow]:
    """The published effect, the simulated one, and their ratio."""
    status = "verified in the source" if contrast["target"] else "UNVERIFIED, no target"
    published = ResultRow(
        analysis="agreement: published effect",
        population=f"{line['trial']} as published",
        subgroup="all",
        arm=line["arm"],
        reference=line["reference"],
        measure=line["measure"],
        estimand=f"{line['measure']} of {contrast['definition']}, week {name_of(contrast['week'])}",
        estimator=contrast["how"],
        variance=f"{contrast['source_title']} <{contrast['source_url']}>; {status}",
        level=line["level"],
        randomised=True,
        rung=2,
        **{name: contrast[name] for name in ("estimate", "se", "lower", "upper")},
    )
    what = ratio_of(line["measure"])
    ratio = ResultRow(
        analysis="agreement: published",
        population=simulated["population"],
        measure=what,
        estimand=f"{what}, simulated over published ({line['trial']}), transported: effects assumed equal beyond the matched "
        f"baseline; matched on: {line['matched_on']}",
        estimator="ratio of independent estimates",
        variance="sum of both; none where the paper prints no interval",
        randomised=False,
    )
    effect = row_again(simulated, "agreement: simulated effect")
    beside = f"{effect.estimand}; beside {line['trial']} as published at week {name_of(contrast['week'])}"
    return [published, replace(effect, estimand=beside), distance_row(line, ratio)]


@dataclass(frozen=True)
class Matching:
    """A weighted population.

    Attributes
    ----------
    weights : Series
        By participant_id, with mean one.
    balance : DataFrame
        ``column``, ``value``, ``target``, ``before`` and ``after``: means of the covariates.
    effective_size : float
        (sum of weights)^2 / sum of squared weights.
    """

    weights: pd.Series
    balance: pd.DataFrame
    effective_size: float


@named_arguments
def match_baseline(people: Any, targets: Any, source: str = "published baseline") -> Matching:
    r"""Entropy balancing (matching-adjusted indirect comparison) of patients to published means.

    Weights :math:`w_i \propto \exp(\lambda^T (x_i - m))` with :math:`\sum_i w_i (x_i - m) = 0`: of all weights that reach
    the published means m, those that change the population least.  Patients with a missing covariate take its mean over
    the others.

    Parameters
    ----------
    people : DataFrame, or path
        Participants.
    targets : DataFrame, or path
        ``column``, ``value`` ("" for a mean, a level such as ``F`` or ``>0`` for a share) and ``mean``; columns that the
        participants lack are left out of the balance.
    source : str
        Name of the targets in messages.

    Returns
    -------
    Matching

    Raises
    ------
    RefusalError
        If the published means lie outside what these patients span.

    References
    ----------
    Signorovitch et al. (2010), Pharmacoeconomics 28:935.  Hainmueller (2012), Polit Anal 20:25.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": list("abcd"), "age": [30.0, 40, 50, 60], "sex": list("FFMM")})
    >>> targets = pd.DataFrame({"column": ["age", "sex"], "value": ["", "F"], "mean": [44.0, 0.6]})
    >>> matching = match_baseline(people, targets)
    >>> matching.balance[["before", "after"]].round(3).values.tolist()
    [[45.0, 44.0], [0.5, 0.6]]
    """
    people, targets = as_frame(people), as_frame(targets)
    used = targets[targets["column"].isin(people.columns)].reset_index(drop=True)
    used = used.assign(value=used["value"].astype(object).where(used["value"].notna(), ""))
    columns = [_covariate(people[line["column"]], line["value"]) for line in used.to_dict("records")]
    if not columns:
        weights = np.ones(len(people))
        return Matching(_series(people, weights), used.assign(target=[], before=[], after=[]), float(len(people)))
    values = np.column_stack(columns)
    centred = values - used["mean"].to_numpy(float)
    scale = np.maximum(centred.std(axis=0), 1e-12)
    balanced = entropy_balance(centred / scale)
    if not balanced.reached:
        listed = ", ".join(f"{line['column']} {name_of(line['mean'])}" for line in used.to_dict("records"))
        raise RefusalError(f"{source}: these patients cannot be weighted to {listed}; they lie outside what the patients span")
    weights = balanced.weights * len(people)
    balance = used[["column", "value"]].assign(
        target=used["mean"], before=values.mean(axis=0), after=weights @ values / len(people)
    )
    return Matching(_series(people, weights), balance, float(weights.sum() ** 2 / (weights**2).sum()))


def _series(people: pd.DataFrame, weights: Floats) -> pd.Series:
    return pd.Series(weights, index=names_of(people["participant_id"]), name="weight")


def _covariate(values: pd.Series, level: str) -> Floats:
    if level == "":
        numbers = pd.to_numeric(values, errors="coerce")
    elif level == ">0":
        numbers = (values > 0).astype(float).where(values.notna())
    else:
        numbers = (values == level).astype(float).where(values.notna())
    return numbers.fillna(numbers.mean()).to_numpy(float)
