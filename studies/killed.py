"""What killed runs leave: verbs stopped by SIGKILL or SIGTERM at random moments, then run again.

python -m studies.killed --out results [--kills 10] [--seed 1] [--verb simulate ...] [--work folder]

Each kill is of the process that was started, never of its workers, at a moment drawn uniformly from the time that an undisturbed
run takes. Counted are files that stand under their final name and are not whole, processes that outlive the killed one by more
than five seconds, and temporary files; then the same command runs again, and what it writes must be, byte for byte, what the
undisturbed run wrote. (The training log holds seconds of wall clock: these are left out, and its picture must open.)
"""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib.image
import numpy as np
import pandas as pd
from tqdm import tqdm

from causalms.generator.checkpoint import read_checkpoint
from causalms.tables import write_table
from studies.common import out_option, seed_option

SIGNALS = ("SIGKILL", "SIGTERM")
#: Verbs that refuse a folder that holds finished work.
_ONCE = ("simulate", "forecast")
#: Every process of a run carries a mark of its own in this variable, by which those that outlive it are found.
MARK = "CAUSALMS_KILLED_STUDY"
LONGEST_OUTLIVING = 5.0


#: A process that has loaded the package and starts every run as a copy of itself: loading it anew would take most of the time.
_STARTER = """
import dataclasses, importlib, json, os, sys
from causalms.cli.main import VERBS, main
from causalms.generator.configurations import CONFIGS
for name in [*(f"causalms.cli.{verb}" for verb in VERBS), "causalms.causal", "causalms.generator.train", "causalms.phantom",
             "causalms.report.figures"]:
    importlib.import_module(name)
model, recipe = CONFIGS["tiny"]  # a toy: the way of a training is the same, its seconds are fewer
model = dataclasses.replace(model, channels=4, denoiser_sees_scan=False, hidden=4, denoiser_layers=1, steps=2)
CONFIGS["tiny"] = model, dataclasses.replace(recipe, risk_steps=30, denoiser_steps=30, calibration_patients=2)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(job["folder"])
        os.environ.update(job["environment"])
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(job["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv[1:] = job["words"]
        main(job["words"])
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Verb:
    """A command line, run in a folder of its own."""

    name: str
    words: tuple[str, ...]


class Starter:
    """Starts verbs one after the other, each in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _STARTER]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment)

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, verb: Verb, folder: Path) -> float:
        """Run a verb to the end; the seconds it took.

        Raises
        ------
        RuntimeError
            If it does not end well.
        """
        begin = time.monotonic()
        if self.stop(verb, folder, "undisturbed", signal.SIGKILL, after=3600.0):
            raise RuntimeError(f"{verb.name} {' '.join(verb.words)}: {_errors(folder).read_text().splitlines()[-1]}")
        return time.monotonic() - begin

    def stop(self, verb: Verb, folder: Path, mark: str, number: signal.Signals, after: float) -> int:
        """Run a verb and send its process a signal after some seconds, if it still runs; the exit code."""
        job = {
            "folder": str(folder),
            "words": [verb.name, *verb.words],
            "errors": str(_errors(folder)),
            "environment": {MARK: mark},
        }
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        child = int(self._process.stdout.readline())
        if not select.select([self._process.stdout], [], [], after)[0]:
            os.kill(child, number)
        return int(self._process.stdout.readline())


def _errors(folder: Path) -> Path:
    return folder.with_name(folder.name + ".errors")


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nobody stops writes, and how long it takes."""

    files: dict[str, bytes]
    seconds: float


@dataclass(frozen=True)
class Aftermath:
    """What one kill left, and what the second run made of it."""

    finished_before: bool
    half_written: int
    outliving: int
    temporary_files: int
    temporary_after_rerun: int
    rerun_equal: bool


def verbs(inputs: Path, starter: Starter) -> list[Verb]:
    """Toy sizes of the verbs that work long, on a trial of 6 patients that is made in ``inputs`` first."""
    if not (inputs / "effects.csv").exists():
        starter.run(Verb("simulate", ("trial", "--patients", "6", "--seed", "7")), inputs)
        starter.run(Verb("train", ("trial", "--out", "toy.safetensors", "--config", "tiny")), inputs)
        _made_up_patients().to_csv(inputs / "patients.csv", index=False)
        starter.run(Verb("effects", ("patients.csv", "--outcome", "lesions", "--reference", "a", "--out", "effects.csv")), inputs)
    trial, toy = str(inputs / "trial"), ("--model", str(inputs / "toy.safetensors"))
    arms = sorted(pd.read_csv(inputs / "trial" / "participants.tsv", sep="\t")["arm"].unique())
    worlds = ("--do", arms[0], "--do", arms[-1])
    one = ("--participant", "sub-0001", "--arm", arms[0])
    return [
        Verb("report", ("report.html", str(inputs / "effects.csv"), "--table", str(inputs / "patients.csv"))),
        Verb("forecast", (trial, *one, "--draws", "1", "--masks", *toy, "--out", "forecast")),
        Verb("simulate", ("trial", "--patients", "8", "--workers", "2")),
        Verb("query", (trial, *worlds, *toy, "--draws", "1", "--workers", "2", "--out", "draws.parquet")),
        Verb("train", (trial, "--out", "model.safetensors", "--config", "tiny")),
    ]


def _made_up_patients() -> pd.DataFrame:
    rng, arms = np.random.default_rng(7), np.repeat(["a", "b", "c"], 50)
    counts = rng.poisson(np.repeat([3.0, 2.0, 1.0], 50))
    return pd.DataFrame({"participant_id": [f"p{number}" for number in range(150)], "arm": arms, "lesions": counts})


def undisturbed(verb: Verb, folder: Path, starter: Starter) -> Undisturbed:
    """Run a verb in a new folder and keep what it writes."""
    folder.mkdir(parents=True)
    seconds = starter.run(verb, folder)
    return Undisturbed(contents(folder), seconds)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name, as the bytes that are to be equal in every run."""
    return {str(file.relative_to(folder)): _lasting(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def _lasting(file: Path) -> bytes:
    if file.name.endswith(".training.csv"):
        return pd.read_csv(file).drop(columns="seconds").to_csv(index=False).encode()
    if file.name.endswith(".training.png"):
        return repr(matplotlib.image.imread(file).shape).encode()
    return file.read_bytes()


def kill_once(
    verb: Verb, expected: Undisturbed, folder: Path, number: signal.Signals, moment: float, starter: Starter
) -> Aftermath:
    """Start a verb in a new folder, stop it after ``moment`` seconds, look, and run it again."""
    folder.mkdir(parents=True)
    mark = uuid.uuid4().hex
    finished_before = starter.stop(verb, folder, mark, number, moment) == 0
    outliving = still_running(mark)
    temporary = _temporary(folder)
    half_written = sum(not _whole(folder, file, expected) for file in folder.rglob("*") if file.is_file())
    if not (verb.name in _ONCE and contents(folder) == expected.files):  # finished as the signal came: it would be refused
        starter.run(verb, folder)
    after = _temporary(folder)
    equal = contents(folder) == expected.files
    shutil.rmtree(folder)
    return Aftermath(finished_before, half_written, outliving, temporary, after, equal)


def still_running(mark: str, patience: float = LONGEST_OUTLIVING) -> int:
    """How many processes of a run are still there after some seconds."""
    until = time.monotonic() + patience
    while (count := len(_marked(mark))) and time.monotonic() < until:
        time.sleep(0.05)
    return count


def _marked(mark: str) -> list[str]:
    wanted, running = f"{MARK}={mark}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                running.append(process.name)
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return running


def _temporary(folder: Path) -> int:
    return len(list(folder.rglob(".writing-*")))


def _whole(folder: Path, file: Path, expected: Undisturbed) -> bool:
    """Whether a file is temporary by its name, a whole part kept for the next run, or what the undisturbed run writes."""
    name = str(file.relative_to(folder))
    if ".writing-" in name:
        return True
    if name.startswith("draws.parquet.parts/finished/"):
        return True  # made ready there and copied whole from there; the next run makes it anew
    try:
        if ".parts/" in name:
            return _whole_part(file, name.partition(".parts/")[2], expected)
        if name.endswith(".resume.safetensors"):
            return bool(read_checkpoint(file).checksum)
        return _lasting(file) == expected.files.get(name)
    except Exception:  # whatever a reader says, the file is not whole
        return False


def _whole_part(file: Path, name: str, expected: Undisturbed) -> bool:
    """Whether what is kept of a finished patient can be read or is, byte for byte, what the undisturbed run wrote."""
    if file.suffix == ".parquet":
        return len(pd.read_parquet(io.BytesIO(file.read_bytes()))) > 0
    if file.suffix == ".json" and "/anat/" not in name:
        return isinstance(json.loads(file.read_text()), list)
    inside = "/" + "/".join(name.split("/")[2:])  # below the question and the patient's own folder
    return any(whole == _lasting(file) for key, whole in expected.files.items() if key.endswith(inside))


def killed_table(inputs: Path, kills: int, seed: int, only: tuple[str, ...] = (), out: Path | None = None) -> pd.DataFrame:
    """One row a verb and signal: what ``kills`` kills left; ``out`` is written again after every round of one kill each."""
    rng, table = np.random.default_rng(seed), pd.DataFrame()
    with Starter() as starter, tqdm(desc="kills", unit="kill", disable=None) as bar:
        chosen = [verb for verb in verbs(inputs, starter) if not only or verb.name in only]
        expected = {verb.name: undisturbed(verb, inputs / "undisturbed" / verb.name, starter) for verb in chosen}
        aftermaths: dict[tuple[str, str], list[Aftermath]] = {(verb.name, name): [] for verb in chosen for name in SIGNALS}
        for _ in range(kills):
            for verb, name in [(verb, name) for verb in chosen for name in SIGNALS]:
                whole = expected[verb.name]
                moment = rng.uniform(0, whole.seconds)
                after = kill_once(verb, whole, inputs / "killed", signal.Signals[name], moment, starter)
                aftermaths[verb.name, name].append(after)
                bar.update()
            table = pd.DataFrame([_row(*key, expected[key[0]].seconds, aftermath) for key, aftermath in aftermaths.items()])
            if out is not None:
                write_table(table, out)
    return table


def _row(verb: str, name: str, seconds: float, aftermaths: list[Aftermath]) -> dict[str, object]:
    table = pd.DataFrame(aftermaths)
    counts = {column: int(table[column].sum()) for column in table}
    return {"verb": verb, "signal": name, "seconds": round(seconds, 1), "kills": len(table), **counts}


@click.command()
@out_option
@click.option("--kills", default=10, show_default=True, help="Of every verb by each signal.")
@click.option("--verb", "only", multiple=True, help="Only these; may be repeated.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder of the runs; a trial, patients.csv and effects.csv that lie there are taken.",
)
@seed_option(1)
def main(out: Path, kills: int, only: tuple[str, ...], work: Path | None, seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        for name in ("trial", "patients.csv", "effects.csv", "toy.safetensors"):
            if work is not None and (work / name).exists():
                (Path(folder) / name).symlink_to((work / name).resolve())
        table = killed_table(Path(folder), kills, seed, only, out / "killed.csv")
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
