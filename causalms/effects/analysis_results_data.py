"""Results as analysis results data: one row a statistic as R's package cards has them, or CDISC's ARS 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from causalms.tables import fixed, name_of

#: Column of the results -> name and label of the statistic, as broom and cards call them.
_STATISTICS = {
    "estimate": ("estimate", "Estimate"),
    "se": ("std.error", "Standard error (of the logarithm for a ratio)"),
    "lower": ("conf.low", "CI lower bound"),
    "upper": ("conf.high", "CI upper bound"),
    "level": ("conf.level", "CI confidence level"),
    "p_value": ("p.value", "p-value"),
    "n": ("N1", "Patients of the arm"),
    "n_reference": ("N2", "Patients of the reference"),
}
_WORDS = {
    "estimator": ("method", "Method"),
    "estimand": ("estimand", "Estimand"),
    "population": ("population", "Population"),
    "variance": ("variance", "Variance"),
    "package_version": ("version", "Version of causalms"),
}


def results_data(results: pd.DataFrame, *, outcome: str, arm: str = "arm") -> pd.DataFrame:
    """Analysis results data of a results table.

    Parameters
    ----------
    results : DataFrame
        In the schema of the results table.
    outcome, arm : str
        Columns of the analysed table.

    Returns
    -------
    DataFrame
        ``group1`` and ``group1_level`` (the arm), ``group2`` (the reference), ``variable``, ``variable_level`` (the measure),
        ``context``, ``stat_name``, ``stat_label``, ``stat`` (unrounded, as text), ``stat_fmt``; the row ``method`` is the
        estimator.

    References
    ----------
    CDISC Analysis Results Standard 1.0 (2024); R package cards (insightsengineering).

    Examples
    --------
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> data = results_data(analyse(table, outcome="relapses", reference="placebo").results, outcome="relapses")
    >>> data[["group1_level", "stat_name", "stat_fmt"]].head(1).values.tolist(), "method" in set(data["stat_name"])
    ([['drug', 'estimate', '0.3333']], True)
    """
    rows = []
    for result in results.to_dict("records"):
        keys = {
            "group1": arm,
            "group1_level": result["arm"],
            "group2": "reference",
            "group2_level": result["reference"],
            "variable": outcome,
            "variable_level": result["measure"],
            "context": "causalms_effects",
        }
        for column, (name, label) in _STATISTICS.items():
            value = result[column]
            missing = pd.isna(value)
            shown = "" if missing else fixed(value, 0) if column in ("n", "n_reference") else fixed(value, 4)
            text = "" if missing else name_of(value)
            rows.append({**keys, "stat_name": name, "stat_label": label, "stat": text, "stat_fmt": shown})
        for column, (name, label) in _WORDS.items():
            rows.append({**keys, "stat_name": name, "stat_label": label, "stat": result[column], "stat_fmt": result[column]})
    return pd.DataFrame(rows)


def reporting_event(
    results: pd.DataFrame, *, outcome: str, arm: str = "arm", dataset: str = "table", program: str | None = None
) -> dict[str, Any]:
    """A results table as a reporting event of CDISC's Analysis Results Standard 1.0: analyses, methods, groupings, results.

    Rows of one measure, population and subgroup are one analysis; a result is about the groups of its two arms.

    Parameters
    ----------
    results : DataFrame
        In the schema of the results table.
    outcome, arm : str
        Columns of the analysed table.
    dataset : str
        Name of the analysed dataset.
    program : str, optional
        R code that gives the numbers, of :func:`causalms.effects.r_program`.

    Returns
    -------
    dict
        Ready for ``json.dumps``; values of results are text, as the standard has them.

    References
    ----------
    CDISC (2024), Analysis Results Standard 1.0.

    Examples
    --------
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> event = reporting_event(analyse(table, outcome="relapses", reference="placebo").results, outcome="relapses")
    >>> event["analyses"][0]["results"][0]["rawValue"][:6], event["methods"][0]["operations"][0]["name"]
    ('0.3333', 'estimate')
    """
    keys = ["measure", "population", "subgroup", "estimator", "variance"]
    parts = [part for _, part in results.groupby(keys, sort=False, dropna=False)]
    arms = list(dict.fromkeys([*results["reference"].dropna(), *results["arm"].dropna()]))
    groups = {name: f"Grp_{place}" for place, name in enumerate(arms, start=1)}
    sets = {name: f"AnSet_{place}" for place, name in enumerate(dict.fromkeys(results["population"].map(str)), start=1)}
    subgroups = [name for name in dict.fromkeys(results["subgroup"].map(str)) if name != "all"]
    subsets = {name: f"Dss_{place}" for place, name in enumerate(subgroups, start=1)}
    methods, analyses = [], []
    for place, part in enumerate(parts, start=1):
        first = part.iloc[0]
        methods.append(_method(place, first))
        found: dict[str, Any] = {
            "id": f"An_{place}",
            "version": 1,
            "name": f"{first['measure']} of {outcome}",
            "description": str(first["estimand"]),
            "reason": {"controlledTerm": "SPECIFIED IN SAP"},
            "purpose": {"controlledTerm": "EXPLORATORY OUTCOME MEASURE"},
            "dataset": dataset,
            "variable": outcome,
            "analysisSetId": sets[str(first["population"])],
            "orderedGroupings": [{"order": 1, "groupingId": "AnlsGrouping_1", "resultsByGroup": True}],
            "methodId": f"Mth_{place}",
            "results": [result for row in part.to_dict("records") for result in _operation_results(place, row, groups)],
        }
        if str(first["subgroup"]) in subsets:
            found["dataSubsetId"] = subsets[str(first["subgroup"])]
        if program is not None:
            found["programmingCode"] = {"context": "R", "code": program}
        analyses.append(found)
    arm_groups = [
        {"id": key, "name": name, "level": 1, "order": place,
         "condition": {"dataset": dataset, "variable": arm, "comparator": "EQ", "value": [name]}}
        for place, (name, key) in enumerate(groups.items(), start=1)
    ]  # fmt: skip
    items = [{"name": one["name"], "level": 1, "order": place, "analysisId": one["id"]} for place, one in enumerate(analyses, 1)]
    return {
        "id": "causalms",
        "version": 1,
        "name": f"Effects on {outcome}",
        "mainListOfContents": {"name": "Analyses", "contentsList": {"listItems": items}},
        "analysisSets": _named(sets),
        "dataSubsets": _named(subsets),
        "analysisGroupings": [
            {"id": "AnlsGrouping_1", "name": "Treatment", "groupingDataset": dataset, "groupingVariable": arm,
             "dataDriven": False, "groups": arm_groups}
        ],
        "methods": methods,
        "analyses": analyses,
    }  # fmt: skip


def _named(ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Sets or subsets of patients, in their words."""
    return [{"id": key, "name": name, "level": 1, "order": place} for place, (name, key) in enumerate(ids.items(), start=1)]


def _method(place: int, row: pd.Series) -> dict[str, Any]:
    """The estimator with an operation a statistic."""
    operations = [
        {"id": f"Mth_{place}_{name}", "name": name, "label": label, "order": order}
        for order, (name, label) in enumerate(_STATISTICS.values(), start=1)
    ]
    words = f"{row['estimator']}; variance: {row['variance']}; causalms {row['package_version']}"
    return {"id": f"Mth_{place}", "name": str(row["estimator"]), "description": words, "operations": operations}


def _operation_results(place: int, row: Mapping[Any, Any], groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """One result a statistic of a row, about its arm and its reference."""
    names = [name for name in (row["arm"], row["reference"]) if isinstance(name, str)]
    about = [{"groupingId": "AnlsGrouping_1", "groupId": groups[name]} for name in names]
    found = []
    for column, (name, _) in _STATISTICS.items():
        if pd.notna(row[column]):
            shown = fixed(row[column], 0) if column in ("n", "n_reference") else fixed(row[column], 4)
            result = {"operationId": f"Mth_{place}_{name}", "resultGroups": about, "rawValue": name_of(row[column])}
            found.append(result | {"formattedValue": shown})
    return found
