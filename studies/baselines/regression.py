"""Negative-binomial regression on the participants' columns: what a trial statistician would do without images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import statsmodels.api as sm

from causalms.errors import ConvergenceError, RefusalError
from causalms.generator.configurations import COVARIATES
from causalms.generator.inputs import PatientArrays
from causalms.generator.outcomes import ExpectedOutcome
from causalms.generator.train.patients import TrainingPatient


@dataclass(frozen=True)
class ColumnRegression:
    """``log E[count] = arm + columns . b + log(week / last week)``, negative binomial with one size.

    Parameters
    ----------
    arms : tuple of str
    beta : array (arms + columns,)
    alpha : float
        Dispersion, variance = m + alpha m^2.
    mean, sd : array (columns,)
        Standardisation; a missing value stands at the mean.
    lesion_ml : float
        Mean volume of a lesion.
    last_week : float
    """

    arms: tuple[str, ...]
    beta: np.ndarray
    alpha: float
    mean: np.ndarray
    sd: np.ndarray
    lesion_ml: float
    last_week: float
    name: str = "column regression"
    capabilities: frozenset[str] = frozenset({"expect"})

    @property
    def parameters(self) -> int:
        """Coefficients and the dispersion."""
        return len(self.beta) + 1

    def encode_arrays(self, patient: PatientArrays) -> np.ndarray:
        """The patient's standardised columns; no image is read."""
        return np.asarray(np.nan_to_num((patient.covariates - self.mean) / self.sd))

    def expect(self, scan: np.ndarray, arm: str, week: float) -> ExpectedOutcome:
        """The count's law under an arm."""
        index = self.arms.index(arm)
        log_mean = self.beta[index] + scan @ self.beta[len(self.arms) :]
        mean, size = float(np.exp(log_mean)) * week / self.last_week, 1 / self.alpha
        return ExpectedOutcome(mean, mean * self.lesion_ml, 1 - (size / (size + mean)) ** size, self.alpha)

    def log_place(self, scan: Any, arm: str) -> np.ndarray:
        """Refused: the regression knows no places."""
        raise RefusalError("column regression has no law of places; ask it for counts (expect)")

    def sample(self, scan: Any, arm: str, week: float, draw: int, seed: int) -> np.ndarray:
        """Refused: the regression has no masks."""
        raise RefusalError("column regression has no masks; ask it for counts (expect)")


def fit_regression(patients: list[TrainingPatient], arms: tuple[str, ...]) -> ColumnRegression:
    """Maximum likelihood by statsmodels, from the Poisson fit on.

    Raises
    ------
    ConvergenceError
        If the likelihood has no interior maximum (an arm without a lesion, say).
    """
    columns = np.stack([p.arrays.covariates for p in patients]).astype(float)
    mean, sd = np.nanmean(columns, axis=0), np.nanstd(columns, axis=0)
    sd = np.where(sd > 1e-6, sd, 1.0)
    arm = np.eye(len(arms))[[arms.index(p.arm) for p in patients]]
    design = np.column_stack([arm, np.nan_to_num((columns - mean) / sd)])
    counts = np.array([p.last.lesions for p in patients], dtype=float)
    last = float(max(p.last.week for p in patients))
    offset = np.log([p.last.week / last for p in patients])
    start = sm.GLM(counts, design, family=sm.families.Poisson(), offset=offset).fit().params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sm.NegativeBinomial(counts, design, offset=offset)
        fit = model.fit(start_params=np.append(start, 1.0), method="bfgs", maxiter=500, disp=0)
    if not np.isfinite(fit.llf) or fit.params[-1] <= 0:
        raise ConvergenceError(f"the regression on {', '.join(COVARIATES)} did not converge; check that every arm has lesions")
    lesion_ml = sum(p.volume_ml for p in patients) / max(counts.sum(), 1)
    return ColumnRegression(arms, fit.params[:-1], float(fit.params[-1]), mean, sd, float(lesion_ml), last)
