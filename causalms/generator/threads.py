"""The same bits on any machine setting: what is drawn for a patient is computed on one thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def same_bits(method: Callable[P, R]) -> Callable[P, R]:
    """Run on one thread: several add in another order, and the last bits of a probability would depend on their number.

    Patients, not voxels, are what is worth doing in parallel (``workers`` of a query).  The number of threads is put back.

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> same_bits(torch.get_num_threads)(), torch.get_num_threads() == before
    (1, True)
    """

    @wraps(method)
    def on_one_thread(*args: P.args, **kwargs: P.kwargs) -> R:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return method(*args, **kwargs)
        finally:
            torch.set_num_threads(before)

    return on_one_thread
