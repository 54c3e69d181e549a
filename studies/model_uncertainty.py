"""Does the model's own uncertainty cover the truth? Population rate ratios in simulated trials, expected-count path.

python -m studies.model_uncertainty --out studies/results --model reference
python -m studies.model_uncertainty --out studies/results --model counts --patients 600 --trials 400
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.causal import Running
from causalms.tables import read_table, write_table
from studies.common import model_option, out_option, seed_option, workers_option
from studies.known_truth.model_coverage import rate_ratio_coverage

CONTRASTS = (
    ("dimethyl-fumarate", "placebo"),
    ("laquinimod", "placebo"),
    ("ocrelizumab", "interferon-beta-1a-sc"),
    ("ocrelizumab", "placebo"),
)


@click.command()
@out_option
@model_option()
@click.option("--patients", default=400, show_default=True, help="Patients of the large phantom and of each simulated trial.")
@click.option("--trials", default=200, show_default=True)
@click.option("--week", default=48, show_default=True)
@seed_option(6)
@workers_option()
def main(out: Path, model: str, patients: int, trials: int, week: int, seed: int, workers: int) -> None:
    """Write model_uncertainty.csv: coverage by contrast with binomial errors; rows of other models stay."""
    phantom = cms.simulate_trial("pooled", patients=patients, seed=seed)
    if model == "counts":  # fitted to other patients than those it is asked about
        causal_model = cms.CausalModel.fit_counts(cms.simulate_trial("pooled", patients=300, seed=seed + 1), week)
    else:
        causal_model = cms.CausalModel.load(model)
    expected = causal_model.do(phantom, list(phantom.arms), week, expected=True, running=Running(workers, progress=True))
    size, known = phantom.truth.design.counts.size, phantom.truth.table
    coverage = rate_ratio_coverage(
        phantom.participants, expected, known, size, week, CONTRASTS, trials, seed=seed, progress=True
    ).assign(patients=patients, model=causal_model.mechanism.name, checksum=causal_model.mechanism.checksum)
    place = out / "model_uncertainty.csv"
    old = read_table(place) if place.is_file() else coverage.head(0)
    others = old[old["model"] != causal_model.mechanism.name] if set(old) == set(coverage) else old.head(0)
    write_table(pd.concat([others, coverage]) if len(others) else coverage, place)
    click.echo(coverage.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
