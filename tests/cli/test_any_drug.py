"""A trial of two drugs that the package never heard of goes through every verb, from its design to the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from causalms.generator import Generator
from causalms.generator.configurations import CONFIGS
from tests.conftest import Run

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


@pytest.fixture
def done(run: Run) -> Callable[..., str]:
    """Run a verb that must succeed; what it printed."""

    def printed(*arguments: object) -> str:
        ended = run(*arguments)
        assert not ended.code, ended.error
        return ended.printed

    return printed


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, recipe = CONFIGS["tiny"]
    monkeypatch.setitem(
        CONFIGS, "tiny", (replace(model, steps=4), replace(recipe, risk_steps=2, denoiser_steps=2, calibration_patients=1))
    )


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
def test_teriflunomide_against_fingolimod_passes_every_verb(done: Callable[..., str], tmp_path: Path) -> None:
    trial, model, expected = tmp_path / "trial", tmp_path / "model.safetensors", tmp_path / "expected.parquet"
    results = [tmp_path / f"{name}.csv" for name in ("effects", "simulated", "calibration", "agreement")]
    (tmp_path / "two-drugs.yaml").write_text(DESIGN)
    done("simulate", trial, "--design", tmp_path / "two-drugs.yaml", "--patients", 16, "--seed", 1)
    assert all(arm in done("check", trial) for arm in ("teriflunomide", "fingolimod"))
    done("train", trial, "--out", model, "--config", "tiny", "--device", "cpu")
    assert set(Generator.load(model).arms) == {"teriflunomide", "fingolimod"}

    arms = ("--do", "teriflunomide", "--do", "fingolimod")
    done("query", trial, *arms, "--expected", "--model", model, "--week", 48, "--out", expected)
    assert set(pd.read_parquet(expected)["arm"]) == {"teriflunomide", "fingolimod"}

    people = trial / "participants.tsv"
    observed = ("--outcome", "net2_lesions_week48", "--reference", "teriflunomide")
    done("effects", people, *observed, "--out", results[0])
    done("effects", expected, "--reference", "teriflunomide", "--out", results[1])
    done("calibrate", expected, "--observed", people, "--repetitions", 19, "--out", results[2])
    done("agree", expected, "--observed", people, "--reference", "teriflunomide", "--out", results[3])
    done("report", tmp_path / "report.html", *results)
    assert "fingolimod" in (tmp_path / "report.html").read_text()
    for table in (results[0], results[1], results[3]):
        assert set(pd.read_csv(table)["arm"].dropna()) <= {"teriflunomide", "fingolimod"}
