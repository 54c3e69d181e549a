"""Public data sets outside multiple sclerosis have R's digits (tests/oracles/outside.R), and a trial report's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Method, VisitMethod, Visits, analyse, analyse_visits, bds_table
from causalms.tables import read_table, write_table
from causalms.validation.shipped_tables import made_trial
from tests.conftest import Run, refused

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "outside_r.csv").set_index("id")


def _same(estimate: float, se: float, p_value: float, name: str) -> None:
    assert [estimate, se] == pytest.approx(TRUTH.loc[name, ["estimate", "se"]].tolist(), rel=1e-6), name
    assert p_value == pytest.approx(TRUTH.loc[name, "p_value"], rel=1e-4)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_recurrences_of_bladder_cancer_have_the_digits_of_survival(ties: str) -> None:
    table = pd.read_csv(ORACLES / "bladder.csv").assign(arm=lambda rows: np.where(rows["rx"] == 2, "thiotepa", "placebo"))
    row = analyse_visits(
        table,
        outcome="event",
        reference="placebo",
        adjust="number + size",
        visits=Visits(visit="stop", start="start", patient="id"),
        method=VisitMethod(estimator="andersen-gill", ties=ties),
    ).results.iloc[0]
    _same(np.log(row.estimate), row.se, row.p_value, f"bladder {ties}")


def test_exacerbations_under_rhdnase_have_the_digits_of_glm_nb() -> None:
    table = pd.read_csv(ORACLES / "rhdnase.csv").assign(years=lambda rows: rows["days"] / 365.25)
    method = Method(estimator="negbin", variance="model-r")
    analysis = analyse(table, outcome="events", arm="trt", reference="placebo", exposure="years", adjust="fev", method=method)
    row = analysis.results.iloc[0]
    _same(np.log(row.estimate), row.se, row.p_value, "rhdnase negbin")
    assert analysis.fit.alpha == pytest.approx(TRUTH.loc["rhdnase alpha", "estimate"], rel=1e-6)


@pytest.mark.parametrize(("model", "variance"), [("poisson", "hc0"), ("negbin", "model-r")])
def test_visits_in_the_rand_experiment_have_the_digits_of_r(model: str, variance: str) -> None:
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data.assign(arm=lambda rows: np.where(rows["idp"] == 1, "deductible", "none"))
    method = Method(estimator="conditional", working_model=model, variance=variance)
    row = analyse(table, outcome="mdvis", reference="none", adjust="physlm + disea", method=method).results.iloc[0]
    _same(np.log(row.estimate), row.se, row.p_value, f"randhie {model}{' HC0' if variance == 'hc0' else ''}")


def test_the_pilot_submission_has_the_digits_of_lm_and_of_its_report(run: Run, tmp_path: Path) -> None:
    """Clinical study report of the CDISC pilot, table 14-3.01: -1.0 (0.84), p 0.233; -0.5 (0.82), p 0.569."""
    words = [ORACLES / "pilot_adadas.csv", "--adsl", ORACLES / "pilot_adsl.csv", "--paramcd", "ACTOT", "--avisit", "Week 24"]
    words += ["--population", "EFFFL", "--reference", "Placebo", "--measure", "mean-difference", "--estimator", "conditional"]
    ended = run("effects", *words, "--adjust", "base + C(SITEGR1)", "--out", tmp_path / "r.json")
    assert ended.code == 0, ended.error
    results = read_table(tmp_path / "r.json").set_index("arm")
    for arm in ("High", "Low"):
        row = results.loc[f"Xanomeline {arm} Dose"]
        _same(row["estimate"], row["se"], row["p_value"], f"pilot {arm}")
    printed = [f"{row.estimate:.1f} ({row.se:.2f}) {row.p_value:.3f}" for row in results.itertuples()]
    assert printed == ["-1.0 (0.84) 0.233", "-0.5 (0.82) 0.569"]


def test_adam_files_are_read_by_subgroups_and_calibrate_too(tmp_path: Path, run: Run) -> None:
    people, draws = made_trial(patients=60, draws=4)
    subjects = people.rename(columns={"participant_id": "usubjid", "trial": "studyid", "arm": "trt01p"})
    subjects["saffl"] = ["N", *["Y"] * 59]
    write_table(subjects.drop(columns="net2_lesions_week48"), tmp_path / "adsl.json")
    write_table(bds_table(people, {"net2_lesions_week48": ("NET2", "T2")}), tmp_path / "bds.json")
    write_table(draws, tmp_path / "draws.csv")
    adam = ["--adsl", tmp_path / "adsl.json", "--paramcd", "NET2", "--population", "SAFFL"]
    ended = run("subgroups", tmp_path / "bds.json", *adam, "--reference", "a", "--by", "age >= 40", "--digits", 9)
    assert ended.code == 0, ended.error
    assert re.search(r"0\.\d{9} to \d\.\d{8}", ended.printed)
    ended = run("calibrate", tmp_path / "draws.csv", "--observed", tmp_path / "bds.json", *adam, "--repetitions", 19)
    assert ended.code == 0, ended.error
    assert ended.printed.startswith("59 patients")
    refused(run("calibrate", tmp_path / "draws.csv", "--observed", tmp_path / "bds.json"), 1, "is an ADaM BDS dataset")
