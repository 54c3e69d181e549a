"""Steps of the scan encoder and the risk head, by likelihood: when lesions come, and where; how many says the first stage.

For a patient with cumulative counts ``N_1 <= ... <= N_m`` at visits ``w_1 < ... < w_m`` and lesion centres ``v`` at the
last of them

    log L = sum_j (N_j - N_{j-1}) log share_j                   when, shares of Lambda between visits
          + sum_v log p(v | a)                                  where

Both terms are proper scores without weights on lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from causalms.generator.configurations import TrainingConfig
from causalms.generator.inputs import stack
from causalms.generator.network import Network, Places
from causalms.generator.train.augment import augment
from causalms.generator.train.data import Material
from causalms.generator.train.distributed import Processes, Share
from causalms.generator.train.patients import TrainingPatient


@dataclass(frozen=True)
class RiskBatch:
    """Tensors of one step; ``location_patient`` says whose lesion each of ``location_voxel`` is."""

    images: Tensor
    masks: Tensor
    covariates: Tensor
    arm: Tensor
    last_week: Tensor
    last_count: Tensor
    increments: list[tuple[int, Tensor, Tensor]]
    location_patient: Tensor
    location_voxel: Tensor


def risk_batch(patients: list[TrainingPatient], arms: tuple[str, ...], device: torch.device) -> RiskBatch:
    """Collect the tensors of some patients."""
    images, masks, covariates = stack([p.arrays for p in patients], device)
    increments = []
    for index, patient in enumerate(patients):
        if len(patient.visits) > 1 and patient.last.lesions > 0:
            counts = np.diff([0, *(v.lesions for v in patient.visits)]).clip(0)
            weeks = torch.tensor([float(v.week) for v in patient.visits], device=device)
            increments.append((index, weeks, torch.from_numpy(counts).to(device).float()))
    owner = np.concatenate([np.full(len(p.centres), i) for i, p in enumerate(patients)]).astype(np.int64)
    place = np.concatenate([p.centres for p in patients]).astype(np.int64)
    return RiskBatch(
        images,
        masks,
        covariates,
        torch.tensor([arms.index(p.arm) for p in patients], device=device),
        torch.tensor([float(p.last.week) for p in patients], device=device),
        torch.tensor([float(p.last.lesions) for p in patients], device=device),
        increments,
        torch.from_numpy(owner).to(device),
        torch.from_numpy(place).to(device),
    )


def risk_log_likelihood(network: Network, batch: RiskBatch, features: Tensor) -> dict[str, Tensor]:
    """Sums over the batch of the two terms."""
    when = batch.last_count.new_zeros(())
    for index, weeks, increments in batch.increments:
        power = torch.exp(network.risk.time_power[batch.arm[index]])
        cumulative = (weeks / weeks[-1]) ** power
        share = torch.diff(cumulative, prepend=cumulative.new_zeros(1))
        when = when + (increments * torch.log(share.clamp(min=1e-6))).sum()
    brain = batch.masks[:, 0] > 0
    log_place = network.risk.log_place(features, brain, batch.arm).flatten(1)
    at_lesions = log_place[batch.location_patient, batch.location_voxel]
    return {"when": when, "where": at_lesions.clamp(min=-30).sum()}


def penalty(network: Network) -> Tensor:
    """Gaussian priors that keep arm-specific terms small unless the data insist."""
    return 20.0 * (network.risk.place_arm**2).sum() + 10.0 * (network.risk.time_power**2).sum()


def epoch_order(count: int, epoch: int, seed: int) -> np.ndarray:
    """The order of patients in an epoch, from (seed, epoch) alone so that resuming is exact."""
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


def batches(patients: list[TrainingPatient], recipe: TrainingConfig, epoch: int, seed: int) -> Iterator[list[TrainingPatient]]:
    """The batches of one epoch."""
    order = epoch_order(len(patients), epoch, seed)
    for start in range(0, len(order), recipe.batch_patients):
        yield [patients[i] for i in order[start : start + recipe.batch_patients]]


def drop_modalities(batch: RiskBatch, probability: float, generator: torch.Generator, share: Share) -> None:
    """Mask modalities at random, in place, so that missing ones are met in training; drawn for the whole batch."""
    keep = torch.rand((share.whole, batch.images.shape[1]), generator=generator) >= probability
    batch.images.mul_(share.of(keep).to(batch.images)[:, :, None, None, None])


def start_values(network: Network, patients: list[TrainingPatient], arms: tuple[str, ...]) -> None:
    """Mean volume of a lesion by arm, shrunk towards 0.175 mL by five lesions."""
    volumes_ml, counts = np.zeros(len(arms)), np.zeros(len(arms))
    for patient in patients:
        index = arms.index(patient.arm)
        volumes_ml[index] += patient.volume_ml
        counts[index] += patient.last.lesions
    with torch.no_grad():
        network.risk.log_mean_volume.copy_(torch.from_numpy(np.log((volumes_ml + 0.175 * 5) / (counts + 5))))


def risk_step(
    network: Network, material: Material, recipe: TrainingConfig, seed: int, processes: Processes
) -> Callable[[int], Tensor]:
    """The loss of a step, from (seed, step) alone; every process gets the part of its own patients."""
    patients, device = material.training, material.anatomy.planes.device
    a_epoch = -(-len(patients) // recipe.batch_patients)
    cache: dict[int, list[list[TrainingPatient]]] = {}

    def step(number: int) -> Tensor:
        epoch, index = divmod(number, a_epoch)
        if epoch not in cache:
            cache.clear()
            cache[epoch] = list(batches(patients, recipe, epoch, seed))
        whole = cache[epoch][index]
        share = processes.share(len(whole))
        random = torch.Generator().manual_seed(seed * 1_000_003 + number)
        loss = penalty(network) / len(patients) / processes.world
        if not share.rows:  # the last batch of an epoch may have fewer patients than there are processes
            return loss
        batch = risk_batch([whole[row] for row in share.rows], material.arms, device)
        images, masks, owner, voxel = augment(
            batch.images, batch.masks, batch.location_patient, batch.location_voxel, recipe, random, share
        )
        batch = replace(batch, images=images, masks=masks, location_patient=owner, location_voxel=voxel)
        drop_modalities(batch, recipe.modality_dropout, random, share)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            places = Places(network.encoder, batch.images, batch.masks, material.anatomy.planes)
            terms = risk_log_likelihood(network, batch, places.features)
        return loss - (terms["when"] + terms["where"] / 10) / share.whole

    return step
