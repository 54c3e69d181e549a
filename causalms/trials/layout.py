"""Which file of a BIDS folder is a participant's image or mask, and on which grid it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from causalms.errors import InputError
from causalms.tables import LARGEST_VALUES
from causalms.trials.bids import find, image_path, mask_path, session_of_week, sessions
from causalms.trials.lesion_files import LesionFiles
from causalms.trials.nifti import binary, finite, read_space, read_volume
from causalms.trials.space import Space
from causalms.trials.trial import MASKS, MODALITIES


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the files of a trial stand.

    Parameters
    ----------
    root : Path
        The BIDS folder.
    baseline : mapping of str to (str or None)
        The session of each participant that is baseline.
    lesions : LesionFiles, optional
        Where the baseline lesion masks lie, if not in the folder.
    """

    root: Path
    baseline: Mapping[str, str | None]
    lesions: LesionFiles | None = None

    def image_file(self, participant_id: str, modality: str) -> Path | None:
        """File of a baseline image, or None."""
        return find(self.root, image_path(participant_id, modality, self.baseline[participant_id]))

    def mask_file(self, participant_id: str, kind: str, week: int = 0) -> Path | None:
        """File of a mask at a week (0 is baseline), or None."""
        baseline = self.baseline[participant_id]
        if self.lesions is not None and kind == "T2" and week == 0:
            return self.lesions.file(participant_id, baseline)
        return find(self.root, mask_path(participant_id, kind, session_of_week(week) if week else baseline))

    def read_mask(self, path: Path, kind: str, week: int = 0) -> tuple[np.ndarray, Space]:
        """A mask as bool and its grid; in files of lesion tools the lesions are told from the other labels.

        Raises
        ------
        InputError
            If it is no mask, or one of lesions that covers more than lesions can.
        """
        values, space = read_volume(path)
        elsewhere = self.lesions if kind == "T2" and week == 0 else None
        inside = binary(path, values) if elsewhere is None else elsewhere.inside(path, values)
        volume_ml = np.count_nonzero(inside) * space.voxel_volume_mm3 / 1000
        most = LARGEST_VALUES["t2_volume_ml"]
        if kind != "brain" and volume_ml > most:
            raise InputError(f"{path}: lesions cover {volume_ml:.0f} mL (limit {most:.0f}); save lesions as 1 and all else as 0")
        return inside, space

    def other_sessions(self, participant_id: str) -> list[str]:
        """Sessions of a participant besides the baseline."""
        return sorted(sessions(self.root, participant_id) - {str(self.baseline[participant_id])})

    def own_image(self, participant_id: str, modality: str) -> tuple[np.ndarray, Space] | None:
        """A baseline image on its own grid, or None."""
        path = self.image_file(participant_id, modality)
        if path is None:
            return None
        values, space = read_volume(path)
        return finite(path, values), space

    def own_mask(self, participant_id: str, kind: str, week: int = 0) -> tuple[np.ndarray, Space] | None:
        """A mask on its own grid, or None."""
        path = self.mask_file(participant_id, kind, week)
        return None if path is None else self.read_mask(path, kind, week)

    def files(self, participant_id: str) -> list[Path]:
        """Every baseline file of a participant: images first, then masks."""
        files = [self.image_file(participant_id, modality) for modality in MODALITIES]
        files += [self.mask_file(participant_id, kind) for kind in MASKS]
        return [file for file in files if file is not None]

    def grids(self, participant_id: str) -> dict[Path, Space]:
        """Grid of every baseline file of a participant."""
        return {file: read_space(file) for file in self.files(participant_id)}

    def space(self, participant_id: str) -> Space | None:
        """Grid of a participant's first baseline image, or of the first mask where there is no image; None without either."""
        return _space(self, participant_id)


@lru_cache(maxsize=32)
def _space(layout: Layout, participant_id: str) -> Space | None:
    files = (layout.image_file(participant_id, modality) for modality in MODALITIES)
    file = next((file for file in files if file is not None), None)
    if file is None:
        masks = (layout.mask_file(participant_id, kind) for kind in MASKS)
        file = next((file for file in masks if file is not None), None)
    return None if file is None else read_space(file)
