"""What of lesion voxels a denoiser that does not see the scan misses, part by part of the brain.

Masks of unseen patients are noised, the same noise for every model; in parts of the brain the voxels that a denoiser expects are
compared with those that are there, and its cross-entropy (nats a patient) with that of the model named first.

    python -m studies.denoiser_worth.denoising blind=.../blind_0.safetensors seeing=.../seeing_0.safetensors --out studies/results
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

import causalms as cms
from causalms.generator import Generator
from causalms.generator.inputs import Anatomy, PatientArrays, anatomy_of, touching
from causalms.generator.noise import stream
from causalms.generator.train.data import Material, training_set
from causalms.generator.train.denoiser import PlacedPatient, place_patients, seen_scans
from causalms.lesions import LesionRule
from causalms.tables import write_table
from studies.common import out_option, seed_option

#: Noise levels at which a lesion of about 1, 4, 10 and 40 voxels begins to be seen.
LEVELS = (0.4, 0.8, 1.3, 2.5)
_NEAR = float(np.exp(-0.8))  # 8 mm from the ventricles, 4 mm from the cortex


def parts_of(arrays: PatientArrays, anatomy: Anatomy) -> dict[str, Tensor]:
    """Parts of a patient's brain, bool; all but the first two lie outside baseline lesions and their rim."""
    brain, t2 = (torch.from_numpy(np.ascontiguousarray(mask)) for mask in arrays.masks[:2])
    rim = touching(t2.float()[None, None])[0, 0] > 0
    free = brain & ~t2 & ~rim
    ventricles, cortex = anatomy.planes[0] > _NEAR, anatomy.planes[2] > _NEAR
    return {
        "brain": brain,
        "baseline T2 lesions": t2 & brain,
        "their rim": rim & brain,
        "near the ventricles": free & ventricles,
        "near the cortex": free & cortex & ~ventricles,
        "elsewhere": free & ~cortex & ~ventricles,
    }


@torch.no_grad()
def denoised(models: Sequence[Generator], one: PlacedPatient, anatomy: Anatomy) -> np.ndarray:
    """Voxels that are there, voxels expected and nats (levels, models, parts, 3) of one patient's last mask.

    The frailty is the mean of its law given the count: places and shapes are judged.
    """
    arrays, visit = one.patient.arrays, one.patient.last
    shape = arrays.masks.shape[1:]
    frailty = (one.size + visit.lesions) / (one.size + np.exp(one.log_mean[-1]))
    log_place = torch.from_numpy(one.log_place.reshape(shape)).float()
    intensity = torch.exp(log_place + one.log_mean[-1] + float(np.log(frailty)))[None, None]
    there = torch.from_numpy(visit.mask(shape)).float()
    found = np.zeros((len(LEVELS), len(models), 6, 3))
    for number, model in enumerate(models):
        denoiser = model.network.denoiser
        seen, prior = seen_scans(model.network, [arrays], anatomy), denoiser.prior_logit(intensity)
        for row, level in enumerate(LEVELS):
            noise = stream("denoising", arrays.participant_id, row, 0).standard_normal(shape, dtype=np.float32)
            x = 2 * there - 1 + level * torch.from_numpy(noise)
            logit = denoiser(x[None, None], torch.tensor([level]), prior, seen)[0, 0]
            nats = F.binary_cross_entropy_with_logits(logit, there, reduction="none")
            for column, part in enumerate(parts_of(arrays, anatomy).values()):
                found[row, number, column] = [float(values[part].sum()) for values in (there, torch.sigmoid(logit), nats)]
    return found


def table(found: np.ndarray, names: Sequence[str], parts: Sequence[str]) -> pd.DataFrame:
    """One row a level, model and part, from (patients, levels, models, parts, 3); standard errors over patients."""
    rows, root = [], np.sqrt(len(found))
    for row, level in enumerate(LEVELS):
        for number, name in enumerate(names):
            for column, part in enumerate(parts):
                there, expected, nats = found[:, row, number, column].T
                gap, gain = there - expected, nats - found[:, row, 0, column, 2]
                errors = [values.std(ddof=1) / root for values in (gap, gain)]
                rows.append((level, name, part, there.mean(), expected.mean(), errors[0], nats.mean(), gain.mean(), errors[1]))
    columns = ["level", "model", "part", "voxels", "expected", "gap_se", "nats", "nats_less_first", "nats_less_first_se"]
    return pd.DataFrame(rows, columns=columns).assign(patients=len(found))


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME=CHECKPOINT...")
@out_option
@click.option("--design", default="lifelike", show_default=True)
@click.option("--patients", default=120, show_default=True)
@seed_option(4242)
def main(models: tuple[str, ...], out: Path, design: str, patients: int, seed: int) -> None:
    """Write denoiser_denoising.csv."""
    torch.set_num_threads(1)
    files = dict(word.split("=", 1) for word in models)
    generators = [Generator.load(file) for file in files.values()]
    first = generators[0]
    unseen = training_set(cms.simulate_trial(design, patients=patients, seed=seed), LesionRule.default())
    anatomy, shape = anatomy_of(first.space), tuple(first.space.shape)
    material = Material(unseen, unseen, unseen[:1], first.arms, first.weeks, anatomy, shape)
    parts = list(parts_of(unseen[0].arrays, anatomy))
    found = np.stack([denoised(generators, one, anatomy) for one in place_patients(first.network, material)])
    rows = table(found, list(files), parts)
    numbers = rows.columns[3:-1]
    rows[numbers] = rows[numbers].map(lambda value: float(f"{value:.4g}"))
    write_table(rows.assign(design=design, seed=seed), out / "denoiser_denoising.csv")
    click.echo(rows.to_string(index=False))


if __name__ == "__main__":
    main()
