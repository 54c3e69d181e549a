"""Cohorts: the same bytes from any workers or shards, bad patients left out and listed, a stopped run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.causal import merge_draws
from causalms.errors import InputError, UsageError
from causalms.generator import Generator
from causalms.generator.image_features import FEATURES
from causalms.generator.seen import ERROR_COLUMNS, SCANNER, Seen
from causalms.generator.train.data import training_set
from causalms.lesions import LesionRule
from causalms.shards import Shard, refuse_incomplete
from tests.conftest import Run, files_in, refused

ASKED = ("--arm", "placebo", "--week", 48, "--draws", 0)


@pytest.fixture
def broken(simulated: Path, tmp_path: Path) -> tuple[Path, str]:
    """A trial whose second patient has a FLAIR that is cut short."""
    trial = tmp_path / "trial"
    shutil.copytree(simulated, trial)
    bad = sorted(trial.glob("sub-*"))[1]
    flair = next(bad.rglob("*FLAIR.nii.gz"))
    flair.write_bytes(flair.read_bytes()[:200])
    return trial, bad.name


def with_patients_seen(checkpoint: Path, path: Path) -> None:
    """The same network, which keeps its checksum, with a summary of patients that it learned from."""
    model = Generator.load(checkpoint)
    drawn = np.random.default_rng(0).normal(size=(30, len(ERROR_COLUMNS) + len(FEATURES) + len(SCANNER)))
    groups = np.split(drawn, np.cumsum([len(ERROR_COLUMNS), len(FEATURES)]), axis=1)
    model.seen = Seen.of(dict(zip(("columns", "signals", "scanner"), groups, strict=True)))
    assert model.save(path) == model.checksum


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_forecast_has_the_same_bytes_from_shards_and_from_one_run(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path
) -> None:
    ask = ("forecast", simulated, "--model", checkpoint, *ASKED)
    assert run(*ask, "--out", tmp_path / "whole").code == 0
    for k in (1, 2):
        assert run(*ask, "--shard", f"{k}/2", "--out", tmp_path / f"part{k}").code == 0
    merged = tmp_path / "merged"
    assert " patients of 2 shards" in run("merge", tmp_path / "part2", tmp_path / "part1", "--out", merged).printed
    assert contents(merged) == contents(tmp_path / "whole")
    refused(run("merge", tmp_path / "part1", "--out", tmp_path / "x"), 2, "shard 2/2 is missing")
    refused(run("merge", tmp_path / "whole", "--out", tmp_path / "x"), 1, "is no shard but a whole forecast")
    assert run(*ask, "--seed", 1, "--shard", "2/2", "--out", tmp_path / "other").code == 0
    refused(
        run("merge", tmp_path / "part1", tmp_path / "other", "--out", tmp_path / "x"), 1, "seed is 1", "merge the shards of one"
    )


@pytest.mark.slow
def test_dask_gives_the_bytes_of_one_process(run: Run, simulated: Path, checkpoint: Path, tmp_path: Path) -> None:
    forecast = ("forecast", simulated, "--model", checkpoint, *ASKED)
    query = ("query", simulated, "--model", checkpoint, "--do", "placebo", "--do", "ocrelizumab", "--draws", 2)
    judge = ("calibrate", tmp_path / "one.parquet", "--observed", simulated, "--by", "arm", "--repetitions", 19, "--least", 1)
    for name, where in (("one", ()), ("dask", ("--dask", "local", "--workers", 2))):
        assert run(*forecast, "--out", tmp_path / name, *where).code == 0
        assert run(*query, "--out", tmp_path / f"{name}.parquet", *where).code == 0
        assert run(*judge, "--out", tmp_path / f"{name}.csv", *where).code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "dask")
    for suffix in (".parquet", ".queries.json", ".csv"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"dask{suffix}").read_bytes()
    elsewhere = ("--out", tmp_path / "x.parquet", "--dask", "tcp://127.0.0.1:1", "--workers", 2)
    refused(run(*query, *elsewhere), 2, "the cluster has its own workers; leave out --workers")


def test_bad_patients_of_a_forecast_are_left_out_and_listed_with_exit_code_3(
    run: Run, broken: tuple[Path, str], checkpoint: Path, tmp_path: Path
) -> None:
    trial, bad = broken
    ended = run("forecast", trial, "--model", checkpoint, *ASKED, "--skip-bad", "--out", tmp_path / "out")
    assert ended.code == 3
    listed = pd.read_csv(tmp_path / "out.skipped.csv")
    assert listed["participant_id"].tolist() == [bad]
    assert "cut short" in listed["reason"].iloc[0]
    assert bad not in set(pd.read_csv(tmp_path / "out" / "forecast.csv")["participant_id"])
    assert not (tmp_path / "out.parts").exists()


def test_a_forecast_that_stopped_goes_on_with_the_patients_that_are_left(
    run: Run, broken: tuple[Path, str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import causalms.generator

    trial, bad = broken
    ask = ("forecast", trial, "--model", checkpoint, *ASKED, "--out", tmp_path / "out")
    refused(run(*ask), 1, "cut short", "1 finished patient is kept in")
    mended = next(path for path in (trial / bad).rglob("*T2w.nii.gz"))
    shutil.copy(mended, next((trial / bad).rglob("*FLAIR.nii.gz")))
    original, asked = causalms.generator.forecast_patient, []
    monkeypatch.setattr(
        causalms.generator, "forecast_patient", lambda g, t, p, *a, **k: (asked.append(p), original(g, t, p, *a, **k))[1]
    )
    assert run(*ask).code == 0
    everyone = sorted(path.name for path in trial.glob("sub-*"))
    assert asked == everyone[1:]
    assert not (tmp_path / "out.parts").exists()


def test_a_model_that_changed_beside_its_network_answers_anew_and_does_not_go_on_with_old_numbers(
    run: Run, broken: tuple[Path, str], checkpoint: Path, tmp_path: Path
) -> None:
    trial, bad = broken
    model, out = tmp_path / "model.safetensors", tmp_path / "out"
    shutil.copy(checkpoint, model)
    ask = ("forecast", trial, "--model", model, *ASKED)
    refused(run(*ask, "--out", out), 1, "1 finished patient is kept in")
    query = ("query", trial, "--model", model, "--do", "placebo", "--expected", "--skip-bad")
    assert run(*query, "--shard", "1/2", "--out", tmp_path / "1.parquet").code == 3
    with_patients_seen(checkpoint, model)
    assert run(*ask, "--skip-bad", "--out", out).code == 3
    assert run(*ask, "--skip-bad", "--out", tmp_path / "fresh").code == 3
    assert contents(out) == contents(tmp_path / "fresh")
    assert run(*query, "--shard", "2/2", "--out", tmp_path / "2.parquet").code == 0
    parts = (tmp_path / "1.parquet", tmp_path / "2.parquet")
    refused(run("merge", *parts, "--out", tmp_path / "x.parquet"), 1, "model_digest is", "merge the shards of one query")


def test_the_folder_of_forecasts_is_a_valid_bids_derivative(run: Run, simulated: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trial = tmp_path / "trial"
    shutil.copytree(simulated, trial)
    assert "Authors" not in json.loads((trial / "dataset_description.json").read_text())  # the validator wants two or more
    name = sorted(path.name for path in trial.glob("sub-*"))[0]
    asked = ("--arm", "placebo", "--draws", 1, "--masks", "--participant", name, "--seed", 5)
    assert run("forecast", trial, "--model", checkpoint, *asked, "--out", out).code == 0
    validator = Path(__import__("sys").executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([validator, out, "--json"], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert issues == []
    assert (out / "dataset_description.json").is_file()
    sidecar = json.loads(next(out.rglob("*_probseg.json")).read_text())
    assert (sidecar["Arm"], sidecar["VisitWeek"], sidecar["Seed"], len(sidecar["ModelChecksum"])) == ("placebo", 48, 5, 64)


def test_a_query_has_the_same_bytes_from_shards_and_from_one_run(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path
) -> None:
    ask = ("query", simulated, "--model", checkpoint, "--do", "placebo", "--week", 48, "--expected")
    assert run(*ask, "--out", tmp_path / "whole.parquet").code == 0
    parts = [tmp_path / f"{k}.parquet" for k in (1, 2)]
    for k, part in enumerate(parts, 1):
        assert run(*ask, "--shard", f"{k}/2", "--out", part).code == 0
    assert run("merge", *parts, "--out", tmp_path / "merged.parquet").code == 0
    for ending in (".parquet", ".queries.json"):
        assert (tmp_path / f"merged{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    out = ("--out", tmp_path / "x.parquet")
    refused(run("merge", parts[0], *out), 2, "shard 2/2 is missing; run it first, with the command of the others")
    refused(run("merge", parts[0], parts[0], *out), 1, "also stands in")
    refused(run("merge", tmp_path / "whole.parquet", *out), 1, "its record names no shard")
    assert run(*ask, "--seed", 1, "--shard", "2/2", "--out", tmp_path / "seed.parquet").code == 0
    refused(run("merge", parts[0], tmp_path / "seed.parquet", *out), 1, "seed is 1, in", "merge the shards of one query")
    short = pd.read_parquet(parts[1]).iloc[:-1]
    short.to_parquet(parts[1])
    refused(run("merge", *parts, *out), 1, "its record says", "run its shard again")


def test_bad_patients_of_a_query_are_left_out_and_stand_in_its_record(
    run: Run, broken: tuple[Path, str], checkpoint: Path, tmp_path: Path
) -> None:
    trial, bad = broken
    ask = ("query", trial, "--model", checkpoint, "--do", "placebo", "--week", 48, "--expected", "--out", tmp_path / "d.csv")
    refused(run(*ask), 1, "cut short")
    ended = run(*ask, "--skip-bad")
    assert ended.code == 3
    assert f"left out: {bad}: " in ended.error
    record = next(iter(json.loads((tmp_path / "d.queries.json").read_text()).values()))
    assert [one["participant_id"] for one in record["participants_skipped"]] == [bad]
    assert pd.read_csv(tmp_path / "d.skipped.csv")["participant_id"].tolist() == [bad]
    assert "d.csv.parts" not in files_in(tmp_path)


@pytest.mark.parametrize(("text", "words"), [("3", "expected a part"), ("3/2", "give 1/2 to 2/2"), ("0/4", "give 1/4 to 4/4")])
def test_a_shard_that_is_none_is_refused(run: Run, simulated: Path, tmp_path: Path, text: str, words: str) -> None:
    refused(run("query", simulated, "--do", "placebo", "--shard", text, "--out", tmp_path / "d.csv"), 2, "--shard", words)


def test_shards_are_runs_of_patients_and_each_stands_once() -> None:
    people = list(range(10))
    assert [one for k in (1, 2, 3) for one in Shard(k, 3).part(people)] == people
    with pytest.raises(UsageError, match="no patient is left for it; make at most 2 parts"):
        Shard(1, 3).part([1, 2])
    with pytest.raises(UsageError, match="are both shard 1/2"):
        refuse_incomplete([("a", Shard(1, 2)), ("b", Shard(1, 2))])
    with pytest.raises(UsageError, match="merge the shards of one division"):
        refuse_incomplete([("a", Shard(1, 2)), ("b", Shard(2, 3))])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda table: pd.concat([table, table.tail(1)]), "stands twice; run its shard again"),
        (lambda table: table.iloc[:-1], "1 rows of participant 'd', 2 of others; run its shard again"),
        (lambda table: table.rename(columns={"arm": "drug"}), "no column 'arm'; run its shard again"),
    ],
)
def test_a_shard_that_lost_or_doubled_rows_is_refused(damage: Callable[[pd.DataFrame], pd.DataFrame], words: str) -> None:
    def part(number: int, people: str) -> tuple[str, pd.DataFrame, dict[str, dict[str, object]]]:
        rows = [(person, arm) for person in people for arm in ("x", "y")]
        table = pd.DataFrame(rows, columns=["participant_id", "arm"]).assign(visit_week=48, query_id="q", draw=0)
        return f"{number}.csv", table, {"q": {"query": "interventional", "shard": f"{number}/2", "participants_answered": 2}}

    first, (name, table, record) = part(1, "ab"), part(2, "cd")
    assert len(merge_draws([first, (name, table, record)])) == 8
    with pytest.raises(InputError, match=words):
        merge_draws([first, (name, damage(table), record)])


def test_scans_of_another_grid_are_refused_by_a_query_and_read_with_resample(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path
) -> None:
    from causalms.trials import Space, load_trial, resample_trial
    from causalms.trials.writer import TrialWriter

    trial = load_trial(simulated)
    coarse = trial.space
    halves = np.diag([0.5, 0.5, 0.5, 1.0])
    halves[:3, 3] = -0.25
    fine = Space(tuple(2 * n for n in coarse.shape), coarse.affine @ halves)
    name = str(trial.participants["participant_id"].iloc[0])
    there = resample_trial(trial, fine)
    writer = TrialWriter(tmp_path / "fine", fine, "fine", weeks=(48,))
    images = {kind: there.image(name, kind) for kind in ("T1w", "FLAIR")}
    writer.write_patient(name, images, {key: there.mask(name, *key) for key in (("brain", 0), ("T2", 0), ("NET2", 48))})
    writer.finish(trial.participants.iloc[:1].assign(arm="placebo", net2_lesions_week48=99.0))
    ask = ("query", tmp_path / "fine", "--model", checkpoint, "--do", "placebo", "--expected", "--out", tmp_path / "d.csv")
    refused(run(*ask), 1, "80x96x80", "40x48x40")
    ended = run(*ask, "--resample")
    assert ended.code == 0, ended.error
    assert "resampled from 80x96x80" in ended.printed
    learned = training_set(resample_trial(load_trial(tmp_path / "fine"), coarse), LesionRule.default(), least=1)
    judge = ("calibrate", tmp_path / "d.csv", "--observed", tmp_path / "fine", "--shard", "1/1", "--out", tmp_path / "p.parquet")
    assert run(*judge, "--resample").code == 0
    judged = pd.read_parquet(tmp_path / "p.observed.parquet")["net2_lesions_week48"]
    assert judged.tolist() == [patient.last.lesions for patient in learned] != [99]
    counts = ("query", simulated, "--model", "counts", "--do", "placebo", "--resample", "--out", tmp_path / "c.csv")
    refused(run(*counts), 2, "--resample is about scans, and this model reads none")


def test_kept_scans_answer_as_the_scans_do_until_one_changes(run: Run, simulated: Path, checkpoint: Path, tmp_path: Path) -> None:
    trial, kept = tmp_path / "trial", tmp_path / "kept"
    shutil.copytree(simulated, trial)
    ask = ("query", trial, "--model", checkpoint, "--do", "placebo", "--expected", "--week", 48)
    assert run(*ask, "--out", tmp_path / "plain.parquet").code == 0
    for name in ("filled", "kept"):
        assert run(*ask, "--cache", kept, "--out", tmp_path / f"{name}.parquet").code == 0
        assert (tmp_path / f"{name}.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    files = files_in(kept)
    with_patients_seen(checkpoint, tmp_path / "other.safetensors")
    assert run(*ask[:3], tmp_path / "other.safetensors", *ask[4:], "--cache", kept, "--out", tmp_path / "o.parquet").code == 0
    assert len(files_in(kept)) == 2 * len(files)
    files = files_in(kept)
    first = sorted(kept.iterdir())[0]
    first.write_bytes(first.read_bytes()[:99])  # spoilt by the disk: encoded again
    table = trial / "participants.tsv"
    rows = pd.read_csv(table, sep="\t")
    rows.assign(age=rows["age"].where(rows.index > 0, 51.5)).to_csv(table, sep="\t", index=False)
    assert run(*ask, "--cache", kept, "--out", tmp_path / "changed.parquet").code == 0
    assert len(files_in(kept)) > len(files)
    refused(run(*ask[:-3], "--week", 48, "--cache", kept, "--out", tmp_path / "x.parquet"), 2, "expected")


def test_what_a_killed_training_kept_does_not_stand_in_its_own_way(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.finishing").mkdir()
    (tmp_path / "trial").mkdir()
    refused(run("train", tmp_path / "trial", "--out", tmp_path / "model.safetensors"), 1, "participants.tsv: no such file")
