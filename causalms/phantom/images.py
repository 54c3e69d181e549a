"""Baseline images of a phantom patient: tissue contrast, lesions, image markers, bias field and noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from causalms.phantom.acquisition import Scanner
from causalms.phantom.anatomy import PatientAnatomy
from causalms.phantom.patient import PhantomPatient
from causalms.phantom.roster import IMAGES, generator

MODALITIES = ("T1w", "T2w", "FLAIR", "ceT1w")

#: Signal of grey matter, white matter, cerebrospinal fluid (white matter on T1w is 1).
_TISSUE = {
    "T1w": (0.72, 1.00, 0.28),
    "T2w": (0.72, 0.55, 1.45),
    "FLAIR": (0.80, 0.64, 0.16),
    "ceT1w": (0.76, 1.00, 0.30),
}
_LESION = {"T2w": 1.10, "FLAIR": 1.25}
_ENHANCED = 1.55
_NOISE_SD = 0.035
_BIAS_SD = 0.04
_GAIN_SD = 0.10
_SCALE = 500.0

#: Dirty-appearing white matter: signal added at the ventricles' wall, falling exponentially over this distance.
_DIRTY_MM = 14.0
_DIRTY_MEAN, _DIRTY_SD = 0.12, 0.06
#: Share of the white-matter signal that T1w loses in a lesion.
_HOLE_MEAN, _HOLE_SD, _HOLE_LESION_SD = 0.34, 0.13, 0.05


def render(patient: PhantomPatient, anatomy: PatientAnatomy, modality: str, seed: int) -> np.ndarray:
    """One baseline image.

    The signal is a tissue mixture with lesions, times a smooth bias field and a gain, plus Gaussian noise; 0 outside the brain
    (brain-extracted). Two traits of the patient are seen here and in no column: ``dirty_white_matter`` adds signal to
    the white matter around the ventricles on FLAIR and T2w; ``black_holes`` sets how dark T2 lesions are on T1w.

    Parameters
    ----------
    patient : PhantomPatient
    anatomy : PatientAnatomy
    modality : {"T1w", "T2w", "FLAIR", "ceT1w"}
    seed : int

    Returns
    -------
    float32 array of shape ``anatomy.shape``
    """
    rng = generator(seed, IMAGES, patient.enrolled.index, MODALITIES.index(modality))
    grey, white, csf = _TISSUE[modality]
    signal = grey * anatomy.grey + white * anatomy.white + csf * anatomy.csf
    if modality in ("FLAIR", "T2w"):
        amplitude = max(_DIRTY_MEAN + _DIRTY_SD * patient.baseline.dirty_white_matter, 0.0)
        signal = signal + amplitude * anatomy.white * np.exp(-anatomy.head_ventricle_mm / _DIRTY_MM)
    image = np.zeros(int(np.prod(anatomy.shape)), dtype=np.float32)
    image[anatomy.head] = signal
    _draw_lesions(image, patient, modality, seed)
    scanner = patient.enrolled.scanner
    inside = image[anatomy.head] if scanner is None else _seen_by(scanner, image, anatomy)
    inside *= _bias(anatomy, rng)
    inside += rng.standard_normal(len(inside), dtype=np.float32) * np.float32(_NOISE_SD * (scanner.noise if scanner else 1.0))
    gain = np.float32(_SCALE * np.exp(_GAIN_SD * rng.standard_normal()) * (scanner.gain if scanner else 1.0))
    image[anatomy.head] = np.maximum(inside * gain, np.float32(1.0))
    return image.reshape(anatomy.shape)


def _seen_by(scanner: Scanner, image: np.ndarray, anatomy: PatientAnatomy) -> np.ndarray:
    """Signal of the brain's voxels with a scanner's contrast and blur; nothing from outside the brain is blurred in."""
    volume = np.maximum(image, 0.0).reshape(anatomy.shape) ** np.float32(scanner.contrast)
    if scanner.blur_mm:
        sigma = scanner.blur_mm / np.sqrt(8 * np.log(2)) / anatomy.voxel_mm
        blurred = gaussian_filter(volume * anatomy.brain, sigma)
        volume = blurred / np.maximum(gaussian_filter(anatomy.brain.astype(np.float32), sigma), np.float32(1e-6))
    return np.asarray(volume.ravel()[anatomy.head], dtype=np.float32)


def _draw_lesions(image: np.ndarray, patient: PhantomPatient, modality: str, seed: int) -> None:
    lesions = patient.t2_lesions
    enhancing = len(patient.gd_lesions)
    # Lesion contrast is a trait of the lesion, so its random numbers are shared by all modalities.
    trait = generator(seed, IMAGES, patient.enrolled.index, len(MODALITIES)).standard_normal((2, len(lesions)))
    if modality in _LESION:
        contrast = _LESION[modality] * (1.0 + 0.05 * trait[0])
    else:
        hole = _HOLE_MEAN + _HOLE_SD * patient.baseline.black_holes + _HOLE_LESION_SD * trait[1]
        contrast = _TISSUE[modality][1] * (1.0 - np.clip(hole, 0.0, 0.75))
        if modality == "ceT1w":
            contrast[:enhancing] = _ENHANCED * (1.0 + 0.06 * trait[0, :enhancing])
    for voxels, value in zip(lesions, contrast, strict=True):
        image[voxels] = value


def _bias(anatomy: PatientAnatomy, rng: np.random.Generator) -> np.ndarray:
    basis = _bias_basis(anatomy.shape)[:, anatomy.head]
    weights = rng.normal(0.0, _BIAS_SD, len(basis)).astype(np.float32)
    field: np.ndarray = np.exp(weights @ basis)
    return field


@lru_cache(maxsize=4)
def _bias_basis(shape: tuple[int, int, int]) -> np.ndarray:
    """Linear and quadratic shapes over the grid, each of about unit size; shape (9, voxels)."""
    x, y, z = np.meshgrid(*[np.linspace(-1.5, 1.5, n, dtype=np.float32) for n in shape], indexing="ij")
    terms = [x, y, z, x * x - 0.5, y * y - 0.5, z * z - 0.5, x * y, y * z, x * z]
    return np.stack([term.ravel() for term in terms])
