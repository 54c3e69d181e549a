"""Calls spread over processes that never outlive the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib

from causalms.cluster import cluster_in_force, may_fork
from causalms.errors import WorkerError

#: Seconds between two looks at whether the parent is alive.
_BETWEEN_LOOKS = 0.5
#: How often a call is tried again whose worker died.
_TRIES_AGAIN = 2
#: Signals that a terminal sends to all of its processes.
_OF_THE_TERMINAL = [name for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]


def results_in_order(calls: Iterable[Any], workers: int | None, after_death: str) -> Iterator[Any]:
    """Results of calls in their order, as they come; the workers end when this process ends, in whatever way it ends.

    On Linux workers are forks of this process: what it has loaded costs them nothing.  Where a GPU is in use, and elsewhere, they
    are new processes.  Calls of a worker that was killed are made again, twice at most.  Within
    :func:`causalms.cluster.on_dask` they are made on that cluster.

    Parameters
    ----------
    calls : iterable of joblib.delayed calls
    workers : int, optional
        How many processes, as joblib's n_jobs; None takes the backend in force (:func:`joblib.parallel_config`), else one.
    after_death : str
        What is lost and how to go on after workers died again and again: the end of the error.

    Raises
    ------
    WorkerError
        If a call's workers are killed or die for want of memory three times.

    Examples
    --------
    >>> list(results_in_order((joblib.delayed(abs)(n) for n in (-2, 3)), 1, "run it again"))
    [2, 3]
    """
    if (cluster := cluster_in_force()) is not None:
        yield from cluster.results(calls, after_death)
        return
    count = None if workers is None else joblib.effective_n_jobs(workers)
    try:
        if count == 1:
            yield from (function(*given, **named) for function, given, named in calls)
        elif count is not None and may_fork():
            yield from _forked(iter(calls), count)
        else:
            _keep_tracker_through_a_closed_terminal()
            parallel = joblib.Parallel(
                n_jobs=workers, return_as="generator", initializer=end_with_parent, initargs=(os.getpid(),)
            )
            yield from parallel(calls)
    except BrokenProcessPool as error:
        raise WorkerError(f"a worker process died (killed, most often because memory ran out); {after_death}") from error


def _forked(calls: Iterator[Any], workers: int) -> Iterator[Any]:
    """Results in order from forks of this process; a few calls wait for each, and those of a worker that died are made again."""
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    pool, tries = _pool(workers), 0
    try:
        while True:
            while len(waiting) < 3 * workers and (call := next(calls, None)) is not None:
                waiting.append((call, _submitted(pool, call)))
            if not waiting:
                return
            try:
                result = waiting[0][1].result()
            except BrokenProcessPool:
                tries += 1
                if tries > _TRIES_AGAIN:
                    raise
                pool.shutdown(wait=True)
                pool = _pool(workers)
                waiting = deque((call, known if _has_result(known) else _submitted(pool, call)) for call, known in waiting)
                continue
            waiting.popleft()
            tries = 0
            yield result
    finally:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=not waiting, cancel_futures=True)
        for process in processes if waiting else ():
            process.kill()
            process.join()


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, context, initializer=end_with_parent, initargs=(os.getpid(),))


def _submitted(pool: ProcessPoolExecutor, call: tuple[Callable[..., Any], Any, Any]) -> Future[Any]:
    """The call, handed to a pool; one that broke meanwhile answers when the result is asked for."""
    function, given, named = call
    try:
        return pool.submit(function, *given, **named)
    except BrokenProcessPool as error:
        broken: Future[Any] = Future()
        broken.set_exception(error)
        return broken


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


def end_with_parent(parent: int) -> None:
    """End this worker soon after the process ``parent`` has ended: even a killed parent leaves nobody behind.

    Ctrl-C and a closed terminal reach every process of the terminal; the worker leaves the answer to its parent, which ends it.
    """
    for name in _OF_THE_TERMINAL:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the handler of its parent, which speaks to the user
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
