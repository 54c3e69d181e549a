"""Simulated effects of every arm against placebo, beside the randomised effects and the truth of a phantom trial.

python analyses/effect_sizes.py --out analyses/results/effect_sizes
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

import causalms as cms
from causalms.causal import Running, recalibrated
from causalms.report import figures
from causalms.tables import write_table


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True)
@click.option("--patients", default=300, show_default=True)
@click.option("--week", default=96, show_default=True)
@click.option("--seed", default=11, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(out: Path, model: str, patients: int, week: int, seed: int, workers: int) -> None:
    """Write effects.csv (as shipped and recalibrated), truth.csv and effects.png."""
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed)
    arms = list(trial.truth.design.arms)
    causal_model = cms.CausalModel.load(model)
    expected = causal_model.do(trial, arm=arms, week=week, expected=True, running=Running(workers, progress=True))
    shipped = [
        cms.effects.estimate(expected, reference="placebo", measure=measure).results.assign(
            analysis=f"shipped model, week {week}"
        )
        for measure in ("rate-ratio", "risk-difference", "mean-difference")
    ]
    moved, recalibration = recalibrated(causal_model, trial, expected, Running(workers, progress=True))
    again = cms.effects.estimate(moved, reference="placebo").results
    again = again.assign(analysis=f"recalibrated on the observed arms, week {week}")
    effects = pd.concat([*shipped, again], ignore_index=True)
    write_table(effects, out / "effects.csv")

    rates = trial.truth.table.query("visit_week == @week").groupby("arm")["true_rate"].mean().loc[arms]
    means = expected.groupby("arm")["expected_net2_lesions"].mean()
    truth = pd.DataFrame({"true_mean": rates, "expected_mean": means, "true_rate_ratio": rates / rates["placebo"]})
    truth["simulated_rate_ratio"] = truth["expected_mean"] / truth["expected_mean"]["placebo"]
    write_table(truth.loc[arms].rename_axis("arm").reset_index(), out / "truth.csv")
    figures.effect_forest(shipped[0]).savefig(out / "effects.png", dpi=130)
    columns = ["analysis", "arm", "measure", "estimate", "lower", "upper", "randomised"]
    print(effects[columns].round(3).to_string(index=False))
    print(recalibration.words)
    print(truth.round(3).to_string())


if __name__ == "__main__":
    main()
