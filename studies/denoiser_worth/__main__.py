"""The generator's masks beside independent lesions, a denoiser that does not see the scan, and two image baselines.

All models have the same training patients and the same CPU minutes.  They are scored on phantom patients whom none has seen, at
week 96 on placebo, whose true masks are known; and on masks under other arms given that on placebo.

    python -m studies.denoiser_worth --out /somewhere/worth                                                # about an hour
    python -m studies.denoiser_worth --out toy --patients 60 --test 8 --slow 2 --twins 2 --minutes 0.1     # a rehearsal

Checkpoints and masks in OUT are used, not made again; ``--only`` makes those of some models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import causalms as cms
from causalms.generator.inputs import PatientArrays, patient_arrays
from causalms.phantom import PhantomTrial
from causalms.tables import write_table
from studies.common import ARMS, out_option, seed_option
from studies.denoiser_worth import counterfactual as cf
from studies.denoiser_worth.models import Setting, baseline, encoder, generator, material_of
from studies.denoiser_worth.patterns import counted, energy_score, variogram_score
from studies.denoiser_worth.samplers import Counted, Draw, IndependentLesions, sizes_by_region
from studies.denoiser_worth.table import COUNTERFACTUAL, MASKS, OURS, Sums, table

WEEK = 96
#: Arms between placebo and the two under which nearly every lesion goes.
OTHER_ARMS = ARMS[1:4]
NUMBERS = ["estimate", "lower", "upper", "truth", "gap", "gap_lower", "gap_upper"]
NAMES = {
    "seeing": OURS,
    "blind": "denoiser that does not",
    "independent": "independent lesions",
    "by_region": "independent lesions, sizes by region",
    "segmentation": "stochastic segmentation network",
    "lineage": "lineage-faithful diffusion",
}
LINEAGE_STEPS = 16


def sampler(key: str, setting: Setting, seed: int) -> tuple[Draw, cf.Change]:
    """How a model draws a mask, and how it changes one that was seen."""
    if key in ("segmentation", "lineage"):
        model, few = baseline(key, setting, seed), {"steps": LINEAGE_STEPS} if key == "lineage" else {}
        scans: dict[str, object] = {}

        def draw(patient: PatientArrays, arm: str, week: float, number: int) -> np.ndarray:
            if patient.participant_id not in scans:
                scans.clear()
                scans[patient.participant_id] = model.encode_arrays(patient)
            mask: np.ndarray = model.sample(scans[patient.participant_id], arm, week, number, seed, **few)
            return mask

        return draw, cf.redrawn(draw)
    if key in ("independent", "by_region"):
        kept = Counted(encoder(setting))
        sizes = sizes_by_region(material_of(setting).training, kept.generator.space)
        lesions = IndependentLesions(kept, sizes if key == "by_region" else [np.concatenate(sizes)] * len(sizes))
        return partial(lesions, seed=seed), cf.thinned(kept)
    own = generator(setting, seed, key == "seeing", key)
    kept = Counted(own)

    def sample(patient: PatientArrays, arm: str, week: float, number: int) -> np.ndarray:
        return own.sample(kept.scan(patient), arm, week, own.noise(patient.participant_id, number, seed))

    return sample, cf.twins(own, kept)


def kept_masks(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Masks (..., X, Y, Z) of a file, or made and kept, as packed bits."""
    if not file.is_file():
        masks = make()
        np.savez_compressed(file, bits=np.packbits(masks), shape=masks.shape)
    with np.load(file) as known:
        shape = tuple(int(n) for n in known["shape"])
        return np.unpackbits(known["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)


@dataclass(frozen=True)
class Unseen:
    """Patients whom no model has seen: their true masks on placebo at the last week, and their baseline lesions."""

    trial: PhantomTrial
    true: np.ndarray
    t2: np.ndarray
    twins: tuple[int, ...]

    @classmethod
    def of(cls, design: str, patients: int, twins: int, seed: int) -> Unseen:
        """Simulated patients, and the rows of those with masks under other arms."""
        trial = cms.simulate_trial(design, patients=patients, seed=seed)
        names = trial.participants["participant_id"]
        true = np.stack([trial.truth.potential_mask(name, cf.FACTUAL, WEEK) for name in names])
        t2 = np.stack([np.asarray(trial.mask(name, "T2"), bool) for name in names])
        return cls(trial, true, t2, tuple(int(k) for k in np.flatnonzero(true.any((1, 2, 3)))[:twins]))

    def arrays(self, rows: Sequence[int], what: str) -> Iterator[tuple[int, PatientArrays]]:
        """Patients of some rows as a model reads them."""
        for row in tqdm(rows, desc=what, unit="patient", disable=None):
            yield row, patient_arrays(self.trial, self.trial.participants["participant_id"][row])

    def scored(self, masks: np.ndarray) -> Sums:
        """Sums of every patient, from draws (P, D, X, Y, Z); of one draw a patient there are no scores."""
        rows = []
        for own, y, lesions in zip(masks, self.true, self.t2, strict=False):
            row = {**counted(own, lesions, self.trial.space), "masks": np.array(float(len(own))), "patients": np.array(1.0)}
            if len(own) > 1:
                energy = energy_score(own, y)
                row |= {"energy": np.array(energy), "variogram": np.array(variogram_score(own, y))}
            rows.append(row)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def changes(self, masks: np.ndarray) -> Sums:
        """Sums of every patient with masks (P, arms, X, Y, Z) under the other arms."""
        rows = []
        for own, row in zip(masks, self.twins, strict=False):
            name, voxel = self.trial.participants["participant_id"][row], float(self.trial.space.voxel_volume_mm3)
            each = [
                cf.compared(self.trial.truth.potential_mask(name, arm, WEEK), mask, self.true[row], voxel)
                for arm, mask in zip(OTHER_ARMS, own, strict=True)
            ]
            rows.append({key: np.sum([one[key] for one in each], axis=0) for key in each[0]})
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True)
class Sampling:
    """How many draws, and of how many patients the slow model has any."""

    draws: int
    slow: int
    seeds: int


def masks_of(key: str, training: int, setting: Setting, unseen: Unseen, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """A model's draws on placebo, and its masks under the other arms given the true one on placebo."""
    most = sampling.slow if key == "lineage" else len(unseen.true)

    def drawn() -> np.ndarray:
        draw = sampler(key, setting, training)[0]
        patients = unseen.arrays(range(most), key)
        return np.stack([[draw(one, cf.FACTUAL, WEEK, k) for k in range(sampling.draws)] for _, one in patients])

    def other() -> np.ndarray:
        change = sampler(key, setting, training)[1]
        patients = unseen.arrays(unseen.twins[:most], f"{key}, other arms")
        return np.stack([[change(one, arm, WEEK, unseen.true[row]) for arm in OTHER_ARMS] for row, one in patients])

    name = f"{key}_{training}"
    return kept_masks(setting.out / f"{name}_masks.npz", drawn), kept_masks(setting.out / f"{name}_twins.npz", other)


def figure(masks: dict[str, np.ndarray], true: np.ndarray, t2: np.ndarray, file: Path) -> None:
    """A draw of every model beside the true mask, summed over height, of three patients with about 30 lesion voxels."""
    patients = min(len(own) for own in masks.values())
    rows = np.argsort(np.abs(true[:patients].sum((1, 2, 3)) - 30))[:3]
    columns = {"truth": true[:, None], **masks}
    shown, axes = plt.subplots(len(rows), len(columns), figsize=(2.2 * len(columns), 2.7 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis, (name, own) in zip(line, columns.items(), strict=True):
            picture = np.zeros((*t2.shape[1:3], 3)) + 1
            picture[t2[row].any(-1)] = 0.8
            picture[own[row, 0].any(-1)] = (0.8, 0.1, 0.1)
            axis.imshow(picture.transpose(1, 0, 2), origin="lower")
            axis.set_xlabel(f"{int(own[row, 0].sum())} voxels", fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(name.replace(", ", ",\n").replace(" that ", "\nthat "), fontsize=7)
    shown.tight_layout()
    shown.savefig(file, dpi=110)
    plt.close(shown)


@click.command()
@out_option
@click.option("--design", default="lifelike", show_default=True)
@click.option("--patients", default=2131, show_default=True, help="Of the training trial (seed 2026).")
@click.option("--minutes", default=4.0, show_default=True, help="CPU minutes to train every model.")
@click.option("--start", default="", help="Checkpoint of the encoder and of the denoisers' start; empty: trained here.")
@click.option("--matched", default=24, show_default=True, help="Patients with whom sampled counts are matched to expected ones.")
@click.option("--test", default=200, show_default=True, help="Unseen patients.")
@click.option("--slow", default=12, show_default=True, help="Of them for the lineage diffusion, which is too slow for all.")
@click.option("--twins", default=20, show_default=True, help="Of them with masks under other arms.")
@click.option("--draws", default=2, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="Trainings of every model.")
@click.option("--only", default=",".join(NAMES), show_default=True, help="Models, comma-separated.")
@click.option("--results", type=click.Path(path_type=Path), help="Folder of table and figure; OUT if not given.")
@seed_option(4242)
def main(
    out: Path,
    design: str,
    patients: int,
    minutes: float,
    start: str,
    matched: int,
    test: int,
    slow: int,
    twins: int,
    draws: int,
    seeds: int,
    only: str,
    results: Path | None,
    seed: int,
) -> None:
    """Train, sample, score, and write denoiser_worth.csv and denoiser_worth.png."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    setting, sampling = Setting(out, design, patients, minutes, matched, start), Sampling(draws, slow, seeds)
    unseen = Unseen.of(design, test, twins, seed)
    drawn: dict[str, Sums] = {}
    changed: dict[str, Sums] = {}
    shown: dict[str, np.ndarray] = {}
    for key in only.split(","):
        made = [masks_of(key, training, setting, unseen, sampling) for training in range(seeds)]
        shown[NAMES[key]] = made[0][0]
        drawn[NAMES[key]] = _added([unseen.scored(masks) for masks, _ in made])
        changed[NAMES[key]] = _added([unseen.changes(twin_masks) for _, twin_masks in made])
    if OURS not in drawn:
        return
    known = unseen.scored(unseen.true[:, None])
    rows = [table(drawn, known, MASKS, seed), table(changed, {"patients": known["patients"]}, COUNTERFACTUAL, seed)]
    found = pd.concat(rows).assign(
        design=design, patients_trained=patients, minutes=minutes, start=start, draws=draws, seeds=seeds, seed=seed
    )
    found[NUMBERS] = found[NUMBERS].map(lambda value: float(f"{value:.4g}"))
    write_table(found, (results or out) / "denoiser_worth.csv")
    figure(shown, unseen.true, unseen.t2, (results or out) / "denoiser_worth.png")
    click.echo(found.to_string(index=False))


def _added(parts: list[Sums]) -> Sums:
    """Sums of several trainings."""
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


if __name__ == "__main__":
    main()
