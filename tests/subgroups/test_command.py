"""causalms subgroups: observed, simulated and shrunken effects in one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli import main
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
    ],
)
def test_bad_input_is_one_line(
    files: Path, table: str, options: list[object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("subgroups", files / table, "--by", "age >= 40", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
