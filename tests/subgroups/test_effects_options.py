"""causalms effects: one trial of several, missing outcomes by a named strategy, ADaM datasets, folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.effects import effects_with_missing_outcomes, grouped_arguments
from causalms.tables import write_table

OUTCOME = "net2_lesions_week48"


@pytest.fixture
def people(tmp_path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"participant_id": [f"p{i:03d}" for i in range(120)], "trial": ["A", "B"] * 60})
    drug = np.where(table["trial"] == "A", "laquinimod", "dimethyl-fumarate")
    table["arm"] = np.where(np.arange(120) % 4 < 2, "placebo", drug)
    table["age"] = rng.uniform(20, 55, 120)
    table[OUTCOME] = rng.negative_binomial(1, 1 / (1 + np.where(table["arm"] == "placebo", 4.0, 2.0))).astype(float)
    write_table(table, tmp_path / "participants.tsv")
    write_table(table.assign(**{OUTCOME: table[OUTCOME].where(table.index % 9 > 0)}), tmp_path / "missing.csv")
    return table


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["effects", *map(str, arguments)])
    return int(stopped.value.code or 0)


SHARED = ["--outcome", OUTCOME, "--reference", "placebo"]


def test_patients_of_other_trials_are_left_out_and_counted(
    people: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *SHARED, "--out", tmp_path / "r.csv") == 0
    assert "patients of B left out" in capsys.readouterr().out
    of_all = pd.read_csv(tmp_path / "r.csv").set_index("arm").loc["laquinimod"]
    assert of_all["randomised"]
    assert of_all["population"] == "all randomised patients of A"
    assert run(tmp_path, *SHARED, "--pool-trials", "--out", tmp_path / "p.csv") == 0
    assert not pd.read_csv(tmp_path / "p.csv")["randomised"].any()
    assert run(tmp_path, *SHARED, "--trial", "A", "--out", tmp_path / "r.csv") == 0
    results = pd.read_csv(tmp_path / "r.csv")
    assert results["arm"].tolist() == ["laquinimod"]
    assert results["randomised"].all()
    assert results["estimate"].iloc[0] == of_all["estimate"]
    assert results["n_reference"].iloc[0] == ((people["trial"] == "A") & (people["arm"] == "placebo")).sum()


def test_inverse_probability_weighting_is_that_of_the_function(people: pd.DataFrame, tmp_path: Path) -> None:
    assert run(tmp_path / "missing.csv", *SHARED, "--missing", "ipw", "--missing-given", "age", "--out", tmp_path / "r.csv") == 0
    table = pd.read_csv(tmp_path / "missing.csv")
    known = effects_with_missing_outcomes(
        table, **grouped_arguments({"strategy": "ipw", "outcome": OUTCOME, "reference": "placebo", "missing_given": "age"})
    )
    results = pd.read_csv(tmp_path / "r.csv")
    np.testing.assert_allclose(results["estimate"], known["estimate"], rtol=1e-12)
    assert results["estimator"].str.contains("inverse probability weighting").all()


def test_missing_outcomes_are_drawn_under_the_own_arm(people: pd.DataFrame, tmp_path: Path) -> None:
    draws = people.loc[people.index.repeat(3), ["participant_id", "trial", "arm"]].assign(
        arm_randomised=lambda t: t["arm"], visit_week=48.0, query="interventional", query_id="q", net2_volume_ml=0.1
    )
    draws["draw"] = np.tile(np.arange(3), len(people))
    draws["net2_lesions"] = draws["draw"]
    write_table(draws, tmp_path / "draws.parquet")
    options = ["--missing", "multiple-imputation", "--draws", tmp_path / "draws.parquet", "--week", 48, "--trial", "A"]
    assert run(tmp_path / "missing.csv", *SHARED, *options, "--out", tmp_path / "r.csv") == 0
    assert "imputed by the generator, 3 draws" in pd.read_csv(tmp_path / "r.csv")["estimator"].iloc[0]


def test_adam_datasets_give_the_effects_of_the_plain_table(people: pd.DataFrame, tmp_path: Path) -> None:
    adsl = pd.DataFrame({"USUBJID": people["participant_id"], "STUDYID": people["trial"], "TRT01P": people["arm"]})
    bds = pd.DataFrame({"USUBJID": people["participant_id"], "PARAMCD": "NET2", "AVISIT": "Week 48", "AVISITN": 48.0})
    write_table(adsl, tmp_path / "adsl.csv")
    write_table(bds.assign(AVAL=people[OUTCOME]), tmp_path / "adnet2.csv")
    shared = ["--reference", "placebo", "--trial", "A"]
    for visit in ("Week 48", "48"):
        options = ["--adsl", tmp_path / "adsl.csv", "--paramcd", "NET2", "--avisit", visit]
        assert run(tmp_path / "adnet2.csv", *options, *shared, "--out", tmp_path / "adam.csv") == 0
    assert run(tmp_path, "--outcome", OUTCOME, *shared, "--out", tmp_path / "plain.csv") == 0
    adam, plain = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("adam", "plain"))
    assert adam["estimate"].tolist() == plain["estimate"].tolist()


@pytest.mark.parametrize(
    ("table", "options", "code", "message"),
    [
        ("nowhere", SHARED, 1, "nowhere: no such file or folder; give a table, or a BIDS folder"),
        ("empty", SHARED, 1, "empty: a folder without participants.tsv"),
        ("missing.csv", [*SHARED, "--missing", "ipw"], 2, "--missing-given"),
        ("missing.csv", [*SHARED, "--missing", "ipw", "--missing-given", "age", "--strata", "sex"], 2, "--strata has no meaning"),
        ("missing.csv", [*SHARED, "--missing", "multiple-imputation"], 2, "needs --draws"),
        ("missing.csv", [*SHARED, "--missing-given", "age"], 2, "name the strategy with --missing"),
        ("missing.csv", [*SHARED, "--trial", "C"], 1, "no trial 'C'; trials found: A, B"),
        ("missing.csv", [*SHARED, "--paramcd", "NET2"], 2, "name its ADSL with --adsl"),
        ("missing.csv", [*SHARED, "--out", "r.xlsx"], 2, "tables are written as .csv, .tsv, .parquet, .json or"),
        ("bds.csv", SHARED, 1, "is an ADaM BDS dataset"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    people: pd.DataFrame,
    tmp_path: Path,
    table: str,
    options: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_table(pd.DataFrame({"USUBJID": ["a"], "PARAMCD": "NET2", "AVAL": 1.0}), tmp_path / "bds.csv")
    assert run(table, *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
