"""What killed runs leave: verbs stopped by SIGKILL or SIGTERM at random moments, then run again.

python -m studies.killed --out results [--kills 10] [--seed 1] [--verb simulate ...]

Each kill is of the process that was started, never of its workers, at a moment drawn uniformly from the time that an undisturbed
run takes. Counted are files that stand under their final name and are not whole, processes that outlive the killed one by more
than five seconds, and temporary files; then the same command runs again, and what it writes must be, byte for byte, what the
undisturbed run wrote. (The training log holds seconds of wall clock: these are left out, and its picture must open.)
"""

from __future__ import annotations

import io
import os
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
from causalms.phantom import simulate_trial
from causalms.tables import write_table
from studies.common import ARMS, out_option, seed_option

SIGNALS = ("SIGKILL", "SIGTERM")
#: Every process of a run carries a mark of its own in this variable, by which those that outlive it are found.
MARK = "CAUSALMS_KILLED_STUDY"
LONGEST_OUTLIVING = 5.0


@dataclass(frozen=True)
class Verb:
    """A command line, run in a folder of its own."""

    name: str
    words: tuple[str, ...]

    def start(self, folder: Path, mark: str) -> subprocess.Popen[bytes]:
        """The process, under way."""
        return subprocess.Popen(
            [sys.executable, "-m", "causalms", self.name, *self.words],
            cwd=folder,
            env={**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, folder: Path) -> float:
        """Run to the end; the seconds it took."""
        begin = time.monotonic()
        process = self.start(folder, "undisturbed")
        _, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{self.name} {' '.join(self.words)}: {error.decode().splitlines()[-1]}")
        return time.monotonic() - begin


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


def verbs(inputs: Path) -> list[Verb]:
    """Toy sizes of the verbs that work long, on a trial of 12 patients that is made in ``inputs`` first."""
    if not (inputs / "trial").exists():
        Verb("simulate", ("trial", "--patients", "12", "--seed", "7")).run(inputs)
        write_table(simulate_trial("pooled", patients=200, seed=7).participants, inputs / "patients.csv")
        outcome = ("--outcome", "net2_lesions_week96", "--reference", ARMS[0], "--pool-trials")
        Verb("effects", ("patients.csv", *outcome, "--out", "effects.csv")).run(inputs)
    trial, worlds = str(inputs / "trial"), ("--do", ARMS[0], "--do", ARMS[-1])
    return [
        Verb("simulate", ("trial", "--patients", "24", "--workers", "2")),
        Verb("train", (trial, "--out", "model.safetensors", "--config", "tiny", "--workers", "2")),
        Verb("query", (trial, *worlds, "--draws", "2", "--workers", "2", "--out", "draws.parquet")),
        Verb("forecast", (trial, "--participant", "sub-0001", "--participant", "sub-0002", "--arm", ARMS[0], "--draws", "2",
                          "--masks", "--out", "forecast")),
        Verb("report", ("report.html", str(inputs / "effects.csv"), "--table", str(inputs / "patients.csv"))),
    ]  # fmt: skip


def undisturbed(verb: Verb, folder: Path) -> Undisturbed:
    """Run a verb in a new folder and keep what it writes."""
    folder.mkdir(parents=True)
    seconds = verb.run(folder)
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


def kill_once(verb: Verb, expected: Undisturbed, folder: Path, number: signal.Signals, moment: float) -> Aftermath:
    """Start a verb in a new folder, stop it after ``moment`` seconds, look, and run it again."""
    folder.mkdir(parents=True)
    mark = uuid.uuid4().hex
    process = verb.start(folder, mark)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.communicate()
    finished_before = process.returncode == 0
    outliving = still_running(mark)
    temporary = _temporary(folder)
    half_written = sum(not _whole(folder, file, expected) for file in folder.rglob("*") if file.is_file())
    verb.run(folder)
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
            return len(pd.read_parquet(io.BytesIO(file.read_bytes()))) > 0
        if name.endswith(".resume.safetensors"):
            return bool(read_checkpoint(file).checksum)
        return _lasting(file) == expected.files.get(name)
    except Exception:  # whatever a reader says, the file is not whole
        return False


def killed_table(inputs: Path, kills: int, seed: int, only: tuple[str, ...] = ()) -> pd.DataFrame:
    """One row a verb and signal: what ``kills`` kills left."""
    rng, rows = np.random.default_rng(seed), []
    chosen = [verb for verb in verbs(inputs) if not only or verb.name in only]
    with tqdm(total=len(chosen) * len(SIGNALS) * kills, desc="kills", unit="kill", disable=None) as bar:
        for verb in chosen:
            expected = undisturbed(verb, inputs / "undisturbed" / verb.name)
            for name in SIGNALS:
                aftermaths = []
                for moment in rng.uniform(0, expected.seconds, kills):
                    aftermaths.append(kill_once(verb, expected, inputs / "killed", signal.Signals[name], moment))
                    bar.update()
                rows.append({"verb": verb.name, "signal": name, "seconds": round(expected.seconds, 1), **_counts(aftermaths)})
                bar.write(str(rows[-1]))
    return pd.DataFrame(rows)


def _counts(aftermaths: list[Aftermath]) -> dict[str, int]:
    table = pd.DataFrame(aftermaths)
    return {"kills": len(table), **{name: int(table[name].sum()) for name in table}}


@click.command()
@out_option
@click.option("--kills", default=10, show_default=True, help="Of every verb by each signal.")
@click.option("--verb", "only", multiple=True, help="Only these; may be repeated.")
@seed_option(1)
def main(out: Path, kills: int, only: tuple[str, ...], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = killed_table(Path(folder), kills, seed, only)
    write_table(table, out / "killed.csv")
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
