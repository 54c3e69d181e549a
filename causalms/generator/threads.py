"""The same bits on any machine setting: what is drawn for a patient is computed on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one thread, as a block or as a decorator; the caller's number of threads comes back after.

    Several threads add in another order, and the last bits of a probability would depend on their number.  Patients, not
    voxels, are what is worth doing in parallel (``workers`` of a query).

    Examples
    --------
    >>> before = torch.get_num_threads()
    >>> one_thread()(torch.get_num_threads)(), torch.get_num_threads() == before
    (1, True)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
