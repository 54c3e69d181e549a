"""Calibration of predicted counts, places and activity for the arm each patient was given, by arm, trial and subgroup.

python analyses/calibration.py --out analyses/results/calibration
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
from matplotlib.figure import Figure

import causalms as cms
from causalms.calibration import (
    Pairs,
    assess,
    conformal,
    frequency_maps,
    pair,
    place_scores,
    recalibrate,
    region_volumes,
    risk_maps,
    split,
    summary,
    voxel_reliability,
)
from causalms.causal import Running
from causalms.report import figures
from causalms.tables import write_table
from causalms.trials import template_anatomy

FIGURES = {
    "pit": figures.pit_histogram,
    "reliability": figures.reliability,
    "rootogram": figures.rootogram,
    "coverage": figures.coverage,
}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True)
@click.option("--patients", default=300, show_default=True)
@click.option("--place-patients", default=100, show_default=True, help="Patients whose risk maps are judged.")
@click.option("--week", default=96, show_default=True)
@click.option("--seed", default=12, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(out: Path, model: str, patients: int, place_patients: int, week: int, seed: int, workers: int) -> None:
    """Write calibration.csv, summary.csv, the tables of place and of recalibration, and the figures for all patients."""
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    arms = list(trial.truth.design.arms)
    causal_model = cms.CausalModel.load(model)
    expected = causal_model.do(trial, arm=arms, week=week, expected=True, running=Running(workers, progress=True))
    pairs = pair(expected, trial.participants, week)
    assessed = assess(pairs, by=("arm", "trial", "gd_lesions > 0"), seed=seed, progress=True)
    write_table(assessed.results, out / "calibration.csv")
    for name, figure in FIGURES.items():
        table = getattr(assessed, name)
        save(figure(table[table["subgroup"] == "all"]), out / f"{name}.png")
    after = recalibration(pairs, out, seed)
    glance = pd.concat([summary(assessed.results), after], ignore_index=True)
    write_table(glance, out / "summary.csv")
    chosen = trial.participants["participant_id"].sample(min(place_patients, patients), random_state=seed)
    places(causal_model, trial, week, list(chosen), out)
    print(glance.round(3).to_string(index=False))


def recalibration(pairs: Pairs, out: Path, seed: int) -> pd.DataFrame:
    """Recalibration by arm and conformal sets, fitted on one half of the patients and judged on the other."""
    fitted_on, judged_on = split(pairs, 0.5, seed)
    fit = recalibrate(fitted_on)
    write_table(fit.table, out / "recalibration.csv")
    write_table(conformal(fitted_on, 0.9).judge(judged_on), out / "conformal.csv")
    rows = [("half, as it is", judged_on), ("half, recalibrated on the other half", fit.apply(judged_on))]
    judged = [summary(assess(part, seed=seed).results).assign(analysis=name) for name, part in rows]
    return pd.concat(judged, ignore_index=True)


def places(causal_model: cms.CausalModel, trial: cms.Trial, week: int, participants: list[str], out: Path) -> None:
    """Where lesions were expected and where they came: by voxel risk, by region and over the anatomy."""
    anatomy = template_anatomy(trial.space)
    maps = risk_maps(causal_model, trial, week, participants, progress=True)
    by_risk = voxel_reliability(maps)
    expected, observed = frequency_maps(maps)
    write_table(by_risk, out / "voxel_risk.csv")
    write_table(region_volumes(maps, anatomy.regions, trial.space.voxel_volume_mm3 / 1000), out / "regions.csv")
    write_table(place_scores(maps, reference=expected), out / "places.csv")
    save(figures.voxel_risk(by_risk), out / "voxel_risk.png")
    sizes = trial.space.voxel_sizes_mm
    save(
        figures.lesion_frequency(anatomy.t1, expected, observed, voxel_mm=(sizes[0], sizes[1], sizes[2])),
        out / "lesion_frequency.png",
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure as it stands in the docs."""
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
