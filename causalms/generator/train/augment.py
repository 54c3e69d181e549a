"""Random changes of the patients of a step, of which the count does not depend: mirrored, moved, shaded, noisy, brighter.

Images have median 0 and interquartile range 1 in the brain; every random number is drawn for the whole batch, so that several
processes see what one would see.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from causalms.generator.configurations import TrainingConfig, voxels_in_4_mm
from causalms.generator.train.distributed import Share


def augment(
    images: Tensor, masks: Tensor, owner: Tensor, voxel: Tensor, recipe: TrainingConfig, random: torch.Generator, share: Share
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (B, 4, X, Y, Z), masks (B, 3, X, Y, Z) and places of lesions of a share, changed as a recipe says.

    Parameters
    ----------
    images, masks : Tensor
    owner, voxel : Tensor (lesions,)
        Whose lesion lies at which flat voxel; lesions that leave the brain are left out of what is returned.
    recipe : TrainingConfig
        Its strengths ``flip``, ``affine``, ``bias_field``, ``noise`` and ``contrast``; nothing is drawn for one of 0.
    random : torch.Generator
    share : Share
    """
    if not any((recipe.flip, recipe.affine, recipe.bias_field, recipe.noise, recipe.contrast)):
        return images, masks, owner, voxel
    if recipe.flip or recipe.affine:
        matrix = share.of(_movements(share.whole, recipe, random, masks.shape[2:]))
        images, masks, owner, voxel = _moved(images, masks, owner, voxel, matrix.to(images))
    brain = masks[:, :1] * (images.flatten(2).abs().amax(-1) > 0)[:, :, None, None, None]
    size = (share.whole, images.shape[1])
    if recipe.contrast:
        gain = share.of(torch.exp(recipe.contrast * torch.randn(size, generator=random))).to(images)
        images = images * gain[:, :, None, None, None]
    if recipe.bias_field:
        knots = share.of(torch.randn((*size, 3, 3, 3), generator=random)).to(images)
        images = images + recipe.bias_field * brain * F.interpolate(knots, size=images.shape[2:], mode="trilinear")
    if recipe.noise:
        spread = share.of(recipe.noise * torch.rand(size, generator=random))[:, :, None, None, None]
        fields = share.of(torch.randn((*size, *images.shape[2:]), generator=random))
        images = images + brain * (spread * fields).to(images)
    return images.clamp(-6, 6), masks, owner, voxel


def _movements(rows: int, recipe: TrainingConfig, random: torch.Generator, shape: torch.Size) -> Tensor:
    """Matrices (rows, 3, 4) from a place after the movement to the place before, in coordinates of -1 to 1 ordered z, y, x."""
    mirrored = torch.rand(rows, generator=random) < recipe.flip
    angle, scale, shift = recipe.affine * torch.randn((3, rows, 3), generator=random)
    turn = torch.zeros(rows, 3, 3)
    for row, column, axis in ((0, 1, 0), (0, 2, 1), (1, 2, 2)):
        turn[:, row, column] = torch.deg2rad(angle[:, axis])
        turn[:, column, row] = -turn[:, row, column]
    linear = torch.linalg.matrix_exp(turn) * torch.exp(scale / 100)[:, None]
    half = torch.tensor([float(n) for n in reversed(shape)]) / 2  # voxels from the centre to an edge
    linear = linear * half[None, None] / half[None, :, None]
    linear[:, :, 2] *= torch.where(mirrored, -1.0, 1.0)[:, None]
    return torch.cat([linear, (shift * voxels_in_4_mm(shape) / 4 / half)[:, :, None]], dim=2)


def _moved(images: Tensor, masks: Tensor, owner: Tensor, voxel: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grid = F.affine_grid(matrix, list(masks.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    masks = F.grid_sample(masks, grid, mode="nearest", align_corners=False)
    images = images * masks[:, :1]
    shape = torch.tensor(masks.shape[2:], device=voxel.device)
    places = torch.stack(torch.unravel_index(voxel, tuple(masks.shape[2:])), dim=1).flip(1)
    half = shape.flip(0) / 2
    before = (places + 0.5) / half - 1
    back = torch.linalg.solve(matrix[owner][:, :, :3], (before - matrix[owner][:, :, 3])[:, :, None])[:, :, 0]
    after = torch.floor((back + 1) * half).long().flip(1)
    inside = ((after >= 0) & (after < shape)).all(dim=1)
    owner, after = owner[inside], after[inside]
    flat = (after[:, 0] * shape[1] + after[:, 1]) * shape[2] + after[:, 2]
    in_brain = masks[:, 0].flatten(1)[owner, flat] > 0
    return images, masks, owner[in_brain], flat[in_brain]
