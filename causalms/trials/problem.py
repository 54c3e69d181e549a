"""One problem of a trial folder: where, what, how to mend it, and whether the trial can be read all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rank = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do.

    Attributes
    ----------
    where : str
        A file or a participant.
    what : str
        With row and column where it is about a cell.
    mend : str
    rank : {"error", "warning"}
        An error stops the verbs that read the trial; a warning does not, but is most often a slip.

    Examples
    --------
    >>> print(Problem("participants.tsv", "row 3, column 'age': found 564", "correct it"))
    error: participants.tsv: row 3, column 'age': found 564; correct it
    """

    where: str
    what: str
    mend: str
    rank: Rank = "error"

    def __str__(self) -> str:
        return f"{self.rank}: {self.where}: {self.what}; {self.mend}"


def as_problem(error: Exception) -> Problem:
    """An error of a reader (``where: what; mend``) as a problem."""
    where, _, rest = str(error).partition(": ")
    what, _, mend = rest.rpartition("; ")
    return Problem(where, what or rest, mend if what else "correct it")
