"""Lesion masks of the open Ljubljana patients on a grid of the template (Lesjak 2016, 2018)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causalms.register import Scan, register_images
from causalms.register.greedy import align
from causalms.trials import Space, mni_space, read_mask, read_volume, resample_lesions, template_anatomy


def head_of_cs07(open_ms: Path) -> np.ndarray:
    """Affine transform that brings the head of sub-cs07 to the template's size.

    Baseline masks lie in MNI152 space by a rigid motion only; this head stands for the size of all.
    """
    images = {name: Scan(*read_volume(next((open_ms / "sub-cs07").rglob(f"*ses-01_{name}.nii.gz")))) for name in ("T1w", "FLAIR")}
    return register_images("sub-cs07", images).to_template["T1w"]


def by_its_mask(brain: Scan) -> np.ndarray:
    """Affine transform of a brain mask onto the template's."""
    space = mni_space("4mm")
    fixed = Scan(template_anatomy(space).brain.astype(np.float32), space).even(3.0)
    moving = Scan(brain.values.astype(np.float32), brain.space).even(3.0)
    start = np.eye(4)
    start[:3, 3] = fixed.centre_mm() - moving.centre_mm()
    return align(fixed, moving, start, rigid=False, far=True)


def on_template(mask: Scan, matrix: np.ndarray, space: Space) -> np.ndarray:
    """A lesion mask after an affine transform, on a grid of the template; no lesion is lost."""
    moved = mask.moved(matrix)
    return resample_lesions(moved.values, moved.space, space)


def baseline_masks(open_ms: Path) -> list[Scan]:
    """T2 lesions of sub-cs01 to sub-cs15 as they lie."""
    return [Scan(*read_mask(file)) for file in sorted((open_ms / "derivatives/lesions").glob("sub-cs*/**/*_desc-T2_mask.nii.gz"))]


def change_masks(open_ms: Path) -> dict[str, tuple[Scan, Scan]]:
    """New and enlarging lesions of sub-lg01 to sub-lg10, each with its brain mask."""
    files = sorted((open_ms / "derivatives/lesions").glob("sub-lg*/**/*_desc-NET2_mask.nii.gz"))
    return {
        file.name.partition("_")[0]: (
            Scan(*read_mask(file)),
            Scan(*read_mask(next(file.parent.glob("*_desc-brain_mask.nii.gz")))),
        )
        for file in files
    }
