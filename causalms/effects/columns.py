"""Columns of a patient table: found or refused by name, numeric or refused by row; covariates by formula."""

from __future__ import annotations

import keyword
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.stats import Array

_IDENTIFIERS = ("participant_id", "USUBJID", "usubjid")
_TERM = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)|C\(([A-Za-z_][A-Za-z_0-9]*)\)")
_LARGEST, _LARGEST_COVARIATE = 1e12, 1e100


def column(table: pd.DataFrame, name: str, source: str) -> pd.Series:
    """A column of the table, infinite numbers included; an unknown name is refused with the names there are.

    Examples
    --------
    >>> import pandas as pd
    >>> column(pd.DataFrame({"y": [1]}), "z", "trial.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: trial.csv: no column 'z'; name one of y
    """
    if name not in table:
        raise InputError(f"{source}: no column {name!r}; name one of {', '.join(map(str, table.columns[:30]))}")
    found = table[name]
    if isinstance(found, pd.DataFrame):
        raise InputError(f"{source}: column {name!r} stands {found.shape[1]} times; keep one of them")
    return found


def one_row_a_patient(table: pd.DataFrame, source: str) -> None:
    """Refuse a table in which a patient identifier stands twice."""
    for name in _IDENTIFIERS:
        if name in table and table[name].duplicated().any():
            row = int(np.flatnonzero(table[name].duplicated())[0])
            raise InputError(
                f"{source}: column {name!r}, row {row + 1}: patient {table[name].iloc[row]!r} stands twice; give one row each"
            )


def numbers(values: pd.Series, rows: np.ndarray, name: str, source: str) -> Array:
    """The chosen rows as finite floats; the first value that is not a number is named with its row."""
    chosen = values.iloc[rows]
    if isinstance(chosen.dtype, pd.CategoricalDtype) or chosen.dtype == bool or pd.api.types.is_datetime64_any_dtype(chosen):
        chosen = chosen.astype(float) if chosen.dtype == bool else chosen.astype(str)
    array = pd.to_numeric(chosen, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = ~np.isfinite(array) | (np.abs(array) > _LARGEST)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        found = label(values.iloc[rows[at]])
        raise InputError(f"{source}: column {name!r}, row {rows[at] + 1}: found {found!r}, expected a number < 1e12; correct it")
    return np.asarray(array)


def counts(values: Array, name: str, rows: np.ndarray, source: str) -> Array:
    """Whole numbers of at least zero, or the first row that is not."""
    wrong = (values < 0) | (values % 1 != 0)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found {values[at]:g}, expected a count (0, 1, 2, ...); "
            "correct it, or ask for a mean difference"
        )
    return values


def activity(values: Array, name: str, rows: np.ndarray, source: str) -> tuple[Array, tuple[str, ...]]:
    """A 0/1 outcome; any other outcome of at least zero is read as any (> 0) against none, and a note says so."""
    if np.isin(values, (0, 1)).all():
        return values, ()
    if (values < 0).any():
        at = int(np.flatnonzero(values < 0)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found {values[at]:g}, expected 0, 1 or a count; correct it"
        )
    return (values > 0).astype(float), (f"{name} is read as any (> 0) against none (0)",)


def times_at_risk(values: Array, name: str, rows: np.ndarray, source: str) -> Array:
    """Exposure above zero, or the first row that is not."""
    if (values <= 0).any():
        at = int(np.flatnonzero(values <= 0)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found an exposure of {values[at]:g}, expected time at risk above 0 "
            "(not its logarithm); correct it or leave the patient out"
        )
    return values


def label(value: object) -> str:
    """An arm's name as text: 1.0 reads '1'."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value).strip()


@dataclass(frozen=True)
class Covariates:
    """An adjustment formula and the variables it needs.

    Attributes
    ----------
    table : DataFrame
        Only the needed variables.
    formula : str or None
    """

    table: pd.DataFrame
    formula: str | None
    source: str

    @classmethod
    def of(cls, table: pd.DataFrame, formula: str | None, source: str) -> Covariates:
        """Parse a right-hand side such as ``"age + C(site)"`` and find its variables."""
        if not formula or not formula.strip():
            return cls(table.iloc[:, :0], None, source)
        text = formula.strip().removeprefix("~")
        plain = _plain_terms(text)
        if plain is not None:
            for name in sorted(set(plain.values())):
                column(table, name, source)
            return cls(table[sorted(set(plain.values()))].apply(_as_numbers), text, source)
        from formulaic import Formula

        if "~" in text:
            raise InputError(f"`adjust` {formula!r}: give only the right-hand side, such as 'age + C(site)'")
        try:
            names = sorted(map(str, Formula(f"~ {text}").required_variables))
        except Exception as error:
            raise InputError(
                f"`adjust` {formula!r}: not a formula ({_first_line(error)}); write it like 'age + C(site)'"
            ) from error
        for name in names:
            column(table, name, source)
        return cls(table[names].apply(_as_numbers), text, source)

    @property
    def complete(self) -> np.ndarray:
        """Rows in which no variable is missing."""
        return np.asarray(self.table.notna().all(axis=1), dtype=bool)

    def matrix(self, rows: np.ndarray) -> tuple[Array, tuple[str, ...]]:
        """Columns of the formula at the chosen rows, without the intercept, and their names."""
        if self.formula is None:
            return np.empty((len(rows), 0)), ()
        simple = _simple_matrix(self.table.iloc[rows], self.formula)
        if simple is not None:
            return simple
        import formulaic

        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():  # what is not finite is found and named below
                warnings.simplefilter("ignore")
                built = formulaic.model_matrix(f"~ {self.formula}", self.table.iloc[rows], na_action="ignore")
            frame = pd.DataFrame(built).astype(float)
        except Exception as error:
            raise InputError(
                f"{self.source}: `adjust` {self.formula!r} cannot be evaluated ({_first_line(error)}); write 'age + C(site)'"
            ) from error
        frame = frame.drop(columns="Intercept", errors="ignore")
        matrix = frame.to_numpy(dtype=float)
        if len(matrix) != len(rows) or not np.isfinite(matrix).all():
            at = np.argwhere(~np.isfinite(matrix))
            where = f"term {frame.columns[at[0][1]]!r}, row {rows[at[0][0]] + 1}" if len(at) else "a missing value"
            raise InputError(f"{self.source}: `adjust` gives no finite number at {where}; correct the row or the formula")
        return matrix, tuple(map(str, frame.columns))


def _plain_terms(formula: str) -> dict[str, str] | None:
    """Terms of a sum of columns and C(column), each with its column; None for any other formula."""
    terms = [part.strip() for part in formula.split("+")]
    matches = [_TERM.fullmatch(term) for term in terms]
    if not all(matches):
        return None
    names = [match[1] or match[2] for match in matches if match]
    return None if any(keyword.iskeyword(name) for name in names) else dict(zip(terms, names, strict=True))


def _simple_matrix(table: pd.DataFrame, formula: str) -> tuple[Array, tuple[str, ...]] | None:
    """The columns that formulaic would give for a sum of numeric columns and C(text or whole number); None for the rest."""
    blocks: list[Array] = []
    names: list[str] = []
    for term, name in (_plain_terms(formula) or {}).items():
        values = table[name]
        if term == name and values.dtype.kind in "if":
            blocks.append(values.to_numpy(dtype=float)[:, None])
            names.append(name)
        elif term == f"C({name})" and (values.dtype.kind == "i" or all(isinstance(value, str) for value in values)):
            levels = sorted(values.unique())
            blocks.append(
                np.column_stack([values == level for level in levels[1:]] or [np.empty((len(values), 0))]).astype(float)
            )
            names += [f"{term}[T.{level}]" for level in levels[1:]]
        else:
            return None
    matrix = np.column_stack(blocks) if blocks else None
    return None if matrix is None or not np.isfinite(matrix).all() else (matrix, tuple(names))


def independent_columns(base: Array, matrix: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Centre and scale covariates and leave out, with a note, those that the arms and earlier covariates already give.

    Parameters
    ----------
    base : array (n, k)
        Arm indicators, which no covariate may repeat.
    matrix : array (n, q)
    names : tuple of str

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]])
    >>> independent_columns(np.ones((3, 1)), x, ("a", "twice_a"))[1:]
    (('a',), ("covariate 'twice_a' is constant or repeats others and is left out",))
    """
    if matrix.size and np.abs(matrix).max() > _LARGEST_COVARIATE:
        raise InputError(f"covariate {names[int(np.abs(matrix).max(axis=0).argmax())]!r} is above 1e100; rescale it")
    kept: list[int] = []
    orthonormal = np.linalg.qr(base)[0]
    scaled = np.empty_like(matrix)
    for index in range(matrix.shape[1]):
        values = matrix[:, index] - matrix[:, index].mean()
        spread = np.sqrt((values**2).mean())
        scaled[:, index] = values / spread if spread > 0 else 0.0
        rest = scaled[:, index]
        for _ in range(2):  # twice, because one Gram-Schmidt pass loses digits
            rest = rest - orthonormal @ (orthonormal.T @ rest)
        length = np.sqrt((rest**2).sum())
        if spread > 1e-12 * (1 + abs(matrix[:, index].mean())) and length > 1e-7 * np.sqrt(len(rest)):
            kept.append(index)
            orthonormal = np.column_stack([orthonormal, rest / length])
    dropped = [names[index] for index in range(len(names)) if index not in kept]
    notes = tuple(f"covariate {name!r} is constant or repeats others and is left out" for name in dropped)
    return scaled[:, kept], tuple(names[index] for index in kept), notes


def _as_numbers(values: pd.Series) -> pd.Series:
    """Numbers that a reader kept as objects, as numbers; text stays text and becomes levels."""
    if values.dtype != object:
        return values
    converted = pd.to_numeric(values, errors="coerce")
    return converted if (converted.notna() | values.isna()).all() else values


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
