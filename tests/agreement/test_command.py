"""causalms agree: contrasts at hand and published ones in one results table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree
from causalms.cli.main import main
from causalms.tables import RESULTS_COLUMNS, read_table, write_table


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    people = pd.DataFrame(
        {"participant_id": range(120), "trial": "DEFINE", "age": rng.uniform(20, 55, 120), "sex": ["F", "F", "M"] * 40}
    )
    people["arm"] = ["placebo", "dimethyl-fumarate"] * 60
    people["net2_lesions_week96"] = rng.negative_binomial(0.6, 0.6 / (0.6 + np.where(people["arm"] == "placebo", 12, 2)))
    draws = pd.concat(
        people[["participant_id", "trial"]].assign(
            arm_randomised=people["arm"], arm=arm, expected_net2_lesions=mean + people["age"] / 50
        )
        for arm, mean in (("placebo", 12.0), ("dimethyl-fumarate", 2.0))
    )
    draws = draws.assign(visit_week=96.0, query="interventional", query_id="q", expected_net2_volume_ml=0.1)
    write_table(people, tmp_path / "participants.tsv")
    write_table(draws.assign(activity_probability=0.6, dispersion=1.0), tmp_path / "draws.parquet")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_agreement_with_patients_and_publications_is_written(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--observed", files, "--published", "--out", files / "out.csv", "--table", files / "contrasts.csv"]
    assert run("agree", files / "draws.parquet", *options) == 0
    printed = capsys.readouterr().out
    assert "equivalent within 1.25" in printed
    assert "DEFINE (published)" in printed
    assert "source:" in printed
    results = pd.read_csv(files / "out.csv")
    assert list(results.columns) == list(RESULTS_COLUMNS)
    assert results.loc[results["analysis"] == "agreement", "randomised"].all()
    assert not results.loc[results["analysis"] == "agreement: published", "randomised"].any()
    assert pd.read_csv(files / "contrasts.csv")["label"].iloc[0] == "DEFINE: dimethyl-fumarate against placebo"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--margin", 1], 2, "--margin: found 1, expected a ratio above 1"),
        (["--week", 48], 2, "no rows of week 48; its weeks are 96"),
        (["--level", 1], 2, "level"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    files: Path, options: list[object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("agree", files / "draws.parquet", "--observed", files, "--out", files / "out.csv", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (files / "out.csv").exists()


def test_reference_that_the_draws_do_not_hold_is_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("agree", files / "draws.parquet", "--observed", files, "--reference", "aspirin") == 1
    assert (
        "--reference: found 'aspirin', expected an arm of the draws, one of dimethyl-fumarate, placebo" in capsys.readouterr().err
    )


@pytest.fixture
def three_trials(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    people = pd.DataFrame({"participant_id": range(90), "trial": ["A", "B", "C"] * 30})
    people["age"], people["sex"] = rng.uniform(22, 55, 90), ["F", "F", "M"] * 30
    people["arm"] = np.where(people.index % 6 < 3, "placebo", "dimethyl-fumarate")
    people["net2_lesions_week96"] = rng.poisson(np.where(people["arm"] == "placebo", 10, 2))
    draws = pd.concat(
        people[["participant_id", "trial"]].assign(
            arm_randomised=people["arm"], arm=arm, expected_net2_lesions=mean * (1 + people.index % 3)
        )
        for arm, mean in (("placebo", 10.0), ("dimethyl-fumarate", 2.0))
    )
    draws = draws.assign(visit_week=96.0, query="interventional", query_id="q", expected_net2_volume_ml=0.1)
    write_table(people, tmp_path / "participants.tsv")
    write_table(people[["participant_id", "age", "sex"]], tmp_path / "covariates.csv")
    write_table(people.assign(age=people["age"] / 2)[["participant_id", "age", "sex"]], tmp_path / "children.csv")
    write_table(draws.assign(activity_probability=0.6, dispersion=1.0), tmp_path / "draws.parquet")
    return tmp_path


def test_published_aggregates_need_no_observed_trial(three_trials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--published", "--participants", three_trials / "covariates.csv", "--out", three_trials / "out.csv"]
    assert run("agree", three_trials / "draws.parquet", *options) == 0
    assert "matched on: age 38.5, sex F 0.74 (effective size" in capsys.readouterr().out
    results = pd.read_csv(three_trials / "out.csv")
    assert not results.loc[results["analysis"] == "agreement: published", "randomised"].any()


def test_a_published_baseline_out_of_reach_is_refused(three_trials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--participants", three_trials / "children.csv", "--out", three_trials / "o.csv"]
    assert run("agree", three_trials / "draws.parquet", "--published", *options) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "these patients cannot be weighted to age 38.5" in error
    assert not (three_trials / "o.csv").exists()


def test_the_verb_prints_what_the_library_prints(three_trials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws, people = three_trials / "draws.parquet", three_trials / "participants.tsv"
    assert run("agree", draws, "--observed", people) == 0
    printed = capsys.readouterr().out
    assert printed == f"{agree(draws, people)!r}\n"
    assert "correlation of rate ratios over 3 contrasts" in printed


def test_a_trial_of_other_drugs_asks_for_the_reference(three_trials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"placebo": "teriflunomide", "dimethyl-fumarate": "fingolimod"}
    people = read_table(three_trials / "participants.tsv").replace({"arm": names})
    draws = read_table(three_trials / "draws.parquet").replace({"arm": names, "arm_randomised": names})
    write_table(people.assign(trial="T"), three_trials / "people.csv")
    write_table(draws.assign(trial="T"), three_trials / "draws.csv")
    verb = ("agree", three_trials / "draws.csv", "--observed", three_trials / "people.csv")
    assert run(*verb) == 1
    error = capsys.readouterr().err
    assert error == "error: trial T: arms teriflunomide, fingolimod; name the one to compare with as --reference\n"
    assert run(*verb, "--reference", "teriflunomide") == 0
    assert capsys.readouterr().out.startswith("T: fingolimod against teriflunomide: rate ratio at week 96, 90 patients")


def test_one_point_a_contrast_is_drawn(three_trials: Path) -> None:
    options = ["--observed", three_trials, "--figure", three_trials / "agreement.svg", "--out", three_trials / "out.csv"]
    assert run("agree", three_trials / "draws.parquet", *options) == 0
    assert "<svg" in (three_trials / "agreement.svg").read_text()
    measures = pd.read_csv(three_trials / "out.csv")["measure"]
    assert "concordance of rate ratios" in set(measures)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "nothing to agree with"),
        (["--published"], 2, "give their covariates with --participants"),
        (["--observed", "nowhere"], 1, "nowhere: no such file or folder"),
        (["--observed", "covariates.csv"], 1, "covariates.csv: no column 'trial'"),
        (["--observed", ".", "--week", 24], 2, "draws.parquet: no rows of week 24; its weeks are 96"),
        (["--observed", ".", "--out", "a.xlsx"], 2, "written as .csv, .tsv or .parquet"),
        (["--observed", ".", "--figure", "a.txt"], 2, ".png, .svg or .pdf"),
    ],
)
def test_misuse_is_one_line_that_names_the_file(
    three_trials: Path,
    options: list[object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(three_trials)
    assert run("agree", "draws.parquet", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
