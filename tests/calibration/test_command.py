"""causalms calibrate: what it writes, and that bad input leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from causalms.calibration import assess, pair
from causalms.cli.inputs import read_draws
from causalms.cli.main import main
from causalms.errors import UsageError
from causalms.tables import RESULTS_COLUMNS, write_table


@pytest.fixture
def files(trial, tmp_path: Path) -> Path:
    people, draws, expected = trial
    write_table(people, tmp_path / "trial" / "participants.tsv")
    write_table(draws, tmp_path / "draws.parquet")
    write_table(expected, tmp_path / "expected.parquet")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("draws", ["draws.parquet", "expected.parquet"])
def test_results_and_figure_tables_are_written(files: Path, draws: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, tables = files / "out.csv", files / "tables"
    options = ["--observed", files / "trial", "--by", "arm", "--repetitions", 99, "--out", out, "--tables", tables]
    assert run("calibrate", files / draws, *options) == 0
    assert "200 patients at week 48" in capsys.readouterr().out
    results = pd.read_csv(out)
    assert list(results.columns) == list(RESULTS_COLUMNS)
    assert set(results["subgroup"]) == {"all", "arm = placebo", "arm = dimethyl-fumarate"}
    assert {path.name for path in tables.iterdir()} == {"pit.csv", "reliability.csv", "rootogram.csv", "coverage.csv"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--week", 96], 2, "no rows of week 96; its weeks are 48"),
        (["--by", "weight"], 2, "no column 'weight'"),
        (["--level", 1.5], 2, "--level: found 1.5, expected a number between 0 and 1"),
        (["--repetitions", 0], 2, "--repetitions: 0 simulate nothing"),
        (["--out", "results.docx"], 2, "--out results.docx: tables are written as .csv, .tsv, .parquet, .json or"),
        (["--recalibrate", "new.xlsx"], 2, "--recalibrate new.xlsx: tables are written as"),
        (["--recalibrate", "new.csv", "--fit-share", 1], 2, "'--fit-share': 1.0 is not in the range 0<x<1"),
        (["--recalibrate", "new.csv", "--outcome", "net2_lesions_periventricular"], 2, "--recalibrate is for net2_lesions"),
        (["--conformal", "sets.csv", "--conformal-level", 0.999], 1, "cannot promise 99.9% coverage"),
        (["--outcome", "relapses"], 1, "trial/participants.tsv: no column 'relapses_week48'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(
    files: Path,
    options: list[object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    assert run("calibrate", files / "draws.parquet", "--observed", files / "trial", *options) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert sorted(files.rglob("*")) == before


def test_what_cannot_be_written_is_found_before_anything_is_judged(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("causalms.calibration.assess", lambda *_, **__: pytest.fail("judged first"))
    assert run("calibrate", files / "draws.parquet", "--observed", files / "trial", "--out", "results.docx") == 2
    assert "choose one of these suffixes" in capsys.readouterr().err


def test_messages_name_the_files_and_no_inner_column(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = pd.read_parquet(files / "draws.parquet")
    write_table(draws.iloc[1:], files / "short.parquet")
    assert run("calibrate", files / "short.parquet", "--observed", files / "trial") == 1
    assert f"{files / 'short.parquet'}: participant sub-000 has 31 draws" in capsys.readouterr().err
    assert run("calibrate", files / "draws.parquet", "--observed", files / "trial", "--by", "weight") == 2
    columns = capsys.readouterr().err.split("columns are ")[1]
    assert "age" in columns
    assert not {"observed", "key", "position"} & set(columns.replace(";", ",").replace(" ", "").strip().split(","))


@pytest.mark.parametrize("draws", ["draws.parquet", "expected.parquet"])
def test_recalibrated_draws_are_a_draws_table_that_effects_takes(
    files: Path, draws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / draws).with_suffix(".queries.json").write_text(json.dumps({"q": {"seed": 7}}))
    out, new = files / "out.csv", files / "new.parquet"
    options = ["--observed", files / "trial", "--repetitions", 19, "--recalibrate", new, "--out", out, "--seed", 3]
    assert run("calibrate", files / draws, *options) == 0
    printed = capsys.readouterr().out
    assert "100 fitted on (share 0.5 of every trial and arm, seed 3), 100 judge" in printed
    judged = pd.read_csv(out)
    assert set(judged["analysis"]) == {"calibration", "calibration after recalibration"}
    assert set(judged.loc[judged["measure"] == "CRPS", "n"]) == {100}
    table = read_draws(str(new))
    assert len(table) == len(pd.read_parquet(files / draws))
    assert set(table["query_id"]) == {"q-recalibrated"}
    record = json.loads(new.with_suffix(".queries.json").read_text())["q-recalibrated"]
    assert (record["seed"], record["recalibration"]["of"]) == (7, draws)
    assert run("effects", new, "--reference", "placebo") == 0
    assert "dimethyl-fumarate" in capsys.readouterr().out


def test_conformal_sets_of_everyone_under_every_arm(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = files / "sets.csv"
    options = ["--observed", files / "trial", "--repetitions", 19, "--conformal", sets, "--conformal-level", 0.8]
    assert run("calibrate", files / "expected.parquet", *options) == 0
    assert "conformal sets, at least 80% in every arm" in capsys.readouterr().out
    table = pd.read_csv(sets)
    assert table.groupby("arm").size().to_dict() == {"placebo": 200, "dimethyl-fumarate": 200}
    # The half that fitted the sets is marked, whatever the arm of the row.
    assert table["fitted_on"].mean() == 0.5
    assert (table["lower"] <= table["upper"]).all()


def test_a_zero_inflated_law_is_read_from_the_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_parquet(files / "expected.parquet").assign(zero_inflation=0.4)
    write_table(table, files / "inflated.parquet")
    plain, inflated = files / "plain.csv", files / "inflated.csv"
    for name, out in (("expected.parquet", plain), ("inflated.parquet", inflated)):
        assert run("calibrate", files / name, "--observed", files / "trial", "--repetitions", 19, "--out", out) == 0
    scores = [pd.read_csv(out).set_index("measure").loc["log score", "estimate"] for out in (plain, inflated)]
    # The counts have no extra zeros: a law that puts them in scores worse.
    assert scores[1] > scores[0]


def test_groups_too_small_to_judge_are_counted_and_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = pd.read_csv(files / "trial" / "participants.tsv", sep="\t")
    sites = ["large"] * 190 + [f"small-{i}" for i in range(10)]
    write_table(people.assign(site=sites), files / "sites.csv")
    options = ["--observed", files / "sites.csv", "--by", "site", "--repetitions", 19, "--out", files / "out.csv"]
    assert run("calibrate", files / "expected.parquet", *options) == 0
    assert "10 groups of fewer than 5 patients were not judged apart: site = small-0" in capsys.readouterr().out
    assert set(pd.read_csv(files / "out.csv")["subgroup"]) == {"all", "site = large"}


def test_an_assessment_reads_in_python_as_on_the_command_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--observed", files / "trial", "--by", "arm", "--repetitions", 19]
    assert run("calibrate", files / "expected.parquet", *options) == 0
    printed = capsys.readouterr().out
    pairs = pair(files / "expected.parquet", files / "trial" / "participants.tsv")
    assessment = assess(pairs, by="arm", repetitions=19)
    assert repr(assessment) + "\n" == printed
    assert "<table" in assessment._repr_html_()


def test_a_misspelt_argument_names_the_near_one(trial) -> None:
    people, draws, _ = trial
    with pytest.raises(UsageError, match="did you mean 'repetitions'"):
        assess(pair(draws, people), repetition=19)


@pytest.mark.parametrize("draws", ["draws.parquet", "expected.parquet"])
def test_parts_of_a_calibration_are_judged_together_as_in_one_run(
    files: Path, draws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["calibrate", files / draws, "--observed", files / "trial", "--by", "arm", "--repetitions", 19]
    assert run(*ask, "--out", files / "one.csv") == 0
    page = capsys.readouterr().out
    parts = [files / f"{k}.parquet" for k in (1, 2, 3)]
    for k, part in enumerate(parts, 1):
        assert run(*ask, "--shard", f"{k}/3", "--out", part) == 0
    capsys.readouterr()
    assert run("merge", *parts, "--out", files / "merged.csv") == 0
    assert capsys.readouterr().out == page
    assert (files / "merged.csv").read_bytes() == (files / "one.csv").read_bytes()

    def refused(code: int, *words: object) -> None:
        assert run("merge", *words[:-1], "--out", files / "x.csv") == code
        assert str(words[-1]) in capsys.readouterr().err

    refused(2, *parts[:2], "shard 3/3 is missing")
    refused(2, *parts, parts[0], "are both shard 1/3")
    assert run(*ask[:-1], 9, "--shard", "2/3", "--out", files / "other.parquet") == 0
    refused(1, parts[0], files / "other.parquet", parts[2], "repetitions is 9, in")
    short = pd.read_parquet(parts[1])
    short.iloc[:-1].to_parquet(parts[1])
    refused(1, *parts, "written were")
    (files / "3.calibration.json").unlink()
    refused(1, *parts, "keep its three files together")
    assert run(*ask, "--shard", "1/3", "--conformal", files / "sets.csv", "--out", files / "y.parquet") == 2


def test_one_participant_is_judged_alone_and_an_unknown_one_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = pd.read_csv(files / "trial" / "participants.tsv", sep="\t")["participant_id"].head(8).tolist()
    ask = ["calibrate", files / "draws.parquet", "--observed", files / "trial", "--repetitions", 19]
    assert run(*ask, *(word for name in names for word in ("--participant", name))) == 0
    assert "8 patients at week 48" in capsys.readouterr().out
    assert run(*ask, "--participant", "sub-nobody") == 1
    assert "no participant 'sub-nobody'" in capsys.readouterr().err
