"""The whole judgement of a set of forecasts: rows for the results table and the tables that figures are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np
import pandas as pd
from joblib import delayed
from tqdm import tqdm

from causalms.calibration.decomposition import Decomposition, decomposition, less_chance
from causalms.calibration.pairs import Pairs
from causalms.calibration.pit import LEVELS, coverage_table, pit_histogram
from causalms.calibration.reliability import Reliability, reliability, rootogram
from causalms.calibration.tests import calibration_test, mean_with_interval, ratio_of_means
from causalms.errors import UsageError, named_arguments
from causalms.stats import SCORES, DrawsLaw, score
from causalms.tables import ResultRow, fixed, name_of, percent_in_full, percentage, results_table, significant
from causalms.workers import results_in_order

#: A maker of rows that already knows the group of patients.
_Row = Callable[..., ResultRow]


@dataclass(frozen=True, repr=False)
class Assessment:
    """Calibration, group by group; printed, it reads as on the command line.

    Attributes
    ----------
    results : DataFrame
        Results table; no row is a contrast, so ``randomised`` is False throughout.
    pit, reliability, rootogram, coverage : DataFrame
        The tables of :func:`pit_histogram`, :func:`reliability`, :func:`rootogram` and :func:`coverage_table` with the columns
        ``subgroup``, ``p_value`` and ``patients`` added.
    too_small : tuple of str
        Groups that were not judged apart because they have fewer than ``least`` patients.
    patients, left_out : int
        Patients judged, and patients with a forecast whose count is missing.
    week : float
        Visit that was judged.
    least : int
    own_counts : tuple of str
        What the observed counts say of the model with its stated error.
    """

    results: pd.DataFrame
    pit: pd.DataFrame
    reliability: pd.DataFrame
    rootogram: pd.DataFrame
    coverage: pd.DataFrame
    patients: int
    week: float
    left_out: int = 0
    too_small: tuple[str, ...] = ()
    least: int = 5
    own_counts: tuple[str, ...] = ()

    @property
    def glance(self) -> str:
        """The summary as text, one line a group: means, calibration p-values, parts of the CRPS, coverage."""
        shown = summary(self.results).drop(columns=["analysis", "lower", "upper", "log score", "p 90%"])
        shown = shown.rename(columns={"patients": "n", "observed / predicted": "obs/pred"})
        width = max(16, *(len(group) for group in shown["group"])) if len(shown) else 16
        lines = [f"{'group':{width}s}" + "".join(f"{name:>11s}" for name in shown.columns[1:])]
        for row in shown.itertuples(index=False):
            n, *numbers = row[1:]
            texts = [fixed(n, 0), *(fixed(value, 3) for value in numbers[:-1]), percentage(numbers[-1], 1)]
            lines.append(f"{row[0]:{width}s}" + "".join(f"{text:>11s}" for text in texts))
        return "\n".join([*lines, "CRPS = MCB (miscalibration) - DSC (discrimination) + UNC (uncertainty)"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known beside the numbers: a model that own counts contradict, groups that were too small."""
        if not self.too_small:
            return self.own_counts
        shown = ", ".join(self.too_small[:3]) + (", ..." if len(self.too_small) > 3 else "")
        return (
            *self.own_counts,
            f"{len(self.too_small)} groups of fewer than {self.least} patients were not judged apart: {shown}",
        )

    def __repr__(self) -> str:
        """The page that the command line prints."""
        return "\n".join([heading(self.patients, self.week, self.left_out), self.glance, *self.notes])

    def _repr_html_(self) -> str:
        shown = summary(self.results).to_html(index=False, border=0, float_format=lambda value: fixed(value, 3))
        return f"{shown}<details><summary>details</summary><pre>{escape(repr(self))}</pre></details>"


def heading(patients: int, week: float, left_out: int) -> str:
    """Who was judged, and who could not be.

    Examples
    --------
    >>> heading(190, 48, 10)
    '190 patients at week 48; 10 left out, their count at week 48 is missing'
    """
    missing = f"; {left_out} left out, their count at week {name_of(week)} is missing" if left_out else ""
    return f"{patients} patients at week {name_of(week)}{missing}"


@named_arguments
def assess(
    pairs: Pairs,
    by: str | tuple[str, ...] = (),
    level: float = 0.95,
    bins: int = 10,
    repetitions: int = 999,
    seed: int = 0,
    progress: bool = False,
    least: int = 5,
    workers: int = 1,
) -> Assessment:
    """Judge count forecasts over all patients and in every group.

    Parameters
    ----------
    pairs : Pairs
    by : str or tuple of str
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
    workers : int
        Processes that share the groups; the numbers stay the same.

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
    >>> assessment = assess(Pairs(frame, law, law.activity, 48), repetitions=99)
    >>> assessment.results[["measure", "estimate"]].round(3).values.tolist()[:2]
    [['observed / predicted mean count', 0.9], ['observed - predicted activity', 0.023]]
    """
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {level}, expected a number between 0 and 1, for example 0.95")
    settings = _Settings(level, bins, repetitions, seed)
    divided = [group for column in ((by,) if isinstance(by, str) else by) for group in pairs.groups(column)]
    groups = [*pairs.groups(), *((label, part) for label, part in divided if part.n >= least)]
    calls = (delayed(_group)(label, part, settings) for label, part in groups)
    done = results_in_order(calls, workers, "judge them again")
    judged = list(tqdm(done, desc="groups", total=len(groups), disable=not progress))
    too_small = tuple(label for label, part in divided if part.n < least)
    whole = {name: pd.concat([tables[name] for _, tables in judged], ignore_index=True) for name in judged[0][1]}
    return Assessment(
        results_table([row for rows, _ in judged for row in rows]),
        **whole,
        patients=pairs.n,
        week=pairs.week,
        left_out=pairs.left_out,
        too_small=too_small,
        least=least,
        own_counts=pairs.notes,
    )


@dataclass(frozen=True)
class _Settings:
    """How every group is judged."""

    level: float
    bins: int
    repetitions: int
    seed: int


def _group(label: str, pairs: Pairs, settings: _Settings) -> tuple[list[ResultRow], dict[str, pd.DataFrame]]:
    """Rows and tables of one group of patients."""
    law, y, level = pairs.law, pairs.observed, settings.level
    row = partial(
        ResultRow,
        analysis="calibration",
        population=f"patients observed at week {name_of(pairs.week)}, forecast under the arm as randomised",
        subgroup=label,
        level=level,
        n=pairs.n,
        randomised=False,
        rung=2,
    )
    pit = pit_histogram(law, y, settings.bins, level, settings.repetitions, settings.seed)
    # The activity of draws is their own share, whose replicates must be draws again; a formula may forecast it apart.
    chance = None if isinstance(law, DrawsLaw) else pairs.activity
    curve = reliability(law, y, chance, level, repetitions=settings.repetitions, seed=settings.seed)
    root = rootogram(law, y, level=level, repetitions=settings.repetitions, seed=settings.seed)
    covered = coverage_table(law, y, LEVELS, level)
    tables = {
        name: judged.table.assign(subgroup=label, patients=pairs.n, p_value=judged.p_value)
        for name, judged in (("pit", pit), ("reliability", curve), ("rootogram", root))
    } | {"coverage": covered.assign(subgroup=label, patients=pairs.n)}
    deviation = row(
        measure="largest deviation of the PIT histogram from 1",
        estimand="largest deviation of the density of the non-randomised probability integral transform from uniform",
        estimator=f"non-randomised PIT, {settings.bins} bins",
        variance="simulation under calibration",
        estimate=float(np.abs(pit.table["density"] - 1).max()),
        p_value=pit.p_value,
    )
    rows = [
        *_mean_rows(row, pairs, level),
        *_score_rows(row, pairs, settings),
        deviation,
        *_part_rows(row, "activity (Brier)", "Brier score of any new lesion", curve, curve.p_miscalibration),
        *_count_parts(row, pairs, settings),
        *_coverage_rows(row, covered),
    ]
    return rows, tables


def _mean_rows(row: _Row, pairs: Pairs, level: float) -> list[ResultRow]:
    """Calibration in the large: the mean count, and the share of patients with any lesion."""
    return [
        row(
            measure="observed / predicted mean count",
            estimand="ratio of the observed to the predicted mean count of new or enlarging lesions under the arm as randomised",
            estimator="ratio of means",
            variance="influence function over patients",
            **ratio_of_means(pairs.observed.astype(float), pairs.law.mean, level),
        ),
        row(
            measure="observed - predicted activity",
            estimand="observed share of patients with any new or enlarging lesion minus its mean predicted probability",
            estimator="mean over patients",
            variance="between patients",
            **mean_with_interval((pairs.observed > 0) - pairs.activity, level),
        ),
    ]


def _score_rows(row: _Row, pairs: Pairs, settings: _Settings) -> list[ResultRow]:
    """Mean scores; all but the Brier score beside what calibrated forecasts would have."""
    rows = []
    for name, title in SCORES.items():
        estimand, p_value = "mean Brier score of any new or enlarging lesion", np.nan
        if name == "brier" and not isinstance(pairs.law, DrawsLaw):
            scores = np.asarray((pairs.activity - (pairs.observed > 0)) ** 2)
        else:
            scores = score(name, pairs.law, pairs.observed)
        if name != "brier":
            test = calibration_test(pairs.law, pairs.observed, name, repetitions=settings.repetitions, seed=settings.seed)
            estimand = (
                f"mean {title} of the predictive law of the count; {significant(test.expected, 4)} expected under calibration"
            )
            p_value = test.p_value
        rows.append(
            row(
                measure=title,
                estimand=estimand,
                estimator="mean over patients",
                variance="between patients; p by simulation under calibration",
                **{**mean_with_interval(scores, settings.level), "p_value": p_value},
            )
        )
    return rows


def _count_parts(row: _Row, pairs: Pairs, settings: _Settings) -> list[ResultRow]:
    rows = []
    for name, title in (("crps", "CRPS"), ("log", "log score")):
        repetitions = min(settings.repetitions, 199)
        parts = decomposition(pairs.law, pairs.observed, name, settings.level, repetitions, settings.seed)
        rows += _part_rows(row, f"counts ({title})", f"mean {title} of the count", parts, parts.p_value)
    return rows


#: Each part of a score: what it is, and where its interval comes from.
_PARTS = {
    "miscalibration": (
        "isotonic recalibration would remove",
        "bootstrap of patients, without what isotonic regression fits by chance; p by simulation under calibration",
    ),
    "discrimination": (
        "telling patients apart wins over one law for all",
        "bootstrap of patients, without what isotonic regression fits by chance",
    ),
    "uncertainty": ("one law for all patients, the best in hindsight, would have", "percentile bootstrap of patients"),
}


def _part_rows(row: _Row, of: str, title: str, parts: Decomposition | Reliability, p_value: float) -> list[ResultRow]:
    """One row a part, without what chance adds: score = miscalibration - discrimination + uncertainty; the first is tested."""
    less = less_chance(parts.miscalibration, parts.discrimination, parts.expected_miscalibration)
    seen, chance = (significant(value, 3) for value in (parts.miscalibration, parts.expected_miscalibration))
    said = {"miscalibration": f"; {seen} less the {chance} that chance adds on average, zero at least"}
    return [
        row(
            measure=f"{name} of {of}",
            estimand=f"part of the {title} that {words}{said.get(name, '')}",
            estimator="isotonic regression (CORP)",
            variance=variance,
            estimate=estimate,
            lower=parts.intervals[name][0],
            upper=parts.intervals[name][1],
            p_value=p_value if name == "miscalibration" else np.nan,
        )
        for (name, (words, variance)), estimate in zip(_PARTS.items(), (*less, parts.uncertainty), strict=True)
    ]


def _coverage_rows(row: _Row, covered: pd.DataFrame) -> list[ResultRow]:
    rows = []
    for line in covered.itertuples():
        level = percent_in_full(float(line.level))  # type: ignore[arg-type]
        rows += [
            row(
                measure=f"coverage of {level} prediction intervals",
                estimand=f"share of patients whose count lies in the central {level} prediction interval; "
                f"{percentage(line.expected, 1)} expected, counts being whole",
                estimator="share of patients",
                variance="Wilson; p against the expected share, Poisson-binomial",
                estimate=line.coverage,
                lower=line.lower,
                upper=line.upper,
                p_value=line.p_value,
            ),
            row(
                measure=f"mean width of {level} prediction intervals",
                estimand="mean distance between the ends of the prediction interval, in lesions",
                estimator="mean over patients",
                estimate=line.width,
            ),
        ]
    return rows


#: Column of the summary: measure and column of the results table.
_CELLS = {
    "patients": ("CRPS", "n"),
    "observed / predicted": ("observed / predicted mean count", "estimate"),
    "lower": ("observed / predicted mean count", "lower"),
    "upper": ("observed / predicted mean count", "upper"),
    "p PIT": ("largest deviation of the PIT histogram from 1", "p_value"),
    "CRPS": ("CRPS", "estimate"),
    "p CRPS": ("CRPS", "p_value"),
    "MCB": ("miscalibration of counts (CRPS)", "estimate"),
    "p MCB": ("miscalibration of counts (CRPS)", "p_value"),
    "DSC": ("discrimination of counts (CRPS)", "estimate"),
    "UNC": ("uncertainty of counts (CRPS)", "estimate"),
    "log score": ("log score", "estimate"),
    "Brier": ("Brier score of activity", "estimate"),
    "p activity": ("miscalibration of activity (Brier)", "p_value"),
    "in 90%": ("coverage of 90% prediction intervals", "estimate"),
    "p 90%": ("coverage of 90% prediction intervals", "p_value"),
}


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row an analysis and group of :func:`causalms.calibration.assess`'s results.

    Returns
    -------
    DataFrame
        ``analysis``, ``group``, ``patients``, ``observed / predicted`` mean count with interval, p of the PIT band, CRPS = MCB
        (miscalibration) - DSC (discrimination) + UNC (uncertainty) with p of CRPS and of MCB, log score, Brier score and p of
        activity, and the share of patients in their 90% prediction interval with its p.

    Examples
    --------
    >>> from causalms.calibration import Pairs, assess
    >>> from causalms.stats import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw([0.5, 2.0] * 20, [0.8] * 40)
    >>> frame = pd.DataFrame({"arm": "placebo", "observed": [0, 0, 0, 1, 1, 2, 0, 5] * 5})
    >>> shown = summary(assess(Pairs(frame, law, law.activity, 48), repetitions=19).results)
    >>> shown[["group", "patients", "observed / predicted"]].round(2).values.tolist()
    [['all', 40.0, 0.9]]
    """
    rows = []
    for (analysis, group), part in results.groupby(["analysis", "subgroup"], sort=False):
        by = {
            column: part.set_index("measure")[column].astype(float) for column in ("estimate", "lower", "upper", "p_value", "n")
        }
        cells = {name: float(by[column][measure]) for name, (measure, column) in _CELLS.items()}
        rows.append({"analysis": analysis, "group": group, **cells})
    return pd.DataFrame(rows)
