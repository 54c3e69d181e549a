"""The error of one patient's expected count, from the error model that the checkpoint keeps."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import chi2

from causalms.generator.configurations import COVARIATES
from causalms.stats import ErrorModel
from causalms.tables import ModelError

if TYPE_CHECKING:
    from causalms.generator.model import Generator, Scan

#: Columns of the error model: those of the network, the number of T2 lesions (nearly the volume) replaced by any enhancement.
ERROR_COLUMNS = (*(name for name in COVARIATES if name != "t2_lesions"), "any_gd")


def error_columns(covariates: np.ndarray) -> np.ndarray:
    """Columns :data:`ERROR_COLUMNS` (n, 8) of covariate vectors (n, columns); NaN where missing."""
    gd = covariates[:, COVARIATES.index("gd_lesions")]
    kept = [index for index, name in enumerate(COVARIATES) if name != "t2_lesions"]
    return np.column_stack([covariates[:, kept], np.where(np.isnan(gd), np.nan, gd > 0)])


def error_of_expected_count(generator: Generator, scan: Scan, arm: int, week: float) -> ModelError | None:
    """The error of a patient's count under one arm at one week; None where the generator has no error model."""
    if generator.error_model is None:
        return None
    everywhere = torch.arange(len(generator.arms), device=scan.rate.device)
    weeks = torch.full((len(generator.arms),), week, device=scan.rate.device)
    rate, state = scan.rate.expand(len(everywhere)), scan.encoded.state.expand(len(everywhere), -1)
    risk = generator.network.risk
    log_mean = risk.log_expected_count(rate, state, everywhere, weeks).double().cpu().numpy()
    size = float(risk.size(everywhere[arm : arm + 1])[0])
    last = log_mean + np.log(generator.weeks[1] / week)  # the error model speaks of the last visit
    model = generator.error_model
    directions = model.terms(last[None], error_columns(scan.covariates[None].astype(float)), arm) @ _root(_Key(model))
    mean = float(np.exp(log_mean[arm]))
    silent = (size / (size + mean)) ** size
    slope = silent * size * mean / (size + mean)
    by_log_size = -silent * size * (np.log(size / (size + mean)) + mean / (size + mean))
    return ModelError(
        _Key(model).name,
        model.words,
        np.append(directions[0], model.trial_sd),
        slope,
        abs(by_log_size) * float(model.log_size_sd()[arm]),
        float(model.volume_sd[arm]),
        float(model.log_size_sd()[arm]),
    )


def column_distance(error_model: ErrorModel, covariates: np.ndarray) -> tuple[np.ndarray, float]:
    """How far patients' columns lie from those that the error model was fitted to, and the limit beyond which one lies outside.

    Mahalanobis distances (n,) of covariate vectors (n, columns), missing values at the mean, and the distance that 99 of 100
    normal patients keep within.  Of 12,000 patients of the pooled design 1.5% lie beyond it: counts are skewed.
    """
    columns = error_columns(np.asarray(covariates, float))
    return np.sqrt(error_model.summary.distance(columns)), float(np.sqrt(chi2.ppf(0.99, columns.shape[1])))


class _Key:
    """An error model as a key: the name that its numbers have."""

    def __init__(self, model: ErrorModel) -> None:
        self.model = model
        self.name = sha256(model.mean.tobytes() + model.covariance.tobytes()).hexdigest()[:12]

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.name == self.name


@lru_cache(maxsize=8)
def _root(key: _Key) -> np.ndarray:
    return key.model.root()
