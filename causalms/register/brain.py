"""Where the brain is: in images without a skull what is not zero, else what deepbet's network says."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from causalms.errors import RefusalError, optional_packages
from causalms.register.scan import Scan

#: No brain with its fluid is larger; of heads with their skull, 2.6 litres and more are not zero (docs/decisions/space_gate.md).
_LARGEST_BRAIN_MM3 = 2.0e6


def is_extracted(scan: Scan) -> bool:
    """Whether the skull is off: what is not zero has no more than the volume of a brain."""
    return float(np.count_nonzero(scan.values) * scan.space.voxel_volume_mm3) < _LARGEST_BRAIN_MM3


def extract_brain(where: str, scan: Scan) -> np.ndarray:
    """A brain mask of an image with its skull, of any contrast, by deepbet.

    Parameters
    ----------
    where : str
        The image, for messages.
    scan : Scan

    Returns
    -------
    array of bool

    Raises
    ------
    RefusalError
        If the network sees no brain.

    References
    ----------
    Fisch L et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks. Computers in Biology
    and Medicine 2024.
    """
    import nibabel

    try:
        _, mask, _ = _network().run(nibabel.Nifti1Image(scan.values.astype(np.float32), scan.space.affine))
    except (AssertionError, ValueError, IndexError) as error:
        raise RefusalError(f"{where}: no brain is seen in it ({error}); give a brain mask with `brain_mask`") from error
    return np.asarray(mask.dataobj) > 0


@lru_cache(maxsize=1)
def _network() -> Any:
    with optional_packages():
        from deepbet import BrainExtraction
    return BrainExtraction(no_gpu=True)
