"""Calls made on a Dask cluster: one that runs elsewhere, or one of this machine for as long as a run lasts."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from causalms.errors import UsageError, WorkerError, optional_packages

#: The address that means a cluster of this machine.
LOCAL = "local"
#: Seconds that a scheduler may take to answer, and a worker to be there.
_ANSWERS, _WITHOUT_WORKER = 15.0, 60.0
#: Calls that wait for each thread of the cluster.
_WAITING = 4
#: No profile of the workers (a look at the stack every 10 ms) and rare looks at the machine: nobody reads them.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "1h",
}
#: What is sent with every call; anything else goes to a worker once.
_SMALL = (str, int, float, bool, type(None), Path)

Call = tuple[Callable[..., Any], Any, Any]


def may_fork() -> bool:
    """Whether a copy of this process can work: on Linux, where no GPU is in use."""
    torch = sys.modules.get("torch")
    return sys.platform == "linux" and not (torch is not None and torch.cuda.is_initialized())


@dataclass
class DaskCluster:
    """A cluster that answers; its workers see the folder of this process and have this version of causalms.

    Attributes
    ----------
    client : distributed.Client
    address : str
    """

    client: Any
    address: str
    _sent: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def results(self, calls: Iterable[Call], after_death: str) -> Iterator[Any]:
        """Results of calls in their order; those of a worker that died are made again elsewhere, three times at most.

        Raises
        ------
        WorkerError
            If a call ended three workers, no worker is left or the scheduler is gone.
        """
        from distributed import CancelledError, KilledWorker

        rest, waiting = iter(calls), deque[Any]()
        threads = max(sum(self.client.nthreads().values()), 1)
        try:
            while True:
                while len(waiting) < _WAITING * threads and (call := next(rest, None)) is not None:
                    waiting.append(self._submitted(call))
                if not waiting:
                    return
                yield self._result(waiting[0], after_death)
                waiting.popleft()
        except KilledWorker as error:
            raise WorkerError(f"workers of {self.address} died (killed, most often for want of memory); {after_death}") from error
        except (CancelledError, OSError) as error:
            if not isinstance(error, CancelledError) and self.client.status == "running":
                raise  # of the call itself
            raise WorkerError(f"the Dask scheduler {self.address} is gone; {after_death}") from error
        finally:
            self.client.cancel(list(waiting))

    def _submitted(self, call: Call) -> Any:
        function, given, named = call
        large = [place for place, value in enumerate(given) if not isinstance(value, _SMALL)]
        sent = [self._once(place, given[place]) for place in large]
        small = [None if place in large else value for place, value in enumerate(given)]
        return self.client.submit(_answer, os.getcwd(), function, small, named, large, *sent, pure=False)

    def _once(self, place: int, value: Any) -> Any:
        """An argument on the cluster: that of the call before, if it is the same object."""
        known = self._sent.get(place)
        if known is None or known[0] is not value:
            known = self._sent[place] = value, self.client.submit(bytes, pickle.dumps(value), pure=False)
        return known[1]

    def _result(self, future: Any, after_death: str) -> Any:
        lonely = 0
        while True:
            try:
                return future.result(timeout=_WITHOUT_WORKER)
            except TimeoutError:
                if future.done():
                    raise
                lonely = lonely + 1 if not self.client.scheduler_info()["workers"] else 0
                if lonely > 1:
                    raise WorkerError(f"no worker is left on {self.address}; {after_death}") from None


_in_force: DaskCluster | None = None


def cluster_in_force() -> DaskCluster | None:
    """The cluster of the innermost :func:`on_dask`."""
    return _in_force


@contextmanager
def on_dask(address: str, workers: int = 1) -> Iterator[DaskCluster]:
    """Make calls that are spread over processes on a Dask cluster, as a block.

    The workers must see the files under the same paths, and do one call a process at a time: give them one thread each.

    Parameters
    ----------
    address : str
        Of the scheduler, ``tcp://host:8786``, or ``local``: workers of this machine that end with the block.
    workers : int
        How many, for ``local``.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    UsageError
        If the address is none.
    WorkerError
        If no scheduler or worker answers, or one has another version of causalms or does not see this folder.

    Examples
    --------
    >>> with on_dask("somewhere"):
    ...     pass
    Traceback (most recent call last):
    ...
    causalms.errors.UsageError: `dask='somewhere'`: expected the address of a scheduler, tcp://host:8786, or 'local'
    """
    global _in_force
    if address != LOCAL and "://" not in address:
        raise UsageError(f"`dask={address!r}`: expected the address of a scheduler, tcp://host:8786, or 'local'")
    with optional_packages():
        import distributed
    connected: Any = distributed.Client
    before = _in_force
    with ExitStack() as stack:
        where = stack.enter_context(_local(workers)) if address == LOCAL else address
        try:
            client = stack.enter_context(connected(where, timeout=_ANSWERS, set_as_default=False))
            client.wait_for_workers(1, timeout=_ANSWERS)
        except (OSError, ValueError) as error:
            raise WorkerError(
                f"{address}: no Dask scheduler with a worker answers within {_ANSWERS:.0f} seconds; start them "
                "(dask scheduler, dask worker) or correct the address"
            ) from error
        _refuse_others(client, address)
        _in_force = DaskCluster(client, address)
        try:
            yield _in_force
        finally:
            _in_force = before


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    """A cluster of this machine; on Linux its workers are forks: what this process has loaded costs them nothing."""
    import dask
    from distributed import LocalCluster

    started: Any = LocalCluster
    method = "fork" if may_fork() else "spawn"
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method, **_QUIET}),
        started(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0", silence_logs="CRITICAL"
        ) as cluster,
    ):
        yield cluster


def _refuse_others(client: Any, address: str) -> None:
    """Refuse a scheduler or workers that would answer otherwise, or cannot: both take calls apart."""
    from causalms import __version__

    here = os.getcwd()
    try:
        who = "the scheduler"
        found = {who: (client.run_on_scheduler(_version_and_folder, here)[0], True)}
        who = "a worker"
        found |= {f"worker {worker}": answer for worker, answer in client.run(_version_and_folder, here).items()}
    except ImportError as error:
        raise WorkerError(f"{address}: {who} has no causalms; install version {__version__} there") from error
    for where, (version, sees) in found.items():
        if version != __version__:
            raise WorkerError(f"{address}: {where} has causalms {version}; install {__version__} there, as here")
        if not sees:
            raise WorkerError(f"{address}: {where} does not see the folder {here}; work on a shared disk")


def _version_and_folder(folder: str) -> tuple[str, bool]:
    from causalms import __version__

    return __version__, os.path.isdir(folder)


_one_at_a_time = threading.Lock()


def _answer(folder: str, function: Callable[..., Any], small: list[Any], named: Any, large: list[int], *sent: bytes) -> Any:
    """The result of a call, made on a worker in the folder of the process that asks."""
    with _one_at_a_time:
        before = os.getcwd()
        os.chdir(folder)
        try:
            given = list(small)
            for place, value in zip(large, sent, strict=True):
                given[place] = _unpacked(value)
            return function(*given, **named)
        finally:
            os.chdir(before)


@lru_cache(maxsize=16)
def _unpacked(value: bytes) -> Any:
    return pickle.loads(value)
