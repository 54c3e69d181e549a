"""The exam on published arms: the registered file is the one that was hashed, and the rule judges as it says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import exam_arms, exam_form, judge_exam
from causalms.tables import write_table
from studies.exam import OUT, predictions, relapse_predictions
from tests.conftest import Run, refused


def handed_in(folder: Path, predicted: pd.Series) -> Path:
    write_table(exam_form().assign(predicted=predicted), folder / "exam.csv")
    return folder / "exam.csv"


def test_registered_predictions_are_those_hashed_and_use_no_arm_of_the_drug_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    file = OUT / "predictions.csv"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == (OUT / "predictions.sha256").read_text().split()[0]
    assert np.allclose(predictions()["predicted"], pd.read_csv(file)["predicted"], atol=1e-4)
    # other published effects of one drug change no prediction of its own arms
    changed = exam_arms().copy()
    own = changed["drug"] == "laquinimod"
    changed.loc[own, "ratio"] = 0.01
    monkeypatch.setattr("studies.exam.exam_arms", lambda: changed)
    assert np.allclose(predictions()["predicted"][own], pd.read_csv(file)["predicted"][own], atol=1e-4)


def test_registered_risk_ratios_of_relapse_are_those_hashed() -> None:
    file = OUT / "relapse_predictions.csv"
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith("5a74288ed1b12e2e")
    assert np.allclose(relapse_predictions()["predicted"], pd.read_csv(file)["predicted"], atol=1e-4)


def test_true_effects_pass_and_the_mean_of_the_other_arms_is_the_null(tmp_path: Path) -> None:
    arms = exam_arms()
    verdict = judge_exam(handed_in(tmp_path, arms["ratio"]))
    assert (verdict.passed, verdict.error) == (True, 0)
    log = np.log(arms["ratio"][arms["metric"] == "new or enlarging T2"])
    null = np.exp((log.sum() - log) / (len(log) - 1))
    none = judge_exam(handed_in(tmp_path, null.reindex(arms.index)))
    assert none.difference == pytest.approx(0, abs=1e-12)
    assert not none.passed
    assert none.null_error == pytest.approx(0.476, abs=5e-4)


def test_one_factor_for_all_arms_is_an_error_whose_interval_has_clusters_of_trials(tmp_path: Path) -> None:
    arms = exam_arms()
    verdict = judge_exam(handed_in(tmp_path, arms["ratio"] * 1.2))
    assert (verdict.error, verdict.correlation) == pytest.approx((np.log(1.2), 1))
    assert verdict.lower < verdict.difference < verdict.upper
    assert "passed" in repr(verdict).splitlines()[21]


def test_agree_exam_writes_the_form_judges_it_and_names_what_is_wrong(run: Run, tmp_path: Path) -> None:
    form = tmp_path / "form.csv"
    assert run("agree", "--exam-form", form).code == 0
    refused(run("agree", "--exam", form), 1, "no positive ratio")
    table = pd.read_csv(form).assign(predicted=0.4)
    write_table(table, form)
    done = run("agree", "--exam", form, "--table", tmp_path / "arms.csv")
    assert done.code == 0
    assert "not passed" in done.printed
    assert len(pd.read_csv(tmp_path / "arms.csv")) == len(table)
    write_table(table.replace({"trial": {"BRAVO": "X"}}), form)
    refused(run("agree", "--exam", form), 1, "is no arm of the exam")
    write_table(table.drop(columns="metric"), form)
    refused(run("agree", "--exam", form), 1, "no column metric")
    write_table(pd.concat([table, table.head(1)]), form)
    refused(run("agree", "--exam", form), 1, "is there twice")
    refused(run("agree", "--exam", form, "--exam-form", tmp_path / "x.csv"), 2, "stand alone")
