"""Memory that stays flat over thousands of patients."""

from __future__ import annotations

import ctypes
import sys


def return_free_memory() -> None:
    """Give the heap's free pages back to the system; does nothing where the C library is not glibc.

    A patient's few kept rows lie between the large tensors that were freed and would pin 5 to 9 MB a patient.

    Examples
    --------
    >>> return_free_memory()
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
