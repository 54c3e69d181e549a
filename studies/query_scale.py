"""Processor seconds and peak memory of the expected-effect query of six arms, and of forecasts of 1 mm scans, as cohorts grow.

python -m studies.query_scale --out studies/results --patients 2131 --different 100
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
from datetime import date
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

import causalms as cms
from causalms.causal import Running
from causalms.cli.forecast_folder import Question, forecast_kept
from causalms.generator import Generator
from causalms.phantom import write_simulated_trial
from causalms.tables import write_table
from causalms.trials import MODALITIES
from studies.common import ARMS, model_option, out_option, seed_option

#: Patients whose reading and whole answer are timed in turn.
_IN_TURN, _BLOCK = 400, 40
_NAMES = ["what", "patients", "arms", "cpu_seconds", "cpu_seconds_a_patient", "wall_seconds", "peak_memory_gib"]
_RATIO = ["times_reading", "times_reading_lower", "times_reading_upper"]
_NO_RATIO = (np.nan,) * 3


@click.command()
@out_option
@model_option()
@click.option("--patients", "sizes", multiple=True, type=int, default=(300, 1000, 2131), show_default=True)
@click.option("--different", default=2131, show_default=True, help="Patients of the folder; those beyond are links to them.")
@click.option("--week", default=48, show_default=True)
@click.option("--scans", type=click.Path(path_type=Path), help="A trial of 1 mm scans; forecasts are of these.")
@click.option(
    "--forecasts", default=400, show_default=True, help="Of so many patients; those beyond the scans are links to them."
)
@seed_option(8)
def main(
    out: Path, model: str, sizes: tuple[int, ...], different: int, week: int, scans: Path | None, forecasts: int, seed: int
) -> None:
    """Write query_scale.csv (trials in memory, all but the largest; then that from a folder) and forecast_scale.csv."""
    if scans is not None:
        with tempfile.TemporaryDirectory(dir=scans.parent) as place:
            write_table(_forecasts(Path(place), scans, model, week, forecasts), out / "forecast_scale.csv")
    if not any(sizes):
        return
    causal_model = cms.CausalModel.load(model)
    rows: list[tuple[object, ...]] = []
    for patients in sorted(sizes)[:-1]:
        trial = cms.simulate_trial("pooled-2131", patients=patients, seed=seed)
        before, begin = time.process_time(), time.monotonic()
        causal_model.do(trial, list(ARMS), week, expected=True, running=Running(1, progress=True))
        rows.append(("in memory", patients, len(ARMS), *_spent(before, begin, patients), _peak(), *_NO_RATIO))
        click.echo(f"{patients} patients: {rows[-1][3]:.0f} processor seconds, peak memory {_peak():.2f} GiB")
    with tempfile.TemporaryDirectory() as place:
        rows += _from_folder(Path(place), causal_model, model, (max(sizes), different), week, seed)
    about = {"workers": 1, "different": min(different, max(sizes)), "seed": seed, "date": date.today().isoformat()}
    about |= {"model": Path(model).name, "checksum": causal_model.mechanism.checksum}
    table = pd.DataFrame(rows, columns=_NAMES + _RATIO).assign(**about)
    write_table(table, out / "query_scale.csv")
    click.echo(table[_NAMES].to_string(index=False))


def _spent(before: float, begin: float, patients: int) -> tuple[float, float, float]:
    cpu = time.process_time() - before
    return cpu, cpu / patients, time.monotonic() - begin


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _from_folder(
    place: Path, causal_model: cms.CausalModel, model: str, patients: tuple[int, int], week: int, seed: int
) -> list[tuple[object, ...]]:
    """Reading and answering patients in turn, then ``causalms query`` as whole processes: from files, and from a cache."""
    folder, (count, different) = place / "trial", patients
    write_simulated_trial(place / "different", "pooled-2131", patients=min(count, different), seed=seed)
    _links(place / "different", folder, count)
    rows = _in_turn(causal_model, cms.load_trial(folder), week, seed)
    ask = [sys.executable, "-m", "causalms", "query", str(folder), "--expected", "--skip-bad", "--model", model]
    ask += ["--week", str(week), *(part for arm in ARMS for part in ("--do", arm))]
    cache = ["--cache", str(place / "cache")]
    for what, options in (("query that fills a cache", cache), *(("query from the cache", cache),) * 3):
        command, begin = [*ask, "--out", str(place / f"{what}.parquet"), *options], time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            raise click.ClickException(f"{' '.join(command)}: ended with {status}")
        cpu = used.ru_utime + used.ru_stime
        rows.append((what, count, len(ARMS), cpu, cpu / count, time.monotonic() - begin, used.ru_maxrss / 2**20, *_NO_RATIO))
    return rows


def _in_turn(model: cms.CausalModel, trial: cms.Trial, week: int, seed: int) -> list[tuple[object, ...]]:
    """CPU seconds of reading the files of forty patients, then of answering them (which reads them too), block by block."""
    names, times = [str(name) for name in trial.participants["participant_id"][:_IN_TURN]], []
    for start in tqdm(range(0, len(names), _BLOCK), desc="in turn", disable=None):
        part = trial.subset(names[start : start + _BLOCK])
        begin = time.process_time()
        for name in part.participants["participant_id"]:
            for modality in MODALITIES:
                part.image(name, modality)
            for kind in ("brain", "T2", "Gd"):
                part.mask(name, kind)
        read = time.process_time()
        model.do(part, list(ARMS), week, expected=True, running=Running(1))
        times.append((read - begin, time.process_time() - read))
    spent = np.array(times)[1:]  # the first block also makes what all patients share
    drawn = spent[np.random.default_rng(seed).integers(0, len(spent), (2000, len(spent)))].sum(axis=1)
    ratio = spent[:, 1].sum() / spent[:, 0].sum()
    lower, upper = np.quantile(drawn[:, 1] / drawn[:, 0], [0.025, 0.975])
    click.echo(f"answering takes {ratio:.2f} times the reading of the files ({lower:.2f} to {upper:.2f}, {len(spent)} blocks)")
    patients = _BLOCK * len(spent)
    return [
        (what, patients, len(ARMS), cpu, cpu / patients, np.nan, _peak(), *times_reading)
        for what, cpu, times_reading in (
            ("reading, in turn with", spent[:, 0].sum(), _NO_RATIO),
            ("query, in turn", spent[:, 1].sum(), (ratio, lower, upper)),
        )
    ]


def _forecasts(place: Path, scans: Path, model: str, week: int, patients: int) -> pd.DataFrame:
    """One arm forecast for each patient, map and figure written; what was spent after every twentieth part of them."""
    different = _links(scans, place / "trial", patients)
    trial = cms.load_trial(place / "trial", follow_ups=False)
    generator = Generator.load(model)
    question = Question(model, generator.checksum, generator.digest, ("placebo",), float(week), 0, False, 0)
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
    table = pd.DataFrame(rows, columns=names)
    grown = stats.linregress(table["patients"][2:] / 1000, table["memory_gib"][2:])  # the first steps also fill caches
    half = stats.t.ppf(0.975, len(table) - 4) * grown.stderr
    click.echo(
        f"memory grows by {grown.slope:.3f} GiB a thousand patients ({grown.slope - half:.3f} to {grown.slope + half:.3f})"
    )
    slope = {"gib_a_thousand": grown.slope, "lower": grown.slope - half, "upper": grown.slope + half}
    return table.assign(different_scans=different, **slope)


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
