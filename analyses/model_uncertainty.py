"""Does the model's own uncertainty cover the truth? Population rate ratios in simulated trials, expected-count path.

Patients are resampled within the trials of one large phantom, randomised anew, and their counts redrawn from the true rates; the
model is recalibrated on each simulated trial and its interval compared with the true ratio.

    python analyses/model_uncertainty.py --out results --model counts --trials 200
"""

from __future__ import annotations

from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import causalms as cms
from causalms.scm import recalibrate, support
from causalms.tables import write_table

WEEK = 48
CONTRASTS = (
    ("dimethyl-fumarate", "placebo"),
    ("laquinimod", "placebo"),
    ("ocrelizumab", "interferon-beta-1a-sc"),
    ("ocrelizumab", "placebo"),
)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="counts", show_default=True, help="counts, reference or a checkpoint.")
@click.option("--patients", default=600, show_default=True, help="Patients of the large phantom and of each simulated trial.")
@click.option("--trials", default=200, show_default=True)
@click.option("--seed", default=6, show_default=True)
@click.option("--workers", default=1, show_default=True)
def main(out: Path, model: str, patients: int, trials: int, seed: int, workers: int) -> None:
    """Write model_uncertainty.csv (coverage by contrast with binomial errors) and a figure."""
    phantom = cms.simulate_trial("pooled", patients=patients, seed=seed, workers=workers)
    others = cms.simulate_trial("pooled", patients=300, seed=seed + 1, workers=workers) if model == "counts" else None
    scm = cms.CausalModel.load(model) if others is None else cms.CausalModel.fit_counts(others, WEEK)
    arms, people = list(phantom.arms), phantom.participants.reset_index(drop=True)
    expected = scm.do(phantom, arms, WEEK, expected=True, workers=workers)
    table = phantom.truth.table
    rates = table[table["visit_week"] == WEEK].pivot(index="participant_id", columns="arm", values="true_rate")
    rates = rates.loc[people["participant_id"], arms]
    rows = []
    for k in range(trials):
        own, seen = simulated(people, expected, rates, phantom.truth.design.counts.size, np.random.default_rng([seed, k]))
        posterior = recalibrate(own, seen, WEEK, members=200, seed=k)
        for arm, reference in CONTRASTS:
            ratio = np.log(posterior.rate_ratios(expected, arm, reference))
            true = float(np.log(rates[arm].mean() / rates[reference].mean()))
            rows.append(
                (arm, reference, true, ratio.mean(), ratio.std(ddof=1), abs(ratio.mean() - true) < 1.96 * ratio.std(ddof=1))
            )
    runs = pd.DataFrame(rows, columns=["arm", "reference", "true", "log_ratio", "se_generator", "coverage"])
    found = runs.groupby(["arm", "reference"], sort=False).mean().reset_index()
    found["scatter"] = runs.groupby(["arm", "reference"], sort=False)["log_ratio"].std().to_numpy()
    found["coverage_se"] = np.sqrt(found["coverage"] * (1 - found["coverage"]) / trials)
    found["randomised"] = [support(people, arm, reference).randomised for arm, reference in CONTRASTS]
    write_table(found.assign(trials=trials, model=scm.mechanism.name), out / "model_uncertainty.csv")
    figure, axis = plt.subplots(figsize=(7, 2.6), constrained_layout=True)
    axis.errorbar(found["coverage"], found["arm"] + " / " + found["reference"], xerr=1.96 * found["coverage_se"], fmt="o")
    axis.axvline(0.95, linestyle="--", color="black")
    axis.set_xlabel("coverage of 95% intervals")
    figure.savefig(out / "model_uncertainty.png", dpi=120)
    click.echo(found.round(3).to_string(index=False))


def simulated(
    people: pd.DataFrame, expected: pd.DataFrame, rates: pd.DataFrame, size: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Resample patients within trials, randomise and redraw: expected counts under the new arms, and the new counts."""
    chosen = np.concatenate([rng.choice(v, len(v)) for v in people.groupby("trial").indices.values()])
    given = np.array([rng.choice(people.loc[people["trial"] == t, "arm"]) for t in people["trial"].iloc[chosen]])
    mean = rates.to_numpy()[chosen, [list(rates).index(arm) for arm in given]]
    counts = rng.poisson(rng.gamma(size, 1 / size, len(chosen)) * mean).astype(float)
    names = [f"p{i}" for i in range(len(chosen))]
    rows = expected.set_index(["participant_id", "arm"]).loc[list(zip(people["participant_id"].iloc[chosen], given, strict=True))]
    own = rows.reset_index().assign(participant_id=names, arm_randomised=given)
    return own, pd.DataFrame({"participant_id": names, f"net2_lesions_week{WEEK}": counts})


if __name__ == "__main__":
    main()
