"""Analyses as plain-text pages: arms, contrasts, visits, estimands, notes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalms.effects.draws import GIVEN_MODEL
from causalms.stats import goodness
from causalms.tables import fixed, p_value_text, percent_in_full, shown_digits, significant

if TYPE_CHECKING:
    from causalms.effects.observed import Analysis
    from causalms.effects.visits import VisitAnalysis

_HEADS = {"rate": "rate", "risk": "risk", "mean": "mean"}


def page(analysis: Analysis) -> str:
    """The whole page that the command line prints.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.observed import analyse
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> print(page(analyse(table, outcome="relapses", reference="placebo")).splitlines()[0])
    arm      n  events  rate  95% CI
    """
    blocks = []
    for part in analysis.parts:
        blocks += [arm_lines(part), contrast_lines(part), estimand_lines(part)]
        if part.notes:
            blocks.append([f"note: {note}" for note in part.notes])
    return "\n\n".join("\n".join(block) for block in blocks)


def html_page(results: pd.DataFrame, text: str) -> str:
    """A results table for a notebook, and the plain-text page folded below it."""
    shown = results[["arm", "reference", "measure", "estimate", "lower", "upper", "p_value", "population"]]
    return f"{shown.to_html(index=False, border=0)}<details><summary>details</summary><pre>{escape(text)}</pre></details>"


def arm_lines(analysis: Analysis) -> list[str]:
    """Patients, events, exposure and estimated rate of each arm."""
    level = f"{percent_in_full(analysis.settings.level)} CI"
    total = "total" if analysis.settings.measure.kind == "mean" else "events"
    rows = [["arm", "n", total, "exposure", _HEADS[analysis.settings.measure.kind], level]]
    for row in analysis.arms.to_dict("records"):
        value = row["crude"] if np.isnan(row["estimate"]) else row["estimate"]
        counts = [str(row["n"]), number(row["events"]), number(row["exposure"])]
        rows.append([str(row["arm"]), *counts, number(value), interval(row["lower"], row["upper"])])
    if not analysis.data.has_exposure:
        rows = [[*row[:3], *row[4:]] for row in rows]
    return text_columns(rows)


def contrast_lines(analysis: Analysis) -> list[str]:
    """Each contrast with its interval and p-value."""
    measure = analysis.settings.measure
    level = f"{percent_in_full(analysis.settings.level)} CI"
    rows = [[measure.name, "estimate", level, "se(log)" if measure.is_ratio else "se", "p"]]
    for index in analysis.reported:
        contrast = analysis.contrasts[index - 1]
        pair = f"{analysis.data.arms[index]} vs {analysis.data.arms[0]}"
        rows.append(
            [
                pair,
                number(contrast.estimate),
                interval(contrast.lower, contrast.upper),
                number(contrast.se),
                p_value_text(contrast.p_value),
            ]
        )
    return text_columns(rows)


def estimand_lines(analysis: Analysis) -> list[str]:
    """The estimand record, the estimator, its fit and the variance."""
    reported = analysis.reported
    lines = [f"  {line}" for line in analysis.estimands[reported[0] - 1].lines()]
    if len(reported) > 1:
        arms = ", ".join(analysis.data.arms[index] for index in reported)
        lines[1] = f"  treatment                 {arms}, each against {analysis.data.arms[0]}"
    fit = [] if (words := model_words(analysis)) is None else [f"model      {words}"]
    estimator, variance = f"estimator  {analysis.estimator_name}", f"variance   {analysis.covariance.name}"
    return ["estimand (ICH E9(R1))", *lines, estimator, *fit, variance]


def model_words(analysis: Analysis) -> str | None:
    """Dispersion with its error, log-likelihood, deviance and AIC of a model whose coefficient or dispersion is of interest."""
    settings, fit = analysis.settings, analysis.fit
    wanted = settings.estimator in ("negbin", "conditional") or (settings.estimator == "standardized" and fit.family == "negbin")
    if not wanted or fit.limit is not None:
        return None
    of = goodness(fit)
    numbers = [number(value) for value in (of.log_likelihood, of.deviance, of.aic)]
    words = f"log-likelihood {numbers[0]}, deviance {numbers[1]} on {of.residual_degrees} df, AIC {numbers[2]}"
    if np.isnan(of.theta):
        return words
    size = [number(value) for value in (of.alpha, of.alpha_se, of.theta, of.theta_se)]
    return f"alpha {size[0]} (SE {size[1]}), theta {size[2]} (SE {size[3]}); {words}"


def simulated_page(results: pd.DataFrame) -> str:
    """Simulated effects with their three errors apart, as the command line prints them."""
    ratio = results["measure"].iloc[0].endswith("ratio")
    narrow = results["variance"].str.contains("given the model", regex=False).any()
    level = f"{percent_in_full(results['level'].iloc[0])} CI{' given the model' if narrow else ''}"
    rows = [["simulated effect", results["measure"].iloc[0], level, "p", "patients", "generator", "Monte Carlo", "rung"]]
    for row in results.to_dict("records"):
        errors = [number(row[name]) for name in ("se_patient", "se_generator", "se_monte_carlo")]
        name = f"{row['arm']} vs {row['reference']}, {row['analysis'].rsplit(', ', 1)[-1]}"
        ends = interval(row["lower"], row["upper"])
        errors[1] = "unknown" if pd.isna(row["se_generator"]) else errors[1]
        p = p_value_text(row["p_value"])
        rows.append([name, f"{number(row['estimate'])} simulated", ends, p, *errors, f"{row['rung']:g}"])
    scale = "of the logarithm" if ratio else "of the difference"
    first = results.iloc[0]
    lines = [f"standard errors {scale}: patients, generator (model error), Monte Carlo", f"estimand   {first.estimand}"]
    lines += [f"estimator  {first.estimator}", f"variance   {first.variance}", f"patients   {first.n:g}"]
    return "\n".join([*text_columns(rows), "", *lines])


def simulated_words(row: Mapping[Any, Any]) -> str:
    """A simulated result in words: ``0.39 (0.31 to 0.49) simulated; model error 0.12 (from 40 patients), for trials like those``.

    Examples
    --------
    >>> simulated_words({"estimate": 0.39, "lower": float("nan"), "upper": float("nan"), "se_generator": float("nan")})
    '0.39 simulated; model error unknown: no interval'
    """
    if pd.isna(row["se_generator"]):
        return f"{number(row['estimate'])} simulated; {model_error_words(row)}: no interval"
    limits = interval(row["lower"], row["upper"])
    return f"{number(row['estimate'])} ({limits}) simulated; {model_error_words(row)}"


def model_error_words(row: Mapping[Any, Any]) -> str:
    """The model's own error of a simulated result, on the scale of its standard errors, and what it was learned from.

    Examples
    --------
    >>> words = "+ the model's own error (from 40 patients), for trials like those"
    >>> model_error_words({"se_generator": 0.1234, "variance": words})
    'model error 0.12 (from 40 patients), for trials like those'
    >>> model_error_words({"se_generator": 0.06, "variance": "joint influence function + the model's own error"})
    'model error 0.06'
    >>> model_error_words({"se_generator": 0.06, "variance": "influence function over patients + between 3 generators"})
    'model error 0.06 between 3 generators'
    >>> model_error_words({"se_generator": float("nan"), "variance": "influence"})
    'model error unknown'
    """
    variance = str(row.get("variance"))
    if GIVEN_MODEL in variance:
        return GIVEN_MODEL
    if pd.isna(row["se_generator"]):
        return "model error unknown"
    _, marked, source = variance.partition("the model's own error")
    members = re.search(r"between \d+ generators", variance)
    words = source.partition(";")[0] if marked else f" {members[0]}" if members else ""
    return f"model error {significant(row['se_generator'], shown_digits(2))}{words}"


def text_columns(rows: list[list[str]]) -> list[str]:
    """Left-aligned first column, right-aligned others, two spaces between; trailing interval columns stay left-aligned."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index == 0 or "CI" in rows[0][index] else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def number(value: float) -> str:
    """Four significant digits (or those of ``causalms.tables.showing``), whole numbers in full.

    Examples
    --------
    >>> number(1234.0), number(0.123456), number(float("nan"))
    ('1234', '0.1235', '-')
    """
    if pd.isna(value):
        return "-"
    if abs(value) < 1e12 and value == int(value):
        return str(int(value))
    return significant(value, shown_digits() if 1e-4 <= abs(value) < 1e4 else max(6, shown_digits()))


def interval(lower: float, upper: float) -> str:
    """An interval as ``0.41 to 0.80``."""
    return "-" if pd.isna(lower) else f"{number(lower)} to {number(upper)}"


#: Visits above which the table of rates is left out of the page: dates of events.
_MOST_SHOWN = 24


def visits_page(analysis: VisitAnalysis) -> str:
    """The whole page that the command line prints."""
    results, rates = analysis.results, analysis.rates
    level = f"{percent_in_full(results['level'].iloc[0])} CI"
    blocks = []
    if rates["visit"].nunique() <= _MOST_SHOWN:
        rows = [["visit", "arm", "n", "events", "exposure", "rate", level]]
        for row in rates.to_dict("records"):
            counts = [str(row["patients"]), number(row["events"]), number(row["exposure"]), number(row["rate"])]
            rows.append([str(row["visit"]), str(row["arm"]), *counts, interval(row["lower"], row["upper"])])
        blocks.append(text_columns(rows))
    rows = [["rate ratio", "estimate", level, "se(log)", "p"]]
    for row in results.to_dict("records"):
        pair = f"{row['arm']} vs {row['reference']} ({fixed(row['n'], 0)}, {fixed(row['n_reference'], 0)})"
        pair += "" if row["subgroup"] == "all" else f", {row['subgroup']}"
        limits = interval(row["lower"], row["upper"])
        rows.append([pair, number(row["estimate"]), limits, number(row["se"]), p_value_text(row["p_value"])])
    blocks.append(text_columns(rows))
    lines = [f"  {line}" for line in analysis.estimands[0].lines()]
    arms = list(dict.fromkeys(results["arm"]))
    if len(arms) > 1:
        lines[1] = f"  treatment                 {', '.join(arms)}, each against {results['reference'].iloc[0]}"
    first = results.iloc[0]
    blocks.append(["estimand (ICH E9(R1))", *lines, f"estimator  {first.estimator}", f"variance   {first.variance}"])
    if analysis.notes:
        blocks.append([f"note: {note}" for note in analysis.notes])
    return "\n\n".join("\n".join(block) for block in blocks)
