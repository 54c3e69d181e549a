"""Columns of the participants table that follow from masks: counts and volumes where the table has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from causalms.lesions import LesionCount, LesionRule, count_lesions
from causalms.tables import net2_column
from causalms.trials.anatomy import template_anatomy
from causalms.trials.resample import resample_trial
from causalms.trials.space import Space, mni_space
from causalms.trials.trial import Trial

#: Gives a mask on its own grid, or None.
MaskReader = Callable[[str, str, int], tuple[np.ndarray, Space] | None]


def fill_from_masks(table: pd.DataFrame, weeks: tuple[int, ...], read: MaskReader) -> tuple[pd.DataFrame, list[str]]:
    """Fill baseline counts and volumes and NET2 outcomes from masks by the default rule.

    A column is filled only where it holds nobody's value at all: a value missing for some is taken as missing on purpose.

    Parameters
    ----------
    table : DataFrame
        Participants.
    weeks : tuple of int
    read : callable
        ``read(participant_id, kind, week)`` gives a mask with its grid, or None.

    Returns
    -------
    table : DataFrame
    notes : list of str
        What was filled, in words.
    """
    wanted: list[tuple[str, int, dict[str, str]]] = [
        ("T2", 0, {"lesions": "t2_lesions", "volume_ml": "t2_volume_ml"}),
        ("Gd", 0, {"lesions": "gd_lesions"}),
    ]
    for week in weeks:
        wanted.append(("NET2", week, {"lesions": net2_column(week), "volume_ml": net2_column(week, "net2_volume_ml")}))
    out, notes = table.copy(), []
    for kind, week, names in wanted:
        empty = {value: name for value, name in names.items() if name not in out or out[name].isna().all()}
        if not empty:
            continue
        counts = [_count(read(participant_id, kind, week)) for participant_id in out["participant_id"]]
        known = sum(count is not None for count in counts)
        for value, name in empty.items():
            out[name] = pd.Series([np.nan if c is None else float(getattr(c, value)) for c in counts], index=out.index)
        if known:
            notes.append(
                f"{' and '.join(empty.values())} of {known} participants counted from their {kind} masks "
                "(26-connected, at least 3 mm3)"
            )
    return out, notes


def _count(mask_and_grid: tuple[np.ndarray, Space] | None) -> LesionCount | None:
    if mask_and_grid is None:
        return None
    mask, space = mask_and_grid
    return count_lesions(mask, space.voxel_volume_mm3, LesionRule.default())


def net2_counts(trial: Trial, week: int, grid: Sequence[int] | None = None) -> pd.DataFrame:
    """Observed NET2 outcomes of a visit counted from masks, as training and rung 3 count them.

    Parameters
    ----------
    trial : Trial
    week : int
    grid : sequence of int, optional
        Shape of the model's grid in MNI152 space, onto which the masks are brought; by default each on its own.

    Returns
    -------
    DataFrame
        One row a participant, columns as of draws (by region on a model's grid only); NaN without a mask.
    """
    regions = None
    if grid is not None:
        space = next(own for own in map(mni_space, ("4mm", "3mm", "2mm", "1mm")) if list(own.shape) == list(grid))
        trial, regions = resample_trial(trial, space), template_anatomy(space).regions
    rows: list[dict[str, float]] = []
    for name in trial.participants["participant_id"]:
        mask, own = trial.mask(name, "NET2", week), trial.space if grid is not None else trial.space_of(name)
        rows.append({} if mask is None else count_lesions(mask, own.voxel_volume_mm3, LesionRule.default(), regions).columns())
    return pd.DataFrame(rows, index=trial.participants.index)
