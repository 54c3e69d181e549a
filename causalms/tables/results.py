"""The results table: one row a statistic, each row made as a :class:`ResultRow`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import UsageError

#: 2: effect of an intervention; 3: counterfactual.
RUNGS = (2, 3)
#: The measures of a contrast of two arms.
CONTRAST_MEASURES = (
    *("rate ratio", "risk ratio", "odds ratio", "mean ratio"),
    *("rate difference", "risk difference", "mean difference"),
)


def is_ratio(measure: object) -> bool:
    """Whether a measure is a ratio, whose standard error and axis are those of its logarithm.

    A correlation of ratios is none.

    Examples
    --------
    >>> is_ratio("rate ratio"), is_ratio("ratio of rate ratios"), is_ratio("equivalence of rate ratios within 1.25")
    (True, True, True)
    >>> is_ratio("risk difference"), is_ratio("correlation of rate ratios")
    (False, False)
    """
    words = str(measure).lower().partition(",")[0].split()
    compared = words[:1] == ["equivalence"] and "ratios" in words
    return words[:1] != ["interaction"] and (words[:2] == ["ratio", "of"] or words[-1:] == ["ratio"] or compared)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One statistic with everything that must be known to read it: the columns of the results table.

    Attributes
    ----------
    analysis : str
        What was analysed, such as ``"observed relapses"``.
    population : str, optional
        Whom the statistic is about, in words.
    subgroup : str, optional
        ``"all"`` where the whole population is meant.
    arm, reference : str, optional
        The arms compared.
    measure : str
        Such as ``"rate ratio"``.
    estimand, estimator, variance : str, optional
        In words.
    estimate : float
    se : float
        Standard error; of the logarithm for a ratio.
    lower, upper : float
        Ends of the interval.
    level : float
        Level of the interval, such as 0.95.
    p_value : float
        Two-sided.
    n, n_reference : float
        Patients of the arm and of the reference.
    se_patient, se_generator, se_monte_carlo : float
        The three errors: other patients, another trained generator, other draws.
    randomised : bool
        One trial or more randomised both arms and only their patients are compared; False for every simulated row.
    rung : {2, 3}, optional
        2: effect of an intervention; 3: counterfactual.

    Raises
    ------
    UsageError
        If ``randomised`` is no truth value, ``rung`` neither 2 nor 3, or a number of patients negative.

    Examples
    --------
    >>> row = ResultRow(analysis="primary", measure="rate ratio", estimate=0.5, randomised=True, rung=2)
    >>> row.estimate, row.lower
    (0.5, nan)
    """

    analysis: str
    measure: str
    randomised: bool
    estimate: float = np.nan
    population: str | None = None
    subgroup: str | None = None
    arm: str | None = None
    reference: str | None = None
    estimand: str | None = None
    estimator: str | None = None
    variance: str | None = None
    se: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    level: float = np.nan
    p_value: float = np.nan
    n: float = np.nan
    n_reference: float = np.nan
    se_patient: float = np.nan
    se_generator: float = np.nan
    se_monte_carlo: float = np.nan
    rung: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.randomised, (bool, np.bool_)):
            raise UsageError(f"`randomised`: found {self.randomised!r}, expected True or False")
        if self.rung is not None and self.rung not in RUNGS:
            raise UsageError(f"`rung`: found {self.rung!r}, expected 2 or 3")
        for name in ("n", "n_reference"):
            if getattr(self, name) < 0:
                raise UsageError(f"`{name}`: found {getattr(self, name)}, expected a number of patients")


#: Columns of the results table, in their order.
RESULTS_COLUMNS = (
    "analysis",
    "population",
    "subgroup",
    "arm",
    "reference",
    "measure",
    "estimand",
    "estimator",
    "variance",
    "estimate",
    "se",
    "lower",
    "upper",
    "level",
    "p_value",
    "n",
    "n_reference",
    "se_patient",
    "se_generator",
    "se_monte_carlo",
    "randomised",
    "rung",
    "package_version",
)
#: Columns of text (and package_version), and columns of numbers.
TEXT = {field.name for field in fields(ResultRow) if "str" in str(field.type)}
NUMBERS = {field.name for field in fields(ResultRow) if "float" in str(field.type)} | {"rung"}


def results_table(rows: Iterable[Any]) -> pd.DataFrame:
    """The results table of these rows, with the version of the package that made them.

    Parameters
    ----------
    rows : iterable of ResultRow

    Returns
    -------
    DataFrame
        Columns :data:`RESULTS_COLUMNS`.

    Examples
    --------
    >>> row = ResultRow(analysis="primary", measure="rate ratio", estimate=0.5, randomised=True, rung=2)
    >>> results_table([row])[["measure", "estimate", "randomised"]]
          measure  estimate  randomised
    0  rate ratio       0.5        True
    """
    from causalms import __version__

    made = [row if isinstance(row, ResultRow) else ResultRow(**row) for row in rows]
    table = pd.DataFrame([asdict(row) for row in made], columns=list(RESULTS_COLUMNS))
    table["package_version"] = __version__
    types = dict.fromkeys(TEXT, object) | dict.fromkeys(NUMBERS, float) | {"randomised": bool, "package_version": object}
    return table.astype(types)
