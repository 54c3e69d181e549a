"""The methods text and the list of assumptions, written from the rows themselves so that they cannot drift apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from causalms.report.rows import (
    RANDOMISED,
    SIMULATED,
    SIMULATED_ACROSS_TRIALS,
    TRANSPORTED,
    each_row,
    estimate_and_interval,
    has_contrast,
    is_effect,
    is_simulated,
    is_transported,
    origin_of,
    percent,
    text,
)
from causalms.tables import counted, is_ratio


def opening_sentences(results: pd.DataFrame) -> list[str]:
    """The answer in up to three sentences: the first contrast, what was randomised and simulated, how far it may be wrong.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> row = {"analysis": "primary", "arm": "drug", "reference": "placebo", "measure": "rate ratio", "estimate": 0.5,
    ...        "lower": 0.4, "upper": 0.625, "level": 0.95, "randomised": True, "rung": 2}
    >>> opening_sentences(results_table([row]))[0]
    'Drug against placebo: rate ratio 0.500 (95% interval 0.400 to 0.625), randomised.'
    """
    contrasts = [row for row in each_row(results) if is_effect(row) and not pd.isna(row.estimate)]
    if not contrasts:
        return []
    first = contrasts[0]
    estimate, interval = estimate_and_interval(first.estimate, first.lower, first.upper)
    words = f" ({percent(first.level)} interval {interval})" if interval else " (no interval)"
    answer = f"{first.arm} against {first.reference}: {text(first.measure)} {estimate}{words}, {origin_of(first).label}."
    return [answer[:1].upper() + answer[1:], _origins(contrasts), *_model_errors(contrasts)]


def _origins(contrasts: list[Any]) -> str:
    """What was randomised, simulated and transported among contrasts."""
    origins = [origin_of(row) for row in contrasts]
    simulated, across = origins.count(SIMULATED), origins.count(SIMULATED_ACROSS_TRIALS)
    parts = [
        (origins.count(RANDOMISED), "randomised within one trial"),
        (simulated, "simulated for the same patients under both arms"),
        (across, "simulated between arms that no trial randomised together"),
        (origins.count(TRANSPORTED), "transported between trials"),
    ]
    said = [f"{count} {'is' if count == 1 else 'are'} {what}" for count, what in parts if count]
    return f"Of {counted(len(contrasts), 'contrast')}, {', '.join(said)}."


def _model_errors(contrasts: list[Any]) -> list[str]:
    """How far simulated contrasts may be wrong by the model's own error."""
    simulated = [row for row in contrasts if is_simulated(row)]
    ratios = [float(row.se_generator) for row in simulated if is_ratio(row.measure) and not pd.isna(row.se_generator)]
    unknown = sum(pd.isna(row.se_generator) and not pd.isna(row.lower) for row in simulated)
    bare = sum(pd.isna(row.lower) for row in simulated)
    said = []
    if ratios:
        ends = [f"{100 * np.expm1(1.96 * value):.0f}%" for value in (min(ratios), max(ratios))]
        span = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        said.append(f"by the model's own error alone a simulated ratio may be wrong by {span} either way (95%)")
    if unknown:
        said.append(f"the model's own error of {unknown} is not in the interval")
    if bare:
        said.append(f"{bare} stand without interval")
    sentence = "; ".join(said)
    return [sentence[:1].upper() + sentence[1:] + "."] if said else []


def methods_paragraphs(results: pd.DataFrame) -> list[str]:
    """Say how every kind of number in a results table was estimated.

    One sentence for each combination of measure, estimator and variance, then what is randomised, which rungs are answered
    and which sources of error the intervals hold.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> row = {"analysis": "primary", "arm": "a", "reference": "b", "measure": "rate ratio", "estimator": "unadjusted",
    ...        "variance": "HC3", "estimate": 0.5, "lower": 0.4, "upper": 0.625, "level": 0.95, "randomised": True, "rung": 2}
    >>> methods_paragraphs(results_table([row]))[0]
    'Rate ratio (1 number): estimator, unadjusted; variance, HC3; 95% intervals, symmetric on the log scale.'
    """
    kinds = results.fillna({"estimator": "", "variance": "", "measure": ""}).groupby(
        ["measure", "estimator", "variance"], sort=False, dropna=False
    )
    paragraphs = [_kind_sentence(rows) for _, rows in kinds]
    return [*paragraphs, _origin_sentence(results), _error_sentence(results)]


def estimands(results: pd.DataFrame) -> list[str]:
    """The distinct estimand sentences of a results table, in their order."""
    return [sentence for sentence in dict.fromkeys(text(value) for value in results["estimand"]) if sentence]


def _kind_sentence(rows: pd.DataFrame) -> str:
    measure, estimator, variance = (str(rows[column].iloc[0]) for column in ("measure", "estimator", "variance"))
    name = measure or "statistic"
    count = counted(len(rows), "number")
    parts = [f"estimator, {estimator or 'not stated'}", f"variance, {variance or 'not stated'}"]
    levels = [percent(level) for level in sorted(rows.loc[rows["lower"].notna(), "level"].dropna().unique())]
    if levels:
        scale = ", symmetric on the log scale" if is_ratio(measure) and _symmetric_log(rows) else ""
        parts.append(f"{' and '.join(levels)} intervals{scale}")
    return f"{name[:1].upper()}{name[1:]} ({count}): {'; '.join(parts)}."


def _symmetric_log(rows: pd.DataFrame) -> bool:
    """Whether the intervals of ratios were in fact made on the log scale: nothing is claimed that the rows do not show."""
    known = rows.dropna(subset=["estimate", "lower", "upper"])
    positive = known[(known[["estimate", "lower", "upper"]] > 0).all(axis=1)]
    off = (positive["lower"] * positive["upper"] / positive["estimate"] ** 2 - 1).abs()
    return len(positive) == len(known) and bool((off < 0.01).all())


def _origin_sentence(results: pd.DataFrame) -> str:
    origins = [origin_of(row) for row in each_row(results)]
    randomised, transported = (origins.count(badge) for badge in (RANDOMISED, TRANSPORTED))
    simulated = origins.count(SIMULATED) + origins.count(SIMULATED_ACROSS_TRIALS)
    rungs = {rung: int((results["rung"] == rung).sum()) for rung in (2, 3)}
    return (
        f"Contrasts of arms: {randomised} of arms that were randomised against each other within one trial, {transported} "
        f"transported across trials, {simulated} of outcomes simulated for the same patients. Rungs of causation: "
        f"{counted(rungs[2], 'number')} of the second (interventions), {rungs[3]} of the third (counterfactuals of the same "
        "patients)."
    )


def _error_sentence(results: pd.DataFrame) -> str:
    names = {"se_patient": "patients", "se_generator": "the generator", "se_monte_carlo": "Monte Carlo"}
    counts = [f"{label} for {int(results[column].notna().sum())}" for column, label in names.items()]
    return (
        f"Errors are reported by source where they were estimated: {', '.join(counts)} of {counted(len(results), 'number')}. "
        "Standard errors and their parts are on the log scale for ratios."
    )


def assumptions(results: pd.DataFrame) -> list[str]:
    """What must hold for the rows of a results table to mean what they say; only what these rows need.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> rows = [{"analysis": "primary", "arm": "a", "reference": "b", "measure": "rate ratio", "randomised": False, "rung": 2}]
    >>> [sentence.split(":")[0] for sentence in assumptions(results_table(rows))]
    ['Consistency', 'No interference', 'Transport', 'Missing outcomes', 'Generator error']
    """
    contrasts = results[[has_contrast(row) for row in each_row(results)]]
    rows = list(each_row(results))
    errors_of_simulation = results[["se_monte_carlo", "se_generator"]].notna().to_numpy().any()
    simulated = any(is_simulated(row) for row in rows) or bool(errors_of_simulation)
    needed = [
        ("Consistency: a patient's outcome under the arm given is the outcome seen under that arm.", True),
        ("No interference: one patient's arm does not change another patient's outcome.", True),
        (
            "Randomisation: within a trial the arm was assigned by chance, independently of everything before it.",
            any(origin_of(row) is RANDOMISED for row in rows),
        ),
        (
            "Transport: given the covariates and the baseline scan that the model sees, an arm works alike in patients of other "
            "trials, and no cause of the outcome differs between trials that the model does not see. No trial can check this for "
            "arms that were never randomised against each other.",
            any(is_transported(row) for row in rows),
        ),
        (
            "Coupling: how one patient's outcomes under two arms go together is chosen, not learned; the choice is named with "
            "the estimator. Bounds that hold under every coupling are the part that data support.",
            bool((results["rung"] == 3).any()),
        ),
        (
            "Missing outcomes: patients without the outcome resemble those with it, given arm and the covariates that were used.",
            bool(len(contrasts)),
        ),
        (
            "Simulator: the generator's distribution of lesions is right on average for each arm and covariate pattern used; the "
            "calibration and agreement results say how far this was checked.",
            simulated,
        ),
        (
            "Generator error: some numbers carry no standard error for the generator; simulated ones among them stand without "
            "interval, or with one that holds given the model.",
            bool(results["se_generator"].isna().any()),
        ),
    ]
    return [sentence for sentence, holds in needed if holds]
