"""Counts of the first stage against a multi-head count network that learned from the same patients, on the same unseen patients.

Unseen patients have a potential outcome under every arm.  CRPS differ by patient (mean over arms), intervals are over patients.
`excess` is how far the expected CRPS lies above that of the true law, sum over k of (F(k) - G(k))^2: no draw of outcomes in it.

python -m studies.against_count_network --parts parts --out studies/results/count_law
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

import causalms as cms
from causalms.generator.train.data import training_set
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.phantom import load_design
from causalms.stats import NegativeBinomialLaw, score
from causalms.tables import write_table
from causalms.trials import Space, mni_space
from studies.baselines.count_network import train_count_network
from studies.baselines.image_forecaster import REFERENCE_WEEK
from studies.common import ARMS, out_option
from studies.count_law import Laws, Trained, true_laws, under_every_arm
from studies.learning_curve import MORE, TRAINING, Arrays, arrays_of, data_of, part_of, together

#: CPU minutes of the network at 2,131 and at 12,000 patients.
MINUTES = {2131: 3.0, 12000: 8.0}
DESIGN = "lifelike"
#: Seed and number of the unseen patients.
UNSEEN = (4343, 1500)
_BATCH = 16


@torch.no_grad()
def network_laws(
    training: list[TrainingPatient], unseen: list[TrainingPatient], space: Space, seed: int, minutes: float
) -> tuple[Laws, int]:
    """Laws of unseen patients at the last week, one an arm, by a network trained for that many CPU minutes; and its steps."""
    with torch.enable_grad():
        model = train_count_network(training, ARMS, space, seed, steps=100_000, budget_minutes=minutes)
    week = model.log_week(REFERENCE_WEEK)
    parts = []
    for start in range(0, len(unseen), _BATCH):
        state = model.network.state(model.network.read([patient.arrays for patient in unseen[start : start + _BATCH]], space))
        parts.append(torch.stack([torch.stack(head(state, week.expand(len(state)))) for head in model.network.heads]).double())
    log_mean, size = torch.cat(parts, dim=2).numpy().transpose(1, 0, 2)
    return [NegativeBinomialLaw(np.exp(m), k) for m, k in zip(log_mean, size, strict=True)], int(model.header["steps"])


def first_stage_laws(train: Arrays, unseen: Arrays) -> Laws:
    """Laws of unseen patients at the last week, one an arm, as `causalms train` writes them."""
    trained = Trained.of(train)
    rows = data_of({**unseen, "log_share": np.zeros(len(unseen["counts"]))}, train, "first stage")
    new = under_every_arm(trained.whole, rows)
    shift, log_size = trained.by_error_model()["as trained"]
    size = trained.whole.size * np.exp(log_size)
    return [NegativeBinomialLaw(np.exp(one.log_mean + shift[arm]), size[arm]) for arm, one in enumerate(new)]


def crps_and_excess(laws: Laws, true: Laws, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CRPS of potential outcomes (n, arms), and expected CRPS above that of the true law; mean over arms, (n,)."""
    crps = np.column_stack([score("crps", law, counts[:, arm]) for arm, law in enumerate(laws)]).mean(axis=1)
    return crps, np.column_stack([_apart(law, known) for law, known in zip(laws, true, strict=True)]).mean(axis=1)


def _apart(law: NegativeBinomialLaw, true: NegativeBinomialLaw) -> np.ndarray:
    """Sum over counts of squared differences of two distribution functions, (n,)."""
    out = np.empty(law.n)
    ends = np.maximum(law.interval(0.9998)[1], true.interval(0.9998)[1])
    order = np.argsort(ends)
    for rows in np.array_split(order, max(1, law.n // 64)):
        counts = np.broadcast_to(np.arange(int(ends[rows].max()) + 1), (len(rows), int(ends[rows].max()) + 1))
        own, known = (NegativeBinomialLaw(one.mean[rows], one.size[rows], one.zero_inflation[rows]) for one in (law, true))
        out[rows] = ((own.cdf(counts) - known.cdf(counts)) ** 2).sum(axis=1)
    return out


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Mean paired difference over patients with its 95% interval."""
    apart = ours - theirs
    se = float(apart.std(ddof=1) / np.sqrt(len(apart)))
    return float(apart.mean()), float(apart.mean() - 1.96 * se), float(apart.mean() + 1.96 * se)


def compared(ours: Laws, theirs: Laws, unseen: Arrays) -> dict[str, Any]:
    """CRPS of both, and their differences with intervals."""
    counts, true = unseen["potential"].astype(np.int64), true_laws(unseen["log_rate"], load_design(DESIGN).counts, ARMS)
    own, own_excess = crps_and_excess(ours, true, counts)
    network, network_excess = crps_and_excess(theirs, true, counts)
    row: dict[str, Any] = {"crps": own.mean(), "crps_network": network.mean()}
    row |= dict(zip(("difference", "difference_lower", "difference_upper"), difference(own, network), strict=True))
    row |= {"excess": own_excess.mean(), "excess_network": network_excess.mean()}
    return row | dict(
        zip(("excess_difference", "excess_lower", "excess_upper"), difference(own_excess, network_excess), strict=True)
    )


def people_of(seed: int, patients: int) -> list[TrainingPatient]:
    """Patients of a simulated trial with their images, in memory (.9 MB each)."""
    return training_set(cms.simulate_trial(DESIGN, patients=patients, seed=seed, grid="4mm"), LesionRule.default())


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Of studies.learning_curve.")
def main(out: Path, parts: Path) -> None:
    """Write against_count_network.csv: two training trials of 2,131 patients and one of 12,000."""
    torch.set_num_threads(1)
    trial = cms.simulate_trial(DESIGN, patients=UNSEEN[1], seed=UNSEEN[0], grid="4mm")
    people = training_set(trial, LesionRule.default())
    unseen = arrays_of(trial, people, UNSEEN[0])
    rows = []
    for number, size in ((0, 2131), (1, 2131), (0, 12000)):
        trials = [(TRAINING[number], 2131), (MORE[number], 9869)][: 1 if size == 2131 else 2]
        train = together([dict(np.load(part_of(DESIGN, *one, parts), allow_pickle=False)) for one in trials])
        theirs, steps = network_laws(
            [patient for one in trials for patient in people_of(*one)], people, mni_space("4mm"), number, MINUTES[size]
        )
        row = compared(first_stage_laws(train, unseen), theirs, unseen)
        rows.append({"design": DESIGN, "patients": size, "training_seed": number, "unseen": len(people), "steps": steps, **row})
        write_table(pd.DataFrame(rows), out / "against_count_network.csv")


if __name__ == "__main__":
    main()
