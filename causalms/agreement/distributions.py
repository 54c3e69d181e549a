"""Arm by arm: the distribution of counts, activity and place of lesions, simulated against observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.agreement.against_randomised import interventional
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.tables import (
    REGIONS,
    ResultRow,
    as_frame,
    completed_draws,
    net2_column,
    of_one_trial,
    one_week,
    participant_key,
    results_table,
)


@named_arguments
def compare_arms(draws: Any, participants: Any, week: float | None = None, repetitions: int = 999, seed: int = 0) -> pd.DataFrame:
    r"""Distance between the observed counts of every randomised arm and the draws of its own patients.

    For each trial and arm: the Cramer distance :math:`\sum_k (F_{obs}(k) - F_{sim}(k))^2` (half the energy distance, the
    excess of the two-sample CRPS); the difference of the shares with any lesion; and, where draws and participants hold
    counts by region, the total variation distance between the observed and simulated shares of lesions by region.  For the
    p-values a random member of each patient's draws and observation plays the observation, so they hold for any number of
    draws.

    Parameters
    ----------
    draws : DataFrame, or path
        Sampled draws table; interventional rows under the arm as randomised are used.
    participants : DataFrame, or path
    week : float, optional
        Needed when the draws hold several.
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
    >>> distances = compare_arms(draws, people, repetitions=99)
    >>> distances[["measure", "p_value"]].values.tolist()[0]
    ['Cramer distance of counts', 0.01]
    """
    participants, draws = of_one_trial(as_frame(participants)), as_frame(draws)
    if "draw" not in draws:
        raise UsageError("an expected table holds no distribution of counts; give sampled draws")
    draws = completed_draws(draws, participants, week)
    rows = interventional(draws, "draws")
    rows = rows[rows["arm"] == rows["arm_randomised"]]
    if rows.empty:
        raise RefusalError("draws: no interventional rows under the arm as randomised; simulate the randomised arms too")
    at = int(one_week(rows, week, "draws"))
    rows = rows[rows["visit_week"] == at]
    if net2_column(at) not in participants:
        raise InputError(f"observed table: no column {net2_column(at)!r}; add it")
    people = participants[participants[net2_column(at)].notna()].assign(key=lambda p: participant_key(p["participant_id"]))
    rng = np.random.default_rng(seed)
    results: list[ResultRow] = []
    for (trial, arm), own in people.groupby(["trial", "arm"], sort=True):
        population = f"patients of {trial} randomised to {arm}, observed at week {at}"
        distances = _distances(rows[rows["key"].isin(set(own["key"]))], own, at, repetitions, rng)
        results += [
            ResultRow(
                analysis="agreement of distributions",
                population=population,
                subgroup=str(trial),
                arm=str(arm),
                randomised=False,
                rung=2,
                estimator="observed against the draws of the same patients",
                variance="exchange of observation and draws within patients",
                **distance,
            )
            for distance in distances
        ]
    if not results:
        raise RefusalError("no patient of the draws is in the observed table; give the participants that the draws were made for")
    return results_table(results)


def _distances(
    rows: pd.DataFrame, observed: pd.DataFrame, week: int, repetitions: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Measure, estimand, estimate, p-value and n of every distance in one arm; none for fewer than two patients."""
    observed = observed[observed["key"].isin(set(rows["key"]))].sort_values("key")
    n = len(observed)
    if n < 2:
        return []
    pool = _pool(rows, observed, "net2_lesions", week)
    position = np.concatenate([np.zeros((n, 1), int), rng.integers(0, pool.shape[1], (n, repetitions))], axis=1)
    active = pool > 0
    own = np.take_along_axis(active, position, axis=1).mean(axis=0)
    others = (active.sum() - own * n) / (active.size - n)
    summed = "squared distance of the distribution functions, summed over counts"
    distances = [
        _tested("Cramer distance of counts", summed, cramer_distances(pool, position), n),
        _tested(
            "observed - simulated activity",
            "difference of the shares of patients with any lesion",
            own - others,
            n,
            two_sided=True,
        ),
    ]
    columns = [f"net2_lesions_{region}" for region in REGIONS]
    wide = [net2_column(week, column) for column in columns]
    if set(columns) <= set(rows.columns) and set(wide) <= set(observed.columns) and observed[wide].notna().all(axis=None):
        pools = np.stack([_pool(rows, observed, column, week) for column in columns], axis=2)
        of_shares = "total variation distance of shares by region"
        distances.append(_tested("distance of lesion places", of_shares, _places(pools, position), n))
    return distances


def _pool(rows: pd.DataFrame, observed: pd.DataFrame, column: str, week: int) -> NDArray[np.int64]:
    """Observation first, then the draws, one row a patient in the order of ``observed``."""
    many = rows.groupby("key").size()
    if many.nunique() > 1:
        raise InputError(f"draws: participant {many.idxmin()} has {many.min()} draws, others {many.max()}; give all the same")
    drawn = rows.sort_values(["key", "draw"], kind="stable")[column].to_numpy(np.int64).reshape(len(many), -1)
    place = pd.Series(np.arange(len(many)), index=many.index)
    return np.column_stack([observed[net2_column(week, column)].to_numpy(np.int64), drawn[place.loc[observed["key"]].to_numpy()]])


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


def _tested(measure: str, estimand: str, values: NDArray[np.float64], n: int, two_sided: bool = False) -> dict[str, Any]:
    """Value of the observation (first) and its Monte-Carlo p among the exchanged ones."""
    null, value = values[1:], values[0]
    above, below = 1 + int((null >= value - 1e-12).sum()), 1 + int((null <= value + 1e-12).sum())
    p = min(1.0, 2 * min(above, below) / (1 + len(null))) if two_sided else above / (1 + len(null))
    return {"measure": measure, "estimand": estimand, "estimate": float(value), "p_value": p, "n": n}
