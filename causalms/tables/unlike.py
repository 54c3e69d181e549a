"""Which patients lie outside what a generator learned from, by the distances that the table of draws carries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalms.tables.model_error import MODEL_ERROR, ModelError
from causalms.tables.rounding import fixed

#: What is compared, and how a sentence names it.
COMPARED = {"columns": "baseline columns", "signals": "image signals", "scanner": "scanner or position of the images"}
#: Share of the patients that training held out beyond the limit.
BEYOND = 0.01
#: So many outside that chance gives them less often than this are an alarm (for each of what is compared).
RARE = 0.003
#: A population is another one where its mean squared distance is so many standard errors and so many times the usual one.
_CERTAIN, _LEAST_RATIO = 5.0, 1.1


def patient_distances(draws: pd.DataFrame, source: str = "draws") -> pd.DataFrame:
    """Distance of every patient from those that the generator learned from, read from a draws table.

    Parameters
    ----------
    draws : DataFrame
        With the column ``model_error``, as a query writes it.
    source : str

    Returns
    -------
    DataFrame
        participant_id, the compared ``columns``, ``signals`` and ``scanner`` (1: the distance that 99 of 100 patients keep
        within), and ``seen``, the number of patients that stand for those learned from; empty where no distance is known.

    Examples
    --------
    >>> cell = ModelError("m", "from 9 patients", np.zeros(1), 0.0, 0.0, distances={"columns": 1.4}, seen=400).text()
    >>> table = pd.DataFrame({"participant_id": ["p1", "p1"], "model_error": [cell, None]})
    >>> patient_distances(table).to_dict("records")
    [{'participant_id': 'p1', 'columns': 1.4, 'seen': 400}]
    """
    if MODEL_ERROR not in draws:
        return pd.DataFrame(columns=["participant_id", "seen"])
    first = draws.loc[draws[MODEL_ERROR].notna(), ["participant_id", MODEL_ERROR]].drop_duplicates("participant_id")
    errors = [ModelError.read(text, source) for text in first[MODEL_ERROR]]
    distances = distances_of_cells(errors)
    if distances is None:
        return pd.DataFrame(columns=["participant_id", "seen"])
    distances.insert(0, "participant_id", first["participant_id"].to_numpy())
    return distances


def distances_of_cells(errors: Sequence[ModelError]) -> pd.DataFrame | None:
    """Distances of patients, a row a cell of theirs; None where a patient's are unknown."""
    if not errors or not all(error.distances for error in errors):
        return None
    table = pd.DataFrame([{**error.distances, "seen": error.seen} for error in errors])
    table.attrs["usual"] = dict(errors[0].usual)
    return table


def outside_notes(distances: pd.DataFrame) -> list[str]:
    r"""How many patients lie outside, in sentences; one that says so where it is more than chance, by what is compared.

    Of m patients that stand for those learned from, the j = max(1, .01 (m + 1)) farthest lie beyond the limit.  Of n others
    like them the number beyond is beta-binomial, :math:`K \sim \mathrm{BB}(n, j, m + 1 - j)`; :math:`P(K \ge k) < .003` is an
    alarm.

    Parameters
    ----------
    distances : DataFrame
        As :func:`patient_distances` gives them.

    Examples
    --------
    >>> far = pd.DataFrame({"columns": [0.5] * 6 + [1.3] * 14, "seen": 400})
    >>> outside_notes(far)
    ['14 of 20 patients (70%) lie outside the baseline columns that the model learned from: their numbers are extrapolated']
    >>> outside_notes(far.head(6))
    ['0 of 6 patients lie outside what the model learned from']
    """
    compared = [name for name in COMPARED if name in distances]
    if not compared or distances.empty:
        return []
    beyond = distances[compared] > 1
    farther = {
        name: farther_than_usual(distances[name].to_numpy(float), distances.attrs.get("usual", {}).get(name)) for name in compared
    }
    alarms = [
        f"{int(beyond[name].sum())} of {len(beyond)} patients ({beyond[name].mean():.0%}) lie outside the {COMPARED[name]} "
        "that the model learned from: their numbers are extrapolated"
        for name in compared
        if chance_of_outside(int(beyond[name].sum()), len(beyond), int(distances["seen"].iloc[0])) < RARE
    ]
    alarms += [
        f"the {COMPARED[name]} of these patients are another population than the model learned from (mean squared distance "
        f"{fixed(ratio, 1)} times theirs): their average is extrapolated"
        for name, ratio in farther.items()
        if ratio is not None
    ]
    if alarms:
        return alarms
    count = int(beyond.any(axis=1).sum())
    return [
        f"{count} of {len(beyond)} patients lie outside what the model learned from" + (", no more than chance" if count else "")
    ]


def farther_than_usual(distances: np.ndarray, usual: tuple[float, float] | None) -> float | None:
    """Mean squared distance of some patients over that of patients like those learned from, where it is more than chance.

    That is where the mean lies five of its standard errors above the usual one, and at least a tenth of it: patients of
    one trial out of several differ a little from all.  None otherwise, or where the usual distance is unknown.

    Examples
    --------
    >>> farther_than_usual(np.full(100, 1.0), (0.5, 0.3))
    2.0
    >>> farther_than_usual(np.full(100, 0.72), (0.5, 0.3)) is None
    True
    """
    if usual is None or not len(distances) or usual[0] <= 0:
        return None
    mean, sd = usual
    ratio = float((distances**2).mean() / mean)
    certain = (ratio - 1) * mean > _CERTAIN * sd / np.sqrt(len(distances))
    return ratio if certain and ratio > _LEAST_RATIO else None


def chance_of_outside(outside: int, patients: int, seen: int) -> float:
    """P(at least so many of the patients lie beyond the limit) were they like those learned from."""
    from scipy.stats import betabinom

    if not outside:
        return 1.0
    j = max(1, int(BEYOND * (seen + 1)))
    return float(betabinom(patients, j, max(seen + 1 - j, 1)).sf(outside - 1))


def limit_of(distances: Sequence[float] | np.ndarray) -> float:
    """The distance that all but the j = max(1, .01 (m + 1)) farthest of m patients keep within; infinite for none."""
    values = np.sort(np.asarray(distances, float))
    if not len(values):
        return np.inf
    return max(float(values[-max(1, int(BEYOND * (len(values) + 1)))]), 1e-6)
