"""How numbers are rounded wherever they are shown: half away from zero, as the ROUND function of SAS does it.

Python's formats round the binary value, so that ``f"{0.125:.2f}"`` is 0.12 and ``f"{1.005:.2f}"`` 1.00. Published tables are
checked against SAS, where both go up: a value within rounding error of halfway counts as halfway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import pandas as pd

#: How near to halfway counts as halfway: relative to the value in units of its last decimal, and at most so much of a unit. SAS
#: takes 2.5 - 1e-12 for 2.5, and not 2.5 - 1e-11.
_FUZZ, _MOST_FUZZ = Decimal("5e-13"), Decimal("1e-5")
_HALF = Decimal("0.5")
_DIGITS: ContextVar[int | None] = ContextVar("digits", default=None)


@contextmanager
def showing(digits: int | None) -> Iterator[None]:
    """Print estimates and what belongs to them with so many significant digits (p-values: decimals) inside a ``with``.

    Examples
    --------
    >>> with showing(7):
    ...     shown(0.123456789), shown(2.0, 3), p_value_text(0.1)
    ('0.1234568', '2', '0.1000000')
    >>> shown(0.123456789), shown(2.0, 3)
    ('0.1235', '2.000')
    """
    before = _DIGITS.set(digits)
    try:
        yield
    finally:
        _DIGITS.reset(before)


def shown(value: Any, decimals: int | None = None) -> str:
    """A number as pages show it: with the digits of :func:`showing`, else with so many decimals, else 4 significant digits."""
    digits = _DIGITS.get()
    if digits is not None or decimals is None:
        return significant(value, digits or 4)
    return fixed(value, decimals)


def shown_digits(least: int = 4) -> int:
    """The digits of :func:`showing`, at least so many where none are named."""
    return _DIGITS.get() or least


def _rounded(value: float, decimals: int) -> Decimal:
    """A finite number to so many decimals (negative: tens, hundreds), half away from zero."""
    units = abs(Decimal(repr(float(value)))).scaleb(decimals)
    whole = units.to_integral_value(ROUND_FLOOR)
    up = units - whole >= _HALF - min(_FUZZ * units, _MOST_FUZZ)
    return (
        (whole + up).scaleb(-decimals).copy_sign(Decimal(repr(float(value))))
        if whole + up
        else Decimal(0).scaleb(-max(decimals, 0))
    )


def fixed(value: Any, decimals: int, *, thousands: bool = False) -> str:
    """A number with so many decimals, half away from zero; a zero has no sign.

    Parameters
    ----------
    value : float
    decimals : int
    thousands : bool
        Part thousands by commas.

    References
    ----------
    SAS 9.4 Functions and CALL Routines, ROUND: a value approximately halfway goes to the multiple with the larger absolute value.

    Examples
    --------
    >>> fixed(0.125, 2), fixed(2.5, 0), fixed(1.005, 2), fixed(-0.125, 2), fixed(-0.001, 2)
    ('0.13', '3', '1.01', '-0.13', '0.00')
    """
    if not math.isfinite(value):
        return f"{value:f}"
    number = _rounded(value, decimals)
    return f"{number:,f}" if thousands else f"{number:f}"


def significant(value: Any, digits: int) -> str:
    """A number with so many significant digits, half away from zero, without closing zeros (Python's format ``g``).

    Examples
    --------
    >>> significant(0.12345, 4), significant(2.0, 4), significant(1234567.0, 3), significant(0.00002345, 3)
    ('0.1235', '2', '1.23e+06', '2.35e-05')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = digits - 1 - Decimal(repr(float(value))).adjusted()
    return f"{float(_rounded(value, decimals)):.{digits}g}"


def total_text(value: Any) -> str:
    """A number of events: a whole number in full, a mean of draws with two decimals.

    Examples
    --------
    >>> total_text(1234567.0), total_text(123.4567), total_text(12.5)
    ('1234567', '123.46', '12.5')
    """
    text = fixed(value, 2)
    return text.rstrip("0").removesuffix(".") if "." in text else text


def percentage(share: Any, decimals: int = 0) -> str:
    """A share in percent, half away from zero.

    Examples
    --------
    >>> percentage(0.125), percentage(0.285, 1), percentage(0.9995, 1)
    ('13%', '28.5%', '100.0%')
    """
    if not math.isfinite(share):
        return f"{share:f}%"
    return f"{_rounded(float(Decimal(repr(float(share))).scaleb(2)), decimals):f}%"


def p_value_text(value: Any, decimals: int | None = None, absent: str = "-") -> str:
    """A p-value: so many decimals (4, or those of :func:`showing`), and below the smallest of them ``<0.0001``.

    Examples
    --------
    >>> p_value_text(0.03125, 4), p_value_text(0.0345, 3), p_value_text(0.00002), p_value_text(float("nan"))
    ('0.0313', '0.035', '<0.0001', '-')
    """
    if pd.isna(value):
        return absent
    decimals = max(4, _DIGITS.get() or 4) if decimals is None else decimals
    least = 10.0**-decimals
    return f"<{fixed(least, decimals)}" if value < least else fixed(value, decimals)
