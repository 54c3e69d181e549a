"""What the command line prints, on any terminal: no character stops a run, and a closed pipe ends it quietly."""

from __future__ import annotations

import codecs
import os
import sys
from typing import Any, TextIO

#: How typographic signs are written where the terminal cannot show them.
_PLAIN = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    "\u2026": "...",
    "\u00d7": "x",
    "\u00b7": "*",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u221e": "inf",
    "\u00b1": "+/-",
    **dict.fromkeys("\u2588\u2589\u258a\u258b\u258c\u258d\u258e\u258f", "#"),
    **dict.fromkeys("\u00a0\u2009\u202f", " "),
}
_HANDLER = "causalms.plain"


def plain(text: str, encoding: str) -> str:
    r"""Text as a terminal of this encoding can show it: signs in plain spelling, other letters as their escapes.

    Examples
    --------
    >>> plain("0.4 \u2013 0.6, M\u00fcller", "ascii")
    '0.4 - 0.6, M\\xfcller'
    """
    _register()
    return text.encode(encoding, _HANDLER).decode(encoding)


def _register() -> None:
    codecs.register_error(_HANDLER, _replaced)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replacement of the characters that an encoding lacks, for :func:`codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    escapes = (_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in wrong)
    return "".join(escapes), error.end


def prepare_streams() -> None:
    """Let standard output and error write any text, whatever the terminal's encoding."""
    _register()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "errors", None) in ("strict", "backslashreplace"):
            reconfigure(errors=_HANDLER)


def flush_streams() -> None:
    """Hand what was printed to the system now, so that a closed pipe or a full disk is an error of this run.

    Raises
    ------
    OSError
        BrokenPipeError if nobody reads any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def drop_output() -> None:
    """Turn what could not be printed into nothing, so that the end of the program does not try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _onto_nothing(stream)
        except (OSError, ValueError, AttributeError):  # a stream without a file, as in a notebook, holds nothing back
            continue


def _onto_nothing(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
