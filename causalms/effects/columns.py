"""Columns of a patient table: found or refused by name, numeric or refused by row; covariates by formula."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms import tables
from causalms.errors import InputError, near_or_all
from causalms.stats import Array
from causalms.tables import LARGEST_VALUES, mend_of_number, name_of, plain_numbers, refuse_lookalikes, refuse_words_among_numbers

_IDENTIFIERS = ("participant_id", "USUBJID", "usubjid")
_LARGEST, _LARGEST_COVARIATE = 1e12, 1e100
#: Rows that must lack a baseline variable before an indicator of it enters a model.
FEWEST_FOR_INDICATOR = 10


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
        mend = near_or_all(name, map(str, table.columns), "name one of")
        raise InputError(f"{source}: no column {name!r}; {mend}")
    values = table[name]
    if isinstance(values, pd.DataFrame):
        raise InputError(f"{source}: column {name!r} stands {values.shape[1]} times; keep one of them")
    return values


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
    array = plain_numbers(chosen)
    wrong = ~np.isfinite(array) | (np.abs(array) > _LARGEST)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        value = name_of(values.iloc[rows[at]])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found {value!r}, expected a number < 1e12; {mend_of_number(value)}"
        )
    return np.asarray(array)


def counts(values: Array, name: str, rows: np.ndarray, source: str) -> Array:
    """Whole numbers of at least zero, or the first row that is not."""
    wrong = (values < 0) | (values % 1 != 0)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found {name_of(values[at])}, expected a count (0, 1, 2, ...); "
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
            f"{source}: column {name!r}, row {rows[at] + 1}: found {name_of(values[at])}, expected 0, 1 or a count; correct it"
        )
    return (values > 0).astype(float), (f"{name} is read as any (> 0) against none (0)",)


def times_at_risk(values: Array, name: str, rows: np.ndarray, source: str) -> tuple[Array, tuple[str, ...]]:
    """Exposure above zero, or the first row that is not; a note where it looks like days.

    A time below a millionth of the median is refused: nobody is followed for a second in a trial of years.
    """
    if (values <= 0).any():
        at = int(np.flatnonzero(values <= 0)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found an exposure of {name_of(values[at])}, expected time at risk "
            "above 0 (not its logarithm); correct it or leave the patient out"
        )
    middle = float(np.median(values))
    if (values < 1e-6 * middle).any():
        at = int(np.flatnonzero(values < 1e-6 * middle)[0])
        raise InputError(
            f"{source}: column {name!r}, row {rows[at] + 1}: found an exposure of {name_of(values[at])}, a millionth of the "
            f"median {name_of(middle)}; correct it or leave the patient out"
        )
    if middle > 30:
        return values, (
            f"the median of {name} is {name_of(middle)}: days? rates are per unit of it, the rate ratio does not change",
        )
    return values, ()


def counts_and_times(table: pd.DataFrame, outcome: str, exposure: str | None, source: str) -> tuple[Array, Array, np.ndarray]:
    """Counts and times at risk of the rows that have both, and which rows those are.

    Examples
    --------
    >>> counts_and_times(pd.DataFrame({"y": [2, None], "t": [1.0, 2.0]}), "y", "t", "table")
    (array([2.]), array([1.]), array([0]))
    """
    values = column(table, outcome, source)
    known = values.notna()
    if exposure is not None:
        known &= column(table, exposure, source).notna()
    rows = np.flatnonzero(known.to_numpy())
    y = counts(numbers(values, rows, outcome, source), outcome, rows, source)
    if exposure is None:
        return y, np.ones(len(rows)), rows
    t = numbers(table[exposure], rows, exposure, source)
    return y, times_at_risk(t, exposure, rows, source)[0] if len(rows) else t, rows


def refuse_values_outside_life(table: pd.DataFrame, source: str) -> None:
    """Refuse a baseline column of the participants table with a value that no living patient has (age 564, EDSS 15)."""
    for name in [name for name in table.columns if str(name).lower() in LARGEST_VALUES]:
        values, largest = plain_numbers(table[name]), LARGEST_VALUES[str(name).lower()]
        wrong = (values < 0) | (values > largest)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{source}: column {name!r}, row {at + 1}: found {name_of(table[name].iloc[at])}, expected 0 to "
                f"{name_of(largest)}; correct it"
            )


@dataclass(frozen=True)
class Covariates:
    """An adjustment formula and the variables it needs.

    Attributes
    ----------
    table : DataFrame
        Only the needed variables.
    formula : Formula or None
    indicators : DataFrame, optional
        Where a variable was missing and stands filled in, a column each; they follow the columns of the formula.
    """

    table: pd.DataFrame
    formula: tables.Formula | None
    source: str
    indicators: pd.DataFrame | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, formula: str | None, source: str, argument: str = "adjust") -> Covariates:
        """Read a right-hand side such as ``"age + C(site)"`` and find its variables; ``argument`` is where it was given."""
        if not formula or not formula.strip():
            return cls(table.iloc[:, :0], None, source)
        read = tables.formula(formula, table, argument)
        for name in read.columns:
            column(table, name, source)
            if name in read.outside_factors:
                refuse_words_among_numbers(table[name], source)
            if not pd.api.types.is_numeric_dtype(table[name]):
                refuse_lookalikes(table[name].unique(), f"values of {name}", source)
        return cls(table[list(read.columns)].apply(as_numbers), read, source)

    @property
    def complete(self) -> np.ndarray:
        """Rows in which no variable is missing."""
        return np.asarray(self.table.notna().all(axis=1), dtype=bool)

    def filled(self, rows: np.ndarray, cluster: pd.Series | None = None) -> Covariates:
        """Missing variables of the chosen rows as their mean (a factor: its commonest level), with indicators of who lacked them.

        There is no indicator where fewer than ``FEWEST_FOR_INDICATOR`` rows, or one cluster alone, lack the variable: their
        leverage would be 1.  A variable with no value among these rows stays missing.

        Examples
        --------
        >>> table = pd.DataFrame({"age": [30.0, 50.0] * 10 + [None] * 10})
        >>> Covariates.of(table, "age", "table").filled(np.arange(30)).matrix(np.array([0, 29]))
        (array([[30.,  0.],
               [40.,  1.]]), ('age', 'age missing'))
        """
        table, absent = self.table.copy(), {}
        for name in self.table.columns:
            lacking, value = self.table[name].isna(), typical_value(self.table[name].iloc[rows])
            if not lacking.iloc[rows].any() or value is None:
                continue
            table[name] = self.table[name].fillna(value)
            one_cluster = cluster is not None and cluster.iloc[rows][lacking.iloc[rows].to_numpy()].nunique() < 2
            if lacking.iloc[rows].sum() >= FEWEST_FOR_INDICATOR and not one_cluster:
                absent[f"{name} missing"] = lacking.astype(float)
        return replace(self, table=table, indicators=pd.DataFrame(absent) if absent else None)

    @property
    def factors(self) -> tuple[tuple[str, pd.Series], ...]:
        """Columns that enter as factors: those inside ``C( )`` and those of text."""
        if self.formula is None:
            return ()
        numbers = [name for name in self.formula.outside_factors if pd.api.types.is_numeric_dtype(self.table[name])]
        return tuple((name, self.table[name]) for name in self.formula.columns if name not in numbers)

    def fitted(self, rows: np.ndarray) -> tables.FittedFormula:
        """The formula with its knots, means and levels fixed on the chosen rows."""
        assert self.formula is not None
        return self.formula.fit(self.table.iloc[rows])

    def matrix(self, rows: np.ndarray, fitted: tables.FittedFormula | None = None) -> tuple[Array, tuple[str, ...]]:
        """Columns of the formula at the chosen rows, without the intercept, and their names; fitted to these rows or before."""
        if self.formula is None:
            return np.empty((len(rows), 0)), ()
        frame = (fitted or self.fitted(rows)).matrix(self.table.iloc[rows])
        matrix = frame.to_numpy(dtype=float)
        if not np.isfinite(matrix).all():
            at = np.argwhere(~np.isfinite(matrix))[0]
            raise InputError(
                f"{self.source}: `{self.formula.argument}` gives no finite number at term {frame.columns[at[1]]!r}, "
                f"row {rows[at[0]] + 1}; correct the row or the formula"
            )
        names = tuple(map(str, frame.columns))
        if self.indicators is None:
            return matrix, names
        absent = self.indicators.iloc[rows].T.drop_duplicates().T  # variables that are missing together have one indicator
        return np.column_stack([matrix, absent.to_numpy()]), (*names, *absent.columns)


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


def typical_value(values: pd.Series) -> float | str | None:
    """Mean of a column of numbers, commonest level of another; None where nothing is known."""
    known = values.dropna()
    if not len(known):
        return None
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return math.fsum(known) / len(known) if number else known.mode().iloc[0]  # the same sum in any order of rows


def as_numbers(values: pd.Series) -> pd.Series:
    """Numbers that a reader kept as objects, as numbers; text stays text and becomes levels."""
    if values.dtype != object:
        return values
    converted = pd.to_numeric(values, errors="coerce")
    return converted if (converted.notna() | values.isna()).all() else values
