"""Processor seconds and peak memory of the expected-effect query of six arms, and of forecasts of 1 mm scans, as cohorts grow.

python -m studies.query_scale --out studies/results --model reference
causalms simulate scans --patients 60 --grid 1mm --seed 9
python -m studies.query_scale --out studies/results --patients 0 --scans scans --forecasts 400
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

import causalms as cms
from causalms.causal import Running
from causalms.cli.forecast_folder import Question, forecast_kept
from causalms.generator import Generator
from causalms.phantom import write_simulated_trial
from causalms.tables import write_table
from causalms.trials import MODALITIES
from studies.common import ARMS, model_option, out_option, seed_option

_NAMES = ["what", "patients", "arms", "cpu_seconds", "cpu_seconds_a_patient", "wall_seconds", "peak_memory_gib"]


@click.command()
@out_option
@model_option()
@click.option("--patients", "sizes", multiple=True, type=int, default=(300, 1000, 2131), show_default=True)
@click.option("--week", default=48, show_default=True)
@click.option("--scans", type=click.Path(path_type=Path), help="A trial of 1 mm scans; forecasts are of these.")
@click.option(
    "--forecasts", default=400, show_default=True, help="Of so many patients; those beyond the scans are links to them."
)
@seed_option(8)
def main(out: Path, model: str, sizes: tuple[int, ...], week: int, scans: Path | None, forecasts: int, seed: int) -> None:
    """Write query_scale.csv (trials in memory, smallest first; then the largest from a folder) and forecast_scale.csv."""
    if scans is not None:
        with tempfile.TemporaryDirectory(dir=scans.parent) as place:
            write_table(_forecasts(Path(place), scans, model, week, forecasts), out / "forecast_scale.csv")
    if not any(sizes):
        return
    causal_model = cms.CausalModel.load(model)
    rows: list[tuple[object, ...]] = []
    for patients in sorted(sizes):
        trial = cms.simulate_trial("pooled-2131", patients=patients, seed=seed)
        before, begin = time.process_time(), time.monotonic()
        causal_model.do(trial, list(ARMS), week, expected=True, running=Running(1, progress=True))
        rows.append(("in memory", patients, len(ARMS), *_spent(before, begin, patients), _peak()))
        click.echo(f"{patients} patients: {rows[-1][3]:.0f} processor seconds, peak memory {_peak():.2f} GiB")
    with tempfile.TemporaryDirectory() as place:
        rows += _from_folder(Path(place), model, max(sizes), week, seed)
    table = pd.DataFrame(rows, columns=_NAMES).assign(workers=1, checksum=causal_model.mechanism.checksum)
    write_table(table, out / "query_scale.csv")
    click.echo(table[_NAMES].to_string(index=False))


def _spent(before: float, begin: float, patients: int) -> tuple[float, float, float]:
    cpu = time.process_time() - before
    return cpu, cpu / patients, time.monotonic() - begin


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _from_folder(place: Path, model: str, patients: int, week: int, seed: int) -> list[tuple[object, ...]]:
    """The reading of all baseline files alone, then ``causalms query`` as whole processes: from files, and from a cache."""
    folder = place / "trial"
    write_simulated_trial(folder, "pooled-2131", patients=patients, seed=seed)
    trial = cms.load_trial(folder)
    before, begin = time.process_time(), time.monotonic()
    for name in tqdm(trial.participants["participant_id"], desc="reading", disable=None):
        for modality in MODALITIES:
            trial.image(name, modality)
        for kind in ("brain", "T2", "Gd"):
            trial.mask(name, kind)
    rows: list[tuple[object, ...]] = [("reading", patients, len(ARMS), *_spent(before, begin, patients), _peak())]
    ask = [sys.executable, "-m", "causalms", "query", str(folder), "--expected", "--skip-bad", "--model", model]
    ask += ["--week", str(week), *(part for arm in ARMS for part in ("--do", arm))]
    cache = ["--cache", str(place / "cache")]
    for what, options in (("query", []), ("query that fills a cache", cache), ("query from the cache", cache)):
        command, begin = [*ask, "--out", str(place / f"{what}.parquet"), *options], time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            raise click.ClickException(f"{' '.join(command)}: ended with {status}")
        cpu = used.ru_utime + used.ru_stime
        rows.append((what, patients, len(ARMS), cpu, cpu / patients, time.monotonic() - begin, used.ru_maxrss / 2**20))
    return rows


def _forecasts(place: Path, scans: Path, model: str, week: int, patients: int) -> pd.DataFrame:
    """One arm forecast for each patient, map and figure written; what was spent after every twentieth part of them."""
    different = _links(scans, place / "trial", patients)
    trial = cms.load_trial(place / "trial", follow_ups=False)
    question = Question(model, Generator.load(model).checksum, ("placebo",), float(week), 0, False, 0)
    steps, rows = {int(step) for step in np.linspace(0, patients, 21)[1:]}, []
    before, begin = time.process_time(), time.monotonic()
    for number, name in enumerate(tqdm(trial.participants["participant_id"], desc="forecasts", disable=None), 1):
        forecast_kept(question, trial, str(name), place / "parts", True)
        if number in steps:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory = pages * resource.getpagesize() / 2**30
            rows.append((number, time.process_time() - before, time.monotonic() - begin, memory, _peak()))
            click.echo(f"{number} patients: {rows[-1][1]:.0f} CPU s, {memory:.2f} GiB in use, peak {rows[-1][4]:.2f}")
    names = ["patients", "cpu_seconds", "wall_seconds", "memory_gib", "peak_memory_gib"]
    return pd.DataFrame(rows, columns=names).assign(different_scans=different)


def _links(scans: Path, folder: Path, patients: int) -> int:
    """A trial of so many patients whose baseline files are links to those of ``scans``; how many different scans there are."""
    table = pd.read_csv(scans / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    rows = []
    for number in range(patients):
        source = table.iloc[[number % len(table)]]
        old, new = str(source["participant_id"].iloc[0]), f"sub-{number + 1:04d}"
        for file in (*scans.glob(f"{old}/ses-w00/anat/*"), *scans.glob(f"derivatives/lesions/{old}/ses-w00/anat/*")):
            beside = folder / str(file.relative_to(scans)).replace(old, new)
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.hardlink_to(file)
        rows.append(source.assign(participant_id=new))
    pd.concat(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    return len(table)


if __name__ == "__main__":
    main()
