"""SAS transport files (XPT, versions 5 and 8): read whole or refused, never a part of the rows."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from causalms.errors import InputError

_CARD = 80


def read_transport(path: Path) -> pd.DataFrame:
    """Read a SAS transport file.

    Raises
    ------
    InputError
        If the file is no transport file, is cut, or holds another number of rows than its length says.

    References
    ----------
    SAS Technical Support, TS-140: The record layout of a SAS version 5 or 6 data set in SAS transport format.
    """
    content = path.read_bytes()
    refuse_cut(content, str(path))
    import pyreadstat

    table: pd.DataFrame = pyreadstat.read_xport(path)[0]
    return table


def refuse_cut(content: bytes, source: str) -> None:
    """Refuse a transport file whose records do not fill it.

    The file is made of cards of 80 bytes; behind the header of observations stand records of one length, then blanks to the end
    of the card. What is left over behind the last record must be blank.

    Raises
    ------
    InputError
    """
    if not content.startswith(b"HEADER RECORD*******LIB"):
        raise InputError(f"{source}: not a SAS transport file (no library header); export it again")
    mend = "the file is cut or damaged; copy or export it again"
    if len(content) % _CARD:
        raise InputError(f"{source}: holds {len(content):,} bytes, no multiple of {_CARD}; {mend}")
    described = re.search(rb"HEADER RECORD\*{7}NAM(?:ESTR|STV8) HEADER RECORD!{7}(.{30})", content, re.DOTALL)
    start = re.search(rb"HEADER RECORD\*{7}OBS(?:V8)? +HEADER RECORD!{7}(.{30})", content, re.DOTALL)
    member = re.search(rb"HEADER RECORD\*{7}MEMB(?:ER|V8) +HEADER RECORD!{7}.{26}(\d{4})", content, re.DOTALL)
    if described is None or start is None:
        raise InputError(f"{source}: no header of observations; {mend}")
    columns = int(re.sub(rb"\D", b"", described.group(1)[:10]) or b"0")
    size = int(member.group(1)) if member else 140
    first = described.end() + (_CARD - described.end() % _CARD) % _CARD
    at = [first + index * size + 4 for index in range(min(columns, 100_000))]
    record = sum(int.from_bytes(content[place : place + 2], "big") for place in at)
    body = start.end() + (_CARD - start.end() % _CARD) % _CARD
    left = (len(content) - body) % record if record else 0
    if not record or (left and content[-left:].strip(b" ")):
        raise InputError(f"{source}: the last record is not whole; {mend}")
    rows = start.group(1).strip()  # version 8 says how many
    if rows.isdigit() and int(rows) and len(content) - body < int(rows) * record:
        raise InputError(f"{source}: holds {(len(content) - body) // record} of {int(rows)} rows; {mend}")
