"""Score a checkpoint on phantom patients it never saw, and write the numbers of its model card.

Run:  python analyses/model_card.py --out results/model_card [--model reference] [--patients 300] [--draws 2] [--seed 4242]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import causalms as cms
from causalms.calibration import assess, pair
from causalms.lesions import LesionRule
from causalms.tables import ARMS, write_table

WEEK = 96


def lesion_voxels(masks: list[np.ndarray]) -> np.ndarray:
    """Voxels of every lesion of the default rule (whole voxels on the model's grid)."""
    labels = [LesionRule.default().label(mask, 64.0) for mask in masks]
    return np.concatenate([np.bincount(label.ravel())[1:] for label in labels])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--model", default="reference")
    arguments.add_argument("--patients", type=int, default=300)
    arguments.add_argument("--draws", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=4242)
    arguments.add_argument("--workers", type=int, default=2)
    chosen = arguments.parse_args()

    trial = cms.simulate_trial("pooled", patients=chosen.patients, seed=chosen.seed)
    model = cms.CausalModel.load(chosen.model)
    begin = time.monotonic()
    expected = model.do(trial, arm=list(ARMS), week=WEEK, expected=True, workers=chosen.workers, progress=True)
    seconds = time.monotonic() - begin
    draws = model.do(trial, arm=list(ARMS), week=WEEK, draws=chosen.draws, workers=chosen.workers, progress=True)
    truth = trial.truth.table.query("visit_week == @WEEK").set_index(["participant_id", "arm"])

    rows = []
    rng = np.random.default_rng(chosen.seed)
    resampled = rng.integers(chosen.patients, size=(1000, chosen.patients))
    for arm in ARMS:
        predicted = expected[expected["arm"] == arm].set_index("participant_id")["expected_net2_lesions"]
        counts = draws[draws["arm"] == arm].groupby("participant_id")["net2_lesions"].mean().loc[predicted.index]
        true = truth.xs(arm, level="arm").loc[predicted.index]
        log_rate = true["log_rate"] - true["log_rate"].mean()
        residual = np.log(predicted) - np.log(predicted).mean() - log_rate
        r2 = 1 - (residual.to_numpy()[resampled] ** 2).mean(1) / log_rate.to_numpy()[resampled].var(1)
        rows.append(
            {
                "arm": arm,
                "true_mean": true["true_rate"].mean(),
                "expected_over_true": predicted.mean() / true["true_rate"].mean(),
                "sampled_over_true": counts.mean() / true["true_rate"].mean(),
                "sampled_standard_error": counts.std() / np.sqrt(len(counts)) / true["true_rate"].mean(),
                "r2_log_rate": 1 - (residual**2).mean() / log_rate.var(ddof=0),
                "r2_lower": np.quantile(r2, 0.025),
                "r2_upper": np.quantile(r2, 0.975),
            }
        )
    table = pd.DataFrame(rows)
    table["true_rate_ratio"] = table["true_mean"] / table["true_mean"][0]
    table["rate_ratio_over_true"] = table["expected_over_true"] / table["expected_over_true"][0]
    write_table(table, chosen.out / "model_card.csv")

    some = list(trial.participants["participant_id"][:100])
    generator = model.mechanism.generator
    scans = [(p, generator.encode(trial, p)) for p in some]
    begin = time.monotonic()
    sampled = [generator.sample(scan, "placebo", WEEK, generator.noise(p, 0, 1)) for p, scan in scans]
    a_draw = (time.monotonic() - begin) / len(some)
    real = [trial.truth.potential_mask(p, "placebo", WEEK) for p in some]
    law = assess(pair(expected, trial.participants, WEEK), repetitions=499).results.set_index("measure")
    summary = {
        "patients": chosen.patients,
        "seed": chosen.seed,
        "draws": chosen.draws,
        "parameters": generator.parameters,
        "checksum": generator.checksum,
        "lesion_volume_ks": float(stats.ks_2samp(lesion_voxels(sampled), lesion_voxels(real)).statistic),
        "lesions_compared": [len(lesion_voxels(sampled)), len(lesion_voxels(real))],
        "count_crps": float(law.loc["CRPS", "estimate"]),
        "coverage_90": float(law.loc["coverage of 90% prediction intervals", "estimate"]),
        "pit_p_value": float(law.loc["largest deviation of the PIT histogram from 1", "p_value"]),
        "seconds_expected_table": round(seconds, 1),
        "seconds_a_draw": round(a_draw, 3),
    }
    (chosen.out / "model_card.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(table.round(3).to_string(index=False))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
