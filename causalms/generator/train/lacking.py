"""Forecasts without some of the inputs: patients forecast by others, in realistic patterns, and corrected by what happened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from causalms.generator.configurations import COVARIATES
from causalms.generator.image_features import uses_image
from causalms.generator.inputs import Anatomy, lesions_traced, stack
from causalms.generator.network import Network
from causalms.generator.train.patients import TrainingPatient
from causalms.stats import ErrorModel, Forecasts, LackingInputs, fit_lacking_inputs
from causalms.trials import MODALITIES

#: Fewest patients that a correction is learned from, and most.
FEWEST, MOST = 100, 800
MASKS = ("T2 lesion mask", "Gd lesion mask")
_CLINICAL = ("edss", "disease_duration", "relapses_prior_year")
_COUNTED = ("gd_lesions", "t2_lesions", "t2_volume_ml")
_NO_CONTRAST = ("ceT1w", "Gd lesion mask")
#: Every single input, then what goes missing together; the last four hold every set of inputs that leaves one image.
PATTERNS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in (*MODALITIES, *MASKS, *COVARIATES)),
    MASKS,
    _CLINICAL,
    _COUNTED,
    COVARIATES,
    ("T1w", "T2w"),
    _NO_CONTRAST,
    (*_NO_CONTRAST, "gd_lesions"),
    ("T1w", *_NO_CONTRAST),
    ("T1w", "T2w", "ceT1w"),
    ("T1w", "T2w", *_NO_CONTRAST),
    ("T1w", "T2w", "ceT1w", *MASKS),
    ("T1w", "T2w", "ceT1w", *MASKS, *_COUNTED),
    (*MASKS, *COVARIATES),
    *((*(other for other in MODALITIES if other != kept), *MASKS, *COVARIATES) for kept in MODALITIES),
)
_BATCH = 8


@torch.no_grad()
def expected_without(
    network: Network,
    patients: Sequence[TrainingPatient],
    arms: int,
    anatomy: Anatomy,
) -> np.ndarray:
    """Log expected counts (1 + patterns, patients, arms) at everybody's last visit: as they are, then without each pattern."""
    network.eval()
    patterns: tuple[tuple[str, ...], ...] = ((), *PATTERNS)
    out = np.empty((len(patterns), len(patients), arms))
    by_image: dict[tuple[str, ...], list[int]] = {}
    for number, pattern in enumerate(patterns):
        by_image.setdefault(tuple(name for name in (*MODALITIES, *MASKS) if name in pattern), []).append(number)
    for start in tqdm(range(0, len(patients), _BATCH), desc="without some inputs", unit="batch", disable=None):
        part = patients[start : start + _BATCH]
        images, masks, columns = stack([patient.arrays for patient in part], anatomy.planes.device)
        weeks = torch.tensor([float(patient.last.week) for patient in part], device=anatomy.planes.device)
        by_masks: dict[tuple[str, ...], Tensor] = {}
        for gone, numbers in by_image.items():
            left, traced = _image_without(images, masks, gone)
            signals = None
            if network.encoder.first_stage:
                traces = tuple(name for name in gone if name in MASKS)
                if traces not in by_masks:
                    drawn = lesions_traced([patient.arrays for patient in part], images.device) & (MASKS[0] not in traces)
                    by_masks[traces] = network.signals(images, traced, anatomy, drawn)
                signals = by_masks[traces].masked_fill(uses_image(gone).to(anatomy.planes.device), torch.nan)
            reading = network.read(left, traced, columns, anatomy, signals)
            for number in numbers:
                known = columns.clone()
                known[:, [COVARIATES.index(name) for name in patterns[number] if name in COVARIATES]] = torch.nan
                state, rate = network.state_and_rate(known, reading)
                for arm in range(arms):
                    index = torch.full_like(weeks, arm, dtype=torch.long)
                    log_mean = network.risk.log_expected_count(rate, state, index, weeks)
                    out[number, start : start + len(part), arm] = log_mean.double().cpu().numpy()
    return out


def _image_without(images: Tensor, masks: Tensor, gone: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Images (B, 4, ...) and masks (B, 3, ...) without those named: zero, as the network met missing ones in training."""
    images, masks = images.clone(), masks.clone()
    for name in gone:
        if name in MODALITIES:
            images[:, MODALITIES.index(name)] = 0.0
        else:
            masks[:, 1 + MASKS.index(name)] = 0.0
    return images, masks


def fit_patterns(
    model: ErrorModel,
    without: np.ndarray,
    missing: Sequence[Sequence[str]],
    counts: np.ndarray,
    arm: np.ndarray,
    exposure: np.ndarray,
) -> tuple[LackingInputs, ...]:
    """Corrections of every pattern, from patients who have lost no more than it takes.

    Parameters
    ----------
    model : ErrorModel
        For the generator's sizes and the centre of its expected counts.
    without : array (1 + patterns, n, arms)
        From :func:`expected_without`.
    missing : sequence of n sequences of str
        What each patient lacks anyway.
    counts, arm, exposure : array (n,)
        Observed count; arm; log of the follow-up as a share of the last week.
    """
    forecasts = [(log[np.arange(len(arm)), arm], log.mean(axis=1) - exposure - model.centre) for log in without]
    fitted = []
    for pattern, (log_mean, r) in zip(PATTERNS, forecasts[1:], strict=True):
        alike = np.array([set(own) <= set(pattern) for own in missing], dtype=bool)
        if alike.sum() < FEWEST:
            continue
        whole = Forecasts(forecasts[0][0][alike], forecasts[0][1][alike])
        own = Forecasts(log_mean[alike], r[alike])
        fitted.append(fit_lacking_inputs(pattern, counts[alike], model.sizes[arm[alike]], own, whole))
    return tuple(fitted)
