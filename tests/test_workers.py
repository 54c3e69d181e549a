"""Workers end with the run that started them, and a worker that dies is one line that says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import joblib
import pytest

from causalms.errors import WorkerError
from causalms.workers import results_in_order
from studies.killed import MARK, still_running
from tests.conftest import files_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

WORKS = """
import sys, time, joblib
from causalms.workers import results_in_order
def work(number):
    print("working", flush=True)
    time.sleep(120)
list(results_in_order((joblib.delayed(work)(n) for n in range(4)), 2, "run it again"))
"""


def _dies(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_worker_that_is_killed_is_one_error_that_says_how_to_go_on() -> None:
    with pytest.raises(WorkerError, match=r"a worker process died \(killed, .*\); the same command goes on where it stopped"):
        list(results_in_order((joblib.delayed(_dies)(n) for n in range(3)), 2, "the same command goes on where it stopped"))
    assert list(results_in_order((joblib.delayed(abs)(n) for n in (-1, -2)), 2, "")) == [1, 2]


def _dies_once(number: int, mark: Path) -> int:
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_calls_of_a_worker_that_is_killed_once_are_made_again(tmp_path: Path) -> None:
    calls = (joblib.delayed(_dies_once)(n, tmp_path / "died") for n in range(9))
    assert list(results_in_order(calls, 2, "")) == list(range(9))
    assert (tmp_path / "died").exists()


def test_an_error_of_a_call_ends_the_others_and_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(results_in_order((joblib.delayed(int)(text) for text in ("1", "x", "2", "3")), 2, ""))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_the_process_that_started_them(tmp_path: Path, number: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    (tmp_path / "work.py").write_text(WORKS)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py")],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith(b"working")  # two workers may write at once
    assert still_running(mark, patience=0) >= 3
    parent.send_signal(number)
    parent.wait()
    assert still_running(mark, patience=20) == 0


def _heard() -> None:
    """Signals have their usual meaning in the process to be started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "workers", "group"),
    [(signal.SIGTERM, 143, 2, False), (signal.SIGHUP, 129, 2, True), (signal.SIGINT, 130, 2, True)],
)
def test_signal_ends_a_run_in_one_line_and_nothing_is_left(
    tmp_path: Path, number: signal.Signals, code: int, workers: int, group: bool
) -> None:
    """Ctrl-C and a closed terminal reach the workers too (``group``); jobs in the background and of nohup ignore them."""
    mark = uuid.uuid4().hex
    words = [sys.executable, "-m", "causalms", "simulate", "trial", "--patients", "3000", "--workers", str(workers)]
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: [
            signal.signal(signal.SIGINT, signal.default_int_handler),
            signal.signal(signal.SIGHUP, signal.SIG_DFL),
        ],
    )
    while not list(tmp_path.glob(".writing-*/trial/sub-*")):
        assert process.poll() is None
        time.sleep(0.1)
    (os.killpg if group else os.kill)(process.pid, number)
    _, error = process.communicate()
    assert process.returncode == code
    complaints = [line for line in error.decode().splitlines() if line and "patient/s" not in line]
    who = "the user" if number == signal.SIGINT else number.name
    assert complaints == [f"error: stopped by {who}; nothing half-written was left behind; the same command starts anew"]
    assert files_in(tmp_path) == []
    assert still_running(mark, patience=20) == 0
