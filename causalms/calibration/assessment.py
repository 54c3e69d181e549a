"""The whole judgement of a set of forecasts: rows for the results table and the tables that figures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from causalms.calibration.coverage import LEVELS, coverage_table
from causalms.calibration.decomposition import decomposition
from causalms.calibration.pairs import Pairs
from causalms.calibration.pit import pit_histogram
from causalms.calibration.reliability import Reliability, reliability
from causalms.calibration.rootogram import rootogram
from causalms.calibration.significance import calibration_test
from causalms.errors import UsageError, named_arguments
from causalms.stats import SCORES, DrawsLaw, score
from causalms.tables import results_table


@dataclass(frozen=True)
class Assessment:
    """Calibration, group by group.

    Attributes
    ----------
    results : DataFrame
        Results table; no row is a contrast, so ``randomised`` is False throughout.
    pit, reliability, rootogram, coverage : DataFrame
        The tables of :func:`pit_histogram`, :func:`reliability`, :func:`rootogram` and :func:`coverage_table` with the columns
        ``subgroup``, ``p_value`` and ``patients`` added.
    too_small : tuple of str
        Groups that were not judged because they have fewer patients than asked for.
    """

    results: pd.DataFrame
    pit: pd.DataFrame
    reliability: pd.DataFrame
    rootogram: pd.DataFrame
    coverage: pd.DataFrame
    too_small: tuple[str, ...] = ()


@named_arguments
def assess(
    pairs: Pairs,
    by: tuple[str, ...] = (),
    level: float = 0.95,
    bins: int = 10,
    repetitions: int = 999,
    seed: int = 0,
    progress: bool = False,
    least: int = 5,
) -> Assessment:
    """Judge count forecasts over all patients and in every group.

    Parameters
    ----------
    pairs : Pairs
    by : tuple of str
        Columns (``arm``, ``trial``, ``site``) or conditions (``age >= 40``); each splits the patients apart from the others.
    level : float
        Of intervals and bands.
    bins : int
        Of the PIT histogram.
    repetitions : int
        Simulated trials under calibration for bands and Monte-Carlo p-values.
    seed : int
    progress : bool
        Show a progress bar on standard error.
    least : int
        Groups of fewer patients, such as many sites of a large trial, are not judged apart but named in ``too_small``.

    Returns
    -------
    Assessment

    Raises
    ------
    UsageError
        If ``by`` is neither a column nor a condition, or the level is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causalms.calibration import Pairs
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([0.5, 2.0] * 20, [0.8] * 40)
    >>> frame = pd.DataFrame({"arm": "placebo", "observed": [0, 0, 0, 1, 1, 2, 0, 5] * 5})
    >>> found = assess(Pairs(frame, law, law.activity, 48), repetitions=99)
    >>> found.results[["measure", "estimate"]].round(3).values.tolist()[:2]
    [['observed / predicted mean count', 0.9], ['observed - predicted activity', 0.023]]
    """
    if not 0 < level < 1:
        raise UsageError(f"level {level}; give a number between 0 and 1, for example 0.95")
    rows: list[dict[str, Any]] = []
    tables: dict[str, list[pd.DataFrame]] = {"pit": [], "reliability": [], "rootogram": [], "coverage": []}
    divided = [group for split in by for group in pairs.groups(split)]
    groups = [*pairs.groups(), *((label, part) for label, part in divided if part.n >= least)]
    for label, part in tqdm(groups, desc="groups", disable=not progress):
        rows += _group(label, part, level, bins, repetitions, seed, tables)
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return Assessment(results_table(rows), **whole, too_small=tuple(label for label, part in divided if part.n < least))


def _group(
    label: str, pairs: Pairs, level: float, bins: int, repetitions: int, seed: int, tables: dict[str, list[pd.DataFrame]]
) -> list[dict[str, Any]]:
    law, y = pairs.law, pairs.observed
    common = {
        "analysis": "calibration",
        "population": f"patients observed at week {pairs.week:g}, forecast under the arm as randomised",
        "subgroup": label,
        "level": level,
        "n": pairs.n,
        "randomised": False,
        "rung": 2,
    }
    pit = pit_histogram(law, y, bins, level, repetitions, seed)
    # The activity of draws is their own share, whose replicates must be draws again; a formula may forecast it apart.
    chance = None if isinstance(law, DrawsLaw) else pairs.activity
    curve = reliability(law, y, chance, level, repetitions=repetitions, seed=seed)
    root = rootogram(law, y, level=level, repetitions=repetitions, seed=seed)
    covered = coverage_table(law, y, LEVELS, level)
    for name, table, p_value in (
        ("pit", pit.table, pit.p_value),
        ("reliability", curve.table, curve.p_value),
        ("rootogram", root.table, root.p_value),
        ("coverage", covered, None),
    ):
        added = table.assign(subgroup=label, patients=pairs.n)
        tables[name].append(added if p_value is None else added.assign(p_value=p_value))
    rows = [_mean_ratio(pairs, level), _activity_difference(pairs, level), *_score_rows(pairs, level, repetitions, seed)]
    rows += [
        {
            "measure": "largest deviation of the PIT histogram from 1",
            "estimand": "largest deviation of the density of the non-randomised probability integral transform from uniform",
            "estimator": f"non-randomised PIT, {bins} bins",
            "variance": "simulation under calibration",
            "estimate": float(np.abs(pit.table["density"] - 1).max()),
            "p_value": pit.p_value,
        },
        *_brier_parts(curve),
        *_count_parts(pairs, level, repetitions, seed),
    ]
    return [{**common, **row} for row in [*rows, *_coverage_rows(covered)]]


_PARTS = {
    "miscalibration": "isotonic recalibration would remove",
    "discrimination": "telling patients apart wins over one law for all",
    "uncertainty": "one law for all patients, the best in hindsight, would have",
}


def _brier_parts(curve: Reliability) -> list[dict[str, Any]]:
    tested = {"expected": curve.expected_miscalibration, "p_value": curve.p_miscalibration}
    return _part_rows("activity (Brier)", "Brier score of any new lesion", curve, tested)


def _count_parts(pairs: Pairs, level: float, repetitions: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for name, title in (("crps", "CRPS"), ("log", "log score")):
        parts = decomposition(pairs.law, pairs.observed, name, level, min(repetitions, 199), seed)
        tested = {"expected": parts.expected_miscalibration, "p_value": parts.p_value}
        rows += _part_rows(f"counts ({title})", f"mean {title} of the count", parts, tested)
    return rows


def _part_rows(of: str, score: str, parts: Any, tested: dict[str, float]) -> list[dict[str, Any]]:
    """One row a part; score = miscalibration - discrimination + uncertainty."""
    rows = []
    for name, words in _PARTS.items():
        row = {
            "measure": f"{name} of {of}",
            "estimand": f"part of the {score} that {words}",
            "estimator": "isotonic regression (CORP)",
            "variance": "percentile bootstrap of patients",
            "estimate": getattr(parts, name),
            "lower": parts.intervals[name][0],
            "upper": parts.intervals[name][1],
        }
        if name == "miscalibration":
            row["estimand"] += f"; {tested['expected']:.3g} expected under calibration"
            row["variance"] += "; p by simulation under calibration"
            row["p_value"] = tested["p_value"]
        rows.append(row)
    return rows


def _coverage_rows(covered: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line in covered.itertuples():
        rows.append(
            {
                "measure": f"coverage of {line.level:.0%} prediction intervals",
                "estimand": f"share of patients whose count lies in the central {line.level:.0%} prediction interval; "
                f"{line.expected:.1%} expected, counts being whole",
                "estimator": "share of patients",
                "variance": "Wilson; p against the expected share, Poisson-binomial",
                "estimate": line.coverage,
                "lower": line.lower,
                "upper": line.upper,
                "p_value": line.p_value,
            }
        )
        rows.append(
            {
                "measure": f"mean width of {line.level:.0%} prediction intervals",
                "estimand": "mean distance between the ends of the prediction interval, in lesions",
                "estimator": "mean over patients",
                "estimate": line.width,
            }
        )
    return rows


def _mean_ratio(pairs: Pairs, level: float) -> dict[str, Any]:
    y, predicted = pairs.observed, pairs.law.mean
    row = {
        "measure": "observed / predicted mean count",
        "estimand": "ratio of the observed to the predicted mean count of new or enlarging lesions under the arm as randomised",
        "estimator": "ratio of means",
        "variance": "influence function over patients",
    }
    if y.sum() == 0 or predicted.sum() == 0:
        return {**row, "estimate": 0.0 if y.sum() == 0 and predicted.sum() > 0 else float("nan")}
    ratio = y.mean() / predicted.mean()
    influence = y / y.mean() - predicted / predicted.mean()
    se, quantile = _standard_error(influence), _t(pairs.n, level)
    return {
        **row,
        "estimate": ratio,
        "se": se,
        "lower": ratio * np.exp(-quantile * se),
        "upper": ratio * np.exp(quantile * se),
        "p_value": _p(np.log(ratio), se, pairs.n),
        "se_patient": se,
    }


def _activity_difference(pairs: Pairs, level: float) -> dict[str, Any]:
    return {
        "measure": "observed - predicted activity",
        "estimand": "observed share of patients with any new or enlarging lesion minus its mean predicted probability",
        **_mean_row((pairs.observed > 0) - pairs.activity, level, test=True),
    }


def _score_rows(pairs: Pairs, level: float, repetitions: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for name, title in SCORES.items():
        if name == "brier":
            fair = isinstance(pairs.law, DrawsLaw)
            scores = score(name, pairs.law, pairs.observed) if fair else (pairs.activity - (pairs.observed > 0)) ** 2
            rows.append(
                {"measure": title, "estimand": "mean Brier score of any new or enlarging lesion", **_mean_row(scores, level)}
            )
            continue
        test = calibration_test(pairs.law, pairs.observed, name, repetitions=repetitions, seed=seed)
        rows.append(
            {
                "measure": title,
                "estimand": f"mean {title} of the predictive law of the count; {test.expected:.4g} expected under calibration",
                **_mean_row(score(name, pairs.law, pairs.observed), level),
                "p_value": test.p_value,
            }
        )
    return rows


def _mean_row(values: np.ndarray, level: float, test: bool = False) -> dict[str, Any]:
    se, mean = _standard_error(values), float(np.mean(values))
    half = _t(len(values), level) * se
    row = {
        "estimator": "mean over patients",
        "variance": "between patients; p by simulation under calibration" if not test else "between patients",
        "estimate": mean,
        "se": se,
        "lower": mean - half,
        "upper": mean + half,
        "se_patient": se,
    }
    return {**row, "p_value": _p(mean, se, len(values))} if test else row


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _t(n: int, level: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, max(n - 1, 1)))


def _p(estimate: float, se: float, n: int) -> float:
    return float(2 * stats.t.sf(abs(estimate) / se, max(n - 1, 1))) if se > 0 else float("nan")
