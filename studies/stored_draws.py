"""Draws beyond memory: seconds and peak memory of writing, tallying and judging them, and the digits beside draws in memory.

python -m studies.stored_draws --out studies/results --draws 78125 --patients 2134
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from causalms.calibration import assess_tallied, pair
from causalms.effects import analyse_draws
from causalms.tables import partition_draws, tallied_draws, write_table
from studies.common import ARMS, out_option, seed_option

_A_PART = 50


def _patients(part: int, patients: int, draws: int, seed: int) -> pa.Table:
    """Draws of some patients under every arm: Poisson counts of a frailty that a draw's arms share."""
    rng = np.random.default_rng([seed, part])
    frailty = rng.gamma(0.5, 2.0, (patients, 1, draws)).astype(np.float32)
    means = (rng.gamma(2.0, 2.0, (patients, 1)) * np.linspace(1.0, 0.1, len(ARMS))).astype(np.float32)
    counts = rng.poisson(means[:, :, None] * frailty).astype(np.int32)
    names = [f"sub-{part * _A_PART + k:05d}" for k in range(patients)]
    own = (part * _A_PART + np.arange(patients)) % len(ARMS)
    cells = len(ARMS) * draws

    def words(values: list[str], index: np.ndarray) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(values))

    size = patients * cells
    return pa.table(
        {
            "participant_id": words(names, np.repeat(np.arange(patients), cells)),
            "trial": words(["T"], np.zeros(size)),
            "arm": words(list(ARMS), np.tile(np.repeat(np.arange(len(ARMS)), draws), patients)),
            "arm_randomised": words(list(ARMS), np.repeat(own, cells)),
            "visit_week": pa.array(np.full(size, 96.0)),
            "query": words(["interventional"], np.zeros(size)),
            "query_id": words(["q"], np.zeros(size)),
            "draw": pa.array(np.tile(np.arange(draws, dtype=np.int32), patients * len(ARMS))),
            "net2_lesions": pa.array(counts.ravel()),
        }
    )


@click.command()
@out_option
@click.option("--patients", default=2134, show_default=True)
@click.option("--draws", default=78125, show_default=True)
@seed_option(1)
def main(out: Path, patients: int, draws: int, seed: int) -> None:
    """Write stored_draws.csv: one row a step."""
    rows: list[tuple[str, float, float, float]] = []
    begin = [time.process_time(), time.monotonic()]

    def done(step: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append((step, time.process_time() - begin[0], time.monotonic() - begin[1], peak))
        click.echo(f"{step}: {rows[-1][1]:.0f} CPU s, {rows[-1][2]:.0f} s, peak {peak:.2f} GiB")
        begin[:] = time.process_time(), time.monotonic()

    with tempfile.TemporaryDirectory() as place:
        parts = []
        for part, start in enumerate(range(0, patients, _A_PART)):
            parts.append(Path(place) / f"{part:04d}.parquet")
            made = _patients(part, min(_A_PART, patients - start), draws, seed)
            pq.write_table(made, parts[-1], compression="zstd", row_group_size=2_000_000)
        done("generate and write the parts")
        folder = partition_draws(parts, Path(place) / "draws")
        size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
        few = [pq.read_table(file).to_pandas() for file in parts[:1]]
        for file in parts:
            file.unlink()
        done("partition by trial and arm")
        cells = tallied_draws(folder)
        done("tally")
        effects = analyse_draws(cells, reference=ARMS[0])
        own = cells[(cells["arm"] == cells["arm_randomised"])].drop_duplicates("participant_id")
        seen = own[["participant_id", "trial", "arm"]].assign(net2_lesions_week96=np.arange(len(own)) % 7)
        assess_tallied(pair(cells, seen), ["arm"])
        done("effects and calibration")
    part = pd.concat(few).astype(dict.fromkeys(("participant_id", "trial", "arm", "arm_randomised", "query", "query_id"), str))
    part = part[part["draw"] < 2000]
    whole = analyse_draws(part, reference=ARMS[0])
    with tempfile.TemporaryDirectory() as place:
        again = analyse_draws(tallied_draws(write_table(part, Path(place) / "part.parquet")), reference=ARMS[0])
    both = whole.merge(again, on="arm", suffixes=("", "_tallied"))
    names = ("estimate", "se_patient", "se_monte_carlo")
    apart = max(float((both[f"{name}_tallied"] / both[name] - 1).abs().max()) for name in names)
    done("the same draws of a part in memory and tallied")
    click.echo(
        f"{patients * len(ARMS) * draws:,} draws, {size / 2**20:.0f} MiB; largest relative difference on a part {apart:.1e}"
    )
    click.echo(effects[["arm", "estimate", "se_monte_carlo"]].to_string(index=False))
    table = pd.DataFrame(rows, columns=["step", "cpu_seconds", "seconds", "peak_gib"])
    table = table.assign(draws=patients * len(ARMS) * draws, stored_mib=size / 2**20, relative_difference=apart)
    write_table(table, out / "stored_draws.csv")


if __name__ == "__main__":
    main()
