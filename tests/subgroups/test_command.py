"""causalms subgroups: observed, simulated and shrunken effects in one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.tables import RESULTS_COLUMNS, write_table


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    people = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(160)], "trial": "T", "age": rng.uniform(20, 55, 160)})
    people["arm"] = ["placebo", "laquinimod"] * 80
    people["net2_lesions_week48"] = rng.negative_binomial(0.6, 0.6 / (0.6 + np.where(people["arm"] == "placebo", 5, 3)))
    draws = pd.concat(
        people[["participant_id", "trial"]].assign(
            arm_randomised=people["arm"], arm=arm, expected_net2_lesions=mean + people["age"] / 50
        )
        for arm, mean in (("placebo", 4.0), ("laquinimod", 2.0))
    )
    draws = draws.assign(visit_week=48.0, query="interventional", query_id="q", expected_net2_volume_ml=0.1)
    write_table(people, tmp_path / "participants.tsv")
    write_table(draws.assign(activity_probability=0.5, dispersion=1.0), tmp_path / "draws.parquet")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_a_table_of_patients_gives_a_forest_with_interaction(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--by", "age >= 40", "--outcome", "net2_lesions_week48", "--reference", "placebo", "--out", files / "out.csv"]
    assert run("subgroups", files / "participants.tsv", *options, "--forest", files / "forest.csv") == 0
    assert "observed: laquinimod against placebo, rate ratio" in capsys.readouterr().out
    assert list(pd.read_csv(files / "out.csv").columns) == list(RESULTS_COLUMNS)
    forest = pd.read_csv(files / "forest.csv")
    assert forest["subgroup"].tolist() == ["all", "age >= 40", "age < 40"]
    assert forest.loc[1:, "interaction_p"].between(0, 1).all()


def test_draws_stand_beside_the_randomised_comparison(files: Path) -> None:
    options = ["--participants", files, "--by", "age >= 40", "--reference", "placebo", "--beside-observed"]
    assert run("subgroups", files / "draws.parquet", *options, "--forest", files / "forest.csv") == 0
    forest = pd.read_csv(files / "forest.csv")
    assert forest["source"].tolist() == ["simulated"] * 3 + ["observed"] * 3


BENEFIT = {"benefit: ranking", "benefit: curve", "benefit: groups", "benefit: best linear predictor", "benefit: policy"}


def test_predicted_benefit_is_judged_on_the_randomised_arms(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = pd.read_parquet(files / "draws.parquet")
    draws.loc[draws["arm"] == "placebo", "expected_net2_lesions"] **= 1.5  # who has more is spared more
    write_table(draws, files / "draws.parquet")
    options = ["--participants", files, "--reference", "placebo", "--benefit", files / "benefit.csv", "--cap", 0.3]
    assert run("subgroups", files / "draws.parquet", *options) == 0
    printed = capsys.readouterr().out
    assert "who benefits from laquinimod against placebo" in printed
    assert "value of treating at most 30% by predicted benefit" in printed
    results = pd.read_csv(files / "benefit.csv")
    assert list(results.columns) == list(RESULTS_COLUMNS)
    assert set(results["analysis"]) == BENEFIT
    average = results[results["measure"] == "average benefit"].iloc[0]
    assert average["lower"] < average["estimate"] < average["upper"]
    assert run("report", files / "benefit.html", files / "benefit.csv") == 0
    page = (files / "benefit.html").read_text()
    assert "Effect among the most promising patients: laquinimod against placebo" in page
    assert "Lesions spared by group of predicted benefit: laquinimod against placebo" in page


def test_a_cap_that_is_no_share_is_refused_before_anything_is_read(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--participants", files, "--reference", "placebo", "--benefit", files / "never.csv", "--cap", 1.5]
    assert run("subgroups", files / "draws.parquet", *options) == 2
    assert "--cap 1.5 on the share treated; give a number from 0 to 1" in capsys.readouterr().err
    assert not (files / "never.csv").exists()


def test_benefit_is_cross_fitted_where_there_are_no_draws(files: Path) -> None:
    options = ["--outcome", "net2_lesions_week48", "--reference", "placebo", "--adjust", "age", "--benefit", files / "b.csv"]
    assert run("subgroups", files / "participants.tsv", *options) == 0
    assert set(pd.read_csv(files / "b.csv")["analysis"]) == BENEFIT


@pytest.mark.parametrize(
    ("table", "options", "code", "message"),
    [
        ("participants.tsv", ["--reference", "placebo"], 2, "name the column of the outcome with --outcome"),
        ("draws.parquet", ["--reference", "placebo"], 2, "name the trial with --participants"),
        ("participants.tsv", ["--reference", "zz", "--outcome", "net2_lesions_week48"], 1, "'zz'"),
        (
            "participants.tsv",
            ["--reference", "placebo", "--outcome", "net2_lesions_week48", "--trial", "X"],
            1,
            "trials found: T",
        ),
        ("draws.parquet", ["--reference", "placebo", "--participants", "nowhere"], 1, "nowhere: no such file or folder"),
        (
            "draws.parquet",
            ["--reference", "placebo", "--participants", ".", "--week", 24],
            2,
            "draws.parquet: no rows of week 24; its weeks are 48",
        ),
        ("participants.tsv", ["--reference", "placebo", "--outcome", "net2_lesions_week48", "--by", "weight > 70"], 2, "--by"),
        ("participants.tsv", ["--reference", "placebo", "--cap", 0.3], 2, "--cap belongs to --benefit"),
        ("participants.tsv", ["--reference", "placebo", "--out", "a.xlsx"], 2, "written as .csv, .tsv, .parquet, .json or"),
        (
            "participants.tsv",
            ["--reference", "placebo", "--outcome", "net2_lesions_week48", "--benefit", "b.csv"],
            2,
            "--adjust 'age + gd_lesions'",
        ),
    ],
)
def test_bad_input_is_one_line_and_names_the_file(
    files: Path,
    table: str,
    options: list[object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert run("subgroups", files / table, "--by", "age >= 40", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_messages_list_no_column_that_is_not_in_the_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--participants", files, "--reference", "placebo", "--by", "key > 3"]
    assert run("subgroups", files / "draws.parquet", *options) == 2
    listed = capsys.readouterr().err.split("columns are ")[1].strip().split(", ")
    assert sorted(listed) == sorted(pd.read_csv(files / "participants.tsv", sep="\t").columns)


def test_a_simulated_effect_alike_for_all_has_no_interaction_to_test(files: Path) -> None:
    draws = pd.read_parquet(files / "draws.parquet")
    draws["expected_net2_lesions"] = np.where(draws["arm"] == "placebo", 4.0, 2.0) * (1 + draws.groupby("arm").cumcount() % 7)
    write_table(draws, files / "alike.parquet")
    options = ["--participants", files, "--by", "age >= 40", "--reference", "placebo", "--forest", files / "forest.csv"]
    assert run("subgroups", files / "alike.parquet", *options) == 0
    assert pd.read_csv(files / "forest.csv")["interaction_p"].isna().all()


def test_a_subgroup_of_one_patient_says_why_it_has_no_estimate(files: Path) -> None:
    people = pd.read_csv(files / "participants.tsv", sep="\t")
    people["rare"] = people.index == 5
    write_table(people, files / "rare.csv")
    options = ["--by", "rare", "--outcome", "net2_lesions_week48", "--reference", "placebo", "--forest", files / "forest.csv"]
    assert run("subgroups", files / "rare.csv", *options) == 0
    forest = pd.read_csv(files / "forest.csv").set_index("subgroup")
    assert np.isnan(forest.loc["rare = True", "estimate"])
    assert forest.loc["rare = True", "note"] == "no patient of placebo in this group"
    assert forest.loc["rare = False", "estimate"] > 0
