"""Two worlds of a draws or expected table, paired by patient and draw: effects per patient, values of policies, common noise.

The worlds of one patient share their noise, so contrasts are taken within patient and draw before anything is averaged.
Effects of a population are those of :func:`causalms.effects.analyse_draws`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.effects import mean_variances
from causalms.errors import InputError, RefusalError
from causalms.tables import one_week

FloatArray = npt.NDArray[np.floating[Any]]
_OUTCOMES = ("net2_lesions", "net2_volume_ml", "any")


@dataclass(frozen=True)
class PairedWorlds:
    """Two worlds of the same patients, paired by draw.

    Attributes
    ----------
    participants : tuple of str
    reference, arm : array, shape (patients, draws)
        One column where outcomes are expected ones.
    sampled : bool
    """

    participants: tuple[str, ...]
    reference: FloatArray
    arm: FloatArray
    sampled: bool


def paired_worlds(
    table: pd.DataFrame, arm: str, reference: str, week: float | None = None, outcome: str = "net2_lesions"
) -> PairedWorlds:
    """Two worlds of a draws (or expected) table as arrays, patients by draws.

    Parameters
    ----------
    table : DataFrame
    arm, reference : str
        Names in the ``arm`` column: arms or policies.
    week : float, optional
        Needed where the table has several visits.
    outcome : {"net2_lesions", "net2_volume_ml", "any"}

    Raises
    ------
    InputError
        If a world is not in the table or patients differ between the worlds.
    """
    rows = table[table["query"] != "observed"]
    rows = rows[rows["visit_week"] == one_week(rows, week, "draws")]
    sampled = "draw" in rows
    column = _column(outcome, sampled)
    worlds = []
    for name in (reference, arm):
        world = rows[rows["arm"] == name]
        if world.empty:
            known = ", ".join(map(str, rows["arm"].unique()))
            raise InputError(f"the table has no world {name!r} at this visit; it has {known}")
        values = world[column] > 0 if outcome == "any" and sampled else world[column]
        keys = [world["participant_id"], world["draw"] if sampled else pd.Series(0, index=world.index)]
        worlds.append(pd.Series(values.to_numpy(float), index=pd.MultiIndex.from_arrays(keys)).unstack())
    zero, one = worlds
    if zero.shape != one.shape or not (zero.index.equals(one.index) and zero.columns.equals(one.columns)):
        raise InputError(f"worlds {reference!r} and {arm!r} do not hold the same patients and draws; ask both in one query")
    if zero.isna().any(axis=None) or one.isna().any(axis=None):
        raise InputError("some patients lack draws that others have; ask all in one query")
    return PairedWorlds(tuple(map(str, zero.index)), zero.to_numpy(float), one.to_numpy(float), sampled)


def patient_effects(
    table: pd.DataFrame, arm: str, reference: str, week: float | None = None, outcome: str = "net2_lesions"
) -> pd.DataFrame:
    """Conditional average treatment effect of every patient, E[Y(arm) - Y(reference) | baseline], with its Monte-Carlo error.

    Returns
    -------
    DataFrame
        participant_id, mean_reference, mean_arm, difference, ratio (missing where the reference mean is 0), and the
        difference's se_monte_carlo.

    Examples
    --------
    >>> rows = [("a", w, d, y) for w, ys in (("x", (1, 0)), ("y", (3, 4))) for d, y in enumerate(ys)]
    >>> t = pd.DataFrame(rows, columns=["participant_id", "arm", "draw", "net2_lesions"])
    >>> t = t.assign(visit_week=48.0, query="interventional")
    >>> patient_effects(t, "x", "y")[["difference", "se_monte_carlo"]].round(3).values.tolist()
    [[-3.0, 1.0]]
    """
    worlds = paired_worlds(table, arm, reference, week, outcome)
    difference = worlds.arm - worlds.reference
    draws = difference.shape[1]
    zero, one = worlds.reference.mean(1), worlds.arm.mean(1)
    return pd.DataFrame(
        {
            "participant_id": worlds.participants,
            "mean_reference": zero,
            "mean_arm": one,
            "difference": difference.mean(1),
            "ratio": np.where(zero > 0, one / np.where(zero > 0, zero, 1.0), np.nan),
            "se_monte_carlo": difference.std(1, ddof=1) / np.sqrt(draws) if draws > 1 else (np.nan if worlds.sampled else 0.0),
        }
    )


def policy_values(
    table: pd.DataFrame, worlds: Sequence[str], week: float | None = None, outcome: str = "net2_lesions"
) -> pd.DataFrame:
    """Values of treatment policies (mean outcome had everybody followed them) and their differences to the first.

    Returns
    -------
    DataFrame
        world, value, se_patient, se_monte_carlo, difference (to the first world), se_difference, se_difference_monte_carlo.
    """
    rows = []
    for world in worlds:
        pair = paired_worlds(table, world, worlds[0], week, outcome)
        difference = pair.arm - pair.reference
        errors = [
            np.sqrt(mean_variances(np.asarray(values, dtype=float)[:, None], sampled=pair.sampled))
            for values in (pair.arm, difference)
        ]
        rows.append([world, pair.arm.mean(), *errors[0], difference.mean(), *errors[1]])
    names = ["world", "value", "se_patient", "se_monte_carlo", "difference", "se_difference", "se_difference_monte_carlo"]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True)
class CommonNoise:
    """What sharing the noise of two worlds saves in the variance of their mean difference.

    Attributes
    ----------
    factor : float
        Variance of the difference with independent noise over that with shared noise, averaged over patients.
    ceiling : float
        The same factor for comonotone outcomes with the same marginals: the largest that any coupling allows.
    factor_se, share_se : float
        Standard errors by leaving out one patient at a time; missing with fewer than 3 patients.
    """

    factor: float
    ceiling: float
    factor_se: float = np.nan
    share_se: float = np.nan

    @property
    def share(self) -> float:
        """Factor as a share of the ceiling."""
        return self.factor / self.ceiling


def common_noise_factor(
    table: pd.DataFrame, arm: str, reference: str, week: float | None = None, outcome: str = "net2_lesions"
) -> CommonNoise:
    r"""Variance factor of common random numbers, and its ceiling.

    .. math::
        \frac{\sum_i [V_i(a) + V_i(0)]}{\sum_i V_i(Y(a) - Y(0))} \le
        \frac{\sum_i [V_i(a) + V_i(0)]}{\sum_i V_i(F_a^{-1}(W) - F_0^{-1}(W))},

    variances over the draws of patient i.  Where one arm holds nearly all of the variance the ceiling itself is low.

    Raises
    ------
    RefusalError
        If outcomes are expected ones or there are fewer than 8 draws.
    """
    worlds = paired_worlds(table, arm, reference, week, outcome)
    if not worlds.sampled or worlds.arm.shape[1] < 8:
        raise RefusalError("the variance factor needs sampled outcomes with at least 8 draws a patient; ask for more draws")
    apart = worlds.arm.var(1, ddof=1) + worlds.reference.var(1, ddof=1)
    together = (worlds.arm - worlds.reference).var(1, ddof=1)
    comonotone = (np.sort(worlds.arm, 1) - np.sort(worlds.reference, 1)).var(1, ddof=1)
    if comonotone.sum() <= 0:
        raise RefusalError("the two worlds are equal draw by draw, so there is no variance to save; compare other arms")
    factor, ceiling = float(apart.sum() / together.sum()), float(apart.sum() / comonotone.sum())
    shares = _leave_one_out(comonotone, together)
    return CommonNoise(factor, ceiling, _jackknife(_leave_one_out(apart, together)), _jackknife(shares))


def _leave_one_out(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Ratio of sums without each patient in turn; missing where what is left has no variance."""
    below = denominator.sum() - denominator
    return np.asarray(np.divide(numerator.sum() - numerator, below, out=np.full(len(below), np.nan), where=below > 0))


def _jackknife(left_out: FloatArray) -> float:
    n = len(left_out)
    return float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())) if n > 2 else np.nan


def _column(outcome: str, sampled: bool) -> str:
    if outcome not in _OUTCOMES:
        raise InputError(f"outcome {outcome!r} is unknown; choose {', '.join(_OUTCOMES)}")
    if outcome == "any":
        return "net2_lesions" if sampled else "activity_probability"
    return outcome if sampled else f"expected_{outcome}"
