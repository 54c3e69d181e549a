"""Calibration of draws that are known by their tallies: what needs no simulated trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalms.calibration.pairs import Pairs
from causalms.calibration.pit import LEVELS, coverage_table, mean_pit, pit_ends
from causalms.calibration.tests import mean_with_interval, ratio_of_means
from causalms.stats import SCORES, Array, score
from causalms.tables import ResultRow, name_of, percent_in_full, results_table


def assess_tallied(pairs: Pairs, by: Sequence[str] = (), level: float = 0.95, bins: int = 10, least: int = 5) -> pd.DataFrame:
    """Calibration in the large, coverage, PIT and fair scores of forecasts by draws of any number, by group.

    The numbers are those of :func:`causalms.calibration.assess`; what it derives from simulated trials (bands, p-values of
    scores, isotonic parts) is left out.

    Parameters
    ----------
    pairs : Pairs
        With a law of tallies: :func:`pair` of a table of :func:`causalms.tables.tallied_draws`.
    by : sequence of str
    level : float
    bins : int
    least : int
        Fewest patients of a group.

    Returns
    -------
    DataFrame
        In the schema of the results table.
    """
    groups = [*pairs.groups(), *(group for column in by for group in pairs.groups(column) if group[1].n >= least)]
    return results_table([row for label, group in groups for row in _rows(label, group, level, bins)])


def _rows(label: str, pairs: Pairs, level: float, bins: int) -> list[ResultRow]:
    law, y = pairs.law, pairs.observed
    common = {
        "analysis": "calibration",
        "population": f"patients observed at week {name_of(pairs.week)}, forecast under the arm as randomised",
        "subgroup": label,
        "level": level,
        "n": pairs.n,
        "randomised": False,
        "rung": 2,
    }

    def row(measure: str, numbers: dict[str, float], estimator: str = "mean over patients", variance: str = "") -> ResultRow:
        return ResultRow(measure=measure, estimator=estimator, variance=variance, **common, **numbers)  # type: ignore[arg-type]

    def mean(values: Array) -> dict[str, float]:
        return mean_with_interval(values, level)

    edges = np.arange(bins + 1) / bins
    density = np.diff(mean_pit(*pit_ends(law, y), edges)) * bins
    ratio = ratio_of_means(y.astype(float), law.mean, level)
    rows = [
        row("observed / predicted mean count", ratio, "ratio of means", "influence function over patients"),
        row("observed - predicted activity", mean((y > 0) - pairs.activity), variance="between patients"),
        *(row(SCORES[name], mean(score(name, law, y)), variance="between patients") for name in ("crps", "brier")),
        row("largest deviation of the PIT histogram from 1", {"estimate": float(np.abs(density - 1).max())}),
        *(row(f"PIT density, bin {k} of {bins}", {"estimate": float(value)}) for k, value in enumerate(density, 1)),
    ]
    wilson = "Wilson; p against the expected share, Poisson-binomial"
    for line in coverage_table(law, y, LEVELS, level).to_dict("records"):
        of = f"of {percent_in_full(float(line['level']))} prediction intervals"
        numbers = {"estimate": line["coverage"], "lower": line["lower"], "upper": line["upper"], "p_value": line["p_value"]}
        rows.append(row(f"coverage {of}", numbers, "share of patients", wilson))
        rows.append(row(f"mean width {of}", {"estimate": line["width"]}))
    return rows
