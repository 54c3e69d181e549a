"""Formulas of covariates: read by the grammar, checked, fitted to one table and evaluated on it or on others.

Accepted are columns (any name in backticks), ``+ - * : / **`` between terms, and as a term one of the functions
:data:`FORMULA_FUNCTIONS`; inside a function also numbers, texts in quotes, arithmetic, comparisons, ``and or not in``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from causalms.errors import UsageError, near_or_all
from causalms.tables.formula_matrix import FittedFormula, fitted_formula
from causalms.tables.formula_values import ARGUMENTS, MOST_PARTS, SEVERAL_COLUMNS
from causalms.tables.grammar import Call, Column, Literal, Node, Operation, Series, columns_of, read_formula

#: Functions that a formula may call.
FORMULA_FUNCTIONS = tuple(ARGUMENTS)
#: Most terms that a formula may expand to.
MOST_TERMS = 500


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
    argument : str
        Name of the argument that the text was given for, in messages.
    """

    text: str
    columns: tuple[str, ...]
    tree: Node
    argument: str = "adjust"

    @property
    def outside_factors(self) -> tuple[str, ...]:
        """Columns that stand outside ``C( )``: numbers, unless they hold text."""
        return tuple(dict.fromkeys(_outside_factors(self.tree)))

    def fit(self, table: pd.DataFrame) -> FittedFormula:
        """Fix knots, means, standard deviations, cuts and levels on a table, complete in :attr:`columns`.

        Raises
        ------
        UsageError
            If the formula cannot be evaluated on these values.
        """
        return fitted_formula(self.tree, self.text, self.argument, self.columns, table)

    def matrix(self, table: pd.DataFrame) -> pd.DataFrame:
        """The design columns of the formula fitted to the same table, without the intercept, named by the formula's terms."""
        return self.fit(table).matrix(table)


def formula(text: str, table: pd.DataFrame, argument: str = "adjust") -> Formula:
    """Read a formula such as ``"age + C(site)"`` over the columns of a table.

    Parameters
    ----------
    text : str
        Columns (any name in backticks), ``+ - * : / **``, and the functions :data:`FORMULA_FUNCTIONS`.
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

    What a function learns of one table is used on another:

    >>> scaled = formula("center(`age.bl`)", table).fit(table)
    >>> scaled.matrix(pd.DataFrame({"age.bl": [45.0]})).to_numpy().tolist()
    [[5.0]]
    """
    tree = read_formula(text, [name for name in table.columns if isinstance(name, str)], argument, FORMULA_FUNCTIONS)
    refusal = next(_misuses(tree), None) or _too_many_terms(tree)
    if refusal:
        raise UsageError(f"`{argument}`: {text!r}: {refusal}")
    return Formula(text, columns_of(tree), tree, argument)


def _outside_factors(node: Node) -> Iterator[str]:
    match node:
        case Column(name):
            yield name
        case Call(function, arguments) if function != "C":
            for part in arguments:
                yield from _outside_factors(part)
        case Operation(_, parts):
            for part in parts:
                yield from _outside_factors(part)


def _misuses(node: Node) -> Iterator[str]:
    """What is no term of a formula, in the order of the terms."""
    match node:
        case Column():
            return
        case Literal(value):
            if isinstance(value, bool) or value not in (0, 1):
                yield f"{value!r} is no term; terms are columns and functions of columns"
        case Operation("**", (base, Literal())):
            yield from _misuses(base)
        case Operation("+" | "-" | "*" | "/" | ":" | "()", parts):
            for part in parts:
                yield from _misuses(part)
        case Call():
            yield from _misused_call(node)
        case _:
            yield "write a condition or arithmetic inside I( ), such as I(age >= 40)"


def _misused_call(node: Call) -> Iterator[str]:
    """What is wrong with the arguments of a function: how many, their names, their kind and size."""
    known = ARGUMENTS[node.function]
    if not node.arguments or isinstance(node.arguments[0], Literal | Series):
        yield f"{node.function} needs a column first, such as {node.function}(age)"
    elif len(node.arguments) > 1 + len(known):
        yield f"{node.function} takes {' and '.join(['a column', *known])}, found {len(node.arguments)} parts"
    for name in (name for name, _ in node.named):
        if name not in known:
            mend = near_or_all(name, known, "it has")
            yield f"{node.function} has no argument {name!r}; {mend}"
    names = [*list(known)[: max(len(node.arguments) - 1, 0)], *(name for name, _ in node.named)]
    if len(set(names)) < len(names):
        yield f"{node.function} is given {max(names, key=names.count)!r} twice"
    for name, value in zip(names, [*node.arguments[1:], *(value for _, value in node.named)], strict=False):
        yield from _misused_option(node.function, name, value)
    if node.function == "quantiles" and "parts" not in names:
        yield "quantiles needs the number of parts, such as quantiles(age, 3)"
    for part in node.arguments[:1]:
        yield from _misplaced(part, node.function)


def _misused_option(function: str, name: str, value: Node) -> Iterator[str]:
    items = value.items if isinstance(value, Series) else (value,)
    if not all(isinstance(item, Literal) for item in items):
        yield f"{name} of {function} must be a number, a text, True, False or a list of these"
    elif name in ("df", "degree", "parts"):
        least = 2 if name == "parts" else 1
        count = value.value if isinstance(value, Literal) else None
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= MOST_PARTS:
            yield f"{name} of {function} must be a whole number from {least} to {MOST_PARTS}"
    elif name in ("levels", "knots") and (not isinstance(value, Series) or not 0 < len(items) <= MOST_PARTS):
        yield f"{name} of {function} must be a list of at most {MOST_PARTS}, such as [1, 2]"
    elif isinstance(value, Series) and name not in ("levels", "knots"):
        yield f"{name} of {function} must be one value, not a list"
    elif name != "levels" and any(isinstance(item, Literal) and isinstance(item.value, str) for item in items):
        yield f"{name} of {function} is a text, expected a number, True or False"


def _misplaced(node: Node, outer: str) -> Iterator[str]:
    """Functions inside a function: those of several columns stand alone, but for groups of quantiles in C( )."""
    match node:
        case Call(function):
            if function in SEVERAL_COLUMNS and not (function == "quantiles" and outer == "C"):
                yield f"{function} gives several columns, so it stands alone and not inside {outer}"
            yield from _misused_call(node)
        case Operation(_, parts) | Series(parts):
            for part in parts:
                yield from _misplaced(part, f"{outer}( ) with arithmetic" if outer == "C" else outer)


def _too_many_terms(tree: Node) -> str | None:
    count = _terms(tree)
    return f"expands to {count} terms, at most {MOST_TERMS} are fitted; name fewer" if count > MOST_TERMS else None


def _terms(node: Node) -> int:
    """An upper bound of the number of terms that a formula expands to."""
    match node:
        case Operation("()", (part,)):
            return _terms(part)
        case Operation("**", (base, Literal(power))) if isinstance(power, int):
            return int(min((1 + _terms(base)) ** power - 1, 10**9))
        case Operation("+" | "-", parts):
            return sum(map(_terms, parts))
        case Operation(":", (left, right)):
            return _terms(left) * _terms(right)
        case Operation("*" | "/", (left, right)):
            return _terms(left) + _terms(right) + _terms(left) * _terms(right)
    return 1
