"""Calls on a Dask cluster: in their order, made again after a worker died, and refused in one line where no cluster answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import joblib
import pytest

from causalms import cluster
from causalms.cluster import DaskCluster, on_dask
from causalms.errors import MissingExtraError, UsageError, WorkerError
from causalms.workers import results_in_order


@pytest.fixture(scope="module")
def two() -> Iterator[DaskCluster]:
    with on_dask("local", 2) as running:
        yield running


def _here(number: int, known: dict[str, int], folder: Path) -> tuple[int, str]:
    return number + known["more"], os.getcwd()


def _dies_once(number: int, mark: Path) -> int:
    if number == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _dies(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_the_folder_of_who_asks(
    two: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"more": 10}
    calls = (joblib.delayed(_here)(n, known, Path("x")) for n in range(40))
    assert list(results_in_order(calls, 1, "")) == [(n + 10, str(tmp_path)) for n in range(40)]


def test_calls_of_a_worker_that_is_killed_are_made_again(two: DaskCluster, tmp_path: Path) -> None:
    calls = (joblib.delayed(_dies_once)(n, tmp_path / "died") for n in range(20))
    assert list(results_in_order(calls, 1, "")) == list(range(20))
    assert (tmp_path / "died").exists()


def test_call_that_kills_every_worker_is_one_error_that_says_how_to_go_on(two: DaskCluster) -> None:
    with pytest.raises(WorkerError, match=r"workers of local died \(killed, .*\); the same command goes on"):
        list(results_in_order((joblib.delayed(_dies)(n) for n in range(3)), 1, "the same command goes on"))
    assert list(results_in_order((joblib.delayed(abs)(-n) for n in range(3)), 1, "")) == [0, 1, 2]


def test_an_error_of_a_call_is_the_error(two: DaskCluster) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(results_in_order((joblib.delayed(int)(text) for text in ("1", "x", "2")), 1, ""))


def test_where_no_cluster_answers_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWERS", 0.5)
    with (
        pytest.raises(WorkerError, match=r"tcp://127.0.0.1:1: no Dask scheduler with a worker answers"),
        on_dask("tcp://127.0.0.1:1"),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"expected the address of a scheduler, tcp://host:8786, or 'local'"),
        on_dask("here:8786"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r'pip install "causalms\[scale\]"'), on_dask("local"):
        pass


def test_workers_that_would_answer_otherwise_are_refused(
    two: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalms.__version__", "0.0.0")
    with pytest.raises(WorkerError, match=r"worker tcp://.* has causalms .*; install 0.0.0 there, as here"):
        cluster._refuse_others(two.client, "local")
    monkeypatch.undo()
    monkeypatch.setattr(two.client, "run_on_scheduler", lambda *given: ("0.0.0", True))
    with pytest.raises(WorkerError, match=r"local: the scheduler has causalms 0.0.0; install .* there, as here"):
        cluster._refuse_others(two.client, "local")
    monkeypatch.undo()
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "elsewhere"))
    with pytest.raises(WorkerError, match=r"does not see the folder .*elsewhere; work on a shared disk"):
        cluster._refuse_others(two.client, "local")


def test_a_scheduler_without_the_package_is_named(two: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*given: object) -> object:
        raise ModuleNotFoundError("No module named 'causalms'")

    monkeypatch.setattr(two.client, "run_on_scheduler", lacking)
    with pytest.raises(WorkerError, match=r"local: the scheduler has no causalms; install version"):
        cluster._refuse_others(two.client, "local")


def _slow(number: int, folder: Path) -> int:
    (folder / f"by-{os.getpid()}").touch()
    time.sleep(0.2)
    return number


def test_a_standing_cluster_of_other_processes_outlives_a_worker_and_the_run(tmp_path: Path) -> None:
    """`dask scheduler` and two `dask worker`, each a process of its own; the one that works is killed in the middle."""
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    note = tmp_path / "scheduler.json"
    with ExitStack() as stack:

        def start(command: list[str]) -> subprocess.Popen[bytes]:
            process = stack.enter_context(subprocess.Popen(command, **quiet))  # type: ignore[call-overload]
            stack.callback(process.kill)
            return process

        start([*scheduler, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note)])
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(note), "--nthreads", "1"]
        for _ in range(2):
            start([*worker, "--no-dashboard", "--no-nanny"])
        while not note.exists():
            time.sleep(0.05)
        address = json.loads(note.read_text())["address"]
        for killed in (True, False):
            with on_dask(address):
                results, numbers = results_in_order((joblib.delayed(_slow)(n, tmp_path) for n in range(12)), 1, ""), []
                for number in results:
                    numbers.append(number)
                    if killed and number == 2:
                        os.kill(int(next(tmp_path.glob("by-*")).name[3:]), signal.SIGKILL)
            assert numbers == list(range(12))
