"""causalms agree: contrasts at hand and published ones in one results table, a figure, and messages that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree
from causalms.tables import RESULTS_COLUMNS, read_table, write_table
from tests.conftest import NO_MODEL_ERROR, Run, refused


def written(folder: Path, people: pd.DataFrame, placebo: pd.Series, drug: pd.Series) -> Path:
    """A folder with participants.tsv and the expected lesions of its patients under both arms."""
    draws = pd.concat(
        people[["participant_id", "trial"]].assign(arm_randomised=people["arm"], arm=arm, expected_net2_lesions=mean)
        for arm, mean in (("placebo", placebo), ("dimethyl-fumarate", drug))
    )
    draws = draws.assign(
        visit_week=96.0, query="interventional", query_id="q", expected_net2_volume_ml=0.1, model_error=NO_MODEL_ERROR
    )
    write_table(people, folder / "participants.tsv")
    write_table(draws.assign(activity_probability=0.6, dispersion=1.0), folder / "draws.parquet")
    return folder


@pytest.fixture
def define(tmp_path: Path) -> Path:
    """One trial that was also published."""
    rng = np.random.default_rng(1)
    people = pd.DataFrame(
        {"participant_id": range(120), "trial": "DEFINE", "age": rng.uniform(20, 55, 120), "sex": ["F", "F", "M"] * 40}
    )
    people["arm"] = ["placebo", "dimethyl-fumarate"] * 60
    people["net2_lesions_week96"] = rng.negative_binomial(0.6, 0.6 / (0.6 + np.where(people["arm"] == "placebo", 12, 2)))
    return written(tmp_path, people, 12 + people["age"] / 50, 2 + people["age"] / 50)


@pytest.fixture
def three_trials(tmp_path: Path) -> Path:
    """Three trials of the same two arms, and covariates of their patients without outcomes."""
    rng = np.random.default_rng(3)
    people = pd.DataFrame({"participant_id": range(90), "trial": ["A", "B", "C"] * 30})
    people["age"], people["sex"] = rng.uniform(22, 55, 90), ["F", "F", "M"] * 30
    people["arm"] = np.where(people.index % 6 < 3, "placebo", "dimethyl-fumarate")
    people["net2_lesions_week96"] = rng.poisson(np.where(people["arm"] == "placebo", 10, 2))
    covariates = people[["participant_id", "age", "sex"]]
    write_table(covariates, tmp_path / "covariates.csv")
    write_table(covariates.assign(age=people["age"] / 2), tmp_path / "children.csv")
    share = pd.Series(1 + people.index % 3)
    return written(tmp_path, people, 10.0 * share, 2.0 * share)


def test_agreement_with_patients_and_publications_is_written(run: Run, define: Path) -> None:
    options = ["--observed", define, "--published", "--out", define / "out.csv", "--table", define / "contrasts.csv"]
    ended = run("agree", define / "draws.parquet", *options)
    assert ended.code == 0
    for words in ("equivalent within 1.25", "DEFINE (published)", "source:"):
        assert words in ended.printed
    results = pd.read_csv(define / "out.csv")
    assert list(results.columns) == list(RESULTS_COLUMNS)
    assert results.loc[results["analysis"] == "agreement: randomised effect", "randomised"].all()
    assert not results.loc[results["analysis"] == "agreement", "randomised"].any()
    assert not results.loc[results["analysis"] == "agreement: published", "randomised"].any()
    assert pd.read_csv(define / "contrasts.csv")["label"].iloc[0] == "DEFINE: dimethyl-fumarate against placebo"


def test_the_verb_prints_what_the_library_prints(run: Run, three_trials: Path) -> None:
    draws, people = three_trials / "draws.parquet", three_trials / "participants.tsv"
    printed = run("agree", draws, "--observed", people).printed
    assert printed == f"{agree(draws, people)!r}\n"
    assert "correlation of rate ratios over 3 contrasts" in printed


def test_sampled_draws_of_a_named_week_also_compare_distributions(run: Run, define: Path) -> None:
    expected = read_table(define / "draws.parquet").drop(
        columns=["dispersion", "activity_probability", "expected_net2_volume_ml"]
    )
    drawn = expected.loc[expected.index.repeat(4)].reset_index(drop=True)
    drawn["draw"], drawn["net2_volume_ml"] = drawn.index % 4, 0.1
    drawn["net2_lesions"] = np.random.default_rng(2).poisson(drawn.pop("expected_net2_lesions"))
    both_weeks = pd.concat([drawn, drawn.assign(visit_week=48.0)])
    write_table(both_weeks, define / "sampled.parquet")
    verb = ("agree", define / "sampled.parquet", "--observed", define)
    refused(run(*verb), 2, "sampled.parquet: weeks 48, 96; choose one with --week")
    assert run(*verb, "--week", 96, "--out", define / "out.csv").code == 0
    assert "Cramer distance of counts" in set(pd.read_csv(define / "out.csv")["measure"])


def test_the_randomised_effect_counts_time_at_risk(run: Run, define: Path) -> None:
    people = read_table(define / "participants.tsv")
    people["years"] = np.where(people["arm"] == "placebo", 1.8, 0.9)
    people.loc[0, "years"] = np.nan
    write_table(people, define / "people.csv")
    verb = ("agree", define / "draws.parquet", "--observed", define / "people.csv")
    ended = run(*verb, "--exposure", "years", "--table", define / "contrasts.csv", "--out", define / "out.csv")
    assert "a missing value in years (1)" in ended.printed
    events, years = people.dropna().groupby("arm")[["net2_lesions_week96", "years"]].sum().to_numpy(float).T
    ratio = (events / years)[0] / (events / years)[1]  # dimethyl fumarate over placebo, events a year
    assert pd.read_csv(define / "contrasts.csv")["randomised_estimate"].iloc[0] == pytest.approx(ratio, rel=1e-12)
    assert "time at risk in years" in " ".join(pd.read_csv(define / "out.csv")["estimator"].astype(str))
    refused(run(*verb, "--exposure", "weeks"), 1, "people.csv: no column 'weeks'; add it")
    refused(run(*verb, "--exposure", "years", "--measure", "risk-ratio"), 2, "--exposure has no meaning for a risk ratio")
    published = ("agree", define / "draws.parquet", "--published", "--participants", define / "people.csv")
    refused(run(*published, "--exposure", "years"), 2, "--exposure is a column of observed counts")


def test_published_aggregates_need_no_observed_trial(run: Run, three_trials: Path) -> None:
    options = ["--published", "--participants", three_trials / "covariates.csv", "--out", three_trials / "out.csv"]
    ended = run("agree", three_trials / "draws.parquet", *options)
    assert ended.code == 0
    assert "matched on: age 38.5, sex F 0.74 (effective size" in ended.printed
    results = pd.read_csv(three_trials / "out.csv")
    assert not results.loc[results["analysis"] == "agreement: published", "randomised"].any()


def test_a_published_baseline_out_of_reach_is_refused(run: Run, three_trials: Path) -> None:
    options = ["--published", "--participants", three_trials / "children.csv", "--out", three_trials / "o.csv"]
    refused(run("agree", three_trials / "draws.parquet", *options), 1, "these patients cannot be weighted to age 38.5")
    assert not (three_trials / "o.csv").exists()


def test_a_trial_of_other_drugs_asks_for_the_reference(run: Run, three_trials: Path) -> None:
    names = {"placebo": "teriflunomide", "dimethyl-fumarate": "fingolimod"}
    people = read_table(three_trials / "participants.tsv").replace({"arm": names})
    draws = read_table(three_trials / "draws.parquet").replace({"arm": names, "arm_randomised": names})
    write_table(people.assign(trial="T"), three_trials / "people.csv")
    write_table(draws.assign(trial="T"), three_trials / "draws.csv")
    verb = ("agree", three_trials / "draws.csv", "--observed", three_trials / "people.csv")
    refused(run(*verb), 1, "trial T: arms teriflunomide, fingolimod; name the one to compare with as --reference")
    printed = run(*verb, "--reference", "teriflunomide").printed
    assert printed.startswith("T: fingolimod against teriflunomide: rate ratio at week 96, 90 patients")


def test_one_point_a_contrast_is_drawn(run: Run, three_trials: Path) -> None:
    options = ["--observed", three_trials, "--figure", three_trials / "agreement.svg", "--out", three_trials / "out.csv"]
    assert run("agree", three_trials / "draws.parquet", *options).code == 0
    assert "<svg" in (three_trials / "agreement.svg").read_text()
    assert "concordance of rate ratios" in set(pd.read_csv(three_trials / "out.csv")["measure"])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--margin", 1], 2, "--margin: found 1, expected a ratio above 1"),
        (["--week", 48], 2, "no rows of week 48; its weeks are 96"),
        (["--level", 1], 2, "level"),
        (["--reference", "aspirin"], 1, "--reference: found 'aspirin', expected an arm of the draws, one of dimethyl-fumarate"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(run: Run, define: Path, options: list[object], code: int, message: str) -> None:
    verb = ("agree", define / "draws.parquet", "--observed", define, "--out", define / "out.csv")
    refused(run(*verb, *options), code, message)
    assert not (define / "out.csv").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "nothing to agree with"),
        (["--published"], 2, "give their covariates with --participants"),
        (["--observed", ".", "--participants", "covariates.csv"], 2, "two names of the patients"),
        (["--observed", "nowhere"], 1, "nowhere: no such file or folder"),
        (["--observed", "covariates.csv"], 1, "covariates.csv: no column 'arm'"),
        (["--observed", ".", "--week", 24], 2, "draws.parquet: no rows of week 24; its weeks are 96"),
        (["--observed", ".", "--out", "a.xlsx"], 2, "written as .csv, .tsv or .parquet"),
        (["--observed", ".", "--figure", "a.txt"], 2, ".png, .svg or .pdf"),
    ],
)
def test_misuse_is_one_line_that_names_the_file(
    run: Run, three_trials: Path, options: list[object], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(three_trials)
    refused(run("agree", "draws.parquet", *options), code, message)
