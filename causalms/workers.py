"""Calls spread over processes that never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib

from causalms.errors import WorkerError

#: Seconds between two looks at whether the parent is alive.
_BETWEEN_LOOKS = 0.5
#: Signals that a terminal sends to all of its processes.
_OF_THE_TERMINAL = [name for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]


def results_in_order(calls: Iterable[Any], workers: int | None, after_death: str) -> Iterator[Any]:
    """Results of calls in their order, as they come; the workers end when this process ends, in whatever way it ends.

    Parameters
    ----------
    calls : iterable of joblib.delayed calls
    workers : int, optional
        joblib's n_jobs; None takes the backend in force (:func:`joblib.parallel_config`), else one.
    after_death : str
        What is lost and how to go on after a worker died: the end of the error.

    Raises
    ------
    WorkerError
        If a worker is killed or dies for want of memory.

    Examples
    --------
    >>> list(results_in_order((joblib.delayed(abs)(n) for n in (-2, 3)), 1, "run it again"))
    [2, 3]
    """
    _keep_tracker_through_a_closed_terminal()
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator", initializer=end_with_parent, initargs=(os.getpid(),))
    try:
        yield from parallel(calls)
    except BrokenProcessPool as error:
        raise WorkerError(f"a worker process died (killed, most often because memory ran out); {after_death}") from error


def end_with_parent(parent: int) -> None:
    """End this worker soon after the process ``parent`` has ended: even a killed parent leaves nobody behind.

    Ctrl-C and a closed terminal reach every process of the terminal; the worker leaves the answer to its parent, which ends it.
    """
    for name in _OF_THE_TERMINAL:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _keep_tracker_through_a_closed_terminal() -> None:
    """Start the process that tracks shared memory deaf to SIGHUP: one that dies before the workers leaves tracebacks."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return
    from joblib.externals.loky.backend import resource_tracker

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_BETWEEN_LOOKS)
    os._exit(1)
