"""What identifies a row of a table: names as text, the participant key, the order of arms, one visit week."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pandas as pd

from causalms.errors import InputError, UsageError
from causalms.tables.cells import number_in_full, refuse_lookalikes


def name_of(value: object) -> str:
    """The name that a value stands for: text without blanks around it, a whole number without a point, other numbers in full.

    Arms 0 and 1 that a file holds as 0.0 and 1.0, because the cell of another patient is empty, keep their names.

    Examples
    --------
    >>> name_of(1.0), name_of(1000001.0), name_of(0.1234561), name_of(12345678901234567), name_of(" drug ")
    ('1', '1000001', '0.1234561', '12345678901234567', 'drug')
    """
    if isinstance(value, float | np.floating):
        return number_in_full(value)
    return str(value).strip()


def names_of(values: pd.Series) -> pd.Series:
    """The name of each cell of a column; missing cells stay missing.

    Examples
    --------
    >>> names_of(pd.Series([1.0, None, 1000001.0])).tolist()
    ['1', None, '1000001']
    """
    codes, different = pd.factorize(values)
    names = np.array([*map(name_of, different), None], dtype=object)
    return pd.Series(names[codes], index=values.index, name=values.name, dtype=object)


def percent_in_full(level: float) -> str:
    """A confidence level or a share in percent, to 12 digits, so that 2 x 0.95 - 1 reads 90% too.

    Examples
    --------
    >>> percent_in_full(0.95), percent_in_full(0.975), percent_in_full(0.9999999), percent_in_full(0.07)
    ('95%', '97.5%', '99.99999%', '7%')
    """
    percent = Decimal(f"{level:.12g}") * 100
    return f"{percent.normalize():f}%"


#: Mean length of a year in weeks: 365.2425 / 7.
WEEKS_PER_YEAR = 52.1775


def participant_key(identifiers: pd.Series) -> pd.Series:
    """Identifiers without the BIDS prefix ``sub-`` and without leading zeros, both of which tables lose on their way.

    Raises
    ------
    InputError
        If one is missing: a patient without a name cannot be found in another table.

    Examples
    --------
    >>> import pandas as pd
    >>> participant_key(pd.Series(["sub-007", "7"])).tolist()
    ['7', '7']
    """
    if (blank := identifiers.isna().to_numpy()).any():
        row = int(np.flatnonzero(blank)[0]) + 1
        raise InputError(
            f"column {str(identifiers.name)!r}, row {row}: the identifier is missing; fill it in or leave the row out"
        )
    return names_of(identifiers).astype(str).str.removeprefix("sub-").str.replace(r"^0+(?=\d+$)", "", regex=True)


def patient_order(table: pd.DataFrame) -> np.ndarray:
    """Positions of the rows in an order that does not depend on how the file was sorted: by patient, then by content.

    Whatever draws lots (bootstrap, permutations, folds) or iterates takes patients in this order.  Rows without a
    ``participant_id`` are ordered by what stands in them; rows alike in everything are exchangeable.

    Examples
    --------
    >>> import pandas as pd
    >>> patient_order(pd.DataFrame({"participant_id": ["sub-02", "1", "3"]})).tolist()
    [1, 0, 2]
    """
    columns = table.loc[:, ~table.columns.duplicated()]
    words = {name: str for name in columns if not pd.api.types.is_numeric_dtype(columns[name])}
    content = pd.util.hash_pandas_object(columns.astype(words), index=False).to_numpy()
    if "participant_id" not in columns:
        return np.argsort(content, kind="stable")
    return np.lexsort((content, participant_key(columns["participant_id"]).to_numpy(dtype=str)))


def one_week(table: pd.DataFrame, week: float | None = None, source: str = "table") -> float:
    """The visit week that an analysis of a draws table is about: the one named, or the only one there is.

    Parameters
    ----------
    table : DataFrame
        With a column ``visit_week``.
    week : float, optional
    source : str
        Name of the table in messages.

    Raises
    ------
    UsageError
        If several weeks are there and none is named, or the named one is not there; the weeks are listed.

    Examples
    --------
    >>> import pandas as pd
    >>> one_week(pd.DataFrame({"visit_week": [48.0, 48.0]}))
    48.0
    """
    weeks = sorted(float(value) for value in table["visit_week"].dropna().unique())
    listed = ", ".join(map(name_of, weeks))
    if week is None:
        if len(weeks) != 1:
            raise UsageError(f"{source}: weeks {listed}; choose one with `week`" if weeks else f"{source}: holds no visit week")
        return weeks[0]
    if not np.any(np.equal(weeks, float(week))):
        raise UsageError(f"{source}: no rows of week {name_of(week)}; its weeks are {listed}")
    return float(week)


def arm_order(arms: Iterable[object], reference: str | None = None) -> tuple[str, ...]:
    """Names of arms in the one order that tables and figures use: the reference first, then as given or as first met.

    Parameters
    ----------
    arms : iterable
        Names, repeated or not; missing ones are passed over.
    reference : str, optional
        Comes first if it is among them.

    Examples
    --------
    >>> arm_order(["b", "a", "b", "placebo"], reference="placebo")
    ('placebo', 'b', 'a')

    Raises
    ------
    InputError
        If two names differ only in case, blanks or invisible characters.
    """
    names = tuple(dict.fromkeys(name_of(arm) for arm in arms if not pd.isna(arm)))  # type: ignore[call-overload]
    refuse_lookalikes(names, "arms", "table")
    return names if reference not in names else (name_of(reference), *(arm for arm in names if arm != reference))
