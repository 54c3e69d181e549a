"""Results as analysis results data (ARD): one row a statistic, in the layout of R's package cards."""

from __future__ import annotations

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
