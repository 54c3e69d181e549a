"""Names in full: what arms, trials, sites, levels, weeks and the values in messages are called, so that no two share a name."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd

from causalms.tables.cells import number_in_full


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
