"""Values of the parts of a condition or formula, computed from their tree and never evaluated as code."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import UsageError
from causalms.tables.cells import refuse_words_among_numbers
from causalms.tables.grammar import Call, Column, Literal, Node, Operation, Series

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


class Values:
    """Values of the parts of a condition: an array (n,) where columns take part, else a single value."""

    def __init__(self, table: pd.DataFrame, text: str, argument: str, source: str = "table") -> None:
        self.table, self.text, self.argument, self.source = table, text, argument, source

    def of(self, node: Node) -> Any:
        """Value of a part: an array (n,) or a single value."""
        match node:
            case Literal(value):
                return value
            case Column(name):
                return self._column(name)
            case Series(items):
                return [self.of(item) for item in items]
            case Call():
                return self.call(node)
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
                value = self.number(part)
                return -value if sign == "-" else value
            case Operation(sign, (left, right)):
                return _ARITHMETIC[sign](self.number(left), self.number(right))

    def call(self, node: Call) -> Any:
        """Value of a function of numbers; formulas have more functions."""
        if len(node.arguments) != 1 or node.named:
            raise self.wrong(f"{node.function} takes one part")
        return NUMBER_FUNCTIONS[node.function](self.number(node.arguments[0]))

    def wrong(self, why: str) -> UsageError:
        """The error that names the text and what is wrong with it."""
        return UsageError(f"`{self.argument}`: {self.text!r}: {why}")

    def _column(self, name: str) -> np.ndarray:
        values = self.table[name]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            return values.to_numpy(dtype=bool if pd.api.types.is_bool_dtype(values) else float, na_value=np.nan)
        refuse_words_among_numbers(values, self.source)
        return values.astype(object).where(values.notna(), "").astype(str).to_numpy(dtype=object)

    def number(self, node: Node) -> Any:
        """Value of a part that must be numeric."""
        value = self.of(node)
        if isinstance(value, np.ndarray) and value.dtype == object:
            raise self.wrong(f"column {getattr(node, 'name', '')!r} holds text where a number is needed")
        if value is None or isinstance(value, str | list):
            raise self.wrong(f"found {value!r} where a number is needed")
        return value.astype(float) if isinstance(value, np.ndarray) else np.float64(value)  # of numpy: overflow gives inf

    def _truth(self, node: Node) -> np.ndarray:
        value = self.of(node)
        if not (isinstance(value, np.ndarray) and value.dtype == bool):
            raise self.wrong("and, or, not join conditions such as age >= 40, not numbers or texts")
        return value

    def _compared(self, sign: str, left: Node, right: Node) -> Any:
        values = self.of(left), self.of(right)
        texts = [isinstance(v, str) or (isinstance(v, np.ndarray) and v.dtype == object) for v in values]
        if any(value is None or isinstance(value, list) for value in values):
            raise self.wrong(f"{sign} compares numbers with numbers or texts with texts")
        if texts[0] != texts[1]:
            raise self.wrong("a text is compared with a number; write texts in quotes, numbers without")
        return np.asarray(_COMPARISONS[sign](values[0], values[1]), dtype=bool) if any(
            isinstance(value, np.ndarray) for value in values
        ) else bool(_COMPARISONS[sign](values[0], values[1]))  # fmt: skip

    def _among(self, left: Node, listed: Series, inside: bool) -> Any:
        value = self.of(left)
        if not isinstance(value, np.ndarray):
            raise self.wrong("in asks of a column whether its value is in the list")
        if not listed.items:
            raise self.wrong("the list after in is empty")
        among = np.zeros(len(value), dtype=bool)
        for item in listed.items:
            among |= np.asarray(self._compared("==", left, item), dtype=bool)
        return among if inside else ~among
