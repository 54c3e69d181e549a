"""What the image baselines share: the generator's own inputs, the encoded patient, refusals and checkpoints.

Every baseline reads the sixteen volumes, pooled signals and participants' columns that the generator reads, standardised
in the same way, so that a benchmark compares models and not inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from causalms.errors import InputError, RefusalError
from causalms.generator.checkpoint import load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.configurations import COVARIATES
from causalms.generator.inputs import POOLED, PatientArrays, anatomy_of, pooled_signals, stack, volumes
from causalms.generator.model import supported_week
from causalms.generator.outcomes import ExpectedOutcome
from causalms.generator.train.patients import TrainingPatient, Visit
from causalms.trials import Space

#: Participants' columns and pooled signals together.
COLUMNS = len(COVARIATES) + POOLED
#: Weeks enter every baseline as ``log(week / 96)``.
REFERENCE_WEEK = 96.0


class Standardisation(nn.Module):
    """Means and standard deviations of the columns and pooled signals over the training patients, kept as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.covariate_mean: Tensor
        self.covariate_sd: Tensor
        self.pooled_mean: Tensor
        self.pooled_sd: Tensor
        for name, length in (("covariate", len(COVARIATES)), ("pooled", POOLED)):
            self.register_buffer(f"{name}_mean", torch.zeros(length))
            self.register_buffer(f"{name}_sd", torch.ones(length))

    def forward(self, covariates: Tensor, pooled: Tensor) -> Tensor:
        """Standardised columns (B, :data:`COLUMNS`); a missing value becomes the mean, zero."""
        columns = (covariates - self.covariate_mean) / self.covariate_sd
        signals = (pooled - self.pooled_mean) / self.pooled_sd
        return torch.nan_to_num(torch.cat([columns, signals], dim=1)).clamp(-4, 4)

    def fit(self, patients: list[TrainingPatient], space: Space) -> None:
        """Set the moments to those of training patients."""
        anatomy, columns, signals = anatomy_of(space).to(self.covariate_mean.device), [], []
        for start in range(0, len(patients), 16):
            images, masks, covariates = stack([p.arrays for p in patients[start : start + 16]], anatomy.planes.device)
            columns.append(covariates)
            signals.append(pooled_signals(images, masks, anatomy))
        for name, parts in (("covariate", columns), ("pooled", signals)):
            values = torch.cat(parts).double().cpu().numpy()
            mean = np.nan_to_num(np.nanmean(values, axis=0))
            sd = np.nan_to_num(np.nanstd(values, axis=0), nan=1.0)
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}_sd").copy_(torch.from_numpy(np.where(sd < 1e-4, 1.0, sd)))


@dataclass(frozen=True)
class ImageInputs:
    """``volume`` (B, 16, X, Y, Z), ``columns`` (B, :data:`COLUMNS`) and ``brain`` (B, 1, X, Y, Z), 0 or 1."""

    volume: Tensor
    columns: Tensor
    brain: Tensor


@dataclass(frozen=True)
class EncodedImage:
    """One patient's inputs, made once and used for every arm, week and draw."""

    participant_id: str
    inputs: ImageInputs = field(repr=False)


class ImageNetwork(nn.Module):
    """A network with the standardisation of its inputs; ``config`` rebuilds it from a checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.standardisation = Standardisation()

    def prepare(self, training: list[TrainingPatient], space: Space, device: str) -> None:
        """Move to the device, channels last, and standardise inputs by the training patients."""
        self.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.standardisation.fit(training, space)

    def read(self, patients: list[PatientArrays], space: Space) -> ImageInputs:
        """Inputs of some patients on the network's device."""
        device = self.standardisation.covariate_mean.device
        anatomy = anatomy_of(space).to(device)
        images, masks, covariates = stack(patients, device)
        pooled = pooled_signals(images, masks, anatomy)
        return ImageInputs(volumes(images, masks, anatomy.planes), self.standardisation(covariates, pooled), masks[:, :1])

    def read_visits(
        self, batch: list[tuple[TrainingPatient, Visit]], arms: tuple[str, ...], space: Space
    ) -> tuple[ImageInputs, Tensor, Tensor]:
        """Inputs, position of the arm (B,) and ``log(week / 96)`` (B,) of patients at a visit each."""
        inputs = self.read([patient.arrays for patient, _ in batch], space)
        arm = torch.tensor([arms.index(patient.arm) for patient, _ in batch], device=inputs.columns.device)
        weeks = [float(np.log(visit.week / REFERENCE_WEEK)) for _, visit in batch]
        return inputs, arm, torch.tensor(weeks, device=inputs.columns.device)


class ImageForecaster(ABC):
    """A trained image baseline: encode a patient once, then ask for any arm and week.

    Parameters
    ----------
    network : ImageNetwork
    arms : tuple of str
    space : Space
        Grid of every image and mask.
    weeks : (float, float)
        Trained range of follow-up weeks.
    header : dict
        Seed, optimisation steps, training patients and seconds, kept in the checkpoint.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[str]]

    def __init__(
        self, network: ImageNetwork, arms: tuple[str, ...], space: Space, weeks: tuple[float, float], header: Mapping[str, Any]
    ) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.arms, self.space, self.weeks, self.header = arms, space, weeks, dict(header)

    @classmethod
    @abstractmethod
    def build(cls, arms: int, config: Mapping[str, Any]) -> ImageNetwork:
        """The untrained network of a configuration."""

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @torch.no_grad()
    def encode_arrays(self, patient: PatientArrays) -> EncodedImage:
        """Encode a patient already read."""
        return EncodedImage(patient.participant_id, self.network.read([patient], self.space))

    def expect(self, scan: EncodedImage, arm: str, week: float) -> ExpectedOutcome:
        """Law of the count, where the model has one.

        Raises
        ------
        RefusalError
            If ``expect`` is not among the capabilities.
        """
        raise self._lacks("no law of the count")

    def log_place(self, scan: EncodedImage, arm: str) -> np.ndarray:
        """Log probability of a lesion's place, where the model has one.

        Raises
        ------
        RefusalError
            If ``place`` is not among the capabilities.
        """
        raise self._lacks("no law of places")

    def sample(self, scan: EncodedImage, arm: str, week: float, draw: int, seed: int) -> np.ndarray:
        """One NET2 mask, where the model draws masks.

        Raises
        ------
        RefusalError
            If ``masks`` is not among the capabilities.
        """
        raise self._lacks("no masks")

    def _lacks(self, what: str) -> RefusalError:
        return RefusalError(f"{self.name} has {what}; ask a model whose capabilities include it")

    def arm_index(self, arm: str) -> Tensor:
        """Position of an arm, shape (1,).

        Raises
        ------
        RefusalError
            If the model was not trained on it.
        """
        if arm not in self.arms:
            raise RefusalError(f"{self.name} knows no arm {arm!r}; it was trained on {', '.join(self.arms)}")
        return torch.tensor([self.arms.index(arm)], device=self.network.standardisation.covariate_mean.device)

    def log_week(self, week: float) -> Tensor:
        """``log(week / 96)``, shape (1,).

        Raises
        ------
        RefusalError
            If the week lies outside the trained range.
        """
        inside = supported_week(week, self.weeks)
        return torch.full((1,), float(np.log(inside / REFERENCE_WEEK)), device=self.network.standardisation.covariate_mean.device)

    def save(self, path: str | Path) -> str:
        """Write the checkpoint, whole or not at all; returns its checksum."""
        header = {
            **self.header,
            "kind": self.name,
            "config": self.network.config,
            "arms": list(self.arms),
            "weeks": list(self.weeks),
            "shape": list(self.space.shape),
            "affine": self.space.affine.tolist(),
        }
        # weights are kept with channels last; files in the plain order of their indices
        plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in self.network.state_dict().items()}
        return write_checkpoint(path, plain, header)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a checkpoint that :meth:`save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged, or of another kind of model.
        """
        checkpoint = read_checkpoint(path)
        header = checkpoint.header
        if header.get("kind") != cls.name:
            raise InputError(f"{path}: a checkpoint of kind {header.get('kind')!r}, expected {cls.name!r}; give the other file")
        arms = tuple(header["arms"])
        network = cls.build(len(arms), header["config"])
        load_tensors(network, checkpoint.tensors, str(path))
        shape = cast(tuple[int, int, int], tuple(header["shape"]))
        weeks = (float(header["weeks"][0]), float(header["weeks"][1]))
        record = {key: header[key] for key in ("seed", "steps", "seconds", "training_patients") if key in header}
        return cls(network, arms, Space(shape, np.asarray(header["affine"])), weeks, record)


def trained_weeks(patients: list[TrainingPatient]) -> tuple[float, float]:
    """First and last follow-up week of any patient."""
    weeks = [float(visit.week) for patient in patients for visit in patient.visits]
    return min(weeks), max(weeks)
