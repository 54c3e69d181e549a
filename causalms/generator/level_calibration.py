"""Arm means that are right: after training, the risk head's levels and slope are fitted to the arms' observed means.

The negative-binomial likelihood weighs a patient of mean ``m`` by ``1 / (m + m^2 / k)``, so that where the network shrinks the
spread of rates, patients of high rate are predicted too low and the arm's mean with them.  A Poisson quasi-likelihood with one
level an arm and one common slope (it weighs counts alike, and its score equations make every arm's predicted mean equal
its observed one) corrects this; the few parameters are folded back into the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from causalms.errors import ConvergenceError
from causalms.generator.dataset import TrainingPatient
from causalms.generator.inputs import pooled_signals, volumes
from causalms.generator.network import Network
from causalms.generator.risk_training import risk_batch
from causalms.generator.scores import maximum_likelihood_size


def fit_levels(
    counts: np.ndarray,
    log_patient: np.ndarray,
    log_arm: np.ndarray,
    arm: np.ndarray,
    arms: int,
    slope_precision: float = 200.0,
    seen: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Shift of every arm and common slope ``b`` in ``log m = shift_arm + log_arm + b log_patient``, by Newton's method.

    Patients whose counts the network was trained on (``seen``) fit better than new ones; they get an intercept and a slope
    of their own, so that they inform the differences between arms only.

    Parameters
    ----------
    counts : array (n,)
    log_patient : array (n,)
        The part of the log mean that belongs to the patient.
    log_arm : array (n,)
        The part that belongs to arm and week.
    arm : int array (n,)
    arms : int
    slope_precision : float
        Prior precision of the slope about 1, in patients' counts.
    seen : bool array (n,), optional

    Examples
    --------
    >>> x, arm = np.linspace(-1, 1, 400), np.arange(400) % 2
    >>> shift, slope = fit_levels(np.exp(0.3 * arm + 1.2 * x), x, np.zeros(400), arm, 2, slope_precision=1e-6)
    >>> (shift.round(3) + 0.0).tolist(), round(slope, 2)
    ([0.0, 0.3], 1.2)
    """
    design = np.column_stack([np.eye(arms)[arm], log_patient])
    prior = np.append(np.full(arms, 1e-3), slope_precision)
    centre = np.append(np.zeros(arms), 1.0)
    if seen is not None and seen.any() and not seen.all():
        design = np.column_stack([design, seen, seen * log_patient])
        prior, centre = np.append(prior, [1e-3, 1e-3]), np.append(centre, [0.0, 0.0])
    beta = centre.copy()
    for _ in range(100):
        mean = np.exp(np.clip(log_arm + design @ beta, -20, 8))
        gradient = design.T @ (counts - mean) - prior * (beta - centre)
        step = np.linalg.solve(design.T @ (design * mean[:, None]) + np.diag(prior), gradient)
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            return beta[:arms], float(beta[arms])
    raise ConvergenceError("the arms' levels did not converge; train the risk head longer")


@dataclass(frozen=True)
class LevelEvidence:
    """Counts at the last visit and the two parts of their log means, one entry a patient.

    ``seen``: the network was trained on these patients' counts.
    """

    counts: np.ndarray
    log_patient: np.ndarray
    log_arm: np.ndarray
    arm: np.ndarray
    seen: bool = False


@torch.no_grad()
def level_evidence(
    network: Network, patients: list[TrainingPatient], arms: tuple[str, ...], planes: Tensor, regions: Tensor, voxel_ml: float
) -> LevelEvidence:
    """What levels are fitted to; collected in pieces, it lets a trial of any size pass through a fixed memory."""
    network.eval()
    risk = network.risk
    parts: list[tuple[np.ndarray, ...]] = []
    for start in tqdm(range(0, len(patients), 8), desc="calibrating levels", unit="batch", disable=None):
        batch = risk_batch(patients[start : start + 8], arms, planes.device)
        pooled = pooled_signals(batch.images, batch.masks, planes, regions, voxel_ml)
        covariates, pooled = network.standardise(batch.covariates, pooled)
        _, state, rate = network.encoder.summary(
            volumes(batch.images, batch.masks, planes), pooled, covariates, batch.masks[:, :1]
        )
        total = risk.log_expected_count(rate, state, batch.arm, batch.last_week)
        patient = rate + (state * risk.interaction[batch.arm]).sum(-1)
        columns = (batch.last_count, patient, total - patient, batch.arm)
        parts.append(tuple(column.double().cpu().numpy() for column in columns))
    counts, log_patient, log_arm, arm = (np.concatenate(column) for column in zip(*parts, strict=True))
    return LevelEvidence(counts, log_patient, log_arm, arm.astype(int))


@torch.no_grad()
def fold_levels(network: Network, evidence: list[LevelEvidence], arms: tuple[str, ...]) -> dict[str, float]:
    """Fit levels and slope to all the evidence and fold them into the network; the factors by arm, and the slope.

    Where some patients were seen in training and others not, the negative-binomial sizes of the arms are fitted again on
    those not seen: counts of new patients scatter more about their predicted means.
    """
    counts, log_patient, log_arm, arm = (
        np.concatenate([getattr(part, name) for part in evidence]) for name in ("counts", "log_patient", "log_arm", "arm")
    )
    seen = np.concatenate([np.full(len(part.counts), part.seen) for part in evidence])
    shift, slope = fit_levels(counts, log_patient, log_arm, arm, len(arms), seen=seen)
    for layer in (network.encoder.linear_rate, network.encoder.hidden_rate):
        for parameter in layer.parameters():
            parameter.mul_(slope)
    network.risk.interaction.mul_(slope)
    network.risk.effect.add_(torch.from_numpy(shift).to(network.risk.effect))
    if seen.any() and not seen.all():
        means = np.exp(np.clip(log_arm + shift[arm] + slope * log_patient, -20, 8))
        for index in np.unique(arm[~seen]):
            own = (arm == index) & ~seen
            size = maximum_likelihood_size(counts[own], means[own])
            network.risk.log_size_arm[index] = np.log(size) - network.risk.log_size
    return {**{name: float(np.exp(value)) for name, value in zip(arms, shift, strict=True)}, "slope": slope}


def calibrate_levels(
    network: Network, patients: list[TrainingPatient], arms: tuple[str, ...], planes: Tensor, regions: Tensor, voxel_ml: float
) -> dict[str, float]:
    """Fit levels and slope to the patients' observed counts and fold them in; the factors by arm, and the slope."""
    return fold_levels(network, [level_evidence(network, patients, arms, planes, regions, voxel_ml)], arms)
