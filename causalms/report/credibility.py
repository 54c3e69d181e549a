"""The credibility page: what the numbers are for and the bars they must clear, written before the run and judged after it."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from causalms.errors import InputError, near_name
from causalms.report.rows import each_row, number
from causalms.tables import name_of
from causalms.yaml_files import read_yaml

Grade = Literal["low", "medium", "high"]
Statistic = Literal["estimate", "lower", "upper", "se", "p_value", "se_patient", "se_generator", "se_monte_carlo", "n"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)


class Judgement(_Strict):
    """A grade and the reason for it."""

    grade: Grade
    why: str = Field(min_length=1)


class Criterion(_Strict):
    """One acceptance criterion: which results rows it looks at, which of their numbers, and between what bounds it must lie.

    Every row that agrees with ``measure`` and with each of the filters given must lie within the bounds.
    """

    name: str = Field(min_length=1)
    measure: str = Field(min_length=1)
    statistic: Statistic = "estimate"
    at_least: float | None = None
    at_most: float | None = None
    analysis: str | None = None
    population: str | None = None
    subgroup: str | None = None
    arm: str | None = None
    reference: str | None = None
    randomised: bool | None = None
    why: str = ""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least or at_most (or both)")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least ({name_of(self.at_least)}) lies above at_most ({name_of(self.at_most)})")
        return self

    @property
    def bound(self) -> str:
        """The bounds in words."""
        if self.at_least is None:
            return f"at most {number(self.at_most)}"
        if self.at_most is None:
            return f"at least {number(self.at_least)}"
        return f"{number(self.at_least)} to {number(self.at_most)}"


class Plan(_Strict):
    """What a credibility file says (FDA draft guidance of January 2025, ASME V&V 40)."""

    question_of_interest: str = Field(min_length=1)
    context_of_use: str = Field(min_length=1)
    model_influence: Judgement
    decision_consequence: Judgement
    written: datetime.date
    acceptance_criteria: tuple[Criterion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        if self.written > datetime.date.today():
            raise ValueError(f"written is {self.written}, a day to come; give the day on which the plan was written")
        names = [criterion.name for criterion in self.acceptance_criteria]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two acceptance criteria are called {twice[0]!r}")
        return self


@dataclass(frozen=True)
class Verdict:
    """One criterion against one results row, or against none where no row answers it."""

    criterion: str
    looks_at: str
    bound: str
    found: str
    verdict: Literal["met", "not met", "not judged"]


@dataclass(frozen=True)
class CredibilityPlan:
    """A plan as read, with the checksum of its file: whoever holds the file can tell that it was not changed after the run."""

    plan: Plan
    file: str
    sha256: str


#: The plan of the demonstration, an example to copy.
DEMONSTRATION = Path(__file__).with_name("plans") / "demonstration.yaml"


def read_credibility(path: str | os.PathLike[str]) -> CredibilityPlan:
    """Read and check a credibility file.

    The file is YAML with ``question_of_interest``, ``context_of_use``, ``model_influence`` and ``decision_consequence``
    (each with ``grade``: low, medium or high, and ``why``), ``written`` (a date) and ``acceptance_criteria``: a list, each
    with ``name``, ``measure``, ``at_least`` and/or ``at_most``, by choice ``statistic`` (``estimate`` unless given) and the
    filters ``analysis``, ``population``, ``subgroup``, ``arm``, ``reference``, ``randomised``.

    Raises
    ------
    InputError
        In one line: the file, the entry at fault, what was found and what was expected.

    References
    ----------
    ASME V&V 40-2018. FDA, "Considerations for the use of artificial intelligence to support regulatory decision-making for
    drug and biological products", draft guidance, January 2025.

    Examples
    --------
    >>> read_credibility(DEMONSTRATION).plan.model_influence.grade
    'medium'
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "plan.yaml"
    >>> _ = file.write_text("question_of_interest: Does it agree?")
    >>> read_credibility(file)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: ...plan.yaml: context_of_use: missing; add it
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file; write the credibility file before the run and give its path")
    content = read_yaml(file, "correct the indentation or quote the text")
    raw = file.read_bytes()
    if not isinstance(content, dict):
        raise InputError(
            f"{file}: found {type(content).__name__}, expected entries such as 'question_of_interest: ...'; rewrite it"
        )
    try:
        plan = Plan.model_validate(content)
    except ValidationError as failure:
        raise InputError(f"{file}: {_first_fault(failure, content)}") from None
    return CredibilityPlan(plan, file.name, hashlib.sha256(raw).hexdigest())


def _first_fault(failure: ValidationError, content: dict[str, object]) -> str:
    fault = failure.errors()[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in fault["loc"]) or "the file"
    if fault["type"] == "missing":
        return f"{place}: missing; add it"
    if fault["type"] == "extra_forbidden":
        names = {name for part in _Strict.__subclasses__() for name in part.model_fields}
        near = near_name(place.rpartition(".")[2], names)
        return f"{place}: not an entry of this file; {near or 'correct the spelling or remove it'}"
    if fault["type"] == "value_error":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}; correct it"
    return f"{place}: found {fault['input']!r}, {fault['msg'][0].lower()}{fault['msg'][1:]}; correct it"


def judge(plan: Plan, results: pd.DataFrame) -> list[Verdict]:
    """Judge every acceptance criterion on every results row that it looks at.

    A criterion is met on a row if its statistic is a number within the bounds (the bounds themselves included). A criterion
    that finds no row, and a row whose number is missing, are "not judged", which is never counted as met.

    Parameters
    ----------
    plan : Plan
    results : DataFrame
        A results table.

    Returns
    -------
    list of Verdict
        In the order of the plan.

    Examples
    --------
    >>> from causalms.tables import results_table
    >>> criterion = {"name": "agrees", "measure": "ratio of rate ratios", "at_least": 0.8, "at_most": 1.25}
    >>> grade = {"grade": "low", "why": "research"}
    >>> plan = Plan(question_of_interest="q", context_of_use="c", model_influence=grade, decision_consequence=grade,
    ...             written="2026-01-31", acceptance_criteria=[criterion])
    >>> row = {"analysis": "primary", "measure": "ratio of rate ratios", "estimate": 1.1, "randomised": True}
    >>> [verdict.verdict for verdict in judge(plan, results_table([row]))]
    ['met']
    """
    verdicts: list[Verdict] = []
    for criterion in plan.acceptance_criteria:
        rows = _rows_of(criterion, results)
        if rows.empty:
            verdicts.append(
                Verdict(criterion.name, _filters(criterion), criterion.bound, "no such row in the results", "not judged")
            )
        verdicts.extend(_judged(criterion, row) for row in each_row(rows))
    return verdicts


def _rows_of(criterion: Criterion, results: pd.DataFrame) -> pd.DataFrame:
    keep = results["measure"].astype(str) == criterion.measure
    for column in ("analysis", "population", "subgroup", "arm", "reference"):
        wanted = getattr(criterion, column)
        if wanted is not None:
            keep &= results[column].astype(str) == wanted
    if criterion.randomised is not None:
        keep &= results["randomised"].astype(bool) == criterion.randomised
    return results[keep]


def _filters(criterion: Criterion) -> str:
    given = {name: getattr(criterion, name) for name in ("analysis", "population", "subgroup", "arm", "reference", "randomised")}
    filters = [f"{name} {value}" for name, value in given.items() if value is not None]
    return ", ".join([criterion.measure, *filters])


def _judged(criterion: Criterion, row: object) -> Verdict:
    value = float(getattr(row, criterion.statistic))
    named = {name: getattr(row, name) for name in ("analysis", "arm", "reference", "subgroup", "population")}
    words = [str(value) for value in named.values() if not pd.isna(value) and str(value)]
    looks_at = f"{criterion.statistic.replace('_', ' ')} of the {criterion.measure}" + (f" ({', '.join(words)})" if words else "")
    if math.isnan(value):
        return Verdict(criterion.name, looks_at, criterion.bound, "missing", "not judged")
    low = -math.inf if criterion.at_least is None else criterion.at_least
    high = math.inf if criterion.at_most is None else criterion.at_most
    return Verdict(criterion.name, looks_at, criterion.bound, number(value), "met" if low <= value <= high else "not met")
