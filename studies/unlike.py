"""Whether patients unlike those a generator learned from are noticed, and those of the design left alone.

python -m studies.unlike --parts parts --out studies/results

``parts`` is the folder that studies.reference_error_model fills.  Trials of the design are judged by the summary of the other
patients.  Older patients are drawn from them by weights; other scanners are made by changing the images of new phantom patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from tqdm import tqdm

import causalms as cms
from causalms.generator import Generator
from causalms.generator.inputs import PatientArrays, anatomy_of, patient_arrays, robust_scale, stack
from causalms.generator.network import Network
from causalms.generator.seen import Seen, features_of, scanner_features
from causalms.generator.train.held_out import HeldOut, seen_of
from causalms.tables import write_table
from causalms.tables.unlike import RARE, chance_of_outside, farther_than_usual
from causalms.trials import Space
from studies.common import out_option, seed_option
from studies.coverage import Population, tilted_to_older
from studies.reference_error_model import together

Array = np.ndarray
_GROUPS = ("columns", "signals", "scanner")


def features(unseen: HeldOut, rows: Array | None = None) -> dict[str, Array]:
    """The compared features of some held-out patients."""
    chosen = np.arange(len(unseen)) if rows is None else rows
    return features_of(unseen.covariates[chosen], unseen.signals[chosen], unseen.scanner[chosen])


def alarms(seen: Seen, found: dict[str, Array]) -> dict[str, tuple[float, bool]]:
    """By group: the share of patients outside, and whether it is more than chance."""
    distances = seen.distances(found)
    shares = {name: distance > 1 for name, distance in distances.items()}
    return {
        name: (
            float(outside.mean()),
            chance_of_outside(int(outside.sum()), len(outside), seen.patients) < RARE
            or farther_than_usual(distances[name], seen.usual[name]) is not None,
        )
        for name, outside in shares.items()
    }


def _noisier(image: Array, rng: np.random.Generator) -> Array:
    return np.asarray(image + rng.normal(0, 0.25, image.shape))


def _darker(image: Array, rng: np.random.Generator) -> Array:
    low, high = image.min(), image.max()
    return np.asarray(((image - low) / (high - low)) ** 1.3)


def _shaded(image: Array, rng: np.random.Generator) -> Array:
    return np.asarray((image + 8) * np.exp(0.15 * np.linspace(-1, 1, image.shape[0]))[:, None, None])


def _smoother(image: Array, rng: np.random.Generator) -> Array:
    return np.asarray(ndimage.gaussian_filter(image, 0.5))


def _shifted(image: Array, rng: np.random.Generator) -> Array:
    return np.roll(image, 1, axis=0)


SCANNERS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "more noise": _noisier,
    "other contrast": _darker,
    "more shading": _shaded,
    "lower resolution": _smoother,
    "shifted by one voxel of 4 mm": _shifted,
}


def on_scanner(patient: PatientArrays, change: Callable[[Array, np.random.Generator], Array], seed: int) -> PatientArrays:
    """The patient with images of another scanner."""
    rng, brain = np.random.default_rng([seed, int(patient.participant_id.split("-")[1])]), patient.masks[0]
    images = [
        robust_scale(change(image.astype(float), rng), brain) if image.any() else image for image in patient.images.astype(float)
    ]
    return replace(patient, images=np.stack(images).astype(np.float16))


def features_of_images(network: Network, patients: list[PatientArrays], space: Space) -> dict[str, Array]:
    """The compared features of patients whose images are at hand."""
    anatomy, signals = anatomy_of(space), []
    for patient in patients:
        images, masks, _ = stack([patient], torch.device("cpu"))
        signals.append(network.signals(images, masks, anatomy).numpy()[0])
    scanner = np.array([scanner_features(patient, space) for patient in patients], float)
    return features_of(np.array([patient.covariates for patient in patients]), np.array(signals), scanner)


def design_rows(unseen: HeldOut, runs: int, seed: int) -> list[dict[str, object]]:
    """Trials of 250 patients of the design, drawn at random, each judged by all others."""
    rng, rows = np.random.default_rng([seed, 1]), []
    for _ in tqdm(range(runs), desc="trials", unit="trial", disable=None):
        order = rng.permutation(len(unseen))
        own, others = order[:250], order[250:]
        rows.append(alarms(Seen.of(features(unseen, others)), features(unseen, own)))
    return [_row("the design itself", rows, 250)]


def older_rows(unseen: HeldOut, log_rate: Array, runs: int, seed: int) -> list[dict[str, object]]:
    """Trials of 240 older, more active patients (mean age 50 years, three quarters enhancing)."""
    seen, weights = seen_of(unseen), tilted_to_older(Population(unseen.covariates, unseen.signals, log_rate))
    rng = np.random.default_rng(seed)
    draws = [rng.choice(len(unseen), 240, p=weights) for _ in range(runs)]
    return [_row("older, more enhancement", [alarms(seen, features(unseen, rows)) for rows in draws], 240)]


def scanner_rows(unseen: HeldOut, patients: int, seed: int) -> list[dict[str, object]]:
    """Five trials of new phantom patients on every other scanner."""
    seen, network = seen_of(unseen), Generator.load("reference").network
    found: dict[str, list[dict[str, tuple[float, bool]]]] = {name: [] for name in ("new patients, same scanner", *SCANNERS)}
    for number in tqdm(range(5), desc="scanned trials", unit="trial", disable=None):
        trial = cms.simulate_trial("lifelike", patients=patients, seed=seed + number)
        people = [patient_arrays(trial, name) for name in trial.participants["participant_id"]]
        found["new patients, same scanner"].append(alarms(seen, features_of_images(network, people, trial.space)))
        for name, change in SCANNERS.items():
            changed = [on_scanner(patient, change, seed) for patient in people]
            found[name].append(alarms(seen, features_of_images(network, changed, trial.space)))
    return [_row(name, runs, patients) for name, runs in found.items()]


def _row(scenario: str, runs: list[dict[str, tuple[float, bool]]], patients: int) -> dict[str, object]:
    shares = {f"outside_{name}": float(np.mean([run[name][0] for run in runs])) for name in _GROUPS}
    fired = {f"alarm_{name}": float(np.mean([run[name][1] for run in runs])) for name in _GROUPS}
    anything = float(np.mean([any(fired for _, fired in run.values()) for run in runs]))
    return {"scenario": scenario, "trials": len(runs), "patients": patients, **shares, **fired, "any_alarm": anything}


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--patients", default=60, show_default=True, help="New phantom patients on other scanners.")
@seed_option(9000)
def main(out: Path, parts: Path, patients: int, seed: int) -> None:
    """Write unlike.csv: the share of patients outside and of trials with an alarm, by what is compared."""
    places = sorted(parts.glob("*.npz"))
    unseen, log_rate = together(places)
    rows = design_rows(unseen, 300, seed) + older_rows(unseen, log_rate, 20, seed) + scanner_rows(unseen, patients, seed)
    table = pd.DataFrame(rows).assign(seed=seed)
    write_table(table, out / "unlike.csv")
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
