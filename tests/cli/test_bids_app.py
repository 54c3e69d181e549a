"""The BIDS app: participants one by one, then the group, gives what one forecast of all gives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalms.cli.bids_app import app, run
from tests.conftest import Run, files_in


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        app.main([str(argument) for argument in arguments], standalone_mode=False)
    return int(end.value.code or 0)


def test_participants_one_by_one_and_then_the_group_give_the_derivative(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    asked = ("--arm", "placebo", "--model", checkpoint, "--work", work)
    first, second = sorted(path.name for path in simulated.glob("sub-*"))[:2]
    for label in (first, second.removeprefix("sub-")):
        assert called(simulated, out, "participant", "--participant-label", label, *asked) == 0
    assert not out.exists()
    (work / "mine.txt").write_text("not of the app")
    labels = ("--n_cpus", 1, "--participant-label", first, second)
    assert called(simulated, out, "group", *labels, *asked) == 0
    plain = ("--arm", "placebo", "--draws", 0, "--model", checkpoint, "--participant", first, "--participant", second)
    assert run("forecast", simulated, "--out", tmp_path / "plain", *plain).code == 0
    assert files_in(out) == files_in(tmp_path / "plain")
    pd.testing.assert_frame_equal(pd.read_csv(out / "forecast.csv"), pd.read_csv(tmp_path / "plain" / "forecast.csv"))
    assert files_in(work) == ["mine.txt"]


def test_a_call_that_makes_no_sense_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["causalms-bids", "in", "out", "everyone"])
    with pytest.raises(SystemExit) as end:
        run()
    assert end.value.code == 2
    assert "'everyone' is not one of" in capsys.readouterr().err


def test_the_descriptor_names_the_options_of_the_app() -> None:
    import json

    descriptor = json.loads((Path(__file__).parents[2] / "docs" / "pipelines" / "causalms-bids.json").read_text())
    flags = {one["command-line-flag"] for one in descriptor["inputs"] if "command-line-flag" in one}
    options = {flag for parameter in app.params for flag in parameter.opts}
    assert flags <= options
    keys = [one["value-key"] for one in descriptor["inputs"]]
    assert all(key in descriptor["command-line"] for key in keys)
    assert {"name", "description", "tool-version", "schema-version", "command-line", "inputs"} <= set(descriptor)
