"""Sizes of the model and of its training by name, and the device that it runs on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch

from causalms.errors import InputError, UsageError, near_name
from causalms.tables import PARTICIPANTS_COLUMNS
from causalms.trials import mni_space
from causalms.yaml_files import parse_yaml, read_yaml

#: Participants' columns that condition the model, age to t2_volume_ml, in the order of the covariate vector.
COVARIATES = PARTICIPANTS_COLUMNS[PARTICIPANTS_COLUMNS.index("age") : PARTICIPANTS_COLUMNS.index("exposure_years")]


#: Channels of the denoiser's first layer that the noisy mask fills.
MASK_PLANES = 4


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of one generator.

    Parameters
    ----------
    name : str
        ``tiny``, ``small``, ``medium``, ``base``, or that of a user's file.
    grid : str
        Name of the MNI grid the network works on: 4mm, 3mm, 2mm or 1mm.  Kernels keep their size in mm (``voxels_in_4_mm``).
    channels : int
        Width of the scan encoder at full resolution.
    denoiser_channels : int
        Width of the denoiser; 0 is that of the encoder.
    hidden : int
        Width of the state that checkpoints from before the first stage learned with the encoder.
    denoiser_layers : int
        3x3x3 convolutions of the local denoiser; its field of view is ``2 * layers + 1`` voxels of 4 mm.
    sigma_min, sigma_max : float
        Range of the noise level (masks are coded -1 / +1).
    steps : int
        Default number of sampler steps.
    first_stage : bool
        Whether counts are those of a penalised regression on columns and image features, fitted before all steps; false for
        checkpoints from before it, which can be read and no longer trained.
    denoiser_sees_scan : bool
        Whether the denoiser sees the scan, in the channels that the noisy mask leaves blank; false for checkpoints from before.
    """

    name: str
    grid: str
    channels: int = 16
    hidden: int = 32
    denoiser_layers: int = 3
    sigma_min: float = 0.2
    sigma_max: float = 8.0
    steps: int = 12
    first_stage: bool = False
    denoiser_sees_scan: bool = False
    denoiser_channels: int = 0

    def __post_init__(self) -> None:
        sizes = (self.channels, self.hidden, self.denoiser_layers, self.steps, self.denoiser_channels or self.channels)
        if not all(isinstance(size, int) and 1 <= size <= 4096 for size in sizes) or not 0 < self.sigma_min < self.sigma_max:
            raise UsageError(f"sizes {sizes} or noise levels {self.sigma_min} to {self.sigma_max} of no model; correct them")
        if self.denoiser_sees_scan and (width := self.denoiser_channels or self.channels) <= MASK_PLANES:
            name = "denoiser_channels" if self.denoiser_channels else "channels"
            raise UsageError(
                f"`{name}` is {width}, and the noisy mask fills {MASK_PLANES}: give more, or `denoiser_sees_scan` false"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary for the checkpoint's metadata."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingConfig:
    """Recipe of the steps of one training run: where lesions come first, the local denoiser second.

    Parameters
    ----------
    risk_steps, denoiser_steps : int
        Length of the two stages, unless ``budget_minutes`` ends them earlier.  Without denoiser steps the model gives
        expected counts and risk, and refuses to sample masks.
    batch_patients : int
        Patients a step of the stage of places.
    batch_masks : int
        Masks a step of the denoiser's stage.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
    modality_dropout : float
        Probability that one modality of a patient is masked in a training step.
    validation_share : float
        Share of patients from whom no step learns: they choose the best entry of the log.
    folds : int
        Parts of the patients, each predicted by a first stage fitted to the other parts: the error model learns from that.
    calibration_patients : int
        Patients of the simulation that matches sampled to expected counts after training; 0 leaves them as they fall.
    mixed_precision : bool
        Optimise in bfloat16 on a CPU too (2.3 times the steps a second where it has AVX-512 BF16); a GPU always does.
    flip : float
        Probability that a patient of a step is mirrored left to right.
    affine : float
        Standard deviation of random rotations (degrees), scalings (%) and shifts (mm) of a patient.
    bias_field, noise, contrast : float
        Standard deviations, in interquartile ranges of the brain, of a smooth shading, of voxel noise, and of the logarithm of
        an image's gain.
    ema : float
        Decay a step of the running average of the weights that is validated and kept; 0 keeps the weights themselves.
    patience : int
        Entries of the log without a better validation score after which the stage of places ends; 0 never ends it.
    init : str
        Checkpoint that training starts from (``reference`` ships); empty starts anew.
    tune : {"all", "readout"}
        What is trained after ``init``: everything, or just counts, times and what reads places from the encoder's features; the
        features and the shapes of lesions are kept as they are.
    skip_bad : bool
        Whether patients whose files cannot be used are left out and listed in the checkpoint's header.
    """

    risk_steps: int = 2700
    denoiser_steps: int = 2400
    batch_patients: int = 8
    batch_masks: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    modality_dropout: float = 0.05
    validation_share: float = 0.1
    folds: int = 10
    calibration_patients: int = 100
    mixed_precision: bool = False
    flip: float = 0.0
    affine: float = 0.0
    bias_field: float = 0.0
    noise: float = 0.0
    contrast: float = 0.0
    ema: float = 0.0
    patience: int = 0
    init: str = ""
    tune: str = "all"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        ranges = {
            **dict.fromkeys(("risk_steps", "denoiser_steps", "calibration_patients", "patience"), (0, 1e9)),
            **dict.fromkeys(("batch_patients", "batch_masks"), (1, 4096)),
            "folds": (2, 100),
            **dict.fromkeys(("modality_dropout", "validation_share", "flip"), (0, 0.95)),
            **dict.fromkeys(("weight_decay", "affine", "bias_field", "noise", "contrast"), (0, 20)),
            "learning_rate": (1e-9, 1),
            "ema": (0, 0.999999),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"`{name}` is {getattr(self, name)}; give {least:g} to {most:g}")
        if self.tune not in ("all", "readout"):
            raise UsageError(f"`tune` is {self.tune!r}; choose all or readout")
        if self.tune == "readout" and not self.init:
            raise UsageError("`tune=readout` keeps an encoder that was trained before; name its checkpoint in `init`")


def config(name: str | os.PathLike[str]) -> tuple[ModelConfig, TrainingConfig]:
    """Model and recipe of a named configuration, or of a YAML file.

    The file names a configuration to start from (``base``, else ``small``), and under ``model`` and ``training`` what differs:
    any field of :class:`ModelConfig` and :class:`TrainingConfig`.

    Raises
    ------
    UsageError
        If the name is unknown.
    InputError
        If the file cannot be read, or an entry is unknown, of another type or out of range.

    Examples
    --------
    >>> config("small")[0].grid
    '4mm'
    """
    if str(name).endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    if name not in CONFIGS:
        raise UsageError(f"no configuration is called {str(name)!r}; choose one of {', '.join(CONFIGS)}, or a .yaml file")
    return CONFIGS[str(name)]


_PARTS = ("base", "model", "training")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_Config = TypeVar("_Config", ModelConfig, TrainingConfig)


def _from_file(file: Path) -> tuple[ModelConfig, TrainingConfig]:
    content = read_yaml(file, f"write {', '.join(_PARTS)}")
    if not isinstance(content, dict) or not set(content) <= set(_PARTS):
        wrong = [key for key in content if key not in _PARTS] if isinstance(content, dict) else []
        parts = {"model": ModelConfig, "training": TrainingConfig}
        part = next((name for name, kind in parts.items() if wrong and wrong[0] in [field.name for field in fields(kind)]), None)
        mend = f"write it under {part}:" if part else f"write {', '.join(_PARTS)}"
        raise InputError(f"{file}: {f'no entry is called {wrong[0]!r}' if wrong else 'no entries'} at the top; {mend}")
    try:
        model, recipe = _configured(*config(str(content.get("base", "small"))), file.stem, content)
        mni_space(model.grid)
        return model, recipe
    except UsageError as error:
        raise InputError(f"{file}: {error}") from None


def _configured(
    model: ModelConfig, recipe: TrainingConfig, name: str, content: Mapping[str, Any]
) -> tuple[ModelConfig, TrainingConfig]:
    model = _changed(replace(model, name=name), content.get("model") or {}, "model")
    return model, _changed(recipe, content.get("training") or {}, "training")


def _changed(start: _Config, entries: Any, part: str) -> _Config:
    """A configuration with some of its fields replaced, names and types checked."""
    known = {field.name: type(getattr(start, field.name)) for field in fields(start)}
    if not isinstance(entries, Mapping):
        raise UsageError(f"{part} is {str(entries)[:40]!r}; write entries, for example {next(iter(known))}: ...")
    for key, value in entries.items():
        if key not in known:
            near = near_name(str(key), known)
            raise UsageError(f"{part} has no entry {key!r}; {near or 'it has ' + ', '.join(known)}")
        fits = isinstance(value, int | float if known[key] is float else known[key])
        if not fits or (isinstance(value, bool) and known[key] is not bool):
            raise UsageError(f"{part}: {key} is {value!r}; give {_KINDS.get(known[key], known[key].__name__)}")
    return replace(start, **entries)


def _shipped(name: str) -> tuple[ModelConfig, TrainingConfig]:
    text = files("causalms.generator").joinpath("recipes", f"{name}.yaml").read_text("utf-8")
    content = parse_yaml(text, f"{name}.yaml", "write model, training")
    return _configured(ModelConfig(name, "4mm"), TrainingConfig(), name, content)


#: Named configurations, each from a file of ``recipes``.
CONFIGS = {name: _shipped(name) for name in ("tiny", "small", "medium", "base")}


def voxels_in_4_mm(shape: tuple[int, ...] | torch.Size) -> int:
    """How many voxels of a grid of :func:`causalms.trials.mni_space` lie in 4 mm, at least one: the unit of kernels.

    All grids of the model span 192 mm from front to back, the last but one axis of ``shape``.

    Examples
    --------
    >>> [voxels_in_4_mm(shape) for shape in ((40, 48, 40), (56, 64, 56), (80, 96, 80), (160, 192, 160))]
    [1, 1, 2, 4]
    """
    return max(1, shape[-2] // 48)


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
