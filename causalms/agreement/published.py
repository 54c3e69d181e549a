"""Published contrasts of the six arms: which numbers may be compared with a simulation, and where each was read.

Numbers come from ``data/trials.csv``, one number a row with its source.  Arms are mapped by ``data/arms.csv`` (dose and schedule
included) and outcomes by ``data/outcomes.csv``; what these tables do not name is never compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

from causalms.errors import RefusalError
from causalms.tables import EXACT_NUMBERS, arm_order, name_of, percentage

_KEY = ["trial", "population", "published_outcome", "timepoint_weeks"]


@cache
def published_data(name: str) -> pd.DataFrame:
    """A table of ``data`` as it was read; not to be changed in place."""
    with (files("causalms.agreement") / "data" / name).open() as handle:
        texts = {"active": "string", "value": "string"} if name == "baseline.csv" else None
        table: pd.DataFrame = pd.read_csv(handle, dtype=texts, **EXACT_NUMBERS)
        return table


def efficacy_ranks() -> dict[str, int]:
    """Rank of each arm by rising published efficacy, from ``data/arms.csv``.

    Examples
    --------
    >>> list(efficacy_ranks())[0]
    'placebo'
    """
    arms = published_data("arms.csv").sort_values("efficacy_rank", kind="stable").drop_duplicates("arm")
    return {str(arm): int(rank) for arm, rank in zip(arms["arm"], arms["efficacy_rank"], strict=True)}


def least_effective_arm(trial: str, arms: Iterable[str]) -> str:
    """The arm that the others of a trial are compared with where no reference is named: the least effective as published.

    Raises
    ------
    RefusalError
        If an arm is not among the published ones, so that nothing says which is the least effective.

    Examples
    --------
    >>> least_effective_arm("DEFINE", ["dimethyl-fumarate", "placebo"])
    'placebo'
    """
    names, ranks = arm_order(arms), efficacy_ranks()
    if not set(names) <= set(ranks):
        raise RefusalError(f"trial {trial}: arms {', '.join(names)}; name the one to compare with as `reference`")
    return min(names, key=ranks.__getitem__)


def published_contrasts() -> pd.DataFrame:
    """Published effects between two of the six arms on outcomes that have the same definition as the simulated ones.

    Returns
    -------
    DataFrame
        One row a trial, contrast, measure and week: ``trial``, ``arm``, ``reference``, ``measure``, ``week``, ``estimate``,
        ``lower``, ``upper``, ``se`` (of the logarithm; missing where nothing of the kind was published), ``definition``, ``how``
        (as published, or from which published numbers), ``target`` (all its numbers were verified in the source),
        ``source_title``, ``source_url``, ``note``.  Of several rows of one contrast the verified comes first, then the one with
        an interval, then the one that was published as a contrast.

    Examples
    --------
    >>> table = published_contrasts()
    >>> row = table[(table["trial"] == "DEFINE") & (table["measure"] == "rate-ratio") & (table["week"] == 96)].iloc[0]
    >>> round(float(row["estimate"]), 2), row["arm"], bool(row["target"])
    (0.15, 'dimethyl-fumarate', True)
    """
    rows = _comparable()
    contrasts = pd.concat([_direct(rows), _from_means(rows), _from_shares(rows)], ignore_index=True)
    contrasts["rank"] = 4 * ~contrasts["target"] + 2 * contrasts["se"].isna() + (contrasts["how"] != "as published")
    key = ["trial", "arm", "reference", "measure", "week"]
    best = contrasts.sort_values([*key, "rank"], kind="stable").drop_duplicates(key)
    return best.drop(columns="rank").reset_index(drop=True)


def _comparable() -> pd.DataFrame:
    """Rows of whole-trial populations, of arms and outcomes that the maps name, at a visit week."""
    arms = published_data("arms.csv").set_index("published_arm")["arm"]
    outcomes = published_data("outcomes.csv").set_index("published_outcome")
    rows = published_data("trials.csv").rename(columns={"arm": "published_arm", "outcome": "published_outcome"})
    rows = rows[rows["subgroup"].isna() & rows["published_outcome"].isin(outcomes.index)].copy()
    rows["arm"], rows["reference"] = rows["published_arm"].map(arms), rows["comparator"].map(arms)
    rows["week"] = pd.to_numeric(rows["timepoint_weeks"], errors="coerce")
    rows = rows[rows["arm"].notna() & rows["week"].notna()]
    return rows.join(outcomes, on="published_outcome")


def _direct(rows: pd.DataFrame) -> pd.DataFrame:
    """Contrasts published as such."""
    from scipy import stats

    rows = rows[rows["reference"].notna() & rows["statistic"].isin(["percent_reduction", "rate_ratio", "risk_ratio"])].copy()
    percent = rows["statistic"] == "percent_reduction"
    low, high = rows["lower"].copy(), rows["upper"].copy()
    rows["estimate"] = np.where(percent, 1 - rows["value"] / 100, rows["value"])
    rows["lower"], rows["upper"] = np.where(percent, 1 - high / 100, low), np.where(percent, 1 - low / 100, high)
    rows["se"] = np.log(rows["upper"] / rows["lower"]) / (2 * stats.norm.ppf(0.975))
    rows["how"], rows["target"] = "as published", rows["verified"] == "yes"
    return rows[_COLUMNS]


_COLUMNS = [
    *("trial", "arm", "reference", "measure", "week", "estimate", "lower", "upper", "se"),
    *("definition", "how", "target", "source_title", "source_url", "note"),
]


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Two arms of one trial, population, outcome and visit, the less effective one as the reference."""
    ranks = efficacy_ranks()
    pairs = rows.merge(rows, on=_KEY, suffixes=("", "_reference"))
    pairs = pairs[pairs["arm"].map(ranks) > pairs["arm_reference"].map(ranks)].copy()
    pairs["reference"] = pairs["arm_reference"]
    pairs["target"] = (pairs["verified"] == "yes") & (pairs["verified_reference"] == "yes")
    return pairs


def _from_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Ratio of two published arm means; arm means come without a usable standard error, so the ratio has none."""
    means = rows[rows["statistic"].isin(["mean", "adjusted_mean"]) & (rows["measure"] == "rate-ratio")]
    pairs = _pairs(means)
    pairs["estimate"] = pairs["value"] / pairs["value_reference"]
    pairs["lower"] = pairs["upper"] = pairs["se"] = np.nan
    pairs["how"] = [
        f"from the means {name_of(a)} and {name_of(b)}" for a, b in zip(pairs["value"], pairs["value_reference"], strict=True)
    ]
    return pairs[_COLUMNS]


def _from_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Risk ratio of any lesion from two published percentages, with its interval where both arm sizes were published."""
    from scipy import stats

    pairs = _pairs(rows[(rows["statistic"] == "percent") & (rows["measure"] == "risk-ratio")])
    active, active_reference = (
        np.where(pairs["active"].astype(float) == 1, value, 100 - value) / 100
        for value in (pairs["value"], pairs["value_reference"])
    )
    pairs["estimate"] = active / active_reference
    pairs["se"] = np.sqrt(
        (1 - active) / (active * pairs["n"]) + (1 - active_reference) / (active_reference * pairs["n_reference"])
    )
    half = stats.norm.ppf(0.975) * pairs["se"]
    pairs["lower"], pairs["upper"] = pairs["estimate"] * np.exp(-half), pairs["estimate"] * np.exp(half)
    pairs["how"] = [f"from the shares {percentage(a)} and {percentage(b)}" for a, b in zip(active, active_reference, strict=True)]
    return pairs[_COLUMNS]


def published_baseline(trial: str) -> pd.DataFrame:
    """Verified baseline means of a trial (or of the pooled report that names it) that a simulated population can be matched to.

    Returns
    -------
    DataFrame
        ``column`` of the participants table, ``value`` (the level whose share is meant, or empty), ``mean``, ``source_title``.

    Examples
    --------
    >>> published_baseline("DEFINE")[["column", "mean"]].values.tolist()
    [['age', 38.5], ['sex', 0.74]]
    """
    rows = published_data("trials.csv")
    rows = rows[(rows["timepoint_weeks"] == "baseline") & (rows["verified"] == "yes") & (rows["arm"] == "all")]
    rows = rows[rows["population"].isin(["ITT", "CIS"])].rename(columns={"value": "number"})
    own = rows[rows["trial"] == trial]
    if own.empty:
        own = rows[[trial in _members(name) for name in rows["trial"]]]
    known = own.merge(
        published_data("baseline.csv"), left_on=["outcome", "statistic"], right_on=["published_outcome", "published_statistic"]
    )
    known = known.assign(mean=known["number"] * known["scale"], value=known["value"].fillna(""))
    return known.drop_duplicates(["column", "value"])[["column", "value", "mean", "source_title"]].reset_index(drop=True)


def _members(pooled: str) -> list[str]:
    """Trials of a pooled report: ``OPERA I+II`` is OPERA I and OPERA II, ``DEFINE+CONFIRM`` is DEFINE and CONFIRM."""
    parts = pooled.split("+")
    stem = parts[0].rsplit(" ", 1)[0] if " " in parts[0] else ""
    return [part if len(part) > 2 or not stem else f"{stem} {part}" for part in parts]
