"""The command line as a whole: help, speed, and bad input in one line with nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import VERBS, main

EFFECTS = ["--outcome", "y", "--reference", "placebo", "--exposure", "exposure_years"]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    printed: str
    error: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ended(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return ended


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    arm = np.repeat(["placebo", "drug"], 30)
    return pd.DataFrame(
        {
            "participant_id": [f"p{i}" for i in range(60)],
            "arm": arm,
            "y": rng.poisson(np.where(arm == "drug", 1.0, 2.0)),
            "exposure_years": rng.uniform(0.5, 1.0, 60),
        }
    )


def _refused(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.error
    assert ended.error.startswith("error: ")
    assert ended.error.count("\n") == 1
    for word in words:
        assert word in ended.error


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_ends_with_an_example(run: Run, verb: str) -> None:
    ended = run(verb, "--help")
    assert (ended.code, ended.error) == (0, "")
    assert f"causalms {verb}" in ended.printed.split("Example", 1)[1]


def test_help_names_every_verb(run: Run) -> None:
    ended = run("--help")
    assert ended.code == 0
    assert all(verb in ended.printed for verb in VERBS)


@pytest.mark.parametrize("arguments", [["effcts"], ["effects", "t.csv", "--refrence", "a"], ["effects", "t.csv"], ["forecast"]])
def test_misuse_is_one_line_and_exit_code_two(run: Run, arguments: list[str]) -> None:
    _refused(run(*arguments), 2, "--help")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("simulate", ["t"]), ("query", ["t", "--out", "q.csv"]), ("train", ["t", "--out", "m.safetensors"]), ("demo", [])],
)
def test_no_workers_is_misuse(run: Run, verb: str, arguments: list[str]) -> None:
    _refused(run(verb, "--workers", "0", *arguments), 2, "'--workers': 0 is not in the range")


@pytest.mark.parametrize("verb", ["check", "lesions", "train", "query"])
def test_folder_that_is_not_there_is_named(run: Run, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "check": [],
        "lesions": ["--out", "l.csv"],
        "train": ["--out", "m.safetensors"],
        "query": ["--do", "placebo", "--out", "q.csv"],
    }
    _refused(run(verb, "nowhere", *options[verb]), 1, "nowhere")
    assert _files(tmp_path) == []


# What is imported


def _python(code: str, *arguments: object) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_import_takes_less_than_a_second_and_loads_nothing_heavy() -> None:
    code = (
        "import time, sys; start = time.process_time(); import causalms; took = time.process_time() - start;"
        "print(took, *sorted({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    # processor time, because other work on the machine is not the package's
    seconds, *heavy = _python(code).split()
    assert float(seconds) < 1
    assert heavy == []


def test_effects_needs_no_torch(tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    code = (
        "import sys\nfrom causalms.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pyro'} & set(sys.modules)\nassert 'pandas' in sys.modules"
    )
    assert "rate ratio" in _python(code, "effects", tmp_path / "t.csv", *EFFECTS).lower()


# Bad tables

Change = Callable[[pd.DataFrame], pd.DataFrame]
BAD_TABLES: dict[str, tuple[Change, list[str], tuple[str, ...]]] = {
    "no such outcome": (lambda t: t.drop(columns="y"), [], ("t.csv", "'y'")),
    "no such arm column": (lambda t: t, ["--arm", "treatment"], ("t.csv", "'treatment'")),
    "an arm nobody has": (lambda t: t, ["--reference", "ocrelizumab"], ("t.csv", "'ocrelizumab'", "placebo, drug")),
    "a negative count": (lambda t: t.assign(y=t["y"].where(t.index != 7, -1)), [], ("t.csv", "'y'", "row 8", "-1")),
    "a fractional count": (lambda t: t.assign(y=t["y"].where(t.index != 7, 1.5)), [], ("t.csv", "'y'", "row 8", "1.5")),
    "no time at risk": (
        lambda t: t.assign(exposure_years=t["exposure_years"].where(t.index != 7, 0)),
        [],
        ("t.csv", "'exposure_years'", "row 8"),
    ),
    "no exposure column": (lambda t: t.drop(columns="exposure_years"), [], ("t.csv", "'exposure_years'")),
    "one arm only": (lambda t: t[t["arm"] == "placebo"], [], ("t.csv", "one arm only")),
    "all counts zero": (lambda t: t.assign(y=0), [], ("no patient has an event", "choose another outcome")),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_table_is_refused_in_one_line(run: Run, tmp_path: Path, table: pd.DataFrame, case: str) -> None:
    change, options, words = BAD_TABLES[case]
    change(table).to_csv(tmp_path / "t.csv", index=False)
    _refused(run("effects", tmp_path / "t.csv", *EFFECTS, *options, "--out", tmp_path / "r.csv"), 1, *words)
    assert _files(tmp_path) == ["t.csv"]


def test_outcome_without_events_is_named(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.assign(y=0).to_csv(tmp_path / "t.csv", index=False)
    _refused(run("effects", tmp_path / "t.csv", *EFFECTS), 1, "t.csv", "'y'")


def test_missing_exposure_is_never_taken_as_zero(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    """Either refused in one line, or the patient is left out and the page says so."""
    table.assign(exposure_years=table["exposure_years"].where(table.index != 7)).to_csv(tmp_path / "t.csv", index=False)
    ended = run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "r.csv")
    if ended.code:
        _refused(ended, 1, "exposure_years")
    else:
        results = pd.read_csv(tmp_path / "r.csv")
        assert int(results["n"].iloc[0] + results["n_reference"].iloc[0]) == 59
        assert "exposure_years" in ended.printed + ended.error


VERBS_WITH_TABLES = {
    "calibrate": ("t.csv", "--observed", "t.csv"),
    "agree": ("t.csv", "--observed", "t.csv"),
    "subgroups": ("t.csv", "--by", "age >= 40", "--outcome", "y", "--reference", "placebo"),
    "report": ("out.html", "t.csv"),
}


@pytest.mark.parametrize("verb", ["calibrate", "agree", "report"])
def test_table_of_another_kind_is_refused_naming_a_column(
    run: Run, tmp_path: Path, table: pd.DataFrame, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table.to_csv("t.csv", index=False)
    _refused(run(verb, *VERBS_WITH_TABLES[verb]), 1, "t.csv", "column")
    assert _files(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("verb", ["effects", *VERBS_WITH_TABLES])
def test_table_that_is_not_there_is_refused(run: Run, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(verb, *VERBS_WITH_TABLES.get(verb, ("t.csv", *EFFECTS)))
    assert ended.code in (1, 2)
    _refused(ended, ended.code, "t.csv")
    assert _files(tmp_path) == []


def test_damaged_table_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing of use")
    _refused(run("effects", tmp_path / "t.parquet", *EFFECTS), 1, "t.parquet", "not a readable parquet table", "export it again")


# Disk


def test_full_disk_leaves_nothing_half_written(
    run: Run, tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "r.csv").write_text("an older result")
    monkeypatch.setattr("causalms.files.os.replace", full)
    _refused(run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "r.csv"), 1, "r.csv", "No space left on device")
    assert _files(tmp_path) == ["r.csv", "t.csv"]
    assert (tmp_path / "r.csv").read_text() == "an older result"


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the system refuse every write past 64 bytes of a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_write_that_breaks_off_leaves_nothing(
    run: Run, tmp_path: Path, table: pd.DataFrame, request: pytest.FixtureRequest, suffix: str
) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    request.getfixturevalue("small_files")
    ended = run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / f"r.{suffix}")
    _refused(ended, 1, f"r.{suffix}", "cannot be written")
    assert _files(tmp_path) == ["t.csv"]


def test_place_that_is_no_folder_is_refused(run: Run, tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "t.csv", index=False)
    _refused(run("effects", tmp_path / "t.csv", *EFFECTS, "--out", tmp_path / "t.csv" / "r.csv"), 1, "cannot be written")
    assert _files(tmp_path) == ["t.csv"]


# Images and checkpoints


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from causalms.phantom import write_simulated_trial

    out = tmp_path_factory.mktemp("bids") / "trial"
    write_simulated_trial(out, "pooled", patients=4, seed=5)
    return out


@pytest.fixture
def folder(simulated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simulated, tmp_path / "trial"))


FLAIR = "sub-0001_ses-w00_FLAIR.nii.gz"


def test_corrupt_image_is_named(run: Run, folder: Path) -> None:
    image = folder / "sub-0001" / "ses-w00" / "anat" / FLAIR
    image.write_bytes(image.read_bytes()[:1000])
    ended = run("check", folder)
    _refused(ended, 1, str(folder), "listed above")
    assert [line for line in ended.printed.splitlines() if FLAIR in line]


def test_images_that_disagree_are_named(run: Run, folder: Path) -> None:
    image = folder / "sub-0001" / "ses-w00" / "anat" / FLAIR
    whole = nib.load(image)
    nib.save(nib.Nifti1Image(np.asanyarray(whole.dataobj)[:-2], whole.affine), image)
    ended = run("check", folder)
    _refused(ended, 1, "listed above")
    assert [line for line in ended.printed.splitlines() if "sub-0001" in line and "grid" in line]


def test_corrupt_mask_is_refused_by_lesions(run: Run, folder: Path, tmp_path: Path) -> None:
    mask = next(folder.rglob("*desc-T2_mask.nii.gz"))
    mask.write_bytes(b"not an image")
    _refused(run("lesions", mask, "--out", tmp_path / "lesions.csv"), 1, mask.name)
    assert _files(tmp_path) == ["trial", *(f"trial/{name}" for name in _files(folder))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model: a checkpoint in order, with numbers of no meaning."""
    from causalms.generator import Generator, config
    from causalms.generator.inputs import COVARIATES, POOLED
    from causalms.generator.network import Network
    from causalms.lesions import LesionRule

    model, _ = config("tiny")
    arms = ("placebo", "ocrelizumab")
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = Network(model, len(arms), len(COVARIATES), POOLED, 96.0)
    Generator(network, model, arms, (24.0, 96.0), LesionRule()).save(path)
    return path


def _rewritten(checkpoint: Path, path: Path, schema: int | None = None, extra: bool = False) -> None:
    """The same checkpoint with another schema version or one tensor more, and a checksum that agrees."""
    import torch

    from causalms.generator import checkpoint as module

    read = module.read_checkpoint(checkpoint)
    header = {key: value for key, value in read.header.items() if key not in ("checksum", "schema_version")}
    tensors = {**read.tensors, "smuggled": torch.zeros(2)} if extra else read.tensors
    module.write_checkpoint(path, tensors, header if schema is None else {**header, "schema_version": schema})


def _flipped(checkpoint: Path, path: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "one byte changed": (_flipped, "checksum"),
    "cut short": (lambda whole, path: path.write_bytes(whole.read_bytes()[:5000]), "not a readable safetensors checkpoint"),
    "a pickle": (lambda _, path: path.write_bytes(b"\x80\x04\x95cos\nsystem\n."), "not a readable safetensors checkpoint"),
    "another version": (lambda whole, path: _rewritten(whole, path, schema=99), "checkpoint schema 99"),
    "an extra tensor": (lambda whole, path: _rewritten(whole, path, extra=True), "extra tensor 'smuggled'"),
    "not there": (lambda _, path: None, "no such checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_refused(run: Run, simulated: Path, checkpoint: Path, tmp_path: Path, damage: str) -> None:
    make, words = DAMAGES[damage]
    model = tmp_path / "model.safetensors"
    make(checkpoint, model)
    _refused(run("forecast", simulated, "--model", model, "--out", tmp_path / "out"), 1, "model.safetensors", words)
    assert not (tmp_path / "out").exists()
    assert set(_files(tmp_path)) <= {"model.safetensors"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arm", "aspirin"], "aspirin"),
        (["--participant", "sub-9999"], "sub-9999"),
        (["--week", "9999"], "9999"),
    ],
)
def test_forecast_that_cannot_be_made_leaves_nothing(
    run: Run, simulated: Path, checkpoint: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    ended = run("forecast", simulated, "--model", checkpoint, "--out", tmp_path / "out", *options)
    assert ended.code in (1, 2)
    _refused(ended, ended.code, words)
    assert _files(tmp_path) == []


def test_folder_in_use_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "mine.txt").write_text("mine")
    _refused(run("simulate", tmp_path / "trial", "--patients", "4"), 1, "not an empty folder")
    assert _files(tmp_path) == ["trial", "trial/mine.txt"]


def test_run_killed_halfway_leaves_no_trial(tmp_path: Path) -> None:
    code = "import sys; from causalms.cli.main import main; main(sys.argv[1:])"
    started = subprocess.Popen(
        [sys.executable, "-c", code, "simulate", tmp_path / "trial", "--patients", "200"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(tmp_path.glob(".writing-trial-*/*")):
            assert started.poll() is None
            time.sleep(0.05)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".writing-trial-*/*"))
    assert not (tmp_path / "trial").exists()
