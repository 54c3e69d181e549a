"""CPU seconds of `causalms query --expected` by one process, by two workers, and by two workers of a Dask cluster, in turn.

python -m studies.workers_overhead --out studies/results --patients 200 --rounds 3
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pandas as pd

from causalms.phantom import write_simulated_trial
from causalms.tables import write_table
from studies.common import ARMS, model_option, out_option, seed_option

_WAYS = {"one process": (), "two workers": ("--workers", "2"), "two workers on Dask": ("--workers", "2", "--dask", "local")}


@click.command()
@out_option
@model_option()
@click.option("--patients", default=200, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@seed_option(8)
def main(out: Path, model: str, patients: int, rounds: int, seed: int) -> None:
    """Write workers_overhead.csv: one row a way and round; each round asks once in every way."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        trial = Path(place) / "trial"
        write_simulated_trial(trial, "pooled-2131", patients=patients, seed=seed)
        ask = [sys.executable, "-m", "causalms", "query", str(trial), "--expected", "--skip-bad", "--model", model]
        ask += [part for arm in ARMS for part in ("--do", arm)]
        for number in range(rounds):
            tables = set()
            for way, options in _WAYS.items():
                table = Path(place) / "draws.parquet"
                rows.append((way, number, patients, _spent([*ask, *options, "--out", str(table)])))
                tables.add(table.read_bytes())
            if len(tables) > 1:
                raise click.ClickException("the tables differ")
    spent = pd.DataFrame(rows, columns=["way", "round", "patients", "cpu_seconds"])
    alone = spent[spent["way"] == "one process"].set_index("round")["cpu_seconds"]
    spent["times_one_process"] = spent["cpu_seconds"] / spent["round"].map(alone)
    write_table(spent, out / "workers_overhead.csv")
    click.echo(spent.groupby("way", sort=False)["times_one_process"].agg(["median", "min", "max"]).to_string())


def _spent(command: list[str]) -> float:
    """CPU seconds of a process and of those it started."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise click.ClickException(f"{' '.join(command)}: ended with {status}")
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
