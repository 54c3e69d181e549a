"""Match the sampler to the risk head: find the intensity at which a sampler's mean count equals the expected count.

A sampler with finitely many steps and lesions that merge returns, at intensity ``mu``, a mean count ``c(mu)`` that is
close to but not ``mu``.
The curve ``log c = a + b log mu + c (log mu)^2`` is fitted by Poisson regression on masks sampled over a wide range of
intensities, and inverted when sampling.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from causalms.errors import ConvergenceError
from causalms.generator.inputs import PatientArrays
from causalms.generator.model import Generator
from causalms.generator.noise import frailty_from_normal, stream
from causalms.generator.sampling import SAMPLERS, Sampler
from causalms.generator.train.resume import Kept

#: Masks a patient and sampler, and patients whose counts are kept together.
REPEATS, _PATIENTS_KEPT = 3, 16


def simulate_counts(
    generator: Generator, patients: list[PatientArrays], sampler: Sampler, seed: int, repeats: int = REPEATS
) -> tuple[np.ndarray, np.ndarray]:
    """Sampled counts at known intensities, (patients * repeats,) each; frailties follow the model's own law."""
    wanted, counts = [], []
    for patient in tqdm(patients, desc=f"calibrating {sampler} counts", unit="patient", disable=None):
        scan = generator.encode_arrays(patient)
        for repeat in range(repeats):
            choose = stream("calibrate", patient.participant_id, repeat, seed)
            arm = generator.arms[int(choose.integers(len(generator.arms)))]
            week = float(choose.uniform(*generator.weeks))
            expected = generator.expect(scan, arm, week)
            noise = generator.noise(patient.participant_id, repeat, seed)
            frailty = float(frailty_from_normal(noise.frailty_normal, 1 / expected.dispersion))
            wanted.append(expected.lesions * frailty)
            counts.append(generator.count(generator.sample(scan, arm, week, noise, sampler)))
    return np.asarray(wanted), np.asarray(counts, dtype=float)


def fit_curve(intensity: np.ndarray, counts: np.ndarray, iterations: int = 200) -> list[float]:
    """Poisson regression of counts on ``log mu`` and its square, by Fisher scoring.

    Returns ``a, b, c`` and the range ``low, high`` of ``log c`` in which the curve was fitted.

    Raises
    ------
    ConvergenceError
        If the regression does not converge.

    Examples
    --------
    >>> mu = np.linspace(0.2, 20, 200)
    >>> [round(float(v), 2) + 0.0 for v in fit_curve(mu, 0.8 * mu)[:3]]
    [-0.22, 1.0, 0.0]
    """
    log_mu = np.log(np.maximum(intensity, 1e-8))
    keep = log_mu > np.log(0.02)
    x, y = log_mu[keep], counts[keep]
    design = np.column_stack([np.ones_like(x), x, x * x])
    ridge = np.diag([1e-6, 1e-6, 1.0])
    beta = np.array([0.0, 1.0, 0.0])
    for _ in range(iterations):
        mean = np.exp(np.clip(design @ beta, -20, 8))
        working = mean / (1 + 0.02 * mean)  # counts of the largest intensities must not own the fit
        gradient = design.T @ ((y - mean) / (1 + 0.02 * mean)) - ridge @ (beta - [0.0, 1.0, 0.0])
        step = np.linalg.solve(design.T @ (design * working[:, None]) + ridge, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    else:
        raise ConvergenceError("the count calibration did not converge; train the denoiser longer")
    low, high = float(np.quantile(x, 0.02)), float(np.quantile(x, 0.995))
    ends = np.array([[1, low, low * low], [1, high, high * high]])
    fitted = ends @ beta
    return [float(v) for v in (*beta, fitted[0], fitted[1])]


def calibrate(generator: Generator, patients: list[PatientArrays], seed: int, kept: Kept) -> dict[str, list[float]]:
    """Fit and store the curve of every sampler; returns them by name. Counts are kept in ``kept``, patients by patients."""

    def counts(sampler: Sampler, start: int) -> dict[str, np.ndarray]:
        wanted, found = simulate_counts(generator, patients[start : start + _PATIENTS_KEPT], sampler, seed)
        return {"wanted": wanted, "found": found}

    curves: dict[str, list[float]] = {}
    for row, sampler in enumerate(SAMPLERS):
        generator.network.count_calibration[row] = torch.tensor([0.0, 1.0, 0.0, -5.0, 5.0])
        starts = range(0, len(patients), _PATIENTS_KEPT)
        parts = [kept.part(f"{sampler}{start}", partial(counts, sampler, start)) for start in starts]
        wanted, found = (np.concatenate([part[name] for part in parts]) for name in ("wanted", "found"))
        curve = fit_curve(wanted, found)
        generator.network.count_calibration[row] = torch.tensor(curve)
        curves[sampler] = curve
    return curves
