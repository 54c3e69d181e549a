"""Arm by arm: the distribution of counts, activity and place of lesions, simulated against observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import REGIONS, net2_column, participant_key, results_table


def compare_arms(
    draws: pd.DataFrame, participants: pd.DataFrame, week: float | None = None, repetitions: int = 999, seed: int = 0
) -> pd.DataFrame:
    r"""Distance between the observed counts of every randomised arm and the draws of its own patients.

    For each trial and arm: the Cramer distance :math:`\sum_k (F_{obs}(k) - F_{sim}(k))^2` (half the energy distance, the
    excess of the two-sample CRPS); the difference of the shares with any lesion; and, where draws and participants hold
    counts by region, the total variation distance between the observed and simulated shares of lesions by region.  For the
    p-values a random member of each patient's draws and observation plays the observation, so they hold for any number of
    draws.

    Parameters
    ----------
    draws : DataFrame
        Sampled draws table; interventional rows under the arm as randomised are used.
    participants : DataFrame
    week : float, optional
    repetitions, seed : int

    Returns
    -------
    DataFrame
        Results table; ``arm`` is the arm, ``subgroup`` the trial, ``randomised`` False: nothing is contrasted.

    Raises
    ------
    UsageError
        For an expected table, which holds no distribution of counts, or several weeks.

    References
    ----------
    Szekely, Rizzo (2013), J Stat Plan Inference 143:1249.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> rows = [(p, d, rng.poisson(2)) for p in range(40) for d in range(10)]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "draw", "net2_lesions"]).assign(
    ...     trial="T", arm="placebo", arm_randomised="placebo", visit_week=48.0, query="interventional", query_id="q")
    >>> people = pd.DataFrame({"participant_id": range(40), "trial": "T", "arm": "placebo"})
    >>> people["net2_lesions_week48"] = rng.poisson(6, 40)
    >>> found = compare_arms(draws, people, repetitions=99)
    >>> found[["measure", "p_value"]].values.tolist()[0]
    ['Cramer distance of counts', 0.01]
    """
    if "draw" not in draws:
        raise UsageError("an expected table holds no distribution of counts; give sampled draws (query without --expected)")
    rows = draws[(draws["query"] == "interventional") & (draws["arm"] == draws["arm_randomised"])]
    if week is not None:
        rows = rows[rows["visit_week"] == week]
    if rows.empty:
        raise RefusalError("draws: no interventional rows under the arm as randomised; query --do for the randomised arms too")
    if rows["visit_week"].nunique() > 1:
        raise UsageError(f"draws: {rows['visit_week'].nunique()} weeks; choose one")
    at = int(rows["visit_week"].iloc[0])
    if net2_column(at) not in participants:
        raise InputError(f"observed table: no column {net2_column(at)!r}; add it")
    people = participants[participants[net2_column(at)].notna()].assign(key=lambda p: participant_key(p["participant_id"]))
    rows = rows.assign(key=participant_key(rows["participant_id"]))
    rng = np.random.default_rng(seed)
    results: list[dict[str, Any]] = []
    for (trial, arm), seen in people.groupby(["trial", "arm"], sort=True):
        common = {
            "analysis": "agreement of distributions",
            "population": f"patients of {trial} randomised to {arm}, observed at week {at}",
            "subgroup": str(trial),
            "arm": str(arm),
            "randomised": False,
            "rung": 2,
        }
        told = _arm(rows[rows["key"].isin(set(seen["key"]))], seen, at, repetitions, rng)
        results += [{**common, **line} for line in told]
    if not results:
        raise RefusalError("no patient of the draws is in the observed table; give the participants that the draws were made for")
    return results_table(results)


def _arm(rows: pd.DataFrame, seen: pd.DataFrame, week: int, repetitions: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    seen = seen[seen["key"].isin(set(rows["key"]))].sort_values("key")
    if len(seen) < 2:
        return []
    pool = _pool(rows, seen, "net2_lesions", week)
    position = np.concatenate([np.zeros((len(pool), 1), int), rng.integers(0, pool.shape[1], (len(pool), repetitions))], axis=1)
    distance = cramer_distances(pool, position)
    active = pool > 0
    own = np.take_along_axis(active, position, axis=1).mean(axis=0)
    others = (active.sum() - own * len(pool)) / (active.size - len(pool))
    lines = [
        _line(
            "Cramer distance of counts", "squared distance of the distribution functions, summed over counts", distance, len(pool)
        ),
        _line(
            "observed - simulated activity", "difference of the shares of patients with any lesion", own - others, len(pool), True
        ),
    ]
    columns = [f"net2_lesions_{region}" for region in REGIONS]
    wide = [net2_column(week, column) for column in columns]
    if set(columns) <= set(rows.columns) and set(wide) <= set(seen.columns) and seen[wide].notna().all(axis=None):
        pools = np.stack([_pool(rows, seen, column, week) for column in columns], axis=2)
        lines.append(
            _line(
                "distance of lesion places", "total variation distance of shares by region", _places(pools, position), len(pool)
            )
        )
    return lines


def _pool(rows: pd.DataFrame, seen: pd.DataFrame, column: str, week: int) -> NDArray[np.int64]:
    """Observation first, then the draws, one row a patient in the order of ``seen``."""
    many = rows.groupby("key").size()
    if many.nunique() > 1:
        raise InputError(f"draws: participant {many.idxmin()} has {many.min()} draws, others {many.max()}; give all the same")
    drawn = rows.sort_values(["key", "draw"], kind="stable")[column].to_numpy(np.int64).reshape(len(many), -1)
    place = pd.Series(np.arange(len(many)), index=many.index)
    return np.column_stack([seen[net2_column(week, column)].to_numpy(np.int64), drawn[place.loc[seen["key"]].to_numpy()]])


def cramer_distances(pool: NDArray[np.int64], position: NDArray[np.intp]) -> NDArray[np.float64]:
    """Cramer distance between the chosen member of every row and the rest of the rows, one a column of ``position``.

    Examples
    --------
    >>> import numpy as np
    >>> cramer_distances(np.array([[2, 0, 0], [2, 0, 0]]), np.array([[0], [0]])).tolist()
    [2.0]
    """
    chosen = np.take_along_axis(pool, position, axis=1)
    top = int(pool.max()) + 1
    total = np.cumsum(np.bincount(pool.ravel(), minlength=top))
    out = np.empty(position.shape[1])
    for column in range(position.shape[1]):
        own = np.cumsum(np.bincount(chosen[:, column], minlength=top))
        out[column] = np.sum((own / len(pool) - (total - own) / (pool.size - len(pool))) ** 2)
    return out


def _places(pools: NDArray[np.int64], position: NDArray[np.intp]) -> NDArray[np.float64]:
    total = pools.sum(axis=(0, 1))
    out = np.empty(position.shape[1])
    for column in range(position.shape[1]):
        own = np.take_along_axis(pools, position[:, [column], None], axis=1).sum(axis=(0, 1))
        rest = total - own
        out[column] = 0.5 * np.abs(own / max(own.sum(), 1) - rest / max(rest.sum(), 1)).sum()
    return out


def _line(measure: str, estimand: str, values: NDArray[np.float64], n: int, two_sided: bool = False) -> dict[str, Any]:
    """Value of the observation (first) and its Monte-Carlo p among the exchanged ones."""
    null, value = values[1:], values[0]
    above, below = 1 + int((null >= value - 1e-12).sum()), 1 + int((null <= value + 1e-12).sum())
    p = min(1.0, 2 * min(above, below) / (1 + len(null))) if two_sided else above / (1 + len(null))
    return {
        "measure": measure,
        "estimand": estimand,
        "estimator": "observed against the draws of the same patients",
        "variance": "exchange of observation and draws within patients",
        "estimate": float(value),
        "p_value": p,
        "n": n,
    }
