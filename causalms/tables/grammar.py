"""A small language for text that users write: columns, numbers, arithmetic, comparisons, a stated list of functions.

Text is read into a tree of the classes below and never evaluated as code.  Columns stand by their name or, with any name at all,
in backticks; a name may hold dots.  Everything else is refused with its place in the text.

========================  ==================================================================================
conditions                ``age >= 40 and sex == "F"``, ``site in ["A", "B"]``, ``not (edss + 1 > log(gd_lesions + 1))``
formulas                  ``age + C(site)``, ``age * sex``, ``bs(age, df=4) + I(edss ** 2)``, ``(age + sex):region``
========================  ==================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from causalms.errors import UsageError, near_or_all

LONGEST_TEXT, DEEPEST = 4000, 40
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
  | (?P<quoted>`[^`]+`)
  | (?P<text>"[^"]*"|'[^']*')
  | (?P<name>[^\W\d][\w.]*)
  | (?P<mark>\*\*|//|>=|<=|==|!=|[-+*/%^:<>()\[\],=&|~])
    )""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in", "True", "False", "None"}
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True)
class Token:
    """A word of the text: its kind, the word and the place of its first letter, counted from 1."""

    kind: str
    word: str
    place: int


@dataclass(frozen=True)
class Literal:
    """A number, a text in quotes, True, False or None."""

    value: float | int | str | bool | None


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    name: str


@dataclass(frozen=True)
class Series:
    """A list in brackets."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Call:
    """One of the stated functions with its arguments."""

    function: str
    arguments: tuple[Node, ...]
    named: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True)
class Operation:
    """An operator between (or before) parts; a chain of comparisons is joined by ``and``."""

    operator: str
    parts: tuple[Node, ...]


Node = Literal | Column | Series | Call | Operation


def columns_of(node: Node) -> tuple[str, ...]:
    """Columns that a tree names, each once, in order of appearance.

    Examples
    --------
    >>> columns_of(read_condition("age > 40 and `age.bl` < age", ["age", "age.bl"], "by"))
    ('age', 'age.bl')
    """
    return tuple(dict.fromkeys(_columns(node)))


def _columns(node: Node) -> Iterator[str]:
    match node:
        case Column(name):
            yield name
        case Series(items) | Operation(_, items):
            for item in items:
                yield from _columns(item)
        case Call(_, arguments, named):
            for item in (*arguments, *(value for _, value in named)):
                yield from _columns(item)


def read_condition(text: str, columns: Collection[str] | None, argument: str, functions: Collection[str] = ()) -> Node:
    """Read a condition such as ``age >= 40 and sex == "F"``.

    Parameters
    ----------
    text : str
    columns : collection of str or None
        Columns of the table; any name where they are not known yet.
    argument : str
        Name of the argument that the text was given for, in messages.
    functions : collection of str
        Functions that may be called.

    Raises
    ------
    UsageError
        Naming the place in the text.

    Examples
    --------
    >>> read_condition("age > 40", ["age"], "by")
    Operation(operator='>', parts=(Column(name='age'), Literal(value=40)))
    """
    reader = _Reader(text, columns, argument, functions)
    node = reader.alternatives()
    reader.expect_end()
    return node


def read_formula(text: str, columns: Collection[str], argument: str, functions: Collection[str]) -> Node:
    """Read the right-hand side of a formula such as ``age + C(site)``; parameters as for :func:`read_condition`.

    Examples
    --------
    >>> read_formula("age + C(site)", ["age", "site"], "adjust", ["C"]).parts[1]
    Call(function='C', arguments=(Column(name='site'),), named=())
    """
    reader = _Reader(text.strip().removeprefix("~"), columns, argument, functions)
    node = reader.terms()
    reader.expect_end()
    return node


class _Reader:
    """A reader by recursive descent; each method reads one level of precedence."""

    def __init__(self, text: str, columns: Collection[str] | None, argument: str, functions: Collection[str]) -> None:
        self.text, self.argument, self.functions = text, argument, functions
        self.columns = None if columns is None else tuple(columns)
        self.depth, self.at = 0, 0
        if len(text) > LONGEST_TEXT:
            raise UsageError(
                f"`{argument}`: {len(text)} letters, at most {LONGEST_TEXT} are read; add a column to the table instead"
            )
        self.tokens = list(self._tokens())

    def _tokens(self) -> Iterator[Token]:
        place = 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self._refusal(self.text[start], start + 1)
            yield Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)
            place = match.end()

    def _refusal(self, word: str, place: int, expected: str = "") -> UsageError:
        what = (
            expected
            or f"a column, a number, a comparison, arithmetic or one of {', '.join(self.functions) or 'and, or, not, in'}"
        )
        return UsageError(f"`{self.argument}`: {self.text!r}: found {word!r} at letter {place}, expected {what}")

    @property
    def now(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "the end", len(self.text) + 1)

    def take(self, *words: str) -> str | None:
        """Step over the next word if it is one of these (and no column or text in quotes)."""
        token = self.now
        if token.kind in ("mark", "name") and token.word in words:
            self.at += 1
            return token.word
        return None

    def expect(self, word: str) -> None:
        if self.take(word) is None:
            raise self._refusal(self.now.word, self.now.place, repr(word))

    def expect_end(self) -> None:
        if self.now.word == "~" and self.now.kind == "mark":
            raise self._refusal("~", self.now.place, "only the right-hand side, such as age + C(site)")
        if self.now.kind != "end":
            raise self._refusal(self.now.word, self.now.place, "the end, or an operator between two parts")

    # Conditions and arithmetic, from the loosest operator to the tightest.

    def alternatives(self) -> Node:
        node = self.conjunction()
        while self.take("or", "|"):
            node = Operation("or", (node, self.conjunction()))
        return node

    def conjunction(self) -> Node:
        node = self.negation()
        while self.take("and", "&"):
            node = Operation("and", (node, self.negation()))
        return node

    def negation(self) -> Node:
        if self.take("not", "~"):
            with _Deeper(self):
                return Operation("not", (self.negation(),))
        return self.comparison()

    def comparison(self) -> Node:
        left, links = self.sum(), []
        while True:
            operator = self.take(*_COMPARISONS) or self.take("in")
            if operator is None and self.now.word == "not" and self.now.kind == "name":
                self.at += 1
                self.expect("in")
                operator = "not in"
            if operator is None:
                break
            right = self.listed() if "in" in operator.split() else self.sum()
            links.append(Operation(operator, (left, right)))
            left = right
        if not links:
            return left
        node: Node = links[0]
        for link in links[1:]:
            node = Operation("and", (node, link))
        return node

    def sum(self) -> Node:
        node = self.product()
        while operator := self.take("+", "-"):
            node = Operation(operator, (node, self.product()))
        return node

    def product(self) -> Node:
        node = self.signed()
        while operator := self.take("*", "/", "//", "%"):
            node = Operation(operator, (node, self.signed()))
        return node

    def signed(self) -> Node:
        if operator := self.take("-", "+"):
            with _Deeper(self):
                value = self.signed()
            if isinstance(value, Literal) and isinstance(value.value, int | float):
                return Literal(-value.value) if operator == "-" else value
            return Operation(operator, (value,))
        return self.power()

    def power(self) -> Node:
        node = self.atom()
        if self.take("**", "^"):
            with _Deeper(self):
                return Operation("**", (node, self.signed()))
        return node

    # Formulas: terms joined by + and -, products by * and /, interactions by :, powers of a sum by **.

    def terms(self) -> Node:
        first = self.take("-", "+")
        node: Node = Operation("-", (self.crossed(),)) if first == "-" else self.crossed()
        while operator := self.take("+", "-"):
            node = Operation(operator, (node, self.crossed()))
        return node

    def crossed(self) -> Node:
        node = self.interaction()
        while operator := self.take("*", "/"):
            node = Operation(operator, (node, self.interaction()))
        return node

    def interaction(self) -> Node:
        node = self.raised()
        while self.take(":"):
            node = Operation(":", (node, self.raised()))
        return node

    def raised(self) -> Node:
        if self.take("("):
            with _Deeper(self):
                node = self.terms()
            self.expect(")")
            node = Operation("()", (node,))
        else:
            node = self.atom()
        if self.take("**", "^"):
            power = self.now
            self.at += 1
            if power.kind != "number" or not power.word.isdigit() or int(power.word) > 9:
                raise self._refusal(power.word, power.place, "a whole power from 1 to 9")
            node = Operation("**", (node, Literal(int(power.word))))
        return node

    def atom(self) -> Node:
        token = self.now
        if self.take("("):
            with _Deeper(self):
                node = self.alternatives()
            self.expect(")")
            return Operation("()", (node,))
        if self.take("["):
            return self.series("]")
        self.at += 1
        match token.kind:
            case "number":
                return Literal(int(token.word) if token.word.isdigit() and len(token.word) < 16 else float(token.word))
            case "text":
                return Literal(token.word[1:-1])
            case "quoted":
                return self.column(token.word[1:-1], token)
            case "name" if self.now.word == "(" and self.now.kind == "mark":
                return self.call(token)
            case "name" if self.columns is not None and token.word in self.columns:
                return Column(token.word)
            case "name" if token.word in ("True", "False", "None"):
                return Literal({"True": True, "False": False, "None": None}[token.word])
            case "name" if token.word not in _WORDS:
                return self.column(token.word, token)
        raise self._refusal(token.word, token.place)

    def column(self, name: str, token: Token) -> Column:
        if self.columns is not None and name not in self.columns:
            known = [column for column in self.columns if column.isprintable()]
            mend = near_or_all(name, known, "columns are")
            raise UsageError(f"`{self.argument}`: {self.text!r}: no column {name!r} (letter {token.place}); {mend}")
        return Column(name)

    def call(self, token: Token) -> Call:
        if token.word not in self.functions:
            known = f"may be called are {', '.join(self.functions)}" if self.functions else "no function may be called here"
            raise UsageError(
                f"`{self.argument}`: {self.text!r}: {token.word!r} at letter {token.place} cannot be called; {known}"
            )
        self.expect("(")
        arguments: list[Node] = []
        named: list[tuple[str, Node]] = []
        with _Deeper(self):
            while not self.take(")"):
                after = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else self.now
                if self.now.kind == "name" and after.kind == "mark" and after.word == "=":
                    name = self.now.word
                    self.at += 2
                    named.append((name, self.alternatives()))
                elif named:
                    raise self._refusal(self.now.word, self.now.place, "a named argument after a named argument")
                else:
                    arguments.append(self.alternatives())
                if self.now.word != ")":
                    self.expect(",")
        return Call(token.word, tuple(arguments), tuple(named))

    def listed(self) -> Series:
        opening = self.take("[", "(")
        if opening is None:
            raise self._refusal(self.now.word, self.now.place, 'a list after "in", such as ["A", "B"]')
        return self.series("]" if opening == "[" else ")")

    def series(self, closing: str) -> Series:
        items: list[Node] = []
        with _Deeper(self):
            while not self.take(closing):
                items.append(self.signed())
                if self.now.word != closing:
                    self.expect(",")
        return Series(tuple(items))


class _Deeper:
    """One level of nesting more, refused past :data:`DEEPEST`."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def __enter__(self) -> None:
        self.reader.depth += 1
        if self.reader.depth > DEEPEST:
            raise UsageError(f"`{self.reader.argument}`: nested more than {DEEPEST} deep; add a column to the table instead")

    def __exit__(self, *_: object) -> None:
        self.reader.depth -= 1
