"""From a patient of a Trial to the tensors the network reads: sixteen volumes, region-pooled signals, standardised columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from causalms.errors import InputError
from causalms.generator.configurations import COVARIATES, voxels_in_4_mm
from causalms.stats import sorted_quantiles
from causalms.trials import MODALITIES, ResampledSource, Space, Trial, refuse_elsewhere, template_anatomy

#: Region pools: four anatomical regions, T2 lesions, their surroundings, enhancing lesions.
POOLS = 7
#: Signals averaged in every pool: four modalities and the enhancement ceT1w - T1w; then seven volumes.
POOLED = 5 * POOLS + 7


@dataclass(frozen=True)
class PatientArrays:
    """One patient's baseline on the model's grid, compact enough to keep thousands in memory.

    Parameters
    ----------
    images : float16 array (4, X, Y, Z)
        Modalities of :data:`MODALITIES`, brain median 0 and interquartile range 1; zeros where a modality is missing.
    masks : bool array (3, X, Y, Z)
        Brain, T2 lesions, enhancing lesions.
    covariates : float32 array (Q,)
        NaN where missing.
    missing : tuple of str
        Modalities and columns that were not there.
    """

    participant_id: str
    images: np.ndarray
    masks: np.ndarray
    covariates: np.ndarray
    missing: tuple[str, ...] = field(default=())


def covariate_vector(row: Mapping[Any, Any]) -> np.ndarray:
    """The columns of :data:`COVARIATES` as numbers (female = 1), counts and volumes as ``log(1 + x)``; NaN where missing."""
    values = []
    for name in COVARIATES:
        value = row.get(name)
        if value is None or pd.isna(value):
            values.append(np.nan)
        elif name == "sex":
            values.append(float(value == "F"))
        elif name in ("gd_lesions", "t2_lesions", "t2_volume_ml", "relapses_prior_year", "disease_duration"):
            values.append(float(np.log1p(float(value))))
        else:
            values.append(float(value))
    return np.asarray(values, dtype=np.float32)


def patient_arrays(trial: Trial, participant_id: str) -> PatientArrays:
    """Read one patient's baseline; the trial must already be on the model's grid.

    Raises
    ------
    InputError
        If there is no image, or the patient lies on a grid of their own.
    RefusalError
        If the brain does not lie in MNI152 space, or the skull is on and there is no brain mask.
    """
    if not (own := trial.space_of(participant_id)).same_as(trial.space):
        raise InputError(
            f"{trial.place(participant_id)}: has {own.describe()}, other participants {trial.space.describe()}; resample the "
            "trial onto the model's grid (`resample`, causalms.trials.resample_trial)"
        )
    by_modality = {name: trial.image(participant_id, name) for name in MODALITIES}
    missing = [name for name, image in by_modality.items() if image is None]
    if len(missing) == len(MODALITIES):
        raise InputError(f"{participant_id}: no baseline image of {', '.join(MODALITIES)}; add at least one of them")
    brain = trial.mask(participant_id, "brain")
    if brain is None:
        brain = (np.abs(np.stack([image for image in by_modality.values() if image is not None])) > 1e-6).any(axis=0)
        missing.append("brain mask")
    if not getattr(trial.source, "made_in_place", False):
        present = [image for image in by_modality.values() if image is not None]
        resampled = isinstance(trial.source, ResampledSource)
        refuse_elsewhere(trial.place(participant_id), present, brain, trial.space, resampled)
    shape, brain = trial.space.shape, np.asarray(brain, dtype=bool)
    images = np.zeros((len(MODALITIES), *shape), dtype=np.float16)
    for index, (name, image) in enumerate(by_modality.items()):
        if image is None:
            continue
        if len(values := np.sort(image[brain])) == 0 or values[0] == values[-1]:
            raise InputError(f"{participant_id}: {name} is the same in every voxel of the brain; export it again")
        images[index] = _scaled(image, brain, values)
    masks = [brain]
    for kind in ("T2", "Gd"):
        mask = trial.mask(participant_id, kind)
        if mask is None:
            missing.append(f"{kind} lesion mask")
            mask = np.zeros(shape, dtype=bool)
        masks.append(mask)
    columns = covariate_vector(trial.row(participant_id))
    missing += [name for name, value in zip(COVARIATES, columns, strict=True) if np.isnan(value)]
    return PatientArrays(participant_id, images, np.stack(masks), columns, tuple(missing))


def robust_scale(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Median 0 and interquartile range 1 in the brain, clipped to +-6, zero outside."""
    return _scaled(image, brain, np.sort(image[brain]))


def _scaled(image: np.ndarray, brain: np.ndarray, values: np.ndarray) -> np.ndarray:
    """As :func:`robust_scale`, from the sorted values in the brain: numpy sorts in a sixth of the time of a partition."""
    low, middle, high = sorted_quantiles(values, [0.25, 0.5, 0.75])
    scaled = np.zeros(image.shape, dtype=np.float16)
    scaled[brain] = np.clip((image[brain] - middle) / max(high - low, 1e-6), -6, 6)
    return scaled


class Anatomy(NamedTuple):
    """What the network knows of the template on a grid.

    Attributes
    ----------
    planes : tensor (4, X, Y, Z)
        Nearness of the ventricles (``exp(-distance / 10 mm)``), white matter, nearness of the cortex, height.
    regions : tensor (4, X, Y, Z)
        One-hot anatomical regions.
    voxel_ml : float
        Volume of a voxel.
    white_regions : tensor (4, X, Y, Z)
        The white matter of each region.
    """

    planes: Tensor
    regions: Tensor
    voxel_ml: float
    white_regions: Tensor

    def to(self, device: torch.device) -> Anatomy:
        """The same on a device."""
        return Anatomy(self.planes.to(device), self.regions.to(device), self.voxel_ml, self.white_regions.to(device))


@lru_cache(maxsize=8)
def anatomy_of(space: Space) -> Anatomy:
    """The template's anatomy on a grid."""
    shape, anatomy = space.shape, template_anatomy(space)
    near_ventricles = np.exp(-np.asarray(anatomy.distance_to_ventricles_mm) / 10)
    near_cortex = np.exp(-np.asarray(anatomy.distance_to_cortex_mm) / 5)
    height = np.broadcast_to(np.linspace(-1, 1, shape[2]), shape)
    planes = torch.from_numpy(np.stack([near_ventricles, np.asarray(anatomy.white), near_cortex, height]).astype(np.float32))
    regions = torch.from_numpy(np.stack([np.asarray(anatomy.regions) == label for label in (1, 2, 3, 4)]).astype(np.float32))
    return Anatomy(planes, regions, space.voxel_volume_mm3 / 1000, regions * (planes[1] > 0.5))


#: A mask blurred by a small and by a large cube: what :func:`blurred_twice` gives.
Blurred = tuple[Tensor, Tensor]


def volumes(images: Tensor, masks: Tensor, planes: Tensor, blurred: Blurred | None = None) -> Tensor:
    """The sixteen input volumes, (B, 16, X, Y, Z), from images (B, 4, ...), masks (B, 3, ...) and planes (4, ...).

    ``blurred``: the T2 lesions blurred, where they are known already.
    """
    brain, lesions, enhancing = masks[:, :1], masks[:, 1:2], masks[:, 2:3]
    enhancement = (images[:, 3:4] - images[:, 0:1]) * brain
    near, far = blurred_twice(lesions) if blurred is None else blurred
    _, around_enhancing = blurred_twice(enhancing)
    anatomy = planes.unsqueeze(0).expand(images.shape[0], -1, -1, -1, -1)
    stack = [images, enhancement, brain, lesions, enhancing, 4 * near, 10 * far, 10 * around_enhancing, anatomy]
    blank = images.new_zeros(images.shape[0], 16 - sum(part.shape[1] for part in stack), *images.shape[2:])
    return torch.cat([*stack, blank], dim=1).contiguous(memory_format=torch.channels_last_3d)


def touching(masks: Tensor) -> Tensor:
    """The rim of masks (B, 1, X, Y, Z) of 0 and 1: voxels outside them that touch them, at a corner too."""
    return F.max_pool3d(masks, 3, stride=1, padding=1) - masks


def pooled_signals(images: Tensor, masks: Tensor, anatomy: Anatomy, blurred: Blurred | None = None) -> Tensor:
    """Mean signal of five images in seven regions and seven log volumes, (B, :data:`POOLED`).

    A pool that is empty in a patient (no enhancing lesion, say) gives 0, the brain median.
    """
    _, regions, voxel_ml, white_regions = anatomy
    brain, lesions, enhancing = masks[:, :1], masks[:, 1:2], masks[:, 2:3]
    enhancement = (images[:, 3:4] - images[:, 0:1]) * brain
    signals = torch.cat([images, enhancement], dim=1)
    normal = brain * (1 - lesions)
    anatomical = white_regions.unsqueeze(0) * normal
    rim = (blurred_twice(lesions) if blurred is None else blurred)[0] * normal
    pools = torch.cat([anatomical, lesions, rim, enhancing], dim=1)
    weight = pools.flatten(2)
    total = weight.sum(-1).unsqueeze(1)
    means = torch.einsum("bsv,bpv->bsp", signals.flatten(2), weight) / total.clamp(min=1e-3)
    means = torch.where(total > 0, means, torch.zeros_like(means))
    by_region = lesions.flatten(1) @ regions.flatten(1).T  # counts of voxels: exact in any order
    sizes = torch.cat([by_region, lesions.flatten(1).sum(1, keepdim=True), enhancing.flatten(1).sum(1, keepdim=True)], dim=1)
    logs = torch.log1p(sizes * voxel_ml * 10)
    brain_size = torch.log(brain.flatten(1).sum(1, keepdim=True) * voxel_ml)
    return torch.cat([means.flatten(1), logs, brain_size], dim=1)


def observed_signals(images: Tensor, pooled: Tensor) -> Tensor:
    """Pooled signals (B, :data:`POOLED`) with NaN where a modality is missing, and its enhancement with it.

    Parameters
    ----------
    images : tensor (B, 4, X, Y, Z)
    pooled : tensor (B, :data:`POOLED`)
        From :func:`pooled_signals`.
    """
    missing = images.flatten(2).abs().amax(-1) == 0
    enhancement = missing[:, [0]] | missing[:, [3]]
    absent = torch.cat([missing, enhancement], dim=1).repeat_interleave(POOLS, dim=1)
    absent = F.pad(absent, (0, POOLED - absent.shape[1]))
    return pooled.masked_fill(absent, torch.nan)


def blurred_twice(masks: Tensor) -> Blurred:
    """A mask blurred by a cube of 9 to 12 mm (by grid), and that by one of 15 to 20; zero beyond a box around the lesions."""
    inside, unit = masks.amax(dim=(0, 1)), voxels_in_4_mm(masks.shape)
    box = []
    for axis in range(3):
        hit = torch.nonzero(inside.amax(dim=[other for other in range(3) if other != axis]))
        if not len(hit):
            return torch.zeros_like(masks), torch.zeros_like(masks)
        box.append(slice(max(int(hit[0]) - 3 * unit, 0), int(hit[-1]) + 3 * unit + 1))
    here = (slice(None), slice(None), *box)
    near, far = torch.zeros_like(masks), torch.zeros_like(masks)
    near[here] = _blur(masks[here], unit)
    far[here] = _blur(near[here], 2 * unit)
    return near, far


def _blur(volume: Tensor, radius: int) -> Tensor:
    """Mean over a cube, one axis at a time (a quarter of the time of a cubic pool)."""
    width = 2 * radius + 1
    for axis in range(3):
        kernel = [width if a == axis else 1 for a in range(3)]
        margin = [radius if a == axis else 0 for a in range(3)]
        volume = F.avg_pool3d(volume, kernel, stride=1, padding=margin)
    return volume


def lesions_traced(patients: Sequence[PatientArrays], device: torch.device) -> Tensor:
    """Whether every patient has a T2 lesion mask, (B,): an empty one says that there is no lesion, a missing one nothing."""
    return torch.tensor(["T2 lesion mask" not in patient.missing for patient in patients], device=device)


def stack(patients: list[PatientArrays], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, masks and covariates of several patients as float tensors on a device."""
    images = torch.from_numpy(np.stack([p.images for p in patients])).to(device).float()
    masks = torch.from_numpy(np.stack([p.masks for p in patients])).to(device).float()
    covariates = torch.from_numpy(np.stack([p.covariates for p in patients])).to(device)
    return images, masks, covariates
