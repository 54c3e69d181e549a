"""Second stage of training: the local denoiser, by unweighted binary cross-entropy on the clean mask of whole brains.

Patients with many lesions are drawn more often and weighted by one over their exact probability of being drawn, so the
loss is that of the plain average over
patients and prevalence is not distorted.  The patient's frailty given the observed count is drawn from its conjugate posterior,
``U | N ~ Gamma(k + N, k + Lambda)``.  Where the denoiser sees the scan, the encoder is frozen, and modalities are left out at
random as in the stage of places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from causalms.generator.configurations import ModelConfig, TrainingConfig
from causalms.generator.inputs import Anatomy, PatientArrays, lesions_traced, stack
from causalms.generator.network import Network, Places
from causalms.generator.noise import training_sigmas
from causalms.generator.train.data import Material
from causalms.generator.train.distributed import Processes, Share
from causalms.generator.train.patients import TrainingPatient
from causalms.trials import MODALITIES


@dataclass(frozen=True)
class PlacedPatient:
    """A patient with the risk head's answer for the arm they had: where lesions fall, how many, and how dispersed."""

    patient: TrainingPatient
    log_place: np.ndarray  # float16, flat over the grid; -inf outside the brain
    log_mean: tuple[float, ...]  # one a visit
    size: float


@dataclass(frozen=True)
class MaskBatch:
    """Clean masks (-1 / +1), intensities of lesion centres and voxel weights, each (B, 1, X, Y, Z), and whose they are."""

    clean: Tensor
    intensity: Tensor
    weight: Tensor
    patients: list[PatientArrays]


def drawing_law(patients: list[PlacedPatient]) -> np.ndarray:
    """Probability of drawing each patient: half uniform, half in proportion to the lesions at the last visit."""
    lesions = np.asarray([p.patient.last.lesions for p in patients], dtype=float)
    uniform = np.full(len(patients), 1 / len(patients))
    return uniform if lesions.sum() == 0 else 0.5 * uniform + 0.5 * lesions / lesions.sum()


def mask_batch(
    patients: list[PlacedPatient], law: np.ndarray, shape: tuple[int, ...], share: Share, rng: np.random.Generator
) -> MaskBatch:
    """Draw ``share.whole`` patients, one visit of each and its frailty; the batch holds the share's own rows of them."""
    cleans, intensities, weights, arrays = [], [], [], []
    for row, index in enumerate(rng.choice(len(patients), size=share.whole, p=law)):
        placed = patients[index]
        which = int(rng.integers(len(placed.patient.visits)))
        visit = placed.patient.visits[which]
        frailty = rng.gamma(placed.size + visit.lesions) / (placed.size + np.exp(placed.log_mean[which]))
        if row not in share.rows:
            continue
        brain = placed.patient.arrays.masks[0]
        log_intensity = placed.log_place.reshape(shape).astype(np.float32) + placed.log_mean[which] + np.log(frailty + 1e-30)
        cleans.append(np.where(visit.mask(shape), 1.0, -1.0))
        intensities.append(np.exp(np.clip(log_intensity, -25, 5)))
        weights.append(brain / brain.sum() / (len(patients) * law[index]))
        arrays.append(placed.patient.arrays)
    clean, intensity, weight = (
        torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in (cleans, intensities, weights)
    )
    return MaskBatch(clean, intensity, weight, arrays)


def seen_scans(network: Network, patients: list[PatientArrays], anatomy: Anatomy, keep: Tensor | None = None) -> Tensor | None:
    """What the denoiser sees of scans, by a frozen encoder; None where it sees the noisy mask alone.

    ``keep`` (B, 4) says which modalities are not left out.
    """
    if network.denoiser.look is None:
        return None
    with torch.no_grad():
        images, masks, _ = stack(patients, anatomy.planes.device)
        if keep is not None:
            images *= keep.to(images)[:, :, None, None, None]
        planes = Places(network.encoder, images, masks, anatomy.planes).scan_planes()
    return network.denoiser.see(planes)


def denoiser_loss(
    network: Network, batch: MaskBatch, model: ModelConfig, generator: torch.Generator, share: Share, seen: Tensor | None = None
) -> Tensor:
    """Cross-entropy per brain voxel, averaged over patients and noise levels, times 1000 for readable logs.

    Over the rows of a share its part of the whole batch's average: the parts of all shares sum to it.  ``seen`` is what the
    denoiser sees of the scans.
    """
    device = next(network.parameters()).device
    clean, intensity, weight = (part.to(device) for part in (batch.clean, batch.intensity, batch.weight))
    sigma = share.of(training_sigmas(share.whole, model.sigma_min, model.sigma_max, generator)).to(device)
    noise = share.of(torch.randn((share.whole, *clean.shape[1:]), generator=generator)).to(device)
    x = clean + sigma.view(-1, 1, 1, 1, 1) * noise
    logit = network.denoiser(x, sigma, network.denoiser.prior_logit(intensity), seen)
    voxelwise = F.binary_cross_entropy_with_logits(logit.float(), (clean > 0).float(), reduction="none")
    return 1000 * (voxelwise * weight).sum() / share.whole


@torch.no_grad()
def place_patients(network: Network, material: Material) -> list[PlacedPatient]:
    """The frozen risk head's place law and log means for every training patient's own arm and visits."""
    network.eval()
    anatomy, device, placed = material.anatomy, material.anatomy.planes.device, []
    for patient in tqdm(material.training, desc="placing lesions", unit="patient", disable=None):
        images, masks, covariates = stack([patient.arrays], device)
        signals = network.signals(images, masks, anatomy, lesions_traced([patient.arrays], device))
        reading = network.read(images, masks, covariates, anatomy, signals)
        arm = torch.tensor([material.arms.index(patient.arm)], device=device)
        log_place = network.risk.log_place(reading.features, masks[:, 0] > 0, arm)[0].flatten()
        means = []
        for visit in patient.visits:
            week = torch.tensor([float(visit.week)], device=device)
            means.append(float(network.risk.log_expected_count(reading.rate, reading.state, arm, week)[0]))
        size = float(network.risk.size(arm)[0])
        placed.append(PlacedPatient(patient, log_place.clamp(min=-60000).half().cpu().numpy(), tuple(means), size))
    return placed


def denoiser_step(
    network: Network,
    placed: list[PlacedPatient],
    model: ModelConfig,
    material: Material,
    recipe: TrainingConfig,
    seed: int,
    processes: Processes,
) -> Callable[[int], Tensor]:
    """The loss of a step of the second stage, from (seed, step) alone; every process gets the part of its own masks."""
    law, share = drawing_law(placed), processes.share(recipe.batch_masks)
    device = material.anatomy.planes.device

    def step(number: int) -> Tensor:
        if not share.rows:  # more processes than masks of a batch
            return 0 * sum((parameter.sum() for parameter in network.denoiser.parameters()), torch.zeros((), device=device))
        rng = np.random.default_rng([seed, number, 2])
        random = torch.Generator().manual_seed(seed * 1_000_003 + number + 500_000_000)
        scans = torch.Generator().manual_seed(seed * 1_000_003 + number + 700_000_000)
        batch = mask_batch(placed, law, material.shape, share, rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            keep = torch.rand((share.whole, len(MODALITIES)), generator=scans) >= recipe.modality_dropout
            seen = seen_scans(network, batch.patients, material.anatomy, share.of(keep))
            return denoiser_loss(network, batch, model, random, share, seen)

    return step
