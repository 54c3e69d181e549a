r"""Counts on a scanner that the generator has not seen: R2 of the log rate there, and on the scanners that it learned from.

The first stage learns from 2,131 patients of the design `scanners` (four scanners of other contrast, noise, gain and resolution;
readers who miss lesions and invent some) without those of one scanner, in turn, and is judged on 1,200 others.  Three ways:

- *as it is*;
- *augmented*: one training patient in three has the features of the scan as it is, the others those of a copy with another
  contrast (a power whose logarithm has sd .25), blur (up to 7 mm full width) and noise (up to .12 interquartile ranges);
- *within scanner*: features have mean 0 and sd 1 over the patients of their scanner, whose outcomes are not asked for.

python -m studies.held_out_scanner --parts parts --out studies/results
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import causalms as cms
from causalms.files import whole_file
from causalms.generator import config
from causalms.generator.inputs import Anatomy, anatomy_of, stack
from causalms.generator.network import Network
from causalms.generator.train.data import training_set
from causalms.generator.train.first_stage import fit_first_stage
from causalms.generator.train.patients import TrainingPatient
from causalms.lesions import LesionRule
from causalms.tables import write_table
from studies.common import out_option
from studies.learning_curve import Arrays, arrays_of, data_of

DESIGN, TRAINING, TEST, COPIES = "scanners", 4001, 4242, 2
WAYS = ("as it is", "augmented", "within scanner")
_POWER_SD, _BLUR_MM, _NOISE, _FLOOR = 0.25, 7.0, 0.12, -4.0


def read(seed: int, patients: int, copies: int, parts: Path) -> Arrays:
    """What :func:`studies.learning_curve.arrays_of` reads, every patient's scanner, and features of degraded copies; kept."""
    place = parts / f"{DESIGN}-{seed}-{patients}-{copies}.npz"
    if not place.is_file():
        trial = cms.simulate_trial(DESIGN, patients, seed)
        people = training_set(trial, LesionRule.default())
        names = [person.arrays.participant_id for person in people]
        arrays = {**arrays_of(trial, people, seed), "scanner": trial.truth.scanners.loc[names].to_numpy().astype(str)}
        rng, anatomy = np.random.default_rng(seed), anatomy_of(trial.space)
        arrays["copies"] = np.array([features_of_copies(people, anatomy, rng) for _ in range(copies)])
        with whole_file(place) as beside, open(beside, "wb") as opened:
            np.savez_compressed(opened, **arrays)
    return dict(np.load(place, allow_pickle=False))


@torch.no_grad()
def features_of_copies(people: list[TrainingPatient], anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Image features of every patient's scan after a random change of contrast, resolution and noise."""
    network, rows = Network(config("small")[0], 1, 96.0), []
    for person in tqdm(people, desc="copies", unit="patient", disable=None):
        images, masks, _ = stack([person.arrays], torch.device("cpu"))
        rows.append(network.signals(degraded(images[0], masks[0, 0], rng)[None], masks, anatomy).double().numpy())
    return np.concatenate(rows)


def degraded(images: Tensor, brain: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (4, X, Y, Z) with another contrast, blurred and noisy, again with brain median 0 and interquartile range 1."""
    present = images.flatten(1).abs().amax(1) > 0
    power = float(np.exp(_POWER_SD * rng.standard_normal()))
    changed = ((images - _FLOOR).clamp(min=0.05) / -_FLOOR) ** power
    changed = blurred(changed, brain, float(rng.uniform(0, _BLUR_MM)) / np.sqrt(8 * np.log(2)) / 4.0) * -_FLOOR
    spread = float(rng.uniform(0, _NOISE))
    changed = changed + spread * torch.from_numpy(rng.standard_normal(changed.shape, dtype=np.float32))
    low, middle, high = torch.quantile(changed[:, brain > 0], torch.tensor([0.25, 0.5, 0.75]), dim=1)
    changed = (changed - middle[:, None, None, None]) / (high - low).clamp(min=1e-3)[:, None, None, None]
    return (changed * brain * present[:, None, None, None]).clamp(-6, 6)


def blurred(images: Tensor, brain: Tensor, sd_voxels: float) -> Tensor:
    """Gaussian blur within the brain; nothing from outside is blurred in."""
    weights = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / max(sd_voxels, 0.05)) ** 2)
    both = torch.cat([images * brain, brain[None]])[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 5, 2
        both = F.conv3d(both, (weights / weights.sum()).view(shape), padding=tuple(padding))
    return both[:-1, 0] / both[-1:, 0].clamp(min=1e-6)


def within_scanner(arrays: Arrays) -> Arrays:
    """Features with mean 0 and sd 1 over the patients of every scanner."""
    signals = arrays["signals"].copy()
    for name in np.unique(arrays["scanner"]):
        rows = arrays["scanner"] == name
        sd = np.nanstd(signals[rows], axis=0)
        signals[rows] = (signals[rows] - np.nanmean(signals[rows], axis=0)) / np.where(sd < 1e-4, 1.0, sd)
    return {**arrays, "signals": signals}


def squares(train: Arrays, test: Arrays, arms: int = 2) -> np.ndarray:
    """Squared errors and squared deviations (2, n) of the log rate within arms, averaged over the arms."""
    n, rows = len(test["counts"]), data_of({**test, "log_share": np.zeros(len(test["counts"]))}, train, "first stage")
    fit = fit_first_stage(data_of(train, train, "first stage"), arms)
    found = np.column_stack([fit.log_mean(replace(rows, arm=np.full(n, arm))) for arm in range(arms)])
    true = test["log_rate"]
    error, spread = found - true, true.copy()
    for name in np.unique(test["scanner"]):  # R2 within a scanner, as if it were a trial of its own
        own = test["scanner"] == name
        error[own] -= error[own].mean(0)
        spread[own] -= spread[own].mean(0)
    return np.stack([(error**2).mean(1), (spread**2).mean(1)])


def judged(train: Arrays, test: Arrays, held_out: str, way: str) -> dict[str, object]:
    """R2 on the scanner held out, on the others (mean), and the gap, with 95% intervals over patients by scanner."""
    pattern = np.array([0, *range(1, COPIES + 1)])
    kept = {name: values[train["scanner"] != held_out] for name, values in train.items() if name != "copies"}
    if way == "augmented":
        copies = np.concatenate([train["signals"][None], train["copies"]])[:, train["scanner"] != held_out]
        kept["signals"] = copies[np.resize(pattern, copies.shape[1]), np.arange(copies.shape[1])]
    elif way == "within scanner":
        kept, test = within_scanner(kept), within_scanner(test)
    parts, scanner = squares(kept, test), test["scanner"]
    others = [name for name in np.unique(scanner) if name != held_out]

    def measured(rows: np.ndarray) -> tuple[float, float, float]:
        error, spread = parts[:, rows]
        own = [1 - error[scanner[rows] == n].mean() / spread[scanner[rows] == n].mean() for n in (held_out, *others)]
        return own[0], float(np.mean(own[1:])), float(np.mean(own[1:]) - own[0])

    n, rng = len(scanner), np.random.default_rng(TEST)
    each = [np.flatnonzero(scanner == name) for name in (held_out, *others)]
    again = [measured(np.concatenate([rng.choice(rows, len(rows)) for rows in each])) for _ in range(1000)]
    ends = np.quantile(again, [0.025, 0.975], axis=0)
    row: dict[str, object] = {"way": way, "held_out": held_out, "learned_from": len(kept["counts"]), "judged": n}
    for k, (name, value) in enumerate(zip(("held_out_r2", "others_r2", "gap"), measured(np.arange(n)), strict=True)):
        row |= {name: value, f"{name}_lower": ends[0, k], f"{name}_upper": ends[1, k]}
    return row


@click.command()
@out_option
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Folder of what was read; a killed run goes on.")
@click.option("--patients", default=2131, show_default=True, help="To learn from, before one scanner is left out.")
@click.option("--test", default=1200, show_default=True, help="Unseen patients.")
def main(out: Path, parts: Path, patients: int, test: int) -> None:
    """Write held_out_scanner.csv: one row a way and scanner held out."""
    torch.set_num_threads(1)
    parts.mkdir(parents=True, exist_ok=True)
    train, unseen = read(TRAINING, patients, COPIES, parts), read(TEST, test, 0, parts)
    table = pd.DataFrame([judged(train, unseen, name, way) for way in WAYS for name in np.unique(unseen["scanner"])])
    write_table(table.round(4), out / "held_out_scanner.csv")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
