"""Image features that the first stage of counts reads: a generic list, written down before any score was seen.

Every feature is named in :data:`FEATURES`.  Signals are T1w, T2w, FLAIR, ceT1w and the enhancement ceT1w - T1w, each with brain
median 0 and interquartile range 1.  A feature is NaN where its image or mask is missing, or where no voxel shows it; the network
then reads the mean of its training patients.  Of a patient whose T2 lesion mask was drawn and is empty, volumes and compactness
are 0, the smallest there are; what lesions look like stays NaN.

- ``white_matter_<signal>_<shell>``: mean of normal-appearing white matter in a shell of distance from the ventricles, less
  that of the outermost shell, beside a bias field of second order (least squares with both).
- ``white_matter_<signal>_sd`` and ``_skewness``: of what that regression leaves.
- ``lesion_<signal>_level``, ``_sd``, ``_low``, ``_high``: mean, standard deviation, 10% and 90% quantiles in T2 lesions, less the
  bias field and the mean of normal-appearing white matter.
- ``brain_<signal>_low``, ``_high``: 5% and 95% quantiles in the brain.
- ``lesion_volume_<shell>``, ``lesion_volume_cortex``: log(1 + volume / 0.1 mL) of T2 lesions in a shell, and near the cortex.
- ``lesion_compactness``: mean share of the cube around a lesion voxel (9 to 12 mm wide, by grid) that is lesion.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from math import nan
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from causalms.generator.inputs import Anatomy, Blurred, blurred_twice

SIGNALS = ("T1w", "T2w", "FLAIR", "ceT1w", "enhancement")
#: Outer ends (mm from the ventricles) of the shells; the last shell is what lies farther out.
SHELL_ENDS = (5.0, 10.0, 15.0, 25.0)
_COUNT = len(SHELL_ENDS) + 1
_SHELLS = tuple(f"to_{end:.0f}mm" for end in SHELL_ENDS)
_BRAIN_SIGNALS = SIGNALS[:4]
FEATURES = (
    *(f"white_matter_{signal}_{part}" for signal in SIGNALS for part in (*_SHELLS, "sd", "skewness")),
    *(f"lesion_{signal}_{part}" for signal in SIGNALS for part in ("level", "sd", "low", "high")),
    *(f"brain_{signal}_{part}" for signal in _BRAIN_SIGNALS for part in ("low", "high")),
    *(f"lesion_volume_{shell}" for shell in (*_SHELLS, "beyond", "cortex")),
    "lesion_compactness",
)
#: Fewest voxels that a regression, and a summary of lesions, is made from.
_FEWEST_WHITE, _FEWEST_LESION = 200, 5


def image_features(
    images: Tensor, masks: Tensor, anatomy: Anatomy, traced: Tensor | None = None, blurred: Blurred | None = None
) -> Tensor:
    """Features (B, ``len(FEATURES)``) of patients, from images (B, 4, X, Y, Z) and masks (B, 3, X, Y, Z).

    ``traced`` (B,): whether somebody drew the patient's T2 lesions; left out, an empty mask is taken for a missing one.
    ``blurred``: the T2 lesions blurred, where they are known already.
    """
    near_lesion = (blurred_twice(masks[:, 1:2]) if blurred is None else blurred)[0].flatten(1)
    template, rows = _template(anatomy.planes), []
    if traced is None:
        traced = masks[:, 1].flatten(1).amax(1) > 0
    for own, (brain, lesions, _), near, known in zip(images.flatten(2), masks.flatten(2) > 0, near_lesion, traced, strict=True):
        normal = (brain & (near == 0))[template.white]
        at = lesions.nonzero()[:, 0]
        of_lesions = _lesions_of(at, near, template, anatomy.voxel_ml).masked_fill(~known, nan)
        of_signals = _signals_of(own, brain, (template.white[normal], template.design[normal]), (at, template.shapes(at)))
        rows.append(torch.cat([of_signals, of_lesions]))
    return torch.stack(rows)


def uses_image(names: Collection[str]) -> Tensor:
    """Which features (``len(FEATURES)``,) are read from one of these modalities."""
    enhancement = ("enhancement",) if {"T1w", "ceT1w"} & set(names) else ()
    return torch.tensor([any(f"_{name}_" in feature for name in (*names, *enhancement)) for feature in FEATURES])


class _Template(NamedTuple):
    """What is the same for all patients on a grid, whose voxels are numbered.

    Attributes
    ----------
    shells : tensor (V,)
        Number of the shell that every voxel lies in.
    cortex : bool tensor (V,)
        Whether a voxel is near the cortex.
    white : tensor (W,)
        The voxels of white matter.
    design : tensor (W, 14)
        Their shells, one-hot, and the polynomials of :meth:`shapes`.
    axes : three tensors
        Coordinates from -1 to 1 along each axis.
    """

    shells: Tensor
    cortex: Tensor
    white: Tensor
    design: Tensor
    axes: tuple[Tensor, ...]

    def shapes(self, at: Tensor) -> Tensor:
        """The nine polynomials of first and second order in the coordinates of voxels, (len(at), 9)."""
        return _bias_shapes(at, self.axes)


@lru_cache(maxsize=4)
def _template(planes: Tensor) -> _Template:
    """From the planes (4, X, Y, Z) of :class:`Anatomy`, which are made once for a grid."""
    axes = tuple(torch.linspace(-1, 1, n, device=planes.device) for n in planes.shape[1:])
    shells, white = _shells(planes[0]).flatten(), (planes[1].flatten() > 0.5).nonzero()[:, 0]
    design = torch.cat([one_hot(shells[white], _COUNT).to(planes), _bias_shapes(white, axes)], dim=-1)
    return _Template(shells, planes[2].flatten() > 0.5, white, design, axes)


def _shells(near_ventricles: Tensor) -> Tensor:
    """Number of the shell (X, Y, Z) that every voxel lies in; ``near_ventricles`` = exp(-distance / 10 mm)."""
    ends = torch.exp(-torch.tensor(SHELL_ENDS, device=near_ventricles.device) / 10)
    return (near_ventricles[..., None] < ends).sum(-1)


def _bias_shapes(at: Tensor, axes: tuple[Tensor, ...]) -> Tensor:
    """The nine polynomials of first and second order in the coordinates of numbered voxels, (len(at), 9)."""
    _, wide, deep = (len(axis) for axis in axes)
    x, y, z = axes[0][at // (wide * deep)], axes[1][at // deep % wide], axes[2][at % deep]
    return torch.stack([x, y, z, x * x, y * y, z * z, x * y, y * z, x * z], dim=-1)


def _signals_of(images: Tensor, brain: Tensor, white: tuple[Tensor, Tensor], lesions: tuple[Tensor, Tensor]) -> Tensor:
    """Features of one patient's signals (4, V): of white matter and of lesions (voxels, design), and of the brain."""
    missing = ~images.any(1)
    absent = torch.cat([missing, (missing[0] | missing[3])[None]])[:, None]
    of_white, of_lesions = _white_matter(_signals_at(images, white[0]), white[1], _signals_at(images, lesions[0]), lesions[1])
    of_brain = _quantiles(images[:, brain], (0.05, 0.95))
    kept = (of_white.masked_fill(absent, nan), of_lesions.masked_fill(absent, nan), of_brain.masked_fill(absent[:4], nan))
    return torch.cat([part.flatten() for part in kept])


def _signals_at(images: Tensor, at: Tensor) -> Tensor:
    """The five signals of voxels, (5, len(at))."""
    there = images.index_select(1, at)
    return torch.cat([there, (there[3] - there[0])[None]])


def _white_matter(white: Tensor, design: Tensor, lesion: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Shell contrasts, spread and skewness of white matter (S, 6), and level, spread and quantiles of lesions (S, 4)."""
    of_white, of_lesions = white.new_full((len(SIGNALS), _COUNT + 1), nan), white.new_full((len(SIGNALS), 4), nan)
    if white.shape[1] < _FEWEST_WHITE:
        return of_white, of_lesions
    gram = design.T @ design + 1e-3 * torch.eye(design.shape[1], device=design.device)
    coefficients = torch.linalg.solve(gram, design.T @ white.T)
    left = white - (design @ coefficients).T
    sd = left.std(dim=1)
    levels = coefficients[:_COUNT]
    of_white[:, : _COUNT - 1] = (levels[:-1] - levels[-1]).T
    of_white[:, -2], of_white[:, -1] = sd, (left**3).mean(1) / sd.clamp(min=1e-6) ** 3
    if lesion.shape[1] >= _FEWEST_LESION:
        average = (design[:, :_COUNT].mean(0) @ levels)[:, None]
        above = lesion - average - (shapes @ coefficients[_COUNT:]).T
        of_lesions[:, 0], of_lesions[:, 1] = above.mean(1), above.std(1)
        of_lesions[:, 2:] = _quantiles(above, (0.1, 0.9))
    return of_white, of_lesions


def _quantiles(values: Tensor, shares: tuple[float, float]) -> Tensor:
    """Two quantiles of every signal, (S, 2)."""
    count = values.shape[1]
    if not count:
        return values.new_full((len(values), 2), nan)
    places = [round(share * (count - 1)) for share in shares]
    if values.is_cuda:
        return torch.stack([values.kthvalue(1 + place, dim=1).values for place in places], dim=1)
    return torch.from_numpy(np.sort(values.numpy(), axis=1)[:, places])  # a fifth of the time of kthvalue


def _lesions_of(lesions: Tensor, near: Tensor, template: _Template, voxel_ml: float) -> Tensor:
    """Volume of T2 lesions (their voxels) by shell and near the cortex, and their compactness."""
    by_shell = torch.bincount(template.shells[lesions], minlength=_COUNT)
    volumes = torch.cat([by_shell, template.cortex[lesions].sum()[None]]) * voxel_ml
    return torch.cat([torch.log1p(10 * volumes).to(near), near[lesions].mean().nan_to_num(0.0)[None]])
