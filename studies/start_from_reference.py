"""Does it pay to start training from the checkpoint that ships?  On patients of other laws, against training from nothing.

Three laws: `harmful` (ships), `modified` and `other-markers` (studies/designs).  Two parts of a generator are judged on patients
not learned from:

- counts: the first stage as `causalms train` fits it, and given the log rate of another model as `--init` gives it: of the
  checkpoint that ships, or of a first stage that learned from three trials of `lifelike`, 2,131 patients each.  R2 of the log
  rate, CRPS.
- places: nats a lesion above a uniform law of the brain, after equal CPU minutes of steps from nothing, from the reference
  (`init`), and from the reference with features frozen (`tune="readout"`); and the reference as it is.

python -m studies.start_from_reference --parts parts --out studies/results/start_from_reference
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

import causalms as cms
from causalms.generator import config
from causalms.generator.configurations import TrainingConfig
from causalms.generator.inputs import anatomy_of
from causalms.generator.network import Places
from causalms.generator.train.data import Material, training_set
from causalms.generator.train.distributed import Processes
from causalms.generator.train.first_stage import fit_first_stage
from causalms.generator.train.loop import new_network
from causalms.generator.train.patients import TrainingPatient
from causalms.generator.train.resume import known_rate, start_from
from causalms.generator.train.risk import risk_batch, risk_step
from causalms.generator.train.scores import validation_scores
from causalms.lesions import LesionRule
from causalms.stats import NegativeBinomialLaw, score
from causalms.tables import write_table
from causalms.trials import mni_space
from studies.baselines.optimise import Recipe, optimise
from studies.common import out_option
from studies.learning_curve import TRAINING, Arrays, arrays_of, data_of, part_of, together

DESIGNS = Path(__file__).parent / "designs"
LAWS = {"harmful": "harmful", "modified": DESIGNS / "modified.yaml", "other-markers": DESIGNS / "other_markers.yaml"}
TRAIN, UNSEEN = (6001, 2131), (6002, 400)
#: Patients, and which of the training trial's they are: three samples of 300, two of 1,000.
SAMPLES = [(300, 0), (300, 300), (300, 600), (1000, 0), (1000, 1000), (2131, 0)]
MINUTES = 1.0
STARTS: dict[str, dict[str, str]] = {
    "nothing": {}, "reference": {"init": "reference"}, "reference, readout": {"init": "reference", "tune": "readout"},
}  # fmt: skip
_BOOTSTRAP, _BATCH = 1000, 8


def spread_of(arrays: Arrays) -> np.ndarray:
    """Standard deviations (Q + P,) of columns and signals, as the first stage standardises them."""
    sd = np.concatenate([np.nanstd(arrays[name], axis=0) for name in ("columns", "signals")])
    return np.asarray(np.where(sd < 1e-4, 1.0, sd))


def lifelike_rate(lifelike: Arrays) -> np.ndarray:
    """Weights (Q + P,) of columns and signals, as read, in the log rate of a first stage that learned from these trials."""
    fit = fit_first_stage(data_of(lifelike, lifelike, "first stage"), lifelike["log_rate"].shape[1])
    return np.concatenate([fit.columns, fit.features]) / spread_of(lifelike)


def rows_of(arrays: Arrays, chosen: np.ndarray) -> Arrays:
    """Some of the patients."""
    return {name: values[chosen] for name, values in arrays.items()}


def count_scores(train: Arrays, unseen: Arrays, known: np.ndarray | None) -> dict[str, np.ndarray]:
    """Residuals and true log rates within arms (n, arms), and CRPS (n,), of unseen patients under every arm.

    ``known``: weights of columns and signals, as read, in the log rate that the first stage is given.
    """
    arms, n = unseen["log_rate"].shape[1], len(unseen["counts"])
    data, rows = data_of(train, train, "first stage"), data_of({**unseen, "log_share": np.zeros(n)}, train, "first stage")
    fit = fit_first_stage(data if known is None else replace(data, known=known * spread_of(train)), arms)
    log_mean = np.column_stack([fit.log_mean(replace(rows, arm=np.full(n, arm))) for arm in range(arms)])
    laws = [NegativeBinomialLaw(np.exp(own), np.full(n, fit.size)) for own in log_mean.T]
    crps = np.mean([score("crps", law, y) for law, y in zip(laws, unseen["potential"].astype(np.int64).T, strict=True)], axis=0)
    true = unseen["log_rate"] - unseen["log_rate"].mean(0)
    return {"residual": log_mean - log_mean.mean(0) - true, "true": true, "crps": crps}


def r2(scores: dict[str, np.ndarray], rows: np.ndarray) -> float:
    """Within-arm R2 of the log rate of some of the patients."""
    return float(1 - (scores["residual"][rows] ** 2).mean() / (scores["true"][rows] ** 2).mean())


def count_rows(law: str, train: Arrays, unseen: Arrays, rates: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row a sample and known rate: R2 and CRPS, and what they gain on none, with 95% bootstrap intervals over patients."""
    out, n = [], len(unseen["counts"])
    draws = np.random.default_rng(0).integers(n, size=(_BOOTSTRAP, n))
    for size, first in SAMPLES:
        own = rows_of(train, np.arange(first, first + size))
        base = count_scores(own, unseen, None)
        for name, known in ({"nothing": None} | rates).items():
            found = base if known is None else count_scores(own, unseen, known)
            gain = np.quantile([r2(found, rows) - r2(base, rows) for rows in draws], [0.025, 0.975])
            crps = found["crps"] - base["crps"]
            se = 1.96 * crps.std(ddof=1) / np.sqrt(n)
            out.append({
                "law": law, "patients": size, "first": first, "kept": name, "r2": r2(found, np.arange(n)),
                "r2_gain_lower": gain[0], "r2_gain_upper": gain[1], "crps": found["crps"].mean(),
                "crps_gain_lower": crps.mean() - se, "crps_gain_upper": crps.mean() + se,
            })  # fmt: skip
    return out


def place_scores(
    people: list[TrainingPatient], start: dict[str, str], arms: tuple[str, ...], minutes: float
) -> Callable[..., Any]:
    """Nats a lesion (sum, lesions) of unseen patients under a network trained on ``people`` for that many CPU minutes."""
    model, recipe = config("small")[0], TrainingConfig(**start)
    anatomy, order = anatomy_of(mni_space(model.grid)), np.random.default_rng(9).permutation(len(people))
    kept = max(1, len(people) // 10)
    weeks = [float(visit.week) for patient in people for visit in patient.visits]
    material = Material(
        people, [people[i] for i in order[kept:]], [people[i] for i in order[:kept]], arms, (min(weeks), max(weeks)), anatomy,
        tuple(anatomy.planes.shape[1:]),
    )  # fmt: skip
    network = new_network(model, material, seed=0)
    if recipe.init:
        start_from(network, model, arms, recipe)
    if minutes:
        step = risk_step(network, material, recipe, 0, Processes())
        plan = Recipe(100_000, minutes, recipe.learning_rate, recipe.weight_decay)
        optimise(network, lambda at, _: step(at), plan, 0, lambda: validation_scores(network, material)["place_log_score"], 6)

    @torch.no_grad()
    def judge(unseen: list[TrainingPatient]) -> np.ndarray:
        rows = []
        for patient in unseen:
            batch = risk_batch([patient], arms, anatomy.planes.device)
            features = Places(network.encoder, batch.images, batch.masks, anatomy.planes).features
            log_place = network.risk.log_place(features, batch.masks[:, 0] > 0, batch.arm).flatten(1)[0]
            above = log_place[batch.location_voxel].clamp(min=-30) + float(torch.log((batch.masks[:, 0] > 0).sum()))
            rows.append((float(above.sum()), len(above)))
        return np.array(rows)

    return judge


def place_rows(
    law: str, people: list[TrainingPatient], unseen: list[TrainingPatient], arms: tuple[str, ...], samples: list[tuple[int, int]]
) -> list[dict[str, Any]]:
    """One row a sample and start: nats a lesion, and what is gained on nothing, with 95% bootstrap intervals over patients."""
    draws = np.random.default_rng(0).integers(len(unseen), size=(_BOOTSTRAP, len(unseen)))
    as_it_is = place_scores(people[:300], STARTS["reference"], arms, 0.0)(unseen)
    out = []
    for size, first in samples:
        own = people[first : first + size]
        found = {name: place_scores(own, start, arms, MINUTES)(unseen) for name, start in STARTS.items()}
        for name, nats in {**found, "reference, no step": as_it_is}.items():
            total, base = nats[draws].sum(1), found["nothing"][draws].sum(1)
            gain = np.quantile(total[:, 0] / total[:, 1] - base[:, 0] / base[:, 1], [0.025, 0.975])
            whole = nats.sum(0)
            row = {"law": law, "patients": size, "first": first, "start": name, "nats": whole[0] / whole[1]}
            out.append(row | {"gain_lower": gain[0], "gain_upper": gain[1], "lesions": int(whole[1])})
    return out


def simulated(law: str, seed: int, patients: int) -> tuple[list[TrainingPatient], Arrays, tuple[str, ...]]:
    """Patients of a law with their images, what the first stage reads of them, and the arms."""
    trial = cms.simulate_trial(LAWS[law], patients=patients, seed=seed, grid="4mm")
    people = training_set(trial, LesionRule.default())
    return people, arrays_of(trial, people, seed), trial.truth.design.arms


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Of studies.learning_curve.")
@click.option("--law", "laws", type=click.Choice(list(LAWS)), multiple=True, default=tuple(LAWS), show_default=True)
def main(out: Path, parts: Path, laws: tuple[str, ...]) -> None:
    """Write counts.csv and places.csv."""
    torch.set_num_threads(1)
    lifelike = together([dict(np.load(part_of("lifelike", seed, 2131, parts), allow_pickle=False)) for seed in TRAINING])
    shipped = known_rate(TrainingConfig(init="reference"))
    assert shipped is not None
    rates = {"shipped rate": shipped, "lifelike rate": lifelike_rate(lifelike)}
    counts, places = [], []
    for law in laws:
        (people, train, arms), (new, unseen, _) = simulated(law, *TRAIN), simulated(law, *UNSEEN)
        counts += count_rows(law, train, unseen, rates)
        write_table(pd.DataFrame(counts), out / "counts.csv")
        places += place_rows(law, people, new, arms, [one for one in SAMPLES if one[1] == 0])
        write_table(pd.DataFrame(places), out / "places.csv")


if __name__ == "__main__":
    main()
