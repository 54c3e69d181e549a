"""First stage of training: the scan encoder and the risk head, by likelihood.

For a patient with cumulative counts ``N_1 <= ... <= N_m`` at visits ``w_1 < ... < w_m`` and lesion centres ``v`` at the
last of them

    log L = log NB(N_m; Lambda(w_m), k_a)                       the count
          + sum_j (N_j - N_{j-1}) log share_j                   when, shares of Lambda between visits
          + sum_v log p(v | a)                                  where

Every term is a proper score without weights on lesions, so counts stay right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from causalms.generator.configurations import TrainingConfig
from causalms.generator.inputs import pooled_signals, stack, volumes
from causalms.generator.network import Network
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


def negative_binomial_log_likelihood(count: Tensor, log_mean: Tensor, size: Tensor) -> Tensor:
    """``log NB(n; m, k)`` with variance ``m + m^2 / k``, shape of ``count``."""
    log_total = torch.logaddexp(torch.log(size), log_mean)
    return (
        torch.lgamma(count + size)
        - torch.lgamma(size)
        - torch.lgamma(count + 1)
        + size * (torch.log(size) - log_total)
        + count * (log_mean - log_total)
    )


def risk_log_likelihood(
    network: Network, batch: RiskBatch, planes: Tensor, regions: Tensor, voxel_ml: float
) -> dict[str, Tensor]:
    """Sums over the batch of the three terms, and the log expected counts (B,)."""
    volume = volumes(batch.images, batch.masks, planes)
    pooled = pooled_signals(batch.images, batch.masks, planes, regions, voxel_ml)
    covariates, pooled = network.standardise(batch.covariates, pooled)
    encoded, rate = network.encoder(volume, pooled, covariates, batch.masks[:, :1])
    log_mean = network.risk.log_expected_count(rate, encoded.state, batch.arm, batch.last_week)
    size = network.risk.size(batch.arm)
    count = negative_binomial_log_likelihood(batch.last_count, log_mean, size).sum()
    when = count.new_zeros(())
    for index, weeks, increments in batch.increments:
        power = torch.exp(network.risk.time_power[batch.arm[index]])
        cumulative = (weeks / weeks[-1]) ** power
        share = torch.diff(cumulative, prepend=cumulative.new_zeros(1))
        when = when + (increments * torch.log(share.clamp(min=1e-6))).sum()
    brain = batch.masks[:, 0] > 0
    log_place = network.risk.log_place(encoded.features, brain, batch.arm).flatten(1)
    at_lesions = log_place[batch.location_patient, batch.location_voxel]
    where = at_lesions.clamp(min=-30).sum()
    return {"count": count, "when": when, "where": where, "log_mean": log_mean}


def penalty(network: Network) -> Tensor:
    """Gaussian priors that keep arm-by-patient modification and arm-specific terms small unless the data insist."""
    risk = network.risk
    terms = 30.0 * (risk.interaction**2).sum() + 0.5 * (risk.effect**2).sum() + 20.0 * (risk.log_size_arm**2).sum()
    linear = network.encoder.linear_rate.weight
    return terms + 20.0 * (risk.place_arm**2).sum() + 10.0 * (risk.time_power**2).sum() + 10.0 * (linear**2).sum()


def epoch_order(count: int, epoch: int, seed: int) -> np.ndarray:
    """The order of patients in an epoch, from (seed, epoch) alone so that resuming is exact."""
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


def batches(patients: list[TrainingPatient], recipe: TrainingConfig, epoch: int, seed: int) -> Iterator[list[TrainingPatient]]:
    """The batches of one epoch."""
    order = epoch_order(len(patients), epoch, seed)
    for start in range(0, len(order), recipe.batch_patients):
        yield [patients[i] for i in order[start : start + recipe.batch_patients]]


class RowDropout(nn.Dropout):
    """Dropout drawn for all rows of a batch, so that a process with a share of them drops what one process would drop.

    Examples
    --------
    >>> dropout, x = RowDropout(0.5), torch.ones(4, 3)
    >>> _ = torch.manual_seed(0); whole = dropout(x)
    >>> dropout.share = Share.of_process(4, rank=1, world=2)
    >>> _ = torch.manual_seed(0); torch.equal(dropout(x[1::2]), whole[1::2])
    True
    """

    share: Share | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Drop entries of ``input`` (rows, columns) while training, and scale up what is kept."""
        if not self.training:
            return input
        share = self.share or Share.of_process(len(input))
        keep = torch.rand(share.whole, input.shape[1]) >= self.p
        return input * share.of(keep).to(input) / (1 - self.p)


def drop_modalities(batch: RiskBatch, probability: float, generator: torch.Generator, share: Share) -> None:
    """Mask modalities and columns at random, in place, so that missing ones are met in training; drawn for the whole batch."""
    keep = torch.rand((share.whole, batch.images.shape[1]), generator=generator) >= probability
    batch.images.mul_(share.of(keep).to(batch.images)[:, :, None, None, None])
    gone = torch.rand((share.whole, batch.covariates.shape[1]), generator=generator) < probability / 2
    batch.covariates[share.of(gone).to(batch.covariates.device)] = torch.nan


def set_standardisation(
    network: Network, patients: list[TrainingPatient], planes: Tensor, regions: Tensor, voxel_ml: float
) -> None:
    """Means and standard deviations of the columns and pooled signals over the training patients."""
    device = planes.device
    columns, signals = [], []
    for start in range(0, len(patients), 16):
        images, masks, covariates = stack([p.arrays for p in patients[start : start + 16]], device)
        columns.append(covariates)
        signals.append(pooled_signals(images, masks, planes, regions, voxel_ml))
    for name, parts in (("covariate", columns), ("pooled", signals)):
        values = torch.cat(parts).double().cpu().numpy()
        mean = np.nan_to_num(np.nanmean(values, axis=0))
        sd = np.nan_to_num(np.nanstd(values, axis=0), nan=1.0)
        getattr(network, f"{name}_mean").copy_(torch.from_numpy(mean))
        getattr(network, f"{name}_sd").copy_(torch.from_numpy(np.where(sd < 1e-4, 1.0, sd)))


def start_values(network: Network, patients: list[TrainingPatient], arms: tuple[str, ...]) -> None:
    """Begin at the arms' observed rates; an arm nobody has stays at the average."""
    last = network.risk.last_week
    rates, weights, volumes_ml = np.zeros(len(arms)), np.zeros(len(arms)), np.zeros(len(arms))
    counts = np.zeros(len(arms))
    for patient in patients:
        index = arms.index(patient.arm)
        rates[index] += patient.last.lesions
        weights[index] += patient.last.week / last
        volumes_ml[index] += patient.volume_ml
        counts[index] += patient.last.lesions
    overall = np.log((rates.sum() + 0.5) / weights.sum())
    effect = np.where(weights > 0, np.log((rates + 0.5) / np.maximum(weights, 1e-9)) - overall, 0.0)
    mean_volume = np.log((volumes_ml + 0.175 * 5) / (counts + 5))
    with torch.no_grad():
        network.risk.intercept.fill_(float(overall))
        network.risk.effect.copy_(torch.from_numpy(effect))
        network.risk.log_mean_volume.copy_(torch.from_numpy(mean_volume))


def risk_step(
    network: Network, material: Material, recipe: TrainingConfig, seed: int, processes: Processes
) -> Callable[[int], Tensor]:
    """The loss of a step of the first stage, from (seed, step) alone; every process gets the part of its own patients."""
    patients, device = material.training, material.planes.device
    a_epoch = -(-len(patients) // recipe.batch_patients)
    dropout = network.encoder.pool_dropout
    assert isinstance(dropout, RowDropout)
    cache: dict[int, list[list[TrainingPatient]]] = {}

    def step(number: int) -> Tensor:
        epoch, index = divmod(number, a_epoch)
        if epoch not in cache:
            cache.clear()
            cache[epoch] = list(batches(patients, recipe, epoch, seed))
        whole = cache[epoch][index]
        share = processes.share(len(whole))
        random = torch.Generator().manual_seed(seed * 1_000_003 + number)
        torch.manual_seed(seed * 1_000_003 + number)
        loss = penalty(network) / len(patients) / processes.world
        if not share.rows:  # the last batch of an epoch may have fewer patients than there are processes
            return loss
        batch = risk_batch([whole[row] for row in share.rows], material.arms, device)
        images, masks, owner, voxel = augment(
            batch.images, batch.masks, batch.location_patient, batch.location_voxel, recipe, random, share
        )
        batch = replace(batch, images=images, masks=masks, location_patient=owner, location_voxel=voxel)
        drop_modalities(batch, recipe.modality_dropout, random, share)
        dropout.share = share
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            terms = risk_log_likelihood(network, batch, material.planes, material.regions, material.voxel_ml)
        return loss - (terms["count"] + terms["when"] + terms["where"] / 10) / share.whole

    return step
