"""From a results table to what its reader sees: few digits, a line with badges, the rest one click away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from causalms.effects import model_error_words
from causalms.tables import fixed, is_ratio, p_value_text, percent_in_full

#: Written where a number is absent, so that an empty cell is never read as zero.
ABSENT = "–"
_MOST_DECIMALS = 6


def decimals_for(*values: float) -> int:
    """Decimals that give the largest of the values three significant digits (at most six decimals).

    Examples
    --------
    >>> decimals_for(0.523, 0.41, 0.66), decimals_for(12.3), decimals_for(0.00321), decimals_for(0.0)
    (3, 1, 5, 2)
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return 2
    return min(_MOST_DECIMALS, max(0, 2 - math.floor(math.log10(max(sizes)))))


def number(value: object, decimals: int | None = None) -> str:
    """Write one number; a missing one as a dash, a whole one without decimals.

    Examples
    --------
    >>> number(0.52312), number(1234.0), number(float("nan")), number(2.0, 2)
    ('0.523', '1,234', '–', '2.00')
    >>> number(2e-16)
    '<0.000001'
    """
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return ABSENT
    x = float(value)  # type: ignore[arg-type]
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if decimals is None:
        decimals = 0 if x == round(x) and abs(x) < 1e15 else decimals_for(x)
    if decimals == _MOST_DECIMALS and 0 < abs(x) < 0.5 * 10.0**-_MOST_DECIMALS:
        least = fixed(10.0**-_MOST_DECIMALS, _MOST_DECIMALS)
        return f"<{least}" if x > 0 else f">−{least}"
    text = fixed(x, decimals, thousands=True)
    return f"−{text[1:]}" if text.startswith("-") else text


def estimate_and_interval(estimate: float, lower: float, upper: float) -> tuple[str, str]:
    """Write an estimate and its interval with the same decimals, zero as 0; the interval is empty where both limits are missing.

    Examples
    --------
    >>> estimate_and_interval(0.5231, 0.4118, 0.6644)
    ('0.523', '0.412 to 0.664')
    >>> estimate_and_interval(-0.2, -0.31, float("nan"))
    ('−0.200', '−0.310 to –')
    >>> estimate_and_interval(0.0, 0.0, 0.00355)
    ('0', '0 to 0.00355')
    """
    decimals = decimals_for(estimate) if math.isfinite(estimate) and estimate != 0 else decimals_for(lower, upper)
    if pd.isna(lower) and pd.isna(upper):
        return number(estimate, None if estimate == round(estimate, 0) else decimals), ""
    cells = ["0" if value == 0 else number(value, decimals) for value in (estimate, lower, upper)]
    return cells[0], f"{cells[1]} to {cells[2]}"


def p_value(value: object) -> str:
    """Write a p-value to three decimals, small ones as ``<0.001``.

    Examples
    --------
    >>> p_value(0.03412), p_value(0.00002), p_value(None)
    ('0.034', '<0.001', '–')
    """
    return p_value_text(math.nan if value is None else float(value), 3, ABSENT)  # type: ignore[arg-type]


def percent(level: object) -> str:
    """Write a confidence level, ``0.95`` as ``95%``; a missing one as nothing.

    Examples
    --------
    >>> percent(0.95), percent(0.995), percent(None)
    ('95%', '99.5%', '')
    """
    if level is None or pd.isna(level):  # type: ignore[call-overload]
        return ""
    return percent_in_full(float(level))  # type: ignore[arg-type]


def text(value: object, absent: str = "") -> str:
    """A text cell of a table, with missing values as ``absent``.

    Examples
    --------
    >>> text(None), text(float("nan"), "all"), text("placebo")
    ('', 'all', 'placebo')
    """
    return absent if value is None or pd.isna(value) or str(value) == "" else str(value)  # type: ignore[call-overload]


def each_row(table: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples, whose entries are whatever the columns hold.

    Examples
    --------
    >>> [row.a for row in each_row(pd.DataFrame({"a": [1, 2]}))]
    [1, 2]
    """
    return iter(table.itertuples(index=False))


class Badge(NamedTuple):
    """A short label with its colour class and the sentence behind it."""

    label: str
    kind: str
    sentence: str


RANDOMISED = Badge("randomised", "good", "Both arms were randomised against each other within one trial.")
TRANSPORTED = Badge(
    "transported",
    "care",
    "The two arms were not randomised against each other within one trial: the contrast is carried across trials by a model.",
)
SIMULATED = Badge(
    "simulated",
    "plain",
    "Rests on outcomes of the same patients simulated under both arms; the estimand or the estimator says in which trial both "
    "arms were randomised together.",
)
SIMULATED_ACROSS_TRIALS = Badge(
    "simulated across trials",
    "care",
    "Rests on outcomes of the same patients simulated under both arms, which no trial randomised against each other: the "
    "contrast is carried across trials by a model.",
)
NO_CONTRAST = Badge("no contrast", "plain", "One quantity, not a contrast of two arms.")
VERDICT = Badge("verdict", "plain", "Yes (1) or no (0) about a contrast by the rule named as estimator; no effect of its own.")
CHECK = Badge("check", "plain", "A negative or positive control: a question whose answer is known. It claims nothing of an arm.")
RUNGS = {
    2: Badge("rung 2", "plain", "An effect of an intervention on a population; a trial identifies it where it is randomised."),
    3: Badge(
        "rung 3",
        "warn",
        "A counterfactual of the same patients: no trial identifies it; it rests on the named coupling of worlds.",
    ),
}


class Line(NamedTuple):
    """Where an interval lies on the small axis of its table row, in percent of the axis width."""

    estimate: float
    lower: float
    upper: float
    null: float | None


@dataclass(frozen=True)
class ResultRow:
    """One statistic as it is shown."""

    analysis: str
    contrast: str
    subgroup: str
    measure: str
    estimate: str
    interval: str
    level: str
    model_error: str
    p_value: str
    n: str
    badges: tuple[Badge, ...]
    details: tuple[tuple[str, str], ...]
    sort: dict[str, float | str]
    line: Line | None


def has_contrast(row: Any) -> bool:
    """Whether a results row compares two arms."""
    return bool(text(row.reference))


def is_effect(row: Any) -> bool:
    """Whether a results row is a contrast of two arms with a size, not a verdict on one."""
    return has_contrast(row) and origin_of(row) is not VERDICT


def is_simulated(row: Any) -> bool:
    """Whether a row rests on simulated outcomes: its analysis says so, or it names the trials that randomised both arms."""
    return "simulated" in text(row.analysis).lower().split() or "randomised together in" in _words(row)


def _words(row: Any) -> str:
    return f"{text(getattr(row, 'estimand', ''))} {text(getattr(row, 'estimator', ''))}"


def origin_of(row: Any) -> Badge:
    """What lies behind a contrast of arms, one badge a row.

    "check" (a control, :func:`causalms.causal.negative_controls`); "randomised"; "transported" (observed arms of different
    trials); "verdict" (agreement, yes or no); "simulated"; or "simulated across trials" where the row says that no trial
    randomised the two arms together.
    """
    if not has_contrast(row):
        return NO_CONTRAST
    if text(row.measure).endswith("(1 = yes)"):
        return VERDICT
    if text(row.analysis).split(":")[0] in ("negative control", "positive control", "refutation"):
        return CHECK
    if is_simulated(row):
        return SIMULATED_ACROSS_TRIALS if "randomised together in no trial" in _words(row) else SIMULATED
    return RANDOMISED if row.randomised else TRANSPORTED


def is_transported(row: Any) -> bool:
    """Whether a contrast is of arms that, as far as the row says, no trial randomised together."""
    origin = origin_of(row)
    if origin is SIMULATED:
        return "randomised together in" not in _words(row)
    return origin in (TRANSPORTED, SIMULATED_ACROSS_TRIALS)


def badges_of(row: Any) -> tuple[Badge, ...]:
    """One badge of origin and, where it is known, one of the rung."""
    badges = [origin_of(row)]
    if not pd.isna(row.rung) and int(row.rung) in RUNGS:
        badges.append(RUNGS[int(row.rung)])
    return tuple(badges)


def result_rows(table: pd.DataFrame) -> list[ResultRow]:
    """Every row of a results table as it is shown; small axes are shared by the rows of one measure.

    Parameters
    ----------
    table : DataFrame
        A results table (:data:`causalms.tables.RESULTS_COLUMNS`).

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> row = {"analysis": "primary", "arm": "drug", "reference": "placebo", "measure": "rate ratio", "estimate": 0.5,
    ...        "lower": 0.25, "upper": 1.0, "level": 0.95, "randomised": False, "rung": 2}
    >>> shown = result_rows(results_table([row]))[0]
    >>> shown.contrast, shown.interval, [badge.label for badge in shown.badges]
    ('drug against placebo', '0.250 to 1.000', ['transported', 'rung 2'])
    """
    axes = {measure: _axis(rows) for measure, rows in table.groupby(table["measure"].astype(str), dropna=False)}
    apart = _told_apart(table)
    return [_result_row(row, axes[str(row.measure)], words) for row, words in zip(each_row(table), apart, strict=True)]


def _told_apart(table: pd.DataFrame) -> list[str]:
    """For rows that would read alike, what differs in their population or else their estimand; for all others nothing."""
    words = [""] * len(table)
    alike = table.reset_index(drop=True).groupby(
        ["analysis", "arm", "reference", "subgroup", "measure"], dropna=False, sort=False
    )
    for rows in alike.indices.values():
        for name in ("population", "estimand"):
            parts = [text(table[name].iloc[row]).split("; ") for row in rows]
            own = ["; ".join(part for part in mine if not all(part in others for others in parts)) for mine in parts]
            if any(own):
                for row, difference in zip(rows, own, strict=True):
                    words[row] = difference
                break
    return words


def _result_row(row: Any, axis: tuple[float, float] | None, apart: str) -> ResultRow:
    estimate, interval = estimate_and_interval(row.estimate, row.lower, row.upper)
    contrast = f"{row.arm} against {row.reference}" if has_contrast(row) else text(row.arm, "all arms")
    return ResultRow(
        analysis=text(row.analysis),
        contrast=contrast,
        subgroup=", ".join(filter(None, (text(row.subgroup), apart))),
        measure=text(row.measure, "statistic"),
        estimate=estimate,
        interval=interval,
        level=percent(row.level),
        model_error=_model_error(row),
        p_value=p_value(row.p_value),
        n=_sizes(row),
        badges=badges_of(row),
        details=tuple(_details(row)),
        sort={
            "contrast": f"{text(row.analysis)} {contrast} {text(row.subgroup)}",
            "measure": text(row.measure),
            "estimate": _or_last(row.estimate),
            "p_value": _or_last(row.p_value),
            "n": _or_last(row.n),
            "origin": " ".join(badge.label for badge in badges_of(row)),
        },
        line=_line(row, axis),
    )


def _model_error(row: Any) -> str:
    """What a simulated contrast says of its model's own error in the cell of its interval."""
    return model_error_words(row._asdict()) if is_simulated(row) and is_effect(row) else ""


def _sizes(row: Any) -> str:
    if pd.isna(row.n):
        return ABSENT
    return number(row.n) if pd.isna(row.n_reference) else f"{number(row.n)} / {number(row.n_reference)}"


def _or_last(value: float) -> float:
    return 1e300 if pd.isna(value) else float(value)


def _details(row: Any) -> Iterator[tuple[str, str]]:
    scale = " of the logarithm" if is_ratio(row.measure) else ""
    yield "Estimand", text(row.estimand, "not stated")
    yield "Estimator", text(row.estimator, "not stated")
    yield "Variance", text(row.variance, "not stated")
    yield f"Standard error{scale}", number(row.se)
    yield "Error from patients", _error(row.se_patient)
    yield "Error from the generator", _error(row.se_generator)
    yield "Error from Monte Carlo", _error(row.se_monte_carlo)
    if has_contrast(row):
        yield "Patients", f"{number(row.n)} in {row.arm}, {number(row.n_reference)} in {row.reference}"
    else:
        yield "Patients", number(row.n)
    yield "Population", text(row.population, "not stated")
    for badge in badges_of(row):
        yield badge.label.capitalize(), badge.sentence
    yield "Made with", f"causalms {text(row.package_version, '(version not stated)')}"


def _error(value: float) -> str:
    return "not estimated" if pd.isna(value) else f"standard error {number(value)}"


def _axis(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Shared ends of the small axes of one measure, on the log scale for ratios."""
    values = rows[["estimate", "lower", "upper"]].to_numpy(dtype=float).ravel()
    measure = str(rows["measure"].iloc[0])
    places = [place for place in (_place(value, measure) for value in values) if place is not None]
    null = _null(measure)
    if null is not None:
        places.append(null)
    if len(places) < 2 or max(places) - min(places) <= 0:
        return None
    margin = 0.04 * (max(places) - min(places))
    return min(places) - margin, max(places) + margin


def _null(measure: str) -> float | None:
    """Where "no effect" lies; only contrasts have such a place."""
    return 0.0 if is_ratio(measure) or "difference" in measure else None


def _place(value: float, measure: str) -> float | None:
    if is_ratio(measure):
        return math.log(value) if math.isfinite(value) and value > 0 else None
    return value if math.isfinite(value) else None


def _line(row: Any, axis: tuple[float, float] | None) -> Line | None:
    measure = str(row.measure)
    places = [_place(float(value), measure) for value in (row.estimate, row.lower, row.upper)]
    if axis is None or any(place is None for place in places):
        return None

    def percent_of_axis(place: float) -> float:
        return round(100 * (place - axis[0]) / (axis[1] - axis[0]), 2)

    null = _null(measure)
    estimate, lower, upper = (percent_of_axis(place) for place in places if place is not None)
    return Line(estimate, lower, upper, None if null is None else percent_of_axis(null))
