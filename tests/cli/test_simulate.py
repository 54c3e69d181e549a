"""A simulated trial is written whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import Run, files_in, refused


def test_folder_in_use_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "mine.txt").write_text("mine")
    refused(run("simulate", tmp_path / "trial", "--patients", "4"), 1, "not an empty folder")
    assert files_in(tmp_path) == ["trial", "trial/mine.txt"]


def test_run_killed_halfway_leaves_no_trial(tmp_path: Path) -> None:
    code = "import sys; from causalms.cli.main import main; main(sys.argv[1:])"
    started = subprocess.Popen(
        [sys.executable, "-c", code, "simulate", tmp_path / "trial", "--patients", "200"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(tmp_path.glob(".writing-*/trial/*")):
            assert started.poll() is None
            time.sleep(0.05)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".writing-*/trial/*"))
    assert not (tmp_path / "trial").exists()
