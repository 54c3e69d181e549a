"""Patients a CPU second and peak memory of writing simulated trials, images included, each trial in a process of its own.

python -m studies.phantom_speed --out results [--patients 40 --patients 160] [--grid 4mm --grid 3mm]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pandas as pd
from tqdm import tqdm

from causalms.tables import write_table
from studies.common import out_option

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from causalms.phantom import write_simulated_trial
folder, patients, grid = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
write_simulated_trial(folder / "first", "pooled", patients=4, grid=grid)      # the template is read once
begin = time.process_time()
write_simulated_trial(folder / "trial", "pooled", patients=patients, grid=grid)
seconds = time.process_time() - begin
print(json.dumps({"cpu_seconds": seconds, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


@click.command()
@out_option
@click.option("--patients", multiple=True, default=(40, 160), show_default=True)
@click.option("--grid", "grids", multiple=True, default=("4mm", "3mm"), show_default=True)
def main(out: Path, patients: tuple[int, ...], grids: tuple[str, ...]) -> None:
    rows = []
    for grid, count in tqdm([(grid, count) for grid in grids for count in patients], unit="trial", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", MEASURE, folder, str(count), grid]
            record = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        rate = count / record["cpu_seconds"]
        rows.append({"grid": grid, "patients": count, **record, "patients_a_cpu_second": rate})
    table = pd.DataFrame(rows).round(3)
    write_table(table, out / "phantom_speed.csv")
    click.echo(table.to_string(index=False))


if __name__ == "__main__":
    main()
