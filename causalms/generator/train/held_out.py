"""What a trained network says of patients it has never seen, beside what was observed: the error model is fitted to this."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from tqdm import tqdm

from causalms.generator.configurations import COVARIATES
from causalms.generator.inputs import Anatomy, lesions_traced, stack
from causalms.generator.network import Network
from causalms.generator.seen import ERROR_COLUMNS, SCANNER, Seen, error_columns, features_of, scanner_features
from causalms.generator.train.count_law import log_sizes, own_errors, shrunk
from causalms.generator.train.patients import TrainingPatient
from causalms.stats import ErrorModel, HeldOutCounts, fit_error_model
from causalms.trials import Space

#: Patients that pass the network together.
_BATCH = 8
_VOLUME_PRIOR_SD = 0.2


@dataclass(frozen=True)
class HeldOut:
    """Expected and observed counts of patients at their last visits, one entry a patient.

    Attributes
    ----------
    participant_id : str array (n,)
    log_expected : array (n, arms)
        Log expected count under every arm of the network, given baseline.
    trial : str array (n,)
    counts, volume_ml : array (n,)
        Observed under ``arm``: lesions, and their volume in all.
    arm : int array (n,)
        Position among the network's arms.
    week : array (n,)
        The last visit.
    covariates : array (n, columns)
        As the network reads them (:data:`causalms.generator.configurations.COVARIATES`); NaN where missing.
    signals, scanner : array (n, features)
        Image signals, and features of scanner and position (:func:`causalms.generator.seen.scanner_features`).
    """

    participant_id: np.ndarray
    log_expected: np.ndarray
    trial: np.ndarray
    counts: np.ndarray
    volume_ml: np.ndarray
    arm: np.ndarray
    week: np.ndarray
    covariates: np.ndarray
    signals: np.ndarray
    scanner: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    def log_exposure(self, last_week: float) -> np.ndarray:
        """Log of every patient's follow-up as a share of the last week, which the error model speaks of."""
        return np.asarray(np.log(self.week / last_week))

    def log_expected_at(self, last_week: float) -> np.ndarray:
        """Log expected counts (n, arms) had everybody been seen at the last week."""
        return np.asarray(self.log_expected - self.log_exposure(last_week)[:, None])

    @classmethod
    def together(cls, parts: list[HeldOut]) -> HeldOut:
        """Several sets of patients as one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@torch.no_grad()
def held_out(
    network: Network,
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    anatomy: Anatomy,
    space: Space,
    signals: np.ndarray | None = None,
) -> HeldOut:
    """Expected counts of patients under every arm at their own last visit, beside the count that was observed.

    ``signals`` (n, P): the patients' image signals, where they are known already.
    """
    network.eval()
    log_expected = np.empty((len(patients), len(arms)))
    observed = np.empty((len(patients), len(network.pooled_mean)))
    for start in tqdm(range(0, len(patients), _BATCH), desc="expected counts", unit="batch", disable=None):
        part = patients[start : start + _BATCH]
        arrays = [patient.arrays for patient in part]
        images, masks, columns = stack(arrays, anatomy.planes.device)
        if signals is None:
            known = network.signals(images, masks, anatomy, lesions_traced(arrays, images.device))
        else:
            known = torch.from_numpy(signals[start : start + len(part)]).to(anatomy.planes)
        reading = network.read(images, masks, columns, anatomy, known)
        observed[start : start + len(part)] = reading.observed.cpu().numpy()
        weeks = torch.tensor([float(patient.last.week) for patient in part], device=reading.rate.device)
        for number in range(len(arms)):
            index = torch.full_like(weeks, number, dtype=torch.long)
            log_mean = network.risk.log_expected_count(reading.rate, reading.state, index, weeks)
            log_expected[start : start + len(part), number] = log_mean.double().cpu().numpy()
    return HeldOut(
        np.array([patient.arrays.participant_id for patient in patients]),
        log_expected,
        np.array([patient.trial for patient in patients]),
        np.array([float(patient.last.lesions) for patient in patients]),
        np.array([patient.volume_ml for patient in patients]),
        np.array([arms.index(patient.arm) for patient in patients], dtype=int),
        np.array([float(patient.last.week) for patient in patients]),
        np.array([patient.arrays.covariates for patient in patients], dtype=float).reshape(-1, len(COVARIATES)),
        observed,
        np.array([scanner_features(patient.arrays, space) for patient in patients], dtype=float).reshape(-1, len(SCANNER)),
    )


def fit_to_held_out(unseen: HeldOut, arms: tuple[str, ...], network: Network, how: str = "held-out") -> ErrorModel:
    """The error model of a network from patients it has not seen.

    Parameters
    ----------
    unseen : HeldOut
    arms : tuple of str
    network : Network
        For its sizes, mean volumes of a lesion, and last week.
    how : {"held-out", "cross-fitted"}
    """
    sizes, mean_volume_ml = network_sizes(network, len(arms))
    last = float(network.risk.last_week)
    trial = np.unique(unseen.trial, return_inverse=True)[1].reshape(-1)
    log_expected, exposure = unseen.log_expected_at(last), unseen.log_exposure(last)
    data = HeldOutCounts(unseen.counts, unseen.arm, log_expected, error_columns(unseen.covariates), sizes, trial, exposure)
    model = fit_error_model(data, arms, ERROR_COLUMNS, how)
    log_ratio, sd = volume_error(unseen, mean_volume_ml)
    return replace(model, volume_sd=np.hypot(log_ratio, sd))


def seen_of(unseen: HeldOut) -> Seen:
    """Summary of the held-out patients, which others are compared with."""
    return Seen.of(features_of(unseen.covariates, unseen.signals, unseen.scanner))


def volume_error(unseen: HeldOut, mean_volume_ml: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log ratio (arms,) of observed to expected volume of a lesion, shrunk by a normal prior of sd .2, and its standard error."""
    log_ratio, sd = np.zeros(len(mean_volume_ml)), np.full(len(mean_volume_ml), _VOLUME_PRIOR_SD)
    for arm, mean in enumerate(mean_volume_ml):
        own = unseen.arm == arm
        expected, observed = unseen.counts[own] * mean, unseen.volume_ml[own]
        if (expected > 0).sum() < 2 or observed.sum() <= 0:
            continue
        ratio = observed.sum() / expected.sum()
        variance = float(((observed - ratio * expected) ** 2).sum()) / observed.sum() ** 2
        weight = 1 / (1 + variance / _VOLUME_PRIOR_SD**2)
        log_ratio[arm], sd[arm] = weight * np.log(ratio), np.sqrt(weight * variance)
    return log_ratio, sd


def law_of_counts(
    model: ErrorModel,
    counts: np.ndarray,
    arm: np.ndarray,
    log_mean: np.ndarray,
    levels: tuple[np.ndarray, np.ndarray],
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What is added to the log means of every arm and to its log size (arms,), and why: docs/decisions/count_law.md.

    Parameters
    ----------
    model : ErrorModel
    counts, arm, log_mean : array (n,)
        Of held-out patients under their own arms.
    levels : tuple of array (arms,), (arms, arms)
        Corrections of the levels at the mean lesion by the error model, and their covariance.
    variance : array (n,)
        Posterior variance of ``log_mean``: the mean of a count is larger than the exponential of that of its logarithm.
    """
    arms = len(model.arms)
    half = np.array([variance[arm == a].mean() if (arm == a).any() else variance.mean() for a in range(arms)]) / 2
    shift = half + shrunk(levels[0] - half, own_errors(levels[1]), centre=0.0)
    return shift, log_sizes(counts, log_mean + shift[arm], arm, arms) - np.log(model.sizes)


@torch.no_grad()
def fold_means(
    network: Network, unseen: HeldOut, model: ErrorModel, variance: np.ndarray | float = 0.0
) -> tuple[ErrorModel, dict[str, float]]:
    """Move the network's levels and sizes to the law of held-out counts; the error that is left, and the factors by arm.

    ``variance`` (n,): the posterior variance of the patients' log means.  Corrections that differ between patients stay in the
    error: they are too uncertain for a patient's own forecast.
    """
    columns, log_expected = error_columns(unseen.covariates), unseen.log_expected_at(float(network.risk.last_week))
    own = unseen.log_expected[np.arange(len(unseen)), unseen.arm]
    levels = model.level_corrections(log_expected, columns)
    shift, log_size = law_of_counts(model, unseen.counts, unseen.arm, own, levels, np.broadcast_to(variance, own.shape))
    network.risk.effect.add_(torch.from_numpy(shift).to(network.risk.effect))
    network.risk.log_size_arm.add_(torch.from_numpy(log_size).to(network.risk.log_size_arm))
    left = model.with_levels(shift)
    left.mean[left.at["log_size"]] -= log_size
    factors = dict(zip(model.arms, np.exp(shift).tolist(), strict=True))
    return replace(left, sizes=model.sizes * np.exp(log_size)).about_zero(), factors


def network_sizes(network: Network, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """Negative-binomial sizes and mean volumes of a lesion of every arm."""
    with torch.no_grad():
        sizes = network.risk.size(torch.arange(arms, device=network.risk.log_size.device)).double().cpu().numpy()
        return sizes, torch.exp(network.risk.log_mean_volume).double().cpu().numpy()
