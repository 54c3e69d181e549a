"""causalms agree: arm-level mode, a figure, and messages that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree_published, correlate, leave_one_trial_out, predictable_contrasts
from causalms.cli.main import main
from causalms.errors import RefusalError, UsageError
from causalms.tables import write_table


@pytest.fixture
def files(tmp_path: Path) -> Path:
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


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["agree", *map(str, arguments)])
    return int(stopped.value.code or 0)


def test_published_aggregates_need_no_observed_trial(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--published", "--participants", files / "covariates.csv", "--out", files / "out.csv"]
    assert run(files / "draws.parquet", *options) == 0
    assert "matched on: age 38.5, sex F 0.74 (effective size" in capsys.readouterr().out
    results = pd.read_csv(files / "out.csv")
    assert not results.loc[results["analysis"] == "agreement: published", "randomised"].any()


def test_a_published_baseline_out_of_reach_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files / "draws.parquet", "--published", "--participants", files / "children.csv", "--out", files / "o.csv") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "these patients cannot be weighted to age 38.5" in error
    assert not (files / "o.csv").exists()


def test_weights_that_rest_on_few_patients_are_refused() -> None:
    people = pd.DataFrame({"participant_id": range(200), "age": [*np.linspace(20, 25, 198), 60.0, 61.0], "sex": ["F", "M"] * 100})
    keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": 96.0, "query": "interventional", "query_id": "q"}
    draws = pd.concat(
        people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=mean, activity_probability=0.5)
        for arm, mean in (("placebo", 10.0), ("dimethyl-fumarate", 2.0))
    )
    with pytest.raises(RefusalError, match=r"leaves an effective number of \d"):
        agree_published(draws, people)


def test_one_point_a_contrast_is_drawn(files: Path) -> None:
    options = ["--observed", files, "--figure", files / "agreement.svg", "--out", files / "out.csv"]
    assert run(files / "draws.parquet", *options) == 0
    assert "<svg" in (files / "agreement.svg").read_text()
    measures = pd.read_csv(files / "out.csv")["measure"]
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
    files: Path,
    options: list[object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert run("draws.parquet", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_one_simulated_effect_for_all_contrasts_has_no_correlation() -> None:
    table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4, 0.6, 0.9], "simulated_estimate": 0.5})
    found = correlate(table)
    assert np.isnan(found["estimate"].iloc[0])


def test_what_no_other_trial_gave_cannot_be_predicted() -> None:
    people = pd.DataFrame({"participant_id": range(6), "trial": list("AABBCC")})
    people["arm"] = ["placebo", "laquinimod", "placebo", "laquinimod", "placebo", "ocrelizumab"]
    known = predictable_contrasts(people).set_index("trial")
    assert known["predictable"].to_dict() == {"A": True, "B": True, "C": False}
    assert known.loc["C", "why"] == "no other trial gave ocrelizumab"
    with pytest.raises(UsageError, match="unknown trial 'D'"):
        leave_one_trial_out(people, lambda training, held_out: held_out, trials=["D"])
