r"""Covariates must be known before treatment: neither the arm nor the outcome, nor a copy of either, is one.

A column that names the arm or the outcome is refused by its name.  A copy is refused by what it tells: the arm is a function of
the column (or of two columns together, or the column of the arm) although the column has few values.  In a randomised trial
that happens by chance with a probability that can be counted.  Let a variable with classes of sizes :math:`m_1, \dots, m_c`
(the arm, say) be dealt at random to n patients, who fall into k groups of equal value.  Of its
:math:`n!/\prod m_j!` arrangements at most :math:`c^k` are constant within all groups, so

.. math:: P(\text{a function of the groups}) \le c^k \prod_j m_j! / n!,

and a column is refused where this bound is below :data:`LEAST_CHANCE` divided by the number of columns and pairs that were
looked at.  Age, with a value for almost every patient, is never refused (:math:`2^n` exceeds the number of arrangements), nor is
sex in a table of ten patients where by chance all women took the drug (chance 2 in 252): such a column is left out of the model
as collinear, with a note. The outcome is looked at in the same way, and a numeric column also for rising or falling with it
patient by patient where one is a function of the other (of a 0/1 outcome that is separation and not a copy), and for being zero
in just the patients without events. A numeric column whose values do not overlap between the arms (a noisy copy, or a date
after treatment) tells the arm too: :math:`c!` of the arrangements would do so. Where clusters were randomised, clusters are
counted and not patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import lgamma, log
from typing import Protocol

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError

#: Chance below which a column that determines the arm or the outcome counts as a copy of it.
LEAST_CHANCE = 1e-3
_MOST_PAIRS = 200

Codes = np.ndarray


class OfColumns(Protocol):
    """A text that was given for an argument and names columns: a formula, or a division of patients."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it names."""

    @property
    def argument(self) -> str:
        """The argument that it was given for."""


def refuse_arm_and_outcome_by_name(text: OfColumns, arm: str | None, outcome: str | None) -> None:
    """Refuse a formula or a division of patients in which the column of the arm or of the outcome stands.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.tables.formulas import formula
    >>> table = pd.DataFrame({"drug": ["a", "b"], "y": [1, 2], "age": [30, 40]})
    >>> refuse_arm_and_outcome_by_name(formula("log(y + 1) + age", table), "drug", "y")
    Traceback (most recent call last):
    ...
    causalms.errors.UsageError: `adjust`: 'y' is the outcome, no baseline covariate; leave it out
    """
    if arm in text.columns:
        raise UsageError(f"`{text.argument}`: {arm!r} is the randomised arm, no baseline covariate; {_instead(text.argument)}")
    if outcome in text.columns:
        raise UsageError(f"`{text.argument}`: {outcome!r} is the outcome, no baseline covariate; leave it out")


def _instead(argument: str) -> str:
    return "leave it out" + (", and let covariates differ by arm with `interaction`" if argument == "adjust" else "")


def refuse_copies(
    covariates: pd.DataFrame, arm: Codes, outcome: np.ndarray, *, cluster: Codes | None = None, argument: str = "adjust"
) -> None:
    """Refuse covariates that are recoded copies of the arm or of the outcome; the module says when a column counts as one.

    Parameters
    ----------
    covariates : DataFrame (n, q)
        Complete columns, in the order in which they are to be named.
    arm : integer array (n,)
    outcome : array (n,)
    cluster : integer array (n,), optional
        What was randomised, where it was not patients.
    argument : str
        Name of the argument that the columns were given for, in messages.

    Raises
    ------
    InputError
        Naming the column.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> arm = np.arange(40) % 2
    >>> table = pd.DataFrame({"age": np.arange(40.0), "treated": 1 - arm})
    >>> refuse_copies(table, arm, np.arange(40.0) % 7)
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: `adjust`: 'treated' is a recoded arm (2 values, each in one arm only); leave it out, ...
    """
    codes = {str(name): pd.factorize(covariates[name])[0] for name in covariates}
    few = [name for name, code in codes.items() if 1 < code.max() + 1 <= len(code) / 2]
    pairs = list(combinations(few, 2))[:_MOST_PAIRS]
    least = log(LEAST_CHANCE / max(1, len(codes) + len(pairs)))
    units = arm if cluster is None else np.unique(np.stack([cluster, arm]), axis=1)[1]
    for name, code in codes.items():
        if _is_function(arm, code, least, units) or _is_function(code, arm, least):
            values = f"{code.max() + 1} values, each in one arm only" if _follows(arm, code) else "the same for all in an arm"
            raise InputError(f"`{argument}`: {name!r} is a recoded arm ({values}); {_instead(argument)}")
        if _separates(covariates[name], arm, least, units):
            raise InputError(
                f"`{argument}`: {name!r} tells the arm (its values do not overlap between arms); {_instead(argument)}"
            )
        why = next(_outcome_copy(covariates[name], code, outcome, least), None)
        if why:
            raise InputError(f"`{argument}`: {name!r} is a copy of the outcome ({why}); leave it out")
    for first, second in pairs:
        both = pd.factorize(codes[first] * (codes[second].max() + 1) + codes[second])[0]
        if _is_function(arm, both, least, units):
            raise InputError(
                f"`{argument}`: {first!r} and {second!r} together tell the arm of every patient; {_instead(argument)}"
            )


def _outcome_copy(values: pd.Series, code: Codes, outcome: np.ndarray, least: float) -> Iterator[str]:
    classes = pd.factorize(outcome)[0]
    if _is_function(classes, code, least):
        yield f"{code.max() + 1} values, each with one outcome"
    if _is_function(code, classes, least):
        yield "one value for each outcome"
    if not pd.api.types.is_numeric_dtype(values):
        return
    numbers = values.to_numpy(dtype=float)
    nested = classes.max() > 1 and (_follows(classes, code) or _follows(code, classes))
    if nested and (_rises_with(numbers, outcome, code, least) or _rises_with(-numbers, outcome, code, least)):
        yield "it rises or falls with it, patient by patient"
    none = (numbers == 0).astype(int)
    if 0 < none.sum() < len(none) and np.array_equal(none == 1, outcome == 0) and log(2) - _log_arrangements(none) < least:
        yield "zero in the same patients"


def _follows(of: Codes, by: Codes) -> bool:
    """Whether a variable is constant within every group."""
    first = np.zeros(by.max() + 1, dtype=int)
    first[by[::-1]] = of[::-1]
    return bool((first[by] == of).all())


def _is_function(of: Codes, by: Codes, least: float, units: Codes | None = None) -> bool:
    """Whether a variable is constant within every group and that is no accident (log probability below ``least``)."""
    classes, groups = int(of.max()) + 1, int(by.max()) + 1
    if classes < 2 or groups < 2:
        return False
    chance = groups * log(classes) - _log_arrangements(of if units is None else units)
    return chance < least and _follows(of, by)


def _separates(values: pd.Series, arm: Codes, least: float, units: Codes) -> bool:
    """Whether the values of the arms lie apart from each other and that is no accident: c! of the arrangements would do so."""
    if not pd.api.types.is_numeric_dtype(values):
        return False
    ends = values.groupby(arm).agg(["min", "max"]).astype(float).sort_values("min")
    apart = bool((ends["max"].to_numpy()[:-1] < ends["min"].to_numpy()[1:]).all())
    return apart and lgamma(len(ends) + 1) - _log_arrangements(units) < least


def _log_arrangements(codes: Codes) -> float:
    """Logarithm of the number of ways in which the classes can be dealt to the patients."""
    return lgamma(len(codes) + 1) - sum(lgamma(size + 1) for size in np.bincount(codes))


def _rises_with(numbers: np.ndarray, outcome: np.ndarray, code: Codes, least: float) -> bool:
    """Whether no two patients stand in opposite order in the two (ties allowed), and that is no accident."""
    if len(np.unique(numbers)) < 2 or len(np.unique(outcome)) < 2:
        return False
    order = np.lexsort([numbers, outcome])
    if (np.diff(numbers[order]) < 0).any():
        return False
    inside = sum(_log_arrangements(pd.factorize(code[outcome == value])[0]) for value in np.unique(outcome))
    return log(2) + inside - _log_arrangements(code) < least
