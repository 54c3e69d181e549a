"""Whether a variance can be had at all: clusters in every arm, strata with several arms, an outcome that varies."""

from __future__ import annotations

import numpy as np
import pandas as pd

from causalms.errors import RefusalError
from causalms.stats import Array

#: Residuals below this share of the largest outcome are rounding.
ROUNDING = 1e-10
_SHOWN = 5


def refuse_lone_clusters(clusters: pd.Series, arm: np.ndarray, arms: tuple[str, ...], name: str, source: str) -> None:
    """An arm whose patients all lie in one cluster has no variance between clusters.

    Raises
    ------
    RefusalError
        Naming the arm.
    """
    count = clusters.nunique()
    if count < 2:
        raise RefusalError(
            f"{source}: column {name!r} holds one cluster only; a variance between clusters needs at least two in every arm"
        )
    in_arm = clusters.groupby(np.array(arms, dtype=object)[arm]).nunique()
    if in_arm.min() < 2:
        lonely = next(one for one in arms if in_arm[one] < 2)
        raise RefusalError(
            f"{source}: column {name!r}: all patients of arm {lonely!r} lie in one cluster, so no variance between clusters can "
            "be had; name finer clusters, or leave out `cluster` or that arm"
        )


def one_arm_strata(strata: pd.Series, arm: np.ndarray, name: str) -> tuple[str, ...]:
    """A note on strata whose patients are all in one arm: nobody there to compare them with."""
    arms_in = pd.Series(arm, index=strata.index).groupby(strata).nunique()
    lonely = arms_in.index[arms_in.to_numpy() < 2]
    if not len(lonely):
        return ()
    patients = int(strata.isin(lonely).sum())
    named = ", ".join(str(stratum) for stratum in lonely[:_SHOWN]) + (", ..." if len(lonely) > _SHOWN else "")
    noun, verb = ("stratum", "holds") if len(lonely) == 1 else ("strata", "hold")
    return (
        f"{len(lonely)} {noun} of {name} {verb} patients of one arm only ({named}; {patients} of {len(strata)} patients): "
        "nothing is compared within them",
    )


def refuse_constant_outcome(
    outcome: Array, residuals: Array, arm: np.ndarray, arms: tuple[str, ...], name: str
) -> tuple[str, ...]:
    """Refuse an outcome that does not vary within the arms beyond rounding; note a single arm in which it does not.

    Parameters
    ----------
    outcome, residuals : array (n,)
    arm : integer array (n,)
    arms : tuple of str
    name : str
        Of the outcome.

    Raises
    ------
    RefusalError
        No arm has residuals above ``ROUNDING`` times the largest outcome.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([1.0, 3, 2, 2])
    >>> refuse_constant_outcome(y, y - 2, np.array([0, 0, 1, 1]), ("a", "b"), "y")
    ("y does not vary in arm 'b', whose part of the variance counts as zero",)
    """
    limit = ROUNDING * np.abs(outcome).max()
    constant = [one for code, one in enumerate(arms) if np.abs(residuals[arm == code]).max() <= limit]
    if len(constant) == len(arms):
        raise RefusalError(
            f"outcome {name!r}: does not vary within the arms, so there is no standard error; choose another outcome"
        )
    return tuple(f"{name} does not vary in arm {one!r}, whose part of the variance counts as zero" for one in constant)
