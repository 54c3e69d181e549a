"""causalms agree: contrasts at hand and published ones in one results table."""

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
