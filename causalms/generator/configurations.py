"""Sizes of the model and of its training by name, and the device that it runs on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from causalms.errors import UsageError
from causalms.tables import PARTICIPANTS_COLUMNS

#: Participants' columns that condition the model, age to t2_volume_ml, in the order of the covariate vector.
COVARIATES = PARTICIPANTS_COLUMNS[PARTICIPANTS_COLUMNS.index("age") : PARTICIPANTS_COLUMNS.index("exposure_years")]


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one generator.

    Parameters
    ----------
    name : str
        ``tiny``, ``small`` or ``base``.
    grid : str
        Name of the MNI grid the network works on.
    channels : int
        Width of the scan encoder and of the denoiser at full resolution.
    hidden : int
        Width of the fully connected rate head.
    denoiser_layers : int
        3x3x3 convolutions of the local denoiser; its field of view is ``2 * layers + 1`` voxels.
    sigma_min, sigma_max : float
        Range of the noise level (masks are coded -1 / +1).
    steps : int
        Default number of sampler steps.
    """

    name: str
    grid: str
    channels: int = 16
    hidden: int = 32
    denoiser_layers: int = 3
    sigma_min: float = 0.2
    sigma_max: float = 8.0
    steps: int = 12

    def __post_init__(self) -> None:
        sizes = (self.channels, self.hidden, self.denoiser_layers, self.steps)
        if not all(isinstance(size, int) and 1 <= size <= 4096 for size in sizes) or not 0 < self.sigma_min < self.sigma_max:
            raise UsageError(f"sizes {sizes} or noise levels {self.sigma_min} to {self.sigma_max} of no model; correct them")

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary for the checkpoint's metadata."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingConfig:
    """Recipe of one training run; two stages, the risk head first and the local denoiser second.

    Parameters
    ----------
    risk_steps, denoiser_steps : int
        Length of the two stages, unless ``budget_minutes`` ends them earlier.  Without denoiser steps the model gives
        expected counts and risk, and refuses to sample masks.
    batch_patients : int
        Patients a step of the first stage.
    batch_masks : int
        Masks a step of the second stage.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
    modality_dropout : float
        Probability that one modality of a patient is masked in a training step.
    validation_share : float
        Share of patients kept for early stopping.
    held_out_share : float
        Share of patients, in proportion in every arm, that the network never sees: its error model is fitted to them.
    calibration_patients : int
        Patients of the simulation that matches sampled to expected counts after training.
    mixed_precision : bool
        Optimise in bfloat16 on a CPU too (2.3 times the steps a second where it has AVX-512 BF16); a GPU always does.
    """

    risk_steps: int = 2700
    denoiser_steps: int = 2400
    batch_patients: int = 8
    batch_masks: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    modality_dropout: float = 0.05
    validation_share: float = 0.1
    held_out_share: float = 0.2
    calibration_patients: int = 100
    mixed_precision: bool = False


CONFIGS: dict[str, tuple[ModelConfig, TrainingConfig]] = {
    "tiny": (
        ModelConfig("tiny", "4mm", channels=16, hidden=16, denoiser_layers=2, steps=8),
        TrainingConfig(risk_steps=40, denoiser_steps=60, batch_patients=4, calibration_patients=8),
    ),
    "small": (ModelConfig("small", "4mm"), TrainingConfig()),
    "base": (
        ModelConfig("base", "3mm", channels=32, hidden=64, denoiser_layers=4, steps=16),
        TrainingConfig(risk_steps=20000, denoiser_steps=10000),
    ),
}


def config(name: str) -> tuple[ModelConfig, TrainingConfig]:
    """Model and recipe of a named configuration.

    Raises
    ------
    UsageError
        If the name is unknown.

    Examples
    --------
    >>> config("small")[0].grid
    '4mm'
    """
    if name not in CONFIGS:
        raise UsageError(f"no configuration is called {name!r}; choose one of {', '.join(CONFIGS)}")
    return CONFIGS[name]


def chosen_device(name: str) -> torch.device:
    """The device of that name: ``cpu``, ``cuda``, or ``auto``, the GPU where there is one.

    Raises
    ------
    UsageError
        If a GPU is wanted and none is there.

    Examples
    --------
    >>> chosen_device("cpu")
    device(type='cpu')
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"`device={name}`: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("`device=cuda`: no GPU is visible to torch; use `device=cpu`, or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
