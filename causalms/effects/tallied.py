"""Effects from draws that are not held: what :func:`causalms.tables.tallied_draws` kept of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.errors import InputError, RefusalError
from causalms.stats import Array
from causalms.tables import TALLY


@dataclass(frozen=True)
class Moments:
    """What effects need of draws that are not held: of each patient ``draws`` draws.

    Attributes
    ----------
    draws : int
    variance, covariance : array (N, K)
        Of the draws, unbiased, and with the reference; on the scale that is averaged.
    """

    draws: int
    variance: Array
    covariance: Array


def moments_of_tallies(
    cells: pd.DataFrame, arms: tuple[str, ...], activity: bool, factor: float, source: str
) -> tuple[pd.DataFrame, Array, Moments]:
    r"""Mean outcomes (N, K) of every patient under every arm and their moments, from whole-number sums over draws.

    With :math:`S_a = \sum_d y_d(a)` and :math:`P_{ab} = \sum_d y_d(a) y_d(b)` the covariance is
    :math:`(P_{ab} - S_a S_b / D) / (D - 1)`.

    Parameters
    ----------
    cells : DataFrame
        Of one query and visit.
    arms : tuple of str
        The reference first.
    activity : bool
        Whether the outcome is any lesion instead of their number.
    factor : float
        Of the outcome, as lesions a year.
    source : str

    Raises
    ------
    InputError, RefusalError
    """
    draws, names = cells["draws"].unique(), ["trial", "participant_id"]
    people = cells[[*names, "arm_randomised"]].astype(str).drop_duplicates(names).reset_index(drop=True)
    keys = pd.MultiIndex.from_frame(people[names])
    keyed = cells.assign(**{name: cells[name].astype(str) for name in (*names, "arm")})
    by_arm = [keyed[keyed["arm"] == arm].set_index(names) for arm in arms]
    if len(draws) > 1 or any(len(own) != len(keys) or not keys.isin(own.index).all() for own in by_arm):
        raise InputError(f"{source}: some patients lack arms or draws that others have; give every patient the same once")
    if len(people) < 2:
        raise RefusalError(f"{source}: simulated outcomes of one patient only; an average effect needs at least two")
    total, square, cross = np.empty((3, len(keys), len(arms)))
    for k, own in enumerate(by_arm):
        sums = own.loc[keys, "both_active" if activity else "products"].map(json.loads)
        square[:, k], cross[:, k] = [cell[arms[k]] for cell in sums], [cell[arms[0]] for cell in sums]
        tallies = own.loc[keys, TALLY].map(json.loads)
        total[:, k] = square[:, k] if activity else [sum(int(y) * n for y, n in tally.items()) for tally in tallies]
    count = int(draws[0])
    unbiased = factor**2 / max(count - 1, 1)
    variance = np.maximum(square - total**2 / count, 0.0) * unbiased
    return people, total / count * factor, Moments(count, variance, (cross - total * total[:, :1] / count) * unbiased)
