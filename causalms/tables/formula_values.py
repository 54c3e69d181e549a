"""Values of the factors of a formula; what a function learns from the table that it is fitted to is kept and used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from causalms.tables.grammar import Call, Literal, Node
from causalms.tables.values import NUMBER_FUNCTIONS, Values

#: Arguments of the functions of a formula beside the first one, in their order, each with its default.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "C": {"levels": None},
    "I": {},
    **{name: {} for name in NUMBER_FUNCTIONS},
    "bs": {"df": None, "knots": None, "degree": 3, "include_intercept": False, "lower_bound": None, "upper_bound": None},
    "cr": {"df": None, "knots": None, "lower_bound": None, "upper_bound": None},
    "cs": {"df": None, "knots": None, "lower_bound": None, "upper_bound": None},
    "poly": {"degree": 1, "raw": False},
    "scale": {"center": True, "scale": True, "ddof": 1},
    "center": {},
    "standardize": {"center": True, "rescale": True, "ddof": 0},
    "quantiles": {"parts": None},
}
#: Functions that give several columns and so stand alone, not within arithmetic.
SEVERAL_COLUMNS = ("C", "bs", "cr", "cs", "poly", "quantiles")
#: Most degrees of freedom, degrees or parts of one function.
MOST_PARTS = 100

#: What functions learned from the table that they were fitted to: (mean, standard deviation) or the cuts between groups.
Learned = dict[Node, Any]


def options_of(node: Call, value_of: Callable[[Node], Any]) -> dict[str, Any]:
    """Arguments of a function beside its first, by name, defaults filled in."""
    defaults = ARGUMENTS[node.function]
    given = dict(zip(defaults, map(value_of, node.arguments[1:]), strict=False)) | {n: value_of(v) for n, v in node.named}
    return defaults | given


class FormulaValues(Values):
    """Values of the parts of a formula.

    Parameters
    ----------
    table : DataFrame
    text, argument : str
        Of messages.
    learned : dict
        Filled where a function meets a table first, read afterwards.
    """

    def __init__(self, table: pd.DataFrame, text: str, argument: str, learned: Learned) -> None:
        super().__init__(table, text, argument)
        self.learned = learned

    def call(self, node: Call) -> Any:
        """Value of a function that gives one column."""
        if node.function in NUMBER_FUNCTIONS:
            return super().call(node)
        if node.function == "I":
            return self.of(node.arguments[0])
        if node.function in ("scale", "center", "standardize"):
            return self._scaled(node)
        raise self.wrong(f"{node.function} gives several columns, so it stands alone and not within arithmetic or a function")

    def _scaled(self, node: Call) -> Any:
        """A column less its mean, over its standard deviation where that is wanted."""
        values = self._column_of(node)
        if node not in self.learned:
            options = options_of(node, self.of)
            centre = float(values.mean()) if options.get("center", True) is True else float(options["center"] or 0)
            by = options.get("scale", options.get("rescale", False))
            if by is True:
                spread = float(np.sqrt(((values - centre) ** 2).sum() / (len(values) - float(options["ddof"]))))
                if not spread > 0:
                    raise self.wrong(f"{node.function} divides by a standard deviation of {spread:g}; leave it out")
            else:
                spread = float(by) if by else 1.0
            self.learned[node] = centre, spread
        centre, spread = self.learned[node]
        return (values - centre) / spread

    def quantile_groups(self, node: Call) -> pd.Categorical:
        """Groups of about equal size by the quantiles of a column."""
        values = self._column_of(node)
        if node not in self.learned:
            parts = int(options_of(node, self.of)["parts"])
            self.learned[node] = np.unique(np.nanquantile(values, np.arange(1, parts) / parts))
        cuts = self.learned[node]
        names: Any = [f"group {number + 1}" for number in range(len(cuts) + 1)]
        return pd.Categorical.from_codes([int(at) for at in np.searchsorted(cuts, values, side="left")], names)

    def _column_of(self, node: Call) -> np.ndarray:
        values = np.asarray(self.number(node.arguments[0]), dtype=float)
        if values.ndim != 1:
            raise self.wrong(f"{node.function} is of a column, not of one number")
        return values


def shown(node: Node) -> str:
    """A tree as text, as a term's name shows it.

    Examples
    --------
    >>> from causalms.tables.grammar import read_formula
    >>> shown(read_formula("I( age**2 )", ["age"], "adjust", ["I"]))
    'I(age ** 2)'
    """
    from causalms.tables.grammar import Column, Operation, Series

    match node:
        case Literal(value):
            return repr(value)
        case Column(name):
            return name
        case Series(items):
            return f"[{', '.join(map(shown, items))}]"
        case Call(function, arguments, named):
            return f"{function}({', '.join([*map(shown, arguments), *(f'{name}={shown(value)}' for name, value in named)])})"
        case Operation("()", (part,)):
            return f"({shown(part)})"
        case Operation(sign, (part,)):
            return f"{sign} {shown(part)}" if sign == "not" else f"{sign}{shown(part)}"
        case Operation(sign, (left, right)):
            return f"{shown(left)} {sign} {shown(right)}"
    raise AssertionError(node)  # every kind of node stands above
