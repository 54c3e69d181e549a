"""Draws of another simulator: participant, arm, draw and count are enough for every verb that judges draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree, compare_arms
from causalms.calibration import pair
from causalms.effects import estimate
from causalms.errors import CausalmsError, InputError
from causalms.tables import completed_draws, partition_draws, tallied_draws
from tests.conftest import Run, refused


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    arm = rng.permutation(np.repeat(["placebo", "drug"], 20))
    frame = pd.DataFrame({"participant_id": [f"s{i}" for i in range(40)], "arm": arm, "age": rng.normal(40, 8, 40).round()})
    return frame.assign(net2_lesions_week48=rng.poisson(np.where(arm == "drug", 1.5, 3)))


@pytest.fixture(scope="module")
def foreign(people: pd.DataFrame) -> pd.DataFrame:
    rng, names = np.random.default_rng(2), list(people["participant_id"])
    rows = [(p, a, d) for p in names for a in ("placebo", "drug") for d in range(10)]
    table = pd.DataFrame(rows, columns=["participant_id", "arm", "draw"])
    return table.assign(count=rng.poisson(np.where(table["arm"] == "drug", 1.5, 3)))


def test_the_ratio_of_foreign_draws_is_the_ratio_of_their_means(foreign: pd.DataFrame) -> None:
    row = estimate(foreign, reference="placebo").results.iloc[0]
    means = foreign.groupby("arm")["count"].mean()
    assert row["estimate"] == pytest.approx(means["drug"] / means["placebo"])
    assert "a visit that is not named" in row["estimand"]
    assert " a year" not in row["estimand"]
    assert np.isnan(row["lower"])  # nobody knows how wrong this simulator is
    named = estimate(foreign.assign(visit_week=48.0), reference="placebo").results.iloc[0]
    assert named["estimate"] == pytest.approx(row["estimate"])


def test_every_verb_that_judges_draws_takes_them(foreign: pd.DataFrame, people: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    draws, seen = tmp_path / "foreign.csv", tmp_path / "people.csv"
    foreign.to_csv(draws, index=False)
    people.to_csv(seen, index=False)
    for words in (
        ("effects", draws, "--reference", "placebo"),
        ("calibrate", draws, "--observed", seen, "--repetitions", 19),
        ("agree", draws, "--observed", seen, "--reference", "placebo"),
        ("subgroups", draws, "--participants", seen, "--reference", "placebo", "--by", "age >= 40"),
    ):
        ended = run(*words)
        assert ended.code == 0, ended.error
    assert "week 48" in run("calibrate", draws, "--observed", seen, "--repetitions", 19).printed  # the only visit observed


def test_all_that_is_missing_is_named_at_once(foreign: pd.DataFrame, people: pd.DataFrame, tmp_path: Path, run: Run) -> None:
    foreign.drop(columns=["arm", "count"]).to_csv(tmp_path / "half.csv", index=False)
    people.to_csv(tmp_path / "people.csv", index=False)
    refused(
        run("calibrate", tmp_path / "half.csv", "--observed", tmp_path / "people.csv"),
        1,
        "no columns 'arm', 'count'; draws need participant_id, arm, draw and count",
    )
    foreign.assign(arm=foreign["arm"].where(foreign.index != 3)).to_csv(tmp_path / "hole.csv", index=False)
    ended = run("calibrate", tmp_path / "hole.csv", "--observed", tmp_path / "people.csv")
    refused(ended, 1, "hole.csv: column 'arm', row 4: is empty, expected a value; fill it in or leave the row out")
    foreign.to_csv(tmp_path / "foreign.csv", index=False)
    people.assign(net2_lesions_week96=1).to_csv(tmp_path / "two.csv", index=False)
    refused(run("calibrate", tmp_path / "foreign.csv", "--observed", tmp_path / "two.csv"), 1, "weeks 48, 96", "--week")


def test_patients_whose_arm_nobody_knows_are_not_taken_for_randomised(foreign: pd.DataFrame, people: pd.DataFrame) -> None:
    completed = completed_draws(foreign, people.iloc[:30], week=48)
    known = completed.groupby("participant_id")["arm_randomised"].first()
    assert (known[people["participant_id"][:30]].to_numpy() == people["arm"][:30].to_numpy()).all()
    assert set(known[people["participant_id"][30:]]) == {"not given"}
    with pytest.raises(InputError, match="name the visit of the draws with `week`"):
        completed_draws(foreign, people.drop(columns="net2_lesions_week48"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (-1, "found -1, expected a whole number, 0 to 100,000; correct it"),
        (2.5, "found 2.5, expected a whole number, 0 to 100,000; correct it"),
        (np.nan, "is empty, expected a value; fill it in or leave the row out"),
        ("1,5", "found '1,5', expected a number; write 1.5"),
        (1e6, "found 1000000, expected a whole number, 0 to 100,000; correct it"),
    ],
)
def test_a_wrong_count_is_named_by_the_column_its_owner_wrote(
    foreign: pd.DataFrame, people: pd.DataFrame, cell: object, expected: str, tmp_path: Path, run: Run
) -> None:
    broken = foreign.astype({"count": object})
    broken.loc[6, "count"] = cell
    doors = (
        lambda: estimate(broken, reference="placebo"),
        lambda: pair(broken, people),
        lambda: agree(broken, people, reference="placebo"),
        lambda: compare_arms(broken, people),
    )
    for door in doors:
        with pytest.raises(InputError, match="column 'count', row 7: ") as caught:
            door()
        assert expected in str(caught.value)
    broken.to_csv(tmp_path / "foreign.csv", index=False)
    people.to_csv(tmp_path / "people.csv", index=False)
    for words in (("effects",), ("calibrate", "--observed", tmp_path / "people.csv")):
        reference = ("--reference", "placebo") if words == ("effects",) else ()
        refused(run(words[0], tmp_path / "foreign.csv", *words[1:], *reference), 1, "column 'count', row 7: ")


def test_no_message_says_a_name_that_the_draws_do_not_have(foreign: pd.DataFrame, people: pd.DataFrame, tmp_path: Path) -> None:
    doors = (
        lambda: estimate(foreign, reference="placebo", measure="mean-difference", outcome="volume"),
        lambda: estimate(foreign.drop(index=3), reference="placebo"),
        lambda: estimate(foreign.drop(columns="count"), reference="placebo"),
        lambda: pair(foreign, people, outcome="net2_lesions_periventricular"),
        lambda: pair(foreign.drop(index=3), people),
        lambda: agree(foreign.drop(columns="count"), people, reference="placebo"),
    )
    for door in doors:
        with pytest.raises(CausalmsError) as caught:
            door()
        assert "'net2_lesions'" not in str(caught.value)
        assert "net2_lesions," not in str(caught.value)
        assert "week inf" not in str(caught.value)
    means = foreign.groupby("arm")["count"].mean()
    difference = estimate(foreign, reference="placebo", measure="mean-difference").results.iloc[0]
    assert difference["estimate"] == pytest.approx(means["drug"] - means["placebo"])
    assert pair(foreign, people, outcome="count").outcome == "net2_lesions"
    stored = tmp_path / "draws.parquet"
    _written(foreign.assign(trial="T", count=foreign["count"] - 1), stored)
    with pytest.raises(InputError, match="column 'count' holds values that are no counts"):
        tallied_draws(stored)
    tallies = tallied_draws(partition_draws([_written(foreign.assign(trial="T"), stored)], tmp_path / "folder"))
    assert tallies["draws"].eq(10).all()
    assert estimate(foreign, reference="placebo", outcome="count").results["estimate"].iloc[0] == pytest.approx(
        estimate(tallies, reference="placebo").results["estimate"].iloc[0]
    )


def _written(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path)
    return path
