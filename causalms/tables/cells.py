"""What a cell of a table is: a number, a word, or missing. One rule for every kind of file and frame."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.errors import InputError

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CODE = re.compile(r"0[0-9]+")
#: Words that mean "missing" beside numbers: blank, SAS's point and special missings, R's NA, and what data managers write.
_MARK = re.compile(
    r"\.[a-z_]?|na|n/a|n\.a\.|#n/a|nan|nd|n\.d\.|nk|unk|unknown|null|none|missing|not done|not known|not available|-|--|\?", re.I
)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:[_,' \u00a0\u202f][0-9]{3})+(?:\.[0-9]*)?")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


#: Columns of codes, which are text even where each could be read as a number (``0012``, ``80560708e851``).
_CODES = ("participant_id", "USUBJID", "usubjid", "query_id")


def settled(table: pd.DataFrame, na: Iterable[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """A table whose cells are numbers, words or missing, and what was decided, in words.

    The rule, for each column that holds text. A blank cell is missing, and so is a word that is named in ``na``. A column whose
    other cells are numbers is a column of numbers; marks such as ``.``, ``NA`` or ``ND`` among the numbers are missing, counted
    and said. In a column of words every word is a name, ``NA`` and ``None`` too (a region may be called so); that is said.
    Numbers with a leading zero (``007``) are codes and stay text, as are whole numbers so large that a float would round them.

    Parameters
    ----------
    table : DataFrame
    na : iterable of str
        Words that are missing in every column.

    Returns
    -------
    table : DataFrame
        The same object where nothing changes.
    notes : list of str

    Examples
    --------
    >>> people = pd.DataFrame({"edss": ["1.5", ".", "3"], "region": ["NA", "EU", " "]})
    >>> table, notes = settled(people)
    >>> table["edss"].tolist(), table["region"].isna().tolist()
    ([1.5, nan, 3.0], [False, False, True])
    >>> notes[0]
    "column 'edss': 1 cells '.' among numbers are read as missing"
    """
    words, notes, changed = frozenset(na), [], {}
    for position, name in enumerate(table.columns):
        values = table.iloc[:, position]
        if values.dtype.kind in "biufcmM" or isinstance(values.dtype, pd.CategoricalDtype):
            continue
        column, notes_of_column = _settled_column(values, str(name), words, name not in _CODES)
        notes += notes_of_column
        if column is not values:
            changed[position] = column
    if not changed:
        return table, notes
    columns = [changed.get(position, table.iloc[:, position]) for position in range(table.shape[1])]
    out = pd.concat(columns, axis=1)
    out.columns, out.attrs = table.columns, dict(table.attrs)
    return out, notes


def _settled_column(values: pd.Series, name: str, na: frozenset[str], may_be_numbers: bool) -> tuple[pd.Series, list[str]]:
    kinds = pd.unique(values.dropna())
    text = {value: _UNSEEN.sub("", value).strip() for value in kinds if isinstance(value, str)}
    gone = {value for value, plain in text.items() if not plain or plain in na}
    kept = {value: plain for value, plain in text.items() if value not in gone}
    numbers = {value for value, plain in kept.items() if _NUMBER.fullmatch(plain)}
    marks = {value for value, plain in kept.items() if _MARK.fullmatch(plain)}
    others_are_numbers = all(isinstance(value, int | float | np.number) for value in kinds if value not in text)
    any_number = bool(numbers) or len(text) < len(kinds)
    codes = any(_CODE.fullmatch(kept[value]) or _rounded_as_float(kept[value]) for value in numbers)
    if may_be_numbers and kept.keys() == numbers | marks and others_are_numbers and (any_number or not kept) and not codes:
        if not kept and not gone and values.dtype.kind == "O":
            return values, []  # a column that is missing altogether, or of numbers kept as objects
        parsed = {value: float(plain) for value, plain in kept.items() if value in numbers}
        lookup = {**parsed, **dict.fromkeys(marks | gone, np.nan)}
        numeric = values.map(lambda value: lookup.get(value, value) if isinstance(value, str) else value).astype(float)
        whole = numeric.notna().all() and all(re.fullmatch(r"[+-]?[0-9]{1,18}", kept[value]) for value in numbers)
        notes_of_column = [
            f"column {name!r}: {int((values == mark).sum())} cells {mark!r} among numbers are read as missing"
            for mark in sorted(marks)
        ]
        return (numeric.astype("int64") if whole and numbers and not len(kinds) > len(text) else numeric), notes_of_column
    notes_of_column = [
        f"column {name!r}: {int((values == mark).sum())} cells {mark!r} are read as a name; name it in `na` if it means missing"
        for mark in sorted(marks)
        if not any_number and kept[mark].lower() in ("na", "n/a", "nan", "none", "null", ".")
    ]
    if gone:
        values = values.where(~values.isin(list(gone)), None)
    return values, notes_of_column


def _rounded_as_float(text: str) -> bool:
    """Whether a whole number is changed by being read as a float (identifiers of 16 digits and more)."""
    return text.isdigit() and int(text) != int(float(text))


def plain_numbers(values: pd.Series) -> NDArray[np.float64]:
    """Values as floats; NaN where a cell is no plain number (digits 0 to 9, a decimal point, an exponent).

    Examples
    --------
    >>> plain_numbers(pd.Series(["1.5", "1_000", "43,6", 2])).tolist()
    [1.5, nan, nan, 2.0]
    """
    if values.dtype.kind in "iuf":
        return np.asarray(values, dtype=float)
    out = np.full(len(values), np.nan)
    for at, value in enumerate(values):
        if isinstance(value, str):
            out[at] = float(value) if _NUMBER.fullmatch(value.strip()) else np.nan
        elif isinstance(value, int | float | np.integer | np.floating):
            out[at] = float(value)
    return out


def refuse_words_among_numbers(values: pd.Series, source: str) -> None:
    """Refuse a column that is to be numbers or words and is both: most of its cells numbers, some words.

    Raises
    ------
    InputError
        Naming the row, the column, the value and the mend.

    Examples
    --------
    >>> refuse_words_among_numbers(pd.Series(["40", "41", "43,6"], name="age"), "trial.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: trial.csv: column 'age', row 3: found '43,6', expected a number; write 43.6, or read the file \
with `decimal=,`
    """
    if values.dtype.kind in "biufcmM" or isinstance(values.dtype, pd.CategoricalDtype):
        return
    present = values.notna().to_numpy()
    odd = present & np.isnan(plain_numbers(values))
    misspelt = sum(mend_of_number(value).startswith("write") for value in values[odd])
    if odd.any() and 2 * (odd.sum() - misspelt) < present.sum():
        row = int(np.flatnonzero(odd)[0])
        raise InputError(
            f"{source}: column {str(values.name)!r}, row {row + 1}: found {values.iloc[row]!r}, expected a number; "
            f"{mend_of_number(values.iloc[row])}"
        )


def mend_of_number(value: object) -> str:
    """What to do with a cell that should be a number and is none.

    Examples
    --------
    >>> mend_of_number("1_000"), mend_of_number("n.a. today")
    ('write 1000', 'correct it, or name it in `na`')
    """
    cell = str(value).strip()
    ascii_digits = "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in cell)
    if ascii_digits != cell and _NUMBER.fullmatch(ascii_digits):
        return f"write it in the digits 0 to 9: {ascii_digits}"
    if _DECIMAL_COMMA.fullmatch(cell) and _GROUPED.fullmatch(cell):
        return f"write {cell.replace(',', '')}, or {cell.replace(',', '.')} if the comma is a decimal one"
    if _DECIMAL_COMMA.fullmatch(cell):
        return f"write {cell.replace(',', '.')}, or read the file with `decimal=,`"
    if _GROUPED.fullmatch(cell):
        return f"write {re.sub(r'[^0-9.+-]', '', cell)}"
    return "correct it, or name it in `na`"


def number_in_full(value: Any) -> str:
    """A number as text, in full: two values never share a name.

    Examples
    --------
    >>> number_in_full(1000001.0), number_in_full(0.1234561), number_in_full(2.5), number_in_full(12345678901234567)
    ('1000001', '0.1234561', '2.5', '12345678901234567')
    """
    if isinstance(value, int | np.integer):
        return str(int(value))
    plain = 1e-4 <= abs(value) < 1e16 or value == 0
    return np.format_float_positional(value, trim="-") if plain else repr(float(value))


def shown(value: object) -> str:
    """A cell as a message shows it: numbers in full, words in quotes."""
    return number_in_full(value) if isinstance(value, int | float | np.number) else repr(value)


def refuse_lookalikes(names: Iterable[object], what: str, source: str) -> None:
    """Refuse two names that differ only in case, blanks, invisible characters or the way an accent is coded.

    Raises
    ------
    InputError
        With both spellings.

    Examples
    --------
    >>> refuse_lookalikes(["Placebo", "placebo"], "arms", "trial.csv")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: trial.csv: arms 'Placebo' and 'placebo' differ only in case, blanks or invisible characters; \
spell them alike
    """
    first: dict[str, str] = {}
    for name in dict.fromkeys(str(name) for name in names if not pd.isna(name)):  # type: ignore[call-overload]
        plain = "".join(_UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold().split())
        if plain in first:
            shown = [ascii(spelling) if _UNSEEN.search(spelling) or not spelling.isprintable() else repr(spelling)
                     for spelling in (first[plain], name)]  # fmt: skip
            if shown[0] == shown[1]:
                shown = [ascii(first[plain]), ascii(name)]
            both = " and ".join(shown)
            raise InputError(f"{source}: {what} {both} differ only in case, blanks or invisible characters; spell them alike")
        first[plain] = name
