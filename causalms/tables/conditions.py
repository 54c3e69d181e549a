"""Conditions on the columns of a table, evaluated from their tree: true, false or unknown for each row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.errors import UsageError
from causalms.tables.grammar import Node, Operation, columns_of, read_condition
from causalms.tables.values import NUMBER_FUNCTIONS, Values


def rows_where(table: pd.DataFrame, text: str, argument: str = "where") -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table in which a condition is true, and rows in which it cannot be told because a value is missing.

    Parameters
    ----------
    table : DataFrame
    text : str
        Such as ``"age >= 40 and site in ['A', 'B']"``; the grammar is that of ``causalms.tables.grammar``.
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
        value = Values(table, text, argument).of(node)
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
