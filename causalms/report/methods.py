"""The methods text and the list of assumptions, written from the rows themselves so that they cannot drift apart."""

from __future__ import annotations

import pandas as pd

from causalms.report.rows import (
    RANDOMISED,
    SIMULATED,
    SIMULATED_ACROSS_TRIALS,
    TRANSPORTED,
    each_row,
    has_contrast,
    is_simulated,
    is_transported,
    origin_of,
    percent,
    text,
)
from causalms.tables import is_ratio


def methods_paragraphs(results: pd.DataFrame) -> list[str]:
    """Say how every kind of number in a results table was estimated.

    One sentence for each combination of measure, estimator and variance, then what is randomised, which rungs are answered
    and which sources of error the intervals hold.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> row = {"analysis": "primary", "arm": "a", "reference": "b", "measure": "rate ratio", "estimator": "unadjusted",
    ...        "variance": "HC3", "level": 0.95, "randomised": True, "rung": 2}
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
    count = f"{len(rows)} number{'s' if len(rows) > 1 else ''}"
    parts = [f"estimator, {estimator or 'not stated'}", f"variance, {variance or 'not stated'}"]
    levels = [percent(level) for level in sorted(rows["level"].dropna().unique())]
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
        f"Of {randomised + transported + simulated} contrasts of arms, {randomised} compare arms that were randomised against "
        f"each other within one trial, {transported} are transported across trials and {simulated} compare outcomes "
        f"simulated for the same patients. {rungs[2]} numbers answer questions of the "
        f"second rung of causation (interventions) and {rungs[3]} of the third (counterfactuals of the same patients)."
    )


def _error_sentence(results: pd.DataFrame) -> str:
    names = {"se_patient": "patients", "se_generator": "the generator", "se_monte_carlo": "Monte Carlo"}
    counts = [f"{label} for {int(results[column].notna().sum())}" for column, label in names.items()]
    return (
        f"Errors are reported by source where they were estimated: {', '.join(counts)} of {len(results)} numbers. Standard "
        "errors and their parts are on the log scale for ratios."
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
