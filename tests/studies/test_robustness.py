"""The study of damaged inputs, in small: no unexpected error, hang, memory past 2 GiB or half-written file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from causalms.cli.main import VERBS
from studies.robustness import checkpoints, files, images, tables
from studies.robustness.__main__ import cases
from studies.robustness.damage import DAMAGES
from studies.robustness.undamaged import FORMATS
from studies.robustness.verbs import QUESTIONS, SHARES

ROOT = Path(__file__).parents[2]


def test_every_kind_of_input_has_damages_and_questions() -> None:
    assert all((checkpoints, files, images, tables))
    made_for = {kind.partition(".")[0] for each in DAMAGES for kind in each.kinds}
    assert made_for == set(QUESTIONS) == set(SHARES)
    assert sum(SHARES.values()) == 1000
    assert len({(each.name, kind) for each in DAMAGES for kind in each.kinds}) == sum(len(each.kinds) for each in DAMAGES)


def test_a_thousand_inputs_reach_every_kind_and_every_verb() -> None:
    todo = cases(1000, tuple(SHARES))
    assert len(todo) == 1000
    # sample-size reads no file, benchmark a program; register takes half a minute a patient, its refusals are tested beside it
    assert {case.question.verb for case in todo} == set(VERBS) - {"sample-size", "register", "benchmark"}
    assert {case.kind for case in todo} == set(SHARES)
    assert {case.form for case in todo if case.kind == "participants"} == set(FORMATS["participants"])


def test_twenty_damaged_policies_and_masks_end_in_an_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "studies.robustness", "--inputs", "20", "--kind", "policy", "--kind", "mask"]
    done = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = pd.read_csv(tmp_path / "counts.csv")
    assert counts["inputs"].sum() == 20
    assert counts[["unexpected", "hang", "memory", "partial"]].to_numpy().sum() == 0, done.stdout
    assert counts["refused"].sum() >= 12
