"""Calibration of the predicted counts for the arm each patient was given, overall, by arm and by trial.

python analyses/calibration.py --out results/calibration --patients 300
"""

from __future__ import annotations

from pathlib import Path

import click

import causalms as cms
from causalms.calibration import assess, pair
from causalms.report import figures
from causalms.tables import ARMS, write_table


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True)
@click.option("--patients", default=300, show_default=True)
@click.option("--week", default=96, show_default=True)
@click.option("--seed", default=12, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(out: Path, model: str, patients: int, week: int, seed: int, workers: int) -> None:
    """Write calibration.csv, the tables of the figures, and the figures for all patients."""
    trial = cms.simulate_trial("pooled", patients=patients, seed=seed)
    scm = cms.CausalModel.load(model)
    expected = scm.do(trial, arm=list(ARMS), week=week, expected=True, workers=workers, progress=True)
    found = assess(pair(expected, trial.participants, week), by=("arm", "trial"), seed=seed)
    write_table(found.results, out / "calibration.csv")
    draw = {
        "pit": figures.pit_histogram,
        "reliability": figures.reliability,
        "rootogram": figures.rootogram,
        "coverage": figures.coverage,
    }
    for name, figure in draw.items():
        table = getattr(found, name)
        write_table(table, out / f"{name}.csv")
        figure(table[table["subgroup"] == "all"]).savefig(out / f"{name}.png", dpi=130)
    everyone = found.results[found.results["subgroup"] == "all"]
    print(everyone[["measure", "estimate", "lower", "upper", "p_value", "n"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
