"""An exam on published arms: predicted effects on new lesions, fixed before they are compared, judged by one rule.

Arms are those of ``data/exam.csv``; their effects are looked up in ``data/trials.csv``: verified rows of whole trials alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.agreement.published import published_data
from causalms.errors import InputError
from causalms.tables import fixed, read_table

#: The metric that is judged; arms of other metrics are shown, and never mixed with these.
JUDGED = "new or enlarging T2"
#: Largest mean absolute error of the log ratio, and least correlation, that pass.
LARGEST_ERROR, LEAST_CORRELATION = 0.304, 0.94
#: Counts of enhancing lesions, the first that a trial published counts.
_ENHANCING = (
    *("gd_lesions_per_scan", "gd_lesions", "gd_lesions_on_scan", "gd_lesions_cumulative", "new_gd_lesions"),
    "new_gd_lesions_per_scan",
)
_KEY = ["trial", "arm", "comparator", "metric"]


@cache
def exam_arms() -> pd.DataFrame:
    """Published arms of the exam with their effects and what else was measured of them.

    Returns
    -------
    DataFrame
        One row an arm and metric: ``trial``, ``arm``, ``comparator``, ``drug``, ``metric``, ``outcome``, ``week``, ``ratio`` (of
        lesion counts), ``relapse_ratio`` and ``gd_ratio`` (of relapse rates and of counts of enhancing lesions in the same
        trial; missing where none was verified), ``source_title``.

    Examples
    --------
    >>> arms = exam_arms()
    >>> int((arms["metric"] == JUDGED).sum()), [str(value) for value in arms.loc[0, ["trial", "ratio", "relapse_ratio"]]]
    (17, ['OPERA I', '0.23', '0.54'])
    """
    rows = published_data("trials.csv")
    rows = rows[(rows["verified"] == "yes") & rows["subgroup"].isna()].fillna({"population": ""})
    rows = rows[~rows["population"].str.contains("sub-cohort|completers|extension|subset")]
    arms = published_data("exam.csv").copy()
    named = arms.to_dict("records")
    found = [_ratio(rows, arm, (str(arm["outcome"]),), float(arm["week"])) for arm in named]
    arms["ratio"], arms["source_title"] = [ratio for ratio, _ in found], [source for _, source in found]
    arms["relapse_ratio"] = [_ratio(rows, arm, ("ARR",))[0] for arm in named]
    arms["gd_ratio"] = [_ratio(rows, arm, _ENHANCING)[0] for arm in named]
    return arms


def _ratio(
    rows: pd.DataFrame, arm: dict[Hashable, Any], outcomes: tuple[str, ...], week: float | None = None
) -> tuple[float, str]:
    """The effect as published, else the ratio of two published arm values; missing where there is neither."""
    names = (arm["arm"], arm["comparator"])
    own = rows[rows["trial"] == arm["trial"]]
    if week is not None:
        own = own[pd.to_numeric(own["timepoint_weeks"], errors="coerce") == week]
    for outcome in outcomes:
        some = own[own["outcome"] == outcome]
        direct = some[(some["arm"] == names[0]) & (some["comparator"] == names[1])]
        for statistic in ("rate_ratio", "percent_reduction"):
            values = direct[direct["statistic"] == statistic]
            if len(values):
                value = float(values["value"].iloc[0])
                return (value if statistic == "rate_ratio" else round(1 - value / 100, 6)), str(values["source_title"].iloc[0])
        means = some[some["statistic"].isin(["mean", "adjusted_mean", "estimated_rate", "rate_per_year"])]
        both = [means[means["arm"] == name] for name in names]
        for population in both[0]["population"].unique() if len(both[1]) else ():
            one, other = (part[part["population"] == population] for part in both)
            if len(one) and len(other):
                return float(one["value"].iloc[0]) / float(other["value"].iloc[0]), str(one["source_title"].iloc[0])
    return float("nan"), ""


@dataclass(frozen=True)
class ExamVerdict:
    """What came of an exam: ``arms`` (one row an arm, predicted and published), the scores, and whether it was passed.

    Attributes
    ----------
    arms : DataFrame
    sha256 : str
        Of the predictions as they were handed in.
    error, null_error : float
        Mean absolute error of the log ratio, of the predictions and of the mean of the other arms.
    difference, lower, upper : float
        Mean of the paired differences (negative: the predictions are nearer), with its 95% interval; arms of one trial are one
        cluster.
    correlation : float
        Of predicted and published log ratios.
    """

    arms: pd.DataFrame
    sha256: str
    error: float
    null_error: float
    difference: float
    lower: float
    upper: float
    correlation: float

    @property
    def passed(self) -> bool:
        """Error, paired interval and correlation all reach their bars."""
        return self.error <= LARGEST_ERROR and self.upper < 0 and self.correlation >= LEAST_CORRELATION

    def __repr__(self) -> str:
        judged = self.arms[self.arms["metric"] == JUDGED]
        others = self.arms[self.arms["metric"] != JUDGED]

        def line(row: pd.Series) -> str:
            what = f"{row['trial']}: {row['arm']} against {row['comparator']}"
            return f"  {what:<84} predicted {fixed(row['predicted'], 2)}  published {fixed(row['ratio'], 2)}"

        def bar(reached: bool) -> str:
            return "reached" if reached else "missed"

        words = [
            f"Exam on {len(judged)} published arms, {JUDGED} lesions; predictions sha256 {self.sha256[:16]}",
            *(line(row) for _, row in judged.iterrows()),
            f"  mean absolute error of the log ratio {fixed(self.error, 3)} "
            f"(at most {LARGEST_ERROR}: {bar(self.error <= LARGEST_ERROR)}); mean of the other arms {fixed(self.null_error, 3)}",
            f"  paired difference {fixed(self.difference, 3)} ({fixed(self.lower, 3)} to {fixed(self.upper, 3)}; "
            f"below 0: {bar(self.upper < 0)})",
            f"  correlation {fixed(self.correlation, 3)} (at least {LEAST_CORRELATION}: "
            f"{bar(self.correlation >= LEAST_CORRELATION)})",
            f"  {'passed' if self.passed else 'not passed'}",
        ]
        for metric, rows in others.dropna(subset="predicted").groupby("metric", sort=False):
            words += [f"Not judged, {metric} lesions:", *(line(row) for _, row in rows.iterrows())]
        return "\n".join(words)


def exam_form() -> pd.DataFrame:
    """The blank form of the exam: every arm and metric, with an empty column ``predicted``.

    Examples
    --------
    >>> list(exam_form().columns)
    ['trial', 'arm', 'comparator', 'metric', 'week', 'predicted']
    """
    return exam_arms()[[*_KEY, "week"]].assign(predicted="")


def judge_exam(file: str | Path) -> ExamVerdict:
    r"""Judge a file of predicted effects by the published arms.

    With :math:`e_i = |\log \hat r_i - \log r_i|` and :math:`n_i` the same of the mean of the other arms' log ratios, the paired
    difference is the mean of :math:`e_i - n_i`, its variance that of sums over trials, its interval by t.

    Parameters
    ----------
    file : path
        A table with ``trial``, ``arm``, ``comparator``, ``metric`` as in :func:`exam_form`, and ``predicted``, a ratio of lesion
        counts.  Every arm of the judged metric needs a prediction; others may be left out.

    Raises
    ------
    InputError
        If columns or arms are missing, an arm is there twice or unknown, or a prediction is no positive number.

    References
    ----------
    The bars: 80% of a null error of .380, and the correlation of RCT-DUPLICATE's emulations.
    """
    from scipy import stats

    arms = _predicted(Path(file))
    judged = arms[arms["metric"] == JUDGED]
    published, predicted = np.log(judged["ratio"].to_numpy(float)), np.log(judged["predicted"].to_numpy(float))
    n = len(published)
    error, null = np.abs(predicted - published), np.abs((published.sum() - published) / (n - 1) - published)
    gap = error - null
    clusters = pd.Series(gap - gap.mean()).groupby(judged["trial"].to_numpy()).sum().to_numpy()
    se = float(np.sqrt((clusters**2).sum() * len(clusters) / (len(clusters) - 1))) / n
    half = float(stats.t.ppf(0.975, len(clusters) - 1)) * se
    return ExamVerdict(
        arms,
        hashlib.sha256(Path(file).read_bytes()).hexdigest(),
        float(error.mean()),
        float(null.mean()),
        float(gap.mean()),
        float(gap.mean() - half),
        float(gap.mean() + half),
        float(np.corrcoef(predicted, published)[0, 1]) if np.ptp(predicted) > 0 else 0.0,
    )


def _predicted(file: Path) -> pd.DataFrame:
    """The exam's arms with the predictions of a file beside them."""
    given = read_table(file)
    if lacking := [column for column in [*_KEY, "predicted"] if column not in given]:
        raise InputError(f"{file}: no column {', '.join(lacking)}; start from the form (`exam_form`)")
    given = given[[*_KEY, "predicted"]].assign(predicted=pd.to_numeric(given["predicted"], errors="coerce"))
    if given.duplicated(_KEY).any():
        row = given[given.duplicated(_KEY)].iloc[0]
        raise InputError(f"{file}: {row['trial']}, {row['arm']}, {row['metric']} is there twice; leave one row")
    arms = exam_arms().merge(given, on=_KEY, how="outer", indicator=True, sort=False)
    if (arms["_merge"] == "right_only").any():
        row = arms[arms["_merge"] == "right_only"].iloc[0]
        raise InputError(f"{file}: {row['trial']}, {row['arm']}, {row['metric']} is no arm of the exam; keep the form's rows")
    arms = exam_arms().merge(given, on=_KEY, how="left")
    unusable = (arms["metric"] == JUDGED) & ~(arms["predicted"] > 0) | (arms["predicted"] <= 0)
    if unusable.any():
        row = arms[unusable].iloc[0]
        raise InputError(
            f"{file}: no positive ratio in `predicted` for {row['trial']}, {row['arm']} ({int(unusable.sum())} such rows); "
            "every arm of the judged metric needs one"
        )
    return arms
