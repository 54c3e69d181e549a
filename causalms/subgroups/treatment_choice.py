"""The best of several treatments for each patient, under a cap on the share that may be given the high-risk one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causalms.errors import InputError, RefusalError, UsageError
from causalms.groups import participant_key
from causalms.subgroups.policy import benefit_at
from causalms.subgroups.redraws import Floats
from causalms.tables import results_table


@dataclass(frozen=True)
class Choice:
    """Who would be given what, and what it is worth.

    Attributes
    ----------
    results : DataFrame
        Results table: mean outcome if everybody had each single arm, if treatment were chosen, and what choosing spares
        against the best single arm that the cap allows.
    assigned : DataFrame
        ``participant_id`` and ``arm`` that the policy chooses.
    """

    results: pd.DataFrame
    assigned: pd.DataFrame


def choose_treatment(
    people: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    outcome: str,
    arm: str = "arm",
    capped: str | None = None,
    cap: float = 1.0,
    penalty: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> Choice:
    r"""Give each patient the arm with the least predicted outcome, the capped arm only to those who gain most from it.

    The policy d maximises predicted benefit under the cap: patients are ranked by how much the capped arm spares them
    against the best of the others.  Its value :math:`E[Y(d(X))]` is estimated on randomised patients by the mean of
    :math:`m_i(d_i) + 1\{A_i = d_i\}(Y_i - m_i(d_i)) / \pi_{d_i}`, unbiased whatever the predictions are, provided that they
    were made without these patients' outcomes.

    Parameters
    ----------
    people : DataFrame
        One trial, one row a patient.
    predictions : DataFrame
        ``participant_id`` and one column an arm: predicted outcomes (less is better).
    outcome, arm : str
    capped : str, optional
        The high-risk arm.
    cap : float
        Largest share of patients that may be given it.
    penalty : mapping of str to float, optional
        Added to an arm's predicted outcome when choosing (the price of its risk in lesions); never to its value.
    level : float

    Returns
    -------
    Choice

    Raises
    ------
    InputError, RefusalError, UsageError
        Missing predictions; mixed trials or an arm with fewer than two patients; a cap outside 0 to 1.

    References
    ----------
    Athey, Wager (2021), Econometrica 89:133.  Luedtke, van der Laan (2016), Int J Biostat 12:283.

    Examples
    --------
    >>> people = pd.DataFrame({"participant_id": range(6), "arm": list("abcabc"), "y": [4, 2, 1, 4, 2, 1]})
    >>> told = pd.DataFrame({"participant_id": range(6), "a": 4.0, "b": 2.0, "c": [1.9, 1.0, 0, 1, 1, 1]})
    >>> choose_treatment(people, told, outcome="y", capped="c", cap=0.5).assigned["arm"].tolist()
    ['b', 'c', 'c', 'c', 'b', 'b']
    """
    if not 0 <= cap <= 1:
        raise UsageError(f"cap {cap:g} on the share treated; give a number from 0 to 1")
    data, told, arms = _joined(people, predictions, outcome, arm)
    if capped is not None and capped not in arms:
        raise UsageError(f"capped arm {capped!r} was not randomised here; arms are {', '.join(arms)}")
    price = np.array([(penalty or {}).get(name, 0.0) for name in arms])
    chosen, gain = _policy(told + price, arms, capped, cap)
    values = _pseudo_outcomes(data, told, arms, outcome, arm)
    own = values[np.arange(len(values)), chosen]
    if capped is not None:
        own = own + _pushed_out(values, told + price, chosen, gain, arms.index(capped))
    trial = f"patients of {data['trial'].iloc[0]}" if "trial" in data else "all randomised patients"
    rows = [
        _row(f"mean outcome under {name}", f"{name} for all", values[:, k], level, trial, len(data))
        for k, name in enumerate(arms)
    ]
    under_cap = f", {capped} for at most {cap:.0%}" if capped else ""
    rows.append(_row("value of chosen treatment", f"the arm of least predicted outcome{under_cap}", own, level, trial, len(data)))
    single = [k for k, name in enumerate(arms) if name != capped or cap >= 1]
    best = min(single, key=lambda k: float((told + price)[:, k].mean()))
    spared = values[:, best] - own
    within = " within the cap" if capped else ""
    text = f"chosen treatment against {arms[best]} for all, the single arm of least predicted outcome{within}"
    rows.append(_row("spared by choosing", text, spared, level, trial, len(data), test=True))
    assigned = pd.DataFrame({"participant_id": data["participant_id"].to_numpy(), "arm": np.array(arms, object)[chosen]})
    return Choice(results_table(rows), assigned)


def _joined(people: pd.DataFrame, predictions: pd.DataFrame, outcome: str, arm: str) -> tuple[pd.DataFrame, Floats, list[str]]:
    arms = sorted(name for name in predictions.columns if name in set(people[arm].astype(str)))
    if len(arms) < 2:
        raise RefusalError(f"predictions hold {len(arms)} randomised arm; a choice needs at least two")
    rows = people[people[arm].isin(arms) & people[outcome].notna()].reset_index(drop=True)
    if "trial" in rows and rows["trial"].nunique() > 1:
        found = ", ".join(sorted(rows["trial"].astype(str).unique()))
        raise RefusalError(f"trials {found} are mixed, between which nobody was randomised; give the patients of one trial")
    few = rows[arm].value_counts().reindex(arms, fill_value=0)
    if (few < 2).any():
        raise RefusalError(f"arm {few.idxmin()!r} has {few.min()} patients with an outcome; at least two are needed")
    keyed = predictions.assign(key=participant_key(predictions["participant_id"])).set_index("key")
    keys = participant_key(rows["participant_id"])
    if lost := sorted(set(keys) - set(keyed.index)):
        raise InputError(f"predictions: participant {lost[0]} has none; predict every patient of the trial")
    return rows, keyed.loc[list(keys), arms].to_numpy(float), arms


def _policy(predicted: Floats, arms: list[str], capped: str | None, cap: float) -> tuple[NDArray[np.intp], Floats]:
    """Chosen arm of every patient, and what the capped arm is predicted to spare against the best of the others."""
    if capped is None:
        return predicted.argmin(axis=1), np.zeros(len(predicted))
    place = arms.index(capped)
    others = predicted.copy()
    others[:, place] = np.inf
    chosen = others.argmin(axis=1)
    gain = others.min(axis=1) - predicted[:, place]
    most = np.argsort(-gain, kind="stable")[: int(np.floor(cap * len(gain) + 1e-9))]
    chosen[most[gain[most] > 0]] = place
    return chosen, gain


def _pushed_out(values: Floats, predicted: Floats, chosen: NDArray[np.intp], gain: Floats, place: int) -> Floats:
    """Part of the influence function for a threshold that moves with the sample, as in :func:`benefit_at`; zero on average."""
    given = chosen == place
    if not given.any() or not (gain[~given] > 0).any():
        return np.zeros(len(chosen))  # the cap does not bind
    others = predicted.copy()
    others[:, place] = np.inf
    spared = values[np.arange(len(values)), others.argmin(axis=1)] - values[:, place]
    return benefit_at(gain, spared, float(gain[given].min())) * (given - given.mean())


def _pseudo_outcomes(data: pd.DataFrame, predicted: Floats, arms: list[str], outcome: str, arm: str) -> Floats:
    own = data[arm].astype(str).to_numpy()[:, None] == np.array(arms, object)
    residual = data[outcome].to_numpy(float)[:, None] - predicted
    shift = (own * residual).sum(axis=0) / own.sum(axis=0)  # an arm's constant error costs no precision
    return predicted + shift + own * (residual - shift) / own.mean(axis=0)


def _row(
    measure: str, policy: str, values: Floats, level: float, population: str, n: int, test: bool = False
) -> dict[str, object]:
    mean, se = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * se
    return {
        "analysis": "choice of treatment",
        "population": population,
        "subgroup": "all",
        "measure": measure,
        "estimand": f"mean outcome: {policy}" if not test else f"mean outcome spared: {policy}",
        "estimator": "augmented inverse-probability scores, predictions held out",
        "variance": "influence function, t",
        "estimate": mean,
        "se": se,
        "lower": mean - half,
        "upper": mean + half,
        "level": level,
        "p_value": float(2 * stats.t.sf(abs(mean) / se, n - 1)) if test and se > 0 else np.nan,
        "n": n,
        "se_patient": se,
        "randomised": True,
        "rung": 2,
    }
