"""A trial of two drugs that the package never heard of goes through every verb, from its design to the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.generator import CONFIGS, Generator

DESIGN = """
name: two-drugs
weeks: [24, 48]
rate_ratio: {teriflunomide: 1.0, fingolimod: 0.5}
trials:
  - name: HEAD-TO-HEAD
    arms: {teriflunomide: 1, fingolimod: 1}
    log_rate_week96: 2.0
    sites: 2
"""

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a verb that must succeed; what it printed."""

    def printed(*arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return captured.out

    return printed


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, recipe = CONFIGS["tiny"]
    monkeypatch.setitem(CONFIGS, "tiny", (model, replace(recipe, risk_steps=4, denoiser_steps=4, calibration_patients=2)))


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
def test_teriflunomide_against_fingolimod_passes_every_verb(run: Run, tmp_path: Path) -> None:
    trial, model, expected = tmp_path / "trial", tmp_path / "model.safetensors", tmp_path / "expected.parquet"
    results = [tmp_path / f"{name}.csv" for name in ("effects", "simulated", "calibration", "agreement")]
    (tmp_path / "two-drugs.yaml").write_text(DESIGN)
    run("simulate", trial, "--design", tmp_path / "two-drugs.yaml", "--patients", 24, "--seed", 1)
    assert all(arm in run("check", trial) for arm in ("teriflunomide", "fingolimod"))
    run("train", trial, "--out", model, "--config", "tiny", "--device", "cpu")
    assert set(Generator.load(model).arms) == {"teriflunomide", "fingolimod"}

    arms = ("--do", "teriflunomide", "--do", "fingolimod")
    run("query", trial, *arms, "--expected", "--model", model, "--week", 48, "--out", expected)
    assert set(pd.read_parquet(expected)["arm"]) == {"teriflunomide", "fingolimod"}

    people = trial / "participants.tsv"
    observed = ("--outcome", "net2_lesions_week48", "--reference", "teriflunomide")
    run("effects", people, *observed, "--out", results[0])
    run("effects", expected, "--reference", "teriflunomide", "--out", results[1])
    run("calibrate", expected, "--observed", people, "--repetitions", 19, "--out", results[2])
    run("agree", expected, "--observed", people, "--reference", "teriflunomide", "--out", results[3])
    run("report", tmp_path / "report.html", *results)
    assert "fingolimod" in (tmp_path / "report.html").read_text()
    for table in (results[0], results[1], results[3]):
        assert set(pd.read_csv(table)["arm"].dropna()) <= {"teriflunomide", "fingolimod"}
