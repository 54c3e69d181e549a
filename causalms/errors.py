"""The few errors that causalms raises on purpose.

Every message names the file, row or column, what was found, what was expected and what to do about it, in one line: the
command line prints it as it is and never shows a traceback for bad input.
"""


class CausalmsError(Exception):
    """Something asked for cannot be done; the command line exits with 1."""

    exit_code = 1


class InputError(CausalmsError):
    """A file, table or image from outside is not as it must be."""


class RefusalError(CausalmsError):
    """The data are readable, but the question has no honest answer on them (no support, no abduction, one arm only)."""


class ConvergenceError(CausalmsError):
    """A fit did not converge; no number is returned in its place."""


class UsageError(CausalmsError):
    """A call that makes no sense whatever the data (unknown option value, contradictory arguments); exit code 2."""

    exit_code = 2
