"""Adjustment formulas: read by the grammar, then written anew for the formula library with safe names in place of columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import UsageError
from causalms.tables.grammar import Call, Column, Literal, Node, Operation, Series, columns_of, read_formula

#: Functions that a formula may call.
FORMULA_FUNCTIONS = (
    "C", "I", "log", "log1p", "exp", "sqrt", "bs", "cr", "cs", "poly", "scale", "center", "standardize", "quantiles",
)  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """The right-hand side of a formula over the columns of a table.

    Attributes
    ----------
    text : str
        As it was given.
    columns : tuple of str
        Columns it needs, in order of appearance.
    tree : Node
    """

    text: str
    columns: tuple[str, ...]
    tree: Node

    def matrix(self, table: pd.DataFrame) -> pd.DataFrame:
        """The design columns of the formula, without the intercept, named by the formula's own terms.

        Parameters
        ----------
        table : DataFrame
            Complete in :attr:`columns`.

        Returns
        -------
        DataFrame
            Same number of rows.

        Raises
        ------
        UsageError
            If the formula cannot be evaluated on these values.
        """
        import formulaic

        safe = {name: f"column_{number}_" for number, name in enumerate(self.columns)}
        frame = table[list(self.columns)].rename(columns=safe)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                built = formulaic.model_matrix(f"~ {_written(self.tree, safe)}", frame, context=_EXTRA, na_action="ignore")
        except Exception as error:  # the library raises many classes; all of them mean that the values do not fit the formula
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"`adjust`: {self.text!r} cannot be evaluated on this table ({_named(reason, safe)})") from None
        design = pd.DataFrame(built).astype(float)
        design.columns = [_named(str(name), safe) for name in design.columns]
        first = [position for position, name in enumerate(pd.DataFrame(built).columns) if str(name) == "Intercept"]
        return design.iloc[:, [position for position in range(design.shape[1]) if position not in first]]


def formula(text: str, table: pd.DataFrame, argument: str = "adjust") -> Formula:
    """Read a formula such as ``"age + C(site)"`` over the columns of a table.

    Parameters
    ----------
    text : str
        Columns (any name in backticks), ``+ - * : / **``, numbers, and the functions :data:`FORMULA_FUNCTIONS`.
    table : DataFrame
    argument : str
        Name of the argument that the text was given for, in messages.

    Raises
    ------
    UsageError
        Naming the place in the text.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age.bl": [30.0, 40.0, 50.0], "site": ["A", "B", "A"]})
    >>> formula("`age.bl` + C(site)", table).matrix(table).columns.tolist()
    ['age.bl', 'C(site)[T.B]']
    >>> formula("`age.bl` + {1}", table)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    causalms.errors.UsageError: `adjust`: '`age.bl` + {1}': found '{' at letter 12, expected a column, a number, ...
    """
    tree = read_formula(text, [str(name) for name in table.columns], argument, FORMULA_FUNCTIONS)
    return Formula(text, columns_of(tree), tree)


def _written(node: Node, safe: dict[str, str]) -> str:
    """A tree as text for the formula library: nothing of the user's own text but numbers and quoted words is in it."""
    match node:
        case Literal(value):
            return repr(value)
        case Column(name):
            return safe[name]
        case Series(items):
            return f"[{', '.join(_written(item, safe) for item in items)}]"
        case Call(function, arguments, named):
            parts = [_written(item, safe) for item in arguments]
            parts += [f"{_keyword(name)}={_written(value, safe)}" for name, value in named]
            return f"{function}({', '.join(parts)})"
        case Operation("()", (part,)):
            return f"({_written(part, safe)})"
        case Operation(sign, (part,)):
            return f"{sign} {_written(part, safe)}"
        case Operation(sign, (left, right)):
            inside = f"{_written(left, safe)} {sign} {_written(right, safe)}"
            return inside if sign in ("+", "-", "*", "/", ":", "**") and _is_plain(left) and _is_plain(right) else f"({inside})"
    raise AssertionError(node)  # every kind of node stands above


def _is_plain(node: Node) -> bool:
    return not (isinstance(node, Operation) and node.operator in ("and", "or", "not", "in", "not in"))


def _keyword(name: str) -> str:
    if not re.fullmatch(r"[a-z_]+", name):
        raise UsageError(f"`adjust`: no function has an argument {name!r}")
    return name


def _named(text: str, safe: dict[str, str]) -> str:
    """Names of columns put back into a text of the formula library."""
    for name, alias in safe.items():
        text = text.replace(alias, name)
    return text


def _quantiles(values: Any, parts: int) -> Any:
    """Groups of equal size by the quantiles of a column."""
    cuts = np.unique(np.nanquantile(np.asarray(values, dtype=float), np.arange(1, parts) / parts))
    place = np.searchsorted(cuts, np.asarray(values, dtype=float), side="left")
    names: Any = [f"group {number + 1}" for number in range(len(cuts) + 1)]
    return pd.Categorical.from_codes([int(at) for at in place], names)


_EXTRA: dict[str, Callable[..., Any]] = {"log1p": np.log1p, "sqrt": np.sqrt, "quantiles": _quantiles}
