"""Conditions on the columns of a table, evaluated from their tree: true, false or unknown for each row."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import UsageError
from causalms.tables.grammar import Call, Column, Literal, Node, Operation, Series, columns_of, read_condition

#: Functions of numbers that a condition may call.
NUMBER_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"log": np.log, "log1p": np.log1p, "exp": np.exp, "sqrt": np.sqrt}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def rows_where(table: pd.DataFrame, text: str, argument: str = "where") -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table in which a condition is true, and rows in which it cannot be told because a value is missing.

    Parameters
    ----------
    table : DataFrame
    text : str
        Such as ``"age >= 40 and site in ['A', 'B']"``; the grammar is that of :mod:`causalms.tables.grammar`.
    argument : str
        Name of the argument that the text was given for, in messages.

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
        value = _Values(table, text, argument).of(node)
    if not (isinstance(value, np.ndarray) and value.dtype == bool):
        raise UsageError(f'`{argument}`: {text!r} gives no true or false for each patient; write a condition such as "age >= 40"')
    named = list(columns_of(node))
    unknown = table[named].isna().any(axis=1).to_numpy() if named else np.zeros(len(table), dtype=bool)
    return value & ~unknown, unknown


class _Values:
    """Values of the parts of a condition: an array (n,) where columns take part, else a single value."""

    def __init__(self, table: pd.DataFrame, text: str, argument: str) -> None:
        self.table, self.text, self.argument = table, text, argument

    def of(self, node: Node) -> Any:
        match node:
            case Literal(value):
                return value
            case Column(name):
                return self._column(name)
            case Series(items):
                return [self.of(item) for item in items]
            case Call(function, arguments, named):
                if len(arguments) != 1 or named:
                    raise self._wrong(f"{function} takes one part")
                return NUMBER_FUNCTIONS[function](self._number(arguments[0]))
            case Operation("and" | "or" as word, (left, right)):
                both = self._truth(left), self._truth(right)
                return both[0] & both[1] if word == "and" else both[0] | both[1]
            case Operation("()", (part,)):
                return self.of(part)
            case Operation("not", (part,)):
                return ~self._truth(part)
            case Operation("in" | "not in" as word, (left, Series() as listed)):
                return self._among(left, listed, word == "in")
            case Operation(sign, (left, right)) if sign in _COMPARISONS:
                return self._compared(sign, left, right)
            case Operation("+" | "-" as sign, (part,)):
                value = self._number(part)
                return -value if sign == "-" else value
            case Operation(sign, (left, right)):
                return _ARITHMETIC[sign](self._number(left), self._number(right))

    def _wrong(self, why: str) -> UsageError:
        return UsageError(f"`{self.argument}`: {self.text!r}: {why}")

    def _column(self, name: str) -> np.ndarray:
        values = self.table[name]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            return values.to_numpy(dtype=bool if pd.api.types.is_bool_dtype(values) else float, na_value=np.nan)
        return values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)

    def _number(self, node: Node) -> Any:
        value = self.of(node)
        if isinstance(value, np.ndarray) and value.dtype == object:
            raise self._wrong(f"column {getattr(node, 'name', '')!r} holds text where a number is needed")
        if value is None or isinstance(value, str | list):
            raise self._wrong(f"found {value!r} where a number is needed")
        return value

    def _truth(self, node: Node) -> np.ndarray:
        value = self.of(node)
        if not (isinstance(value, np.ndarray) and value.dtype == bool):
            raise self._wrong("and, or, not join conditions such as age >= 40, not numbers or texts")
        return value

    def _compared(self, sign: str, left: Node, right: Node) -> Any:
        values = self.of(left), self.of(right)
        texts = [isinstance(v, str) or (isinstance(v, np.ndarray) and v.dtype == object) for v in values]
        if any(value is None or isinstance(value, list) for value in values):
            raise self._wrong(f"{sign} compares numbers with numbers or texts with texts")
        if texts[0] != texts[1]:
            raise self._wrong("a text is compared with a number; write texts in quotes, numbers without")
        return np.asarray(_COMPARISONS[sign](values[0], values[1]), dtype=bool) if any(
            isinstance(value, np.ndarray) for value in values
        ) else bool(_COMPARISONS[sign](values[0], values[1]))  # fmt: skip

    def _among(self, left: Node, listed: Series, inside: bool) -> Any:
        value = self.of(left)
        if not isinstance(value, np.ndarray):
            raise self._wrong("in asks of a column whether its value is in the list")
        if not listed.items:
            raise self._wrong("the list after in is empty")
        found = np.zeros(len(value), dtype=bool)
        for item in listed.items:
            found |= np.asarray(self._compared("==", left, item), dtype=bool)
        return found if inside else ~found
