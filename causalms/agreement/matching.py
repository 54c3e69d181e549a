"""Weights that give a simulated population the published baseline means of another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.errors import RefusalError
from causalms.stats import entropy_balance

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matching:
    """A weighted population.

    Attributes
    ----------
    weights : Series
        By participant_id, with mean one.
    balance : DataFrame
        ``column``, ``value``, ``target``, ``before`` and ``after``: means of the covariates.
    effective_size : float
        (sum of weights)^2 / sum of squared weights.
    """

    weights: pd.Series
    balance: pd.DataFrame
    effective_size: float


def match_baseline(people: pd.DataFrame, targets: pd.DataFrame, source: str = "published baseline") -> Matching:
    r"""Entropy balancing (matching-adjusted indirect comparison) of patients to published means.

    Weights :math:`w_i \propto \exp(\lambda^T (x_i - m))` with :math:`\sum_i w_i (x_i - m) = 0`: of all weights that reach
    the published means m, those that change the population least.  Patients with a missing covariate take its mean over
    the others.

    Parameters
    ----------
    people : DataFrame
        Participants.
    targets : DataFrame
        ``column``, ``value`` ("" for a mean, a level such as ``F`` or ``>0`` for a share) and ``mean``; columns that the
        participants lack are left out of the balance.
    source : str
        Name of the targets in messages.

    Returns
    -------
    Matching

    Raises
    ------
    RefusalError
        If the published means lie outside what these patients span.

    References
    ----------
    Signorovitch et al. (2010), Pharmacoeconomics 28:935.  Hainmueller (2012), Polit Anal 20:25.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": list("abcd"), "age": [30.0, 40, 50, 60], "sex": list("FFMM")})
    >>> targets = pd.DataFrame({"column": ["age", "sex"], "value": ["", "F"], "mean": [44.0, 0.6]})
    >>> found = match_baseline(people, targets)
    >>> found.balance[["before", "after"]].round(3).values.tolist()
    [[45.0, 44.0], [0.5, 0.6]]
    """
    used = targets[targets["column"].isin(people.columns)].reset_index(drop=True)
    columns = [_covariate(people[line["column"]], line["value"]) for line in used.to_dict("records")]
    if not columns:
        weights = np.ones(len(people))
        return Matching(_series(people, weights), used.assign(target=[], before=[], after=[]), float(len(people)))
    values = np.column_stack(columns)
    centred = values - used["mean"].to_numpy(float)
    scale = np.maximum(centred.std(axis=0), 1e-12)
    balanced = entropy_balance(centred / scale)
    if not balanced.reached:
        listed = ", ".join(f"{line['column']} {line['mean']:g}" for line in used.to_dict("records"))
        raise RefusalError(f"{source}: these patients cannot be weighted to {listed}; they lie outside what the patients span")
    weights = balanced.weights * len(people)
    balance = used[["column", "value"]].assign(
        target=used["mean"], before=values.mean(axis=0), after=weights @ values / len(people)
    )
    return Matching(_series(people, weights), balance, float(weights.sum() ** 2 / (weights**2).sum()))


def _series(people: pd.DataFrame, weights: Floats) -> pd.Series:
    return pd.Series(weights, index=people["participant_id"].astype(str), name="weight")


def _covariate(values: pd.Series, level: str) -> Floats:
    if level == "":
        numbers = pd.to_numeric(values, errors="coerce")
    elif level == ">0":
        numbers = (values > 0).astype(float).where(values.notna())
    else:
        numbers = (values == level).astype(float).where(values.notna())
    return numbers.fillna(numbers.mean()).to_numpy(float)
