"""Rows that cannot be used because a value is missing: counted and said in one sentence, wherever they are left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from causalms.errors import DataNote


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> counted(1, "contrast"), counted(2, "contrast")
    ('1 contrast', '2 contrasts')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def left_out_words(left_out: int, total: int, missing: Mapping[str, int], unit: str = "patients") -> str:
    """How many rows are left out, of how many, and the columns at fault; a column without a missing value is not named.

    Parameters
    ----------
    left_out, total : int
        Rows left out, and rows of the table.
    missing : mapping of str to int
        Missing values by column.
    unit : str
        What a row is.

    Examples
    --------
    >>> left_out_words(3, 120, {"lesions": 2, "sex": 1, "age": 0})
    '3 of 120 patients left out for a missing value in lesions (2), sex (1)'
    """
    reasons = ", ".join(f"{name} ({count})" for name, count in missing.items() if count)
    return f"{left_out} of {total} {unit} left out for a missing value in {reasons}"


def note_left_out(left_out: int, total: int, missing: Mapping[str, int], where: str) -> None:
    """Warn (:class:`causalms.errors.DataNote`) of what :func:`left_out_words` says, if anybody is left out.

    Examples
    --------
    >>> note_left_out(0, 120, {}, "shrinkage")
    """
    if left_out:
        warnings.warn(DataNote(f"{where}: {left_out_words(left_out, total, missing)}"), stacklevel=3)
