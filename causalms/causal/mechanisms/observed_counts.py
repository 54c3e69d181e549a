"""What a regression of counts learns from: patients with complete rows, and the moments of a lesion's volume."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.tables import patient_order


def complete_patients(participants: pd.DataFrame, lesions: str, covariates: list[str]) -> pd.DataFrame:
    """Patients with an arm, a count and every covariate, in their own order."""
    for name in ("arm", lesions, *covariates):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it or name another week or covariate")
    if participants[lesions].isna().all():
        raise InputError(f"participants: nobody has {lesions!r}; name a week with observed outcomes")
    empty = [name for name in covariates if participants[name].isna().all()]
    if empty:
        raise InputError(f"participants: covariate {empty[0]!r} is missing for everybody; add it, or name other covariates")
    seen = participants.iloc[patient_order(participants)].dropna(subset=[lesions, "arm", *covariates])
    if seen.empty:
        raise InputError(f"participants: nobody has all of {', '.join(map(repr, (lesions, *covariates)))}; fill them in")
    return seen


def left_out_patients(participants: pd.DataFrame, seen: pd.DataFrame) -> tuple[str, ...]:
    """How many patients the regression did not learn from, in words; empty where it learned from all."""
    if len(seen) == len(participants):
        return ()
    count = len(participants) - len(seen)
    return (
        f"{count} of {len(participants)} patients lack an arm, a count or a covariate: the regression is fitted without them",
    )


def lesion_volumes(seen: pd.DataFrame, lesions: str, volume: str) -> tuple[float, float]:
    """Moments of one lesion's volume: mean from the totals, shape from the scatter of totals about count x mean."""
    active = seen[seen[lesions] > 0]
    if volume not in active or not active[volume].notna().any():
        return 0.1, 0.5
    active = active.dropna(subset=[volume])
    n, v = active[lesions].to_numpy(float), active[volume].to_numpy(float)
    mean = v.sum() / n.sum()
    variance = float(np.mean((v - n * mean) ** 2 / n))
    return float(mean), float(np.clip(mean**2 / max(variance, 1e-12), 0.05, 50.0))
