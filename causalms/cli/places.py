"""Risk maps of a model beside the masks that a trial observed, one patient at a time: what calibration of place needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from causalms.calibration import RiskMap
from causalms.lesions import lesion_table
from causalms.tables import net2_column
from causalms.trials import template_anatomy

if TYPE_CHECKING:
    from causalms.causal import CausalModel


def judged_risk_maps(
    model: CausalModel, trial: Any, week: int, participants: Sequence[str] | None = None, progress: bool = False
) -> list[RiskMap]:
    """Each patient's voxel risk under the arm as randomised, with the observed mask and the centres of its lesions.

    Patients without an observed mask at the week are left out.

    Parameters
    ----------
    model : CausalModel
        With a mechanism that knows masks.
    trial : Trial
        On the grid of the model.
    week : int
    participants : sequence of str, optional
        Everyone with an observed count unless given.
    progress : bool
    """
    people = trial.participants.set_index("participant_id")
    seen = people[people[net2_column(week)].notna()]
    chosen = list(seen.index) if participants is None else [name for name in participants if name in seen.index]
    brain = template_anatomy(trial.space).brain
    maps = []
    for participant in tqdm(chosen, desc="risk maps", unit="patient", disable=None if progress else True):
        mask = trial.mask(participant, "NET2", week)
        if mask is None:
            continue
        risk = np.clip(model.risk_map(trial, participant, str(seen.loc[participant, "arm"]), week), 0, 1).astype(np.float32)
        inside = brain | mask | (risk > 0)
        maps.append(RiskMap(risk, mask, inside, _centres(mask, trial.space.affine)))
    return maps


def _centres(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The lesion voxel nearest to each lesion's centre of mass."""
    lesions = lesion_table(mask, affine)
    world = lesions[["x_mm", "y_mm", "z_mm"]].to_numpy(float)
    index = np.linalg.inv(affine) @ np.vstack([world.T, np.ones(len(world))])
    voxels = np.argwhere(mask)
    apart = ((index[:3].T[:, None, :] - voxels[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(voxels[apart.argmin(axis=1)] if len(world) else np.zeros((0, 3), int))
