"""Score a checkpoint on phantom patients it never saw: the tables of its model card, by arm, subgroup and week.

One evaluation a patient, arm and week against the known law; masks only for the size of lesions and the seconds of a draw.

    python -m studies.model_card --out studies/results/model_card [--model reference] [--patients 500] [--seed 4242]
    python -m studies.model_card_tables          # puts the tables into causalms/generator/MODEL_CARD.md
"""

import json
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy import stats

import causalms as cms
from causalms.benchmark import KnownOutcomes, judge
from causalms.causal import Running
from causalms.generator import Generator
from causalms.lesions import LesionRule
from causalms.phantom import PhantomTrial
from causalms.stats import NegativeBinomialLaw
from causalms.tables import write_table
from studies.common import ARMS, model_option, out_option, seed_option, workers_option

WEEK, WEEKS = 96, (24, 36, 48, 72, 96)  # 36 and 72 were never a visit
SUBGROUPS = {
    "everyone": "age > 0",
    "enhancing": "gd_lesions > 0",
    "not enhancing": "gd_lesions == 0",
    "under 40": "age < 40",
    "40 and over": "age >= 40",
    "women": "sex == 'F'",
    "men": "sex == 'M'",
}


def wide(table: pd.DataFrame, value: str, people: pd.DataFrame) -> np.ndarray:
    """Patients by arms."""
    return table.pivot(index="participant_id", columns="arm", values=value).loc[people["participant_id"], list(ARMS)].to_numpy()


def by_subgroup(expected: pd.DataFrame, trial: PhantomTrial, repetitions: int) -> pd.DataFrame:
    """Every score of :func:`causalms.calibration.assess` in every subgroup."""
    truth, rows = trial.truth.table.query("visit_week == @WEEK"), []
    for name, condition in SUBGROUPS.items():
        people = trial.participants.query(condition)
        own = np.array([ARMS.index(arm) for arm in people["arm"]])
        counts = wide(truth, "true_lesions", people).astype(np.int64)
        marker, size = (people["gd_lesions"] > 0).to_numpy(), trial.truth.design.counts.size
        known = KnownOutcomes(ARMS, wide(truth, "log_rate", people), counts, own, marker, size=size)
        mean, dispersion = (wide(expected, column, people).ravel() for column in ("expected_net2_lesions", "dispersion"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the marker's other half is empty in its own subgroups
            rows.append(judge(NegativeBinomialLaw(mean, 1 / dispersion), known, repetitions).assign(subgroup=name))
    return pd.concat(rows, ignore_index=True).dropna(subset=["estimate"])


def by_week(expected: pd.DataFrame, trial: PhantomTrial) -> pd.DataFrame:
    """Mean expected over mean true count by arm at visit weeks and between them."""
    rows = []
    for week, part in expected.groupby("visit_week"):
        ratio = part.groupby("arm")["expected_net2_lesions"].mean() / trial.truth.rates(float(week)).mean()
        rows.append({"week": week, "a_visit": week in trial.weeks, **ratio[list(ARMS)]})
    return pd.DataFrame(rows)


def lesion_sizes(generator: Generator, trial: PhantomTrial, masks: int) -> dict[str, object]:
    """Kolmogorov-Smirnov distance of lesions' voxels, sampled against true masks on placebo, and CPU seconds a draw."""
    scans = [(p, generator.encode(trial, p)) for p in trial.participants["participant_id"][:masks]]
    begin = time.process_time()
    sampled = [generator.sample(scan, "placebo", WEEK, generator.noise(p, 0, 1)) for p, scan in scans]
    seconds = (time.process_time() - begin) / len(scans)
    sides = []
    for side in (sampled, [trial.truth.potential_mask(p, "placebo", WEEK) for p, _ in scans]):
        labels = [LesionRule.default().label(mask, trial.space.voxel_volume_mm3) for mask in side]
        sides.append(np.concatenate([np.bincount(label.ravel())[1:] for label in labels]))
    return {
        "lesion_volume_ks": round(float(stats.ks_2samp(*sides).statistic), 4),
        "lesions_compared": [len(side) for side in sides],
        "cpu_seconds_a_draw": round(seconds, 3),
    }


@click.command()
@out_option
@model_option()
@click.option("--patients", default=500, show_default=True)
@click.option("--masks", default=100, show_default=True)
@click.option("--repetitions", default=500, show_default=True, help="Of the bootstrap over patients.")
@seed_option(4242)
@workers_option()
def main(out: Path, model: str, patients: int, masks: int, repetitions: int, seed: int, workers: int) -> None:
    trial = cms.simulate_trial("lifelike", patients=patients, seed=seed, workers=workers)
    causal_model, generator = cms.CausalModel.load(model), Generator.load(model)
    begin = time.monotonic()
    expected = causal_model.do(trial, arm=list(ARMS), week=list(WEEKS), expected=True, running=Running(workers, progress=True))
    seconds = time.monotonic() - begin
    last = expected.query("visit_week == @WEEK")
    scores = by_subgroup(last, trial, repetitions)
    write_table(scores.round(4), out / "by_subgroup.csv")
    write_table(by_week(expected, trial).round(4), out / "by_week.csv")
    overall = scores[(scores["subgroup"] == "everyone") & (scores["arm"] == "")].set_index("measure")["estimate"]
    summary = {
        "checksum": generator.checksum,
        "parameters": generator.parameters,
        "patients": patients,
        "seed": seed,
        "true_means": trial.truth.rates(WEEK).mean().round(4).to_dict(),
        **overall.round(4).to_dict(),
        "seconds_expected_table": round(seconds, 1),
        **lesion_sizes(generator, trial, masks),
    }
    (out / "model_card.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(by_week(expected, trial).round(3).to_string(index=False))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
