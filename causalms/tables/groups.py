"""Rows that a text names: those where a condition holds, and the subgroups of a column, a condition or quantiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.errors import UsageError
from causalms.tables.cells import number_in_full, refuse_lookalikes, refuse_words_among_numbers
from causalms.tables.grammar import Node, Operation, columns_of, read_condition
from causalms.tables.keys import name_of
from causalms.tables.values import NUMBER_FUNCTIONS, Values


def rows_where(table: pd.DataFrame, text: str, argument: str = "where", source: str = "table") -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table in which a condition is true, and rows in which it cannot be told because a value is missing.

    Parameters
    ----------
    table : DataFrame
    text : str
        Such as ``"age >= 40 and site in ['A', 'B']"``; the grammar is that of ``causalms.tables.grammar``.
    argument : str
        Name of the argument that the text was given for, in messages.
    source : str
        What messages call the table: the name of its file.

    Returns
    -------
    true, unknown : boolean array (n,)

    Raises
    ------
    UsageError
        If the text is no condition on the columns of the table, or compares text with numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"age": [30, 45, None], "sex": ["F", "M", "F"]})
    >>> true, unknown = rows_where(people, "age >= 40 or sex == 'M'")
    >>> true.tolist(), unknown.tolist()
    ([False, True, False], [False, False, True])
    """
    node = read_condition(text, [str(name) for name in table.columns], argument, tuple(NUMBER_FUNCTIONS))
    with np.errstate(all="ignore"):
        value = Values(table, text, argument, source).of(node)
    if not (isinstance(value, np.ndarray) and value.dtype == bool):
        raise UsageError(f'`{argument}`: {text!r} gives no true or false for each patient; write a condition such as "age >= 40"')
    named = list(columns_of(node))
    unknown = table[named].isna().any(axis=1).to_numpy() if named else np.zeros(len(table), dtype=bool)
    return value & ~unknown, unknown


def condition_columns(text: str, argument: str = "where") -> tuple[str, ...]:
    """Columns that a condition compares, in order of appearance; read without a table.

    Raises
    ------
    UsageError
        If the text is no condition: a comparison, or several joined by and, or, not.

    Examples
    --------
    >>> condition_columns("gd_lesions > 0 and `age.bl` < 50")
    ('gd_lesions', 'age.bl')
    """
    node = read_condition(text, None, argument, tuple(NUMBER_FUNCTIONS))
    if not _is_condition(node) or not columns_of(node):
        raise UsageError(f"`{argument}`: {text!r} compares no column; write a condition such as 'gd_lesions > 0'")
    return columns_of(node)


def _is_condition(node: Node) -> bool:
    match node:
        case Operation("and" | "or" | "not" | "()", parts):
            return all(map(_is_condition, parts))
        case Operation("in" | "not in" | "<" | "<=" | ">" | ">=" | "==" | "!="):
            return True
    return False


_COMPARISON = re.compile(r"^\s*(`[^`]+`|[\w.]+)\s*(>=|<=|==|!=|>|<)\s*([^&|<>=!]+?)\s*$")
_QUOTED = re.compile(r"`[^`]+`")
_OPPOSITE = {">=": "<", "<=": ">", ">": "<=", "<": ">=", "==": "!=", "!=": "=="}
_QUANTILES = re.compile(r"^\s*quantiles\(\s*(`[^`]+`|[\w.]+)\s*,\s*(\d+)\s*\)\s*$")


@dataclass(frozen=True)
class Grouping:
    """A division of patients.

    Attributes
    ----------
    name : str
        As it was asked for.
    labels : array (n,) of str
        Group of each patient; "" where it cannot be told because a value is missing.
    groups : tuple of str
        The groups in their order of display.
    columns : tuple of str
        Columns that tell the group.
    argument : str
        Name of the argument that the division was given for.
    """

    name: str
    labels: NDArray[np.object_]
    groups: tuple[str, ...]
    columns: tuple[str, ...] = ()
    argument: str = "by"

    @property
    def missing(self) -> int:
        """Patients of no group."""
        return int((self.labels == "").sum())

    def rows(self, group: str) -> NDArray[np.intp]:
        """Row numbers of a group."""
        return np.flatnonzero(self.labels == group)


def grouping(frame: pd.DataFrame, name: str, source: str = "table") -> Grouping:
    """Divide the rows of a table.

    Parameters
    ----------
    frame : DataFrame
    name : str
        A column (``"sex"``), a condition on columns (``"age >= 40"``) or ``"quantiles(age, 3)"``.
    source : str
        What messages call the table: the name of its file.

    Returns
    -------
    Grouping

    Raises
    ------
    UsageError
        If the text is none of the three.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"age": [30, 45, None], "sex": ["F", "M", "F"]})
    >>> grouping(people, "age >= 40").labels.tolist(), grouping(people, "sex").groups
    (['age < 40', 'age >= 40', ''], ('sex = F', 'sex = M'))
    """
    if name in frame.columns:
        return _by_column(frame[name], name, source)
    if _QUOTED.fullmatch(name.strip()) and name.strip()[1:-1] in frame.columns:
        return _by_column(frame[name.strip()[1:-1]], name.strip()[1:-1], source)
    if quantiles := _QUANTILES.match(name):
        return _by_quantiles(frame, name, quantiles[1].strip("`"), int(quantiles[2]), source)
    return _by_condition(frame, name, source)


def _by_column(values: pd.Series, name: str, source: str) -> Grouping:
    present = values.dropna()
    refuse_words_among_numbers(values, source)
    refuse_lookalikes(present.unique(), f"values of {name}", source)
    numeric = pd.api.types.is_numeric_dtype(values)
    kinds = sorted(present.unique()) if numeric else sorted(present.unique(), key=str)
    shown = {kind: f"{name} = {name_of(kind)}" for kind in kinds}
    labels = np.array([shown.get(value, "") if pd.notna(value) else "" for value in values], dtype=object)
    return Grouping(name, labels, tuple(shown.values()), (name,))


def _by_quantiles(frame: pd.DataFrame, name: str, column: str, parts: int, source: str) -> Grouping:
    if column in frame:
        refuse_words_among_numbers(frame[column], source)
    if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]) or parts < 2:
        raise UsageError(f"`by` {name!r}: needs a numeric column and at least 2 parts, for example quantiles(age, 3)")
    values = frame[column].to_numpy(float)
    cuts = np.unique(np.nanquantile(values, np.arange(1, parts) / parts))
    place = np.searchsorted(cuts, values, side="left")
    names = [f"{column} <= {number_in_full(cuts[0])}"]
    names += [f"{number_in_full(low)} < {column} <= {number_in_full(high)}" for low, high in pairwise(cuts)]
    names += [f"{column} > {number_in_full(cuts[-1])}"]
    labels = np.array([names[at] if value == value else "" for at, value in zip(place, values, strict=True)], dtype=object)
    return Grouping(name, labels, tuple(label for label in names if (labels == label).any()), (column,))


def _by_condition(frame: pd.DataFrame, name: str, source: str) -> Grouping:
    met, unknown = rows_where(frame, name, "by", source)
    columns = columns_of(read_condition(name, [str(column) for column in frame.columns], "by", tuple(NUMBER_FUNCTIONS)))
    comparison = _COMPARISON.match(name)
    opposite = f"{comparison[1]} {_OPPOSITE[comparison[2]]} {comparison[3]}" if comparison else f"not ({name})"
    labels = np.where(unknown, "", np.where(met, name, opposite)).astype(object)
    return Grouping(name, labels, tuple(label for label in (name, opposite) if (labels == label).any()), columns)
