"""The study of killed runs, with few kills: nothing half-written, nobody left over, reruns equal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from studies.killed import killed_table


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_killed_runs_leave_nothing_half_written_and_run_again_to_the_same_bytes(tmp_path: Path) -> None:
    table = killed_table(tmp_path, kills=2, seed=5, only=("simulate", "report"))
    assert len(table) == 4
    assert (table["rerun_equal"] == table["kills"]).all()
    assert not table[["half_written", "outliving", "temporary_after_rerun"]].to_numpy().any()
