"""Processor seconds and peak memory of the expected-effect query of six arms, for growing trials in one process.

python -m studies.query_scale --out studies/results --model reference
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.causal import Running
from causalms.tables import write_table
from studies.common import ARMS, model_option, out_option, seed_option


@click.command()
@out_option
@model_option()
@click.option("--patients", "sizes", multiple=True, type=int, default=(300, 1000, 2131), show_default=True)
@click.option("--week", default=48, show_default=True)
@seed_option(8)
def main(out: Path, model: str, sizes: tuple[int, ...], week: int, seed: int) -> None:
    """Write query_scale.csv: one row a trial, smallest first; memory that is flat does not grow from row to row."""
    causal_model = cms.CausalModel.load(model)
    rows = []
    for patients in sorted(sizes):
        trial = cms.simulate_trial("pooled-2131", patients=patients, seed=seed)
        before, begin = time.process_time(), time.monotonic()
        table = causal_model.do(trial, list(ARMS), week, expected=True, running=Running(1, progress=True))
        cpu, wall = time.process_time() - before, time.monotonic() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append((patients, len(ARMS), len(table), cpu, cpu / patients, wall, peak))
        click.echo(f"{patients} patients: {cpu:.0f} processor seconds, peak memory {peak:.2f} GiB")
    names = ["patients", "arms", "rows", "cpu_seconds", "cpu_seconds_a_patient", "wall_seconds", "peak_memory_gib"]
    write_table(
        pd.DataFrame(rows, columns=names).assign(workers=1, checksum=causal_model.mechanism.checksum), out / "query_scale.csv"
    )


if __name__ == "__main__":
    main()
