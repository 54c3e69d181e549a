"""A formula fitted to a table: its design columns there and, with the same knots, means and levels, on other tables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.tables.formula_values import FormulaValues, Learned, options_of, shown
from causalms.tables.grammar import Call, Column, Literal, Node, Operation
from causalms.tables.keys import name_of

_ALIAS = re.compile(r"factor_\d+_")
_OF_LIBRARY = ("bs", "cr", "cs", "poly")  # spline and polynomial bases


@dataclass(frozen=True)
class FittedFormula:
    """A formula whose knots, means, standard deviations, cuts and levels are fixed.

    Attributes
    ----------
    columns : tuple of str
        Columns it needs.
    names : tuple of str
        Names of its design columns.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    _evaluate: Callable[[pd.DataFrame], np.ndarray]

    def matrix(self, table: pd.DataFrame) -> pd.DataFrame:
        """The design columns on a table, complete in :attr:`columns`; without the intercept.

        Raises
        ------
        InputError
            For a level that the table of the fit does not have.
        UsageError
            If the formula cannot be evaluated on these values.
        """
        return pd.DataFrame(self._evaluate(table), columns=list(self.names), index=table.index)


def fitted_formula(tree: Node, text: str, argument: str, columns: tuple[str, ...], table: pd.DataFrame) -> FittedFormula:
    """Fit a formula, read and checked by :func:`causalms.tables.formulas.formula`, to a table."""
    plain = _plain_terms(tree, table)
    if plain is not None:
        return FittedFormula(columns, tuple(name for term in plain for name in term.names), _SumOfColumns(plain))
    factors = _Factors(text, argument)
    written = factors.written(tree)
    library = _Library(factors, written)
    names = library.fit(table)
    return FittedFormula(columns, names, library)


@dataclass(frozen=True)
class _PlainTerm:
    """A numeric column, or C(column) with its levels, the first of which is the reference."""

    column: str
    levels: tuple[Any, ...] | None

    @property
    def names(self) -> list[str]:
        return [self.column] if self.levels is None else [f"C({self.column})[T.{name_of(level)}]" for level in self.levels[1:]]

    def block(self, table: pd.DataFrame) -> np.ndarray:
        values = table[self.column]
        if self.levels is None:
            return values.to_numpy(dtype=float)[:, None]
        refuse_new_levels(values, self.levels, self.column)
        codes = pd.Index(self.levels).get_indexer(pd.Index(values))
        return np.asarray(np.eye(len(self.levels))[codes][:, 1:])


@dataclass(frozen=True)
class _SumOfColumns:
    """Design columns of a sum of numeric columns and C(text or whole number), made without the formula library."""

    terms: tuple[_PlainTerm, ...]

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        return np.column_stack([term.block(table) for term in self.terms])


def _plain_terms(node: Node, table: pd.DataFrame) -> tuple[_PlainTerm, ...] | None:
    """Terms of a sum of numeric columns and C(column), each once; None for any other formula."""
    match node:
        case Operation("+", (left, right)):
            terms = _plain_terms(left, table), _plain_terms(right, table)
            return None if terms[0] is None or terms[1] is None else tuple(dict.fromkeys(terms[0] + terms[1]))
        case Column(name) if table[name].dtype.kind in "if":
            return (_PlainTerm(name, None),)
        case Call("C", (Column(name),), ()):
            values = table[name]
            if values.dtype.kind in "if" or (values.dtype.kind == "O" and all(isinstance(value, str) for value in values)):
                return (_PlainTerm(name, tuple(sorted(values.unique()))),)
    return None


def refuse_new_levels(values: pd.Series, levels: tuple[Any, ...], name: str) -> None:
    """Refuse a value that was not there when the formula was fitted.

    Raises
    ------
    InputError
    """
    new = ~values.isin(levels).to_numpy()
    if new.any():
        level = values.iloc[int(new.argmax())]
        known = ", ".join(map(str, levels[:12])) + (", ..." if len(levels) > 12 else "")
        raise InputError(f"covariate {name!r}: level {level!r} is not among those known ({known}); leave these rows out")


class _Factors:
    """The factors of a formula under safe names: nothing of the user's text but numbers reaches the formula library."""

    def __init__(self, text: str, argument: str) -> None:
        self.text, self.argument = text, argument
        self.aliases: dict[Node, str] = {}
        self.literals: dict[str, Any] = {}
        self.levels: dict[str, tuple[Any, ...]] = {}
        self.in_levels: set[str] = set()
        self.learned: Learned = {}
        self._no_table = FormulaValues(pd.DataFrame(), text, argument, {})

    def written(self, node: Node) -> str:
        """The formula over safe names."""
        match node:
            case Literal(value):
                return str(value)
            case Operation("()", (part,)):
                return f"({self.written(part)})"
            case Operation("**", (base, Literal(power))):
                return f"{self.written(base)} ** {power}"
            case Operation(sign, (part,)):
                return f"{sign} {self.written(part)}"
            case Operation(sign, (left, right)):
                return f"{self.written(left)} {sign} {self.written(right)}"
            case Call(function, (inner, *_)) if function == "C" or function in _OF_LIBRARY:
                alias, options = self._alias(inner), options_of(node, self._no_table.of)
                self.in_levels |= {alias} if function == "C" else set()
                if options.get("levels"):
                    self.levels[alias] = tuple(options["levels"])
                return f"{function}({alias}{self._options(node)})"
        return self._alias(node)

    def _alias(self, node: Node) -> str:
        return self.aliases.setdefault(node, f"factor_{len(self.aliases)}_")

    def _options(self, node: Call) -> str:
        """Arguments that were given, as names of the library's context."""
        given = {name for name, _ in node.named} | set(list(options_of(node, lambda _: None))[: len(node.arguments) - 1])
        values, out = options_of(node, self._no_table.of), ""
        for name in (name for name in values if name in given):
            literal = f"literal_{len(self.literals)}_"
            self.literals[literal] = values[name]
            out += f", {name}={literal}"
        return out

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """Values of the factors, one column each; levels are fixed where they are met first."""
        values = FormulaValues(table, self.text, self.argument, self.learned)
        out: dict[str, Any] = {}
        for node, alias in self.aliases.items():
            column = self._values(node, table, values)
            if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
                self.levels.setdefault(alias, tuple(column.unique()))
            if alias in self.levels:
                refuse_new_levels(column, self.levels[alias], shown(node))
            out[alias] = _whole(column) if alias in self.in_levels else column
        return pd.DataFrame(out, index=table.index)

    def _values(self, node: Node, table: pd.DataFrame, values: FormulaValues) -> pd.Series:
        if isinstance(node, Call) and node.function == "quantiles":
            return pd.Series(values.quantile_groups(node), index=table.index)
        if isinstance(node, Column):
            column = table[node.name]
            if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
                raise values.wrong(f"column {node.name!r} holds dates; add a column of days or years to the table")
            if isinstance(column.dtype, pd.CategoricalDtype):
                return column.cat.remove_unused_categories()
            if pd.api.types.is_bool_dtype(column):
                return column.astype(bool)
            if not pd.api.types.is_numeric_dtype(column):
                return column.astype(str)
            return column.astype(np.int64 if column.dtype.kind in "iu" else float)
        with np.errstate(all="ignore"):
            value = values.of(node)
        if not isinstance(value, np.ndarray):
            raise values.wrong(f"{shown(node)} names no column")
        return pd.Series(value, index=table.index)

    def named(self, text: str) -> str:
        """Safe names replaced by what the user wrote."""
        names = {alias: shown(node) for node, alias in self.aliases.items()}
        text = re.sub(r"literal_\d+_", lambda match: _literal_text(self.literals.get(match[0])), text)
        return _ALIAS.sub(lambda match: names.get(match[0], match[0]), text)


def _whole(values: pd.Series) -> pd.Series:
    """Whole numbers as integers, so that level 2.0, a float for a missing cell elsewhere, is called 2."""
    if values.dtype.kind != "f" or not ((values % 1 == 0) & (values.abs() < 2**53)).all():
        return values
    return values.astype(np.int64)


def _literal_text(value: Any) -> str:
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, list) else repr(value)


class _Library:
    """Design columns of the formula library, whose state of the first table is used for all."""

    def __init__(self, factors: _Factors, written: str) -> None:
        self.factors, self.written = factors, written
        self.spec: Any = None
        self.kept: list[int] = []

    def fit(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Fix the state and return the names of the design columns."""
        import formulaic

        def first(frame: pd.DataFrame, context: dict[str, Any]) -> Any:
            return formulaic.model_matrix(f"~ {self.written}", frame, context=context, na_action="ignore")

        built = self._built(table, first)
        self.spec = built.model_spec
        names = [str(name) for name in pd.DataFrame(built).columns]
        self.kept = [place for place, name in enumerate(names) if name != "Intercept"]
        return tuple(self.factors.named(names[place]) for place in self.kept)

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        def again(frame: pd.DataFrame, context: dict[str, Any]) -> Any:
            return self.spec.get_model_matrix(frame, context=context)

        return pd.DataFrame(self._built(table, again)).to_numpy(dtype=float)[:, self.kept]

    def _built(self, table: pd.DataFrame, build: Callable[[pd.DataFrame, dict[str, Any]], Any]) -> Any:
        frame = self.factors.frame(table)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():  # what is not finite is named by the caller
                warnings.simplefilter("ignore")
                return build(frame, dict(self.factors.literals))
        except Exception as error:  # the library raises many classes; all of them mean that the values do not fit the formula
            reason = self.factors.named(str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise UsageError(
                f"`{self.factors.argument}`: {self.factors.text!r} cannot be evaluated on this table ({reason.strip()})"
            ) from None
