"""One patient as training sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.generator.inputs import PatientArrays


@dataclass(frozen=True)
class Visit:
    """One follow-up visit: week, lesions by the rule, and the NET2 mask as packed bits."""

    week: int
    lesions: int
    packed_mask: np.ndarray

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """The NET2 mask, bool of the grid's shape."""
        bits = np.unpackbits(self.packed_mask, count=int(np.prod(shape)))
        return bits.reshape(shape).astype(bool)


@dataclass(frozen=True)
class TrainingPatient:
    """One patient as training sees it; ``centres`` are flat voxel indices of the lesions at the last visit."""

    arrays: PatientArrays
    arm: str
    visits: tuple[Visit, ...]
    centres: np.ndarray
    volume_ml: float
    trial: str = ""

    @property
    def last(self) -> Visit:
        """The last visit that was imaged."""
        return self.visits[-1]
