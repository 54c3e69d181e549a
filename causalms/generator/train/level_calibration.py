"""Arm means that are right: after training, the risk head's readout, levels and slope are fitted to observed counts.

The negative-binomial likelihood weighs a patient of mean ``m`` by ``1 / (m + m^2 / k)``, so that where the network shrinks the
spread of rates, patients of high rate are predicted too low and the arm's mean with them.  A Poisson quasi-likelihood with one
level an arm and one common slope (it weighs counts alike, and its score equations make every arm's predicted mean equal
its observed one) corrects this; the few parameters are folded back into the network.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.stats import nbinom
from torch import Tensor
from tqdm import tqdm

from causalms.errors import ConvergenceError
from causalms.generator.inputs import pooled_signals, volumes
from causalms.generator.network import Network
from causalms.generator.train.patients import TrainingPatient
from causalms.generator.train.risk import risk_batch
from causalms.generator.train.scores import maximum_likelihood_size

#: Prior precisions of a readout's weights about the trained ones: of those that all arms share, and of those of one arm.
PRIORS = tuple((shared, own) for shared in (100.0, 300.0, 1000.0) for own in (300.0, 1000.0, 3000.0))


def fit_levels(
    counts: np.ndarray,
    log_patient: np.ndarray,
    log_arm: np.ndarray,
    arm: np.ndarray,
    arms: int,
    slope_precision: float = 200.0,
) -> tuple[np.ndarray, float]:
    """Shift of every arm and common slope ``b`` in ``log m = shift_arm + log_arm + b log_patient``, by Newton's method.

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
    """Counts at the last visit, the two parts of their log means and what they are read out of, one entry a patient.

    ``counts``, ``log_patient``, ``log_arm``, ``arm`` (n,); ``columns`` (n, C) standardised, ``state`` (n, H).
    """

    counts: np.ndarray
    log_patient: np.ndarray
    log_arm: np.ndarray
    arm: np.ndarray
    columns: np.ndarray
    state: np.ndarray

    @classmethod
    def together(cls, parts: list[LevelEvidence]) -> LevelEvidence:
        """Pieces of evidence as one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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
        tensors = (batch.last_count, patient, total - patient, batch.arm, torch.cat([covariates, pooled], dim=1), state)
        parts.append(tuple(value.double().cpu().numpy() for value in tensors))
    counts, log_patient, log_arm, arm, columns, states = (np.concatenate(value) for value in zip(*parts, strict=True))
    return LevelEvidence(counts, log_patient, log_arm, arm.astype(int), columns, states)


def readout_design(evidence: LevelEvidence, arms: int) -> np.ndarray:
    """Columns a readout can weigh: one level an arm, the standardised columns, the state, and the state of each arm."""
    own = np.eye(arms)[evidence.arm]
    modified = (own[:, :, None] * evidence.state[:, None, :]).reshape(len(own), -1)
    return np.column_stack([own, evidence.columns, evidence.state, modified])


def fit_readout(
    counts: np.ndarray, log_mean: np.ndarray, design: np.ndarray, size: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """Change of a readout's weights (p,): ridge-penalised negative-binomial regression with offset, by Fisher scoring.

    Parameters
    ----------
    counts, log_mean, size : array (n,)
        ``log_mean``: the trained network's; ``size``: of the negative binomial.
    design : array (n, p)
    precision : array (p,)
        Of the normal prior about the trained weights.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)
    >>> fit_readout(np.exp(1 + 0.5 * x), np.ones(200), x[:, None], np.full(200, 2.0), np.array([1e-6])).round(3).tolist()
    [0.5]
    """
    beta = np.zeros(design.shape[1])
    for _ in range(100):
        mean = np.exp(np.clip(log_mean + design @ beta, -20, 8))
        weight = 1 / (1 + mean / size)
        gradient = design.T @ ((counts - mean) * weight) - precision * beta
        step = np.linalg.solve((design * (mean * weight)[:, None]).T @ design + np.diag(precision), gradient)
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-7:
            return np.asarray(beta)
    raise ConvergenceError("the readout did not converge; give counts of more patients")


def choose_precision(
    counts: np.ndarray, log_mean: np.ndarray, design: np.ndarray, size: np.ndarray, candidates: list[np.ndarray], folds: int = 5
) -> np.ndarray:
    """The prior precision whose readout predicts held-out counts best: negative-binomial log-likelihood over folds."""
    fold, scores = np.arange(len(counts)) % folds, []
    for precision in tqdm(candidates, desc="readout", unit="prior", disable=None):
        total = 0.0
        for out in (fold == number for number in range(folds)):
            beta = fit_readout(counts[~out], log_mean[~out], design[~out], size[~out], precision)
            mean = np.exp(np.clip(log_mean[out] + design[out] @ beta, -20, 8))
            total += float(nbinom.logpmf(counts[out], size[out], size[out] / (size[out] + mean)).sum())
        scores.append(total)
    return candidates[int(np.argmax(scores))]


@torch.no_grad()
def fold_readout(
    network: Network, evidence: LevelEvidence, arms: tuple[str, ...], priors: tuple[tuple[float, float], ...] = PRIORS
) -> LevelEvidence:
    """Fit the readout to patients that training has not seen and fold it into the network; the evidence with its new log means.

    How far the weights may move is chosen from ``priors`` by cross-validation.
    """
    risk, encoder = network.risk, network.encoder
    size = risk.size(torch.from_numpy(evidence.arm)).double().cpu().numpy()
    design, log_mean = readout_design(evidence, len(arms)), evidence.log_patient + evidence.log_arm
    shared, hidden = evidence.columns.shape[1] + evidence.state.shape[1], evidence.state.shape[1]
    candidates = [np.repeat([1e-2, common, own], [len(arms), shared, len(arms) * hidden]) for common, own in priors]
    chosen = len(candidates) > 1
    precision = choose_precision(evidence.counts, log_mean, design, size, candidates) if chosen else candidates[0]
    beta = fit_readout(evidence.counts, log_mean, design, size, precision)
    level, columns, state, modified = np.split(beta, np.cumsum([len(arms), evidence.columns.shape[1], hidden]))
    modified = modified.reshape(len(arms), hidden)
    for weight, change in (
        (encoder.linear_rate.weight, columns[None]),
        (encoder.hidden_rate.weight, state[None]),
        (risk.interaction, modified),
        (risk.effect, level),
    ):
        weight.add_(torch.from_numpy(change).to(weight))
    moved = evidence.columns @ columns + evidence.state @ state + (evidence.state * modified[evidence.arm]).sum(axis=1)
    return replace(evidence, log_patient=evidence.log_patient + moved, log_arm=evidence.log_arm + level[evidence.arm])


@torch.no_grad()
def fold_levels(network: Network, evidence: LevelEvidence, arms: tuple[str, ...], sizes: bool = False) -> dict[str, float]:
    """Fit levels and slope and fold them into the network; the factors by arm, and the slope.

    ``sizes``: fit the arms' negative-binomial sizes too, for patients not seen in training: their counts scatter more about their
    predicted means.
    """
    counts, arm = evidence.counts, evidence.arm
    shift, slope = fit_levels(counts, evidence.log_patient, evidence.log_arm, arm, len(arms))
    for layer in (network.encoder.linear_rate, network.encoder.hidden_rate):
        for parameter in layer.parameters():
            parameter.mul_(slope)
    network.risk.interaction.mul_(slope)
    network.risk.effect.add_(torch.from_numpy(shift).to(network.risk.effect))
    if sizes:
        means = np.exp(np.clip(evidence.log_arm + shift[arm] + slope * evidence.log_patient, -20, 8))
        for index in np.unique(arm):
            size = maximum_likelihood_size(counts[arm == index], means[arm == index])
            network.risk.log_size_arm[index] = np.log(size) - network.risk.log_size
    return {**{name: float(np.exp(value)) for name, value in zip(arms, shift, strict=True)}, "slope": slope}


def calibrate_levels(
    network: Network, patients: list[TrainingPatient], arms: tuple[str, ...], planes: Tensor, regions: Tensor, voxel_ml: float
) -> dict[str, float]:
    """Fit levels and slope to the patients' observed counts and fold them in; the factors by arm, and the slope."""
    return fold_levels(network, level_evidence(network, patients, arms, planes, regions, voxel_ml), arms)
