"""The best of several treatments for each patient, under a cap on the share that may be given the high-risk one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.benefit.policy import benefit_at
from causalms.benefit.predict import refuse_repeated
from causalms.benefit.redraws import Floats, TrialLaw, count_law
from causalms.benefit.statistics import Inference, NullDistribution, studentised
from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import (
    ResultRow,
    name_of,
    names_of,
    participant_key,
    patient_order,
    percent_in_full,
    results_table,
)


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
    inference: Inference = Inference(),
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
    inference : Inference

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
    >>> predictions = pd.DataFrame({"participant_id": range(6), "a": 4.0, "b": 2.0, "c": [1.9, 1.0, 0, 1, 1, 1]})
    >>> choose_treatment(people, predictions, outcome="y", capped="c", cap=0.5).assigned["arm"].tolist()
    ['b', 'c', 'c', 'c', 'b', 'b']
    """
    if not 0 <= cap <= 1:
        raise UsageError(f"cap {name_of(cap)} on the share treated; give a number from 0 to 1")
    data, predicted, arms = _joined(people, predictions, outcome, arm)
    if capped is not None and capped not in arms:
        raise UsageError(f"capped arm {capped!r} was not randomised here; arms are {', '.join(arms)}")
    if unknown := sorted(set(penalty or {}) - set(arms)):
        raise UsageError(f"penalty of {unknown[0]!r}, which was not randomised here; arms are {', '.join(arms)}")
    price = np.array([(penalty or {}).get(name, 0.0) for name in arms])
    high = None if capped is None else arms.index(capped)
    single = [k for k in range(len(arms)) if k != high or cap >= 1]
    best = min(single, key=lambda k: float((predicted + price)[:, k].mean()))
    rule = _Rule(price, high, cap, best)
    y, place = data[outcome].to_numpy(float), np.array([arms.index(name) for name in names_of(data[arm])])
    estimate, se = rule.judge(predicted, _pseudo_outcomes(y, predicted, place))
    null_distribution = NullDistribution(_redrawn(rule, predicted, count_law(y, predicted, place), inference), len(y) - 1)
    statistics = null_distribution.statistics(estimate, se, inference.level)
    statistics[:-1] = [replace(value, p_value=np.nan) for value in statistics[:-1]]
    under_cap = f", {capped} for at most {percent_in_full(cap)}" if capped else ""
    within = " within the cap" if capped else ""
    texts = [(f"mean outcome under {name}", f"mean outcome: {name} for all") for name in arms]
    texts.append(("value of chosen treatment", f"mean outcome: the arm of least predicted outcome{under_cap}"))
    text = f"chosen treatment against {arms[best]} for all, the single arm of least predicted outcome{within}"
    texts.append(("spared by choosing", f"mean outcome spared: {text}"))
    rows = [
        ResultRow(
            analysis="choice of treatment",
            population=f"patients of {data['trial'].iloc[0]}" if "trial" in data else "all randomised patients",
            subgroup="all",
            measure=measure,
            estimand=estimand,
            estimator="augmented inverse-probability scores, predictions held out",
            **vars(statistic),
            n=len(data),
            se_patient=statistic.se,
            randomised=True,
            rung=2,
        )
        for (measure, estimand), statistic in zip(texts, statistics, strict=True)
    ]
    chosen = np.array(arms, object)[rule.choose(predicted)[0]]
    return Choice(results_table(rows), pd.DataFrame({"participant_id": data["participant_id"].to_numpy(), "arm": chosen}))


@dataclass(frozen=True)
class _Rule:
    """A policy and what it is judged by: prices of the arms, the capped arm, its cap, the single arm to compare with."""

    price: Floats
    capped: int | None
    cap: float
    best: int

    def choose(self, predicted: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Chosen arm of every patient, and what the capped arm is predicted to spare against the best of the others."""
        priced = predicted + self.price
        if self.capped is None:
            return priced.argmin(axis=1), np.zeros(len(priced))
        others = priced.copy()
        others[:, self.capped] = np.inf
        chosen, gain = others.argmin(axis=1), others.min(axis=1) - priced[:, self.capped]
        lot = np.random.default_rng(0).random(len(gain))  # tied patients draw lots: the order of the file may know outcomes
        most = np.lexsort((lot, -gain))[: int(np.floor(self.cap * len(gain) + 1e-9))]
        chosen[most[gain[most] > 0]] = self.capped
        return chosen, gain

    def judge(self, predicted: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Means under every arm, value of the policy and what it spares, with their standard errors."""
        chosen, gain = self.choose(predicted)
        own = values[np.arange(len(values)), chosen]
        if self.capped is not None:
            own = own + self._pushed_out(values, predicted + self.price, chosen, gain)
        columns = np.column_stack([values, own, values[:, self.best] - own])
        return columns.mean(axis=0), columns.std(axis=0, ddof=1) / np.sqrt(len(columns))

    def _pushed_out(self, values: Floats, priced: Floats, chosen: NDArray[np.intp], gain: Floats) -> Floats:
        """Part of the influence function for a threshold that moves with the sample (:func:`benefit_at`); zero on average."""
        given = chosen == self.capped
        if not given.any() or not (gain[~given] > 0).any():
            return np.zeros(len(chosen))  # the cap does not bind
        others = priced.copy()
        others[:, self.capped] = np.inf
        spared = values[np.arange(len(values)), others.argmin(axis=1)] - values[:, self.capped]
        return np.asarray(benefit_at(gain, spared, float(gain[given].min())) * (given - given.mean()))


def _redrawn(rule: _Rule, predicted: Floats, law: TrialLaw | None, inference: Inference) -> Floats | None:
    """Studentised statistics of trials drawn again, (redraws, K + 2); None without a law of the counts."""
    if law is None or inference.redraws < 1:
        return None
    truth, judged = rule.judge(predicted, law.mean)[0], []
    for rows, place, y in zip(*law.trials(inference.redraws, np.random.default_rng(inference.seed)), strict=True):
        judged.append(rule.judge(predicted[rows], _pseudo_outcomes(y, law.mean[rows], place)))
    estimates, ses = (np.array(part) for part in zip(*judged, strict=True))
    return studentised(estimates, ses, truth)


def _joined(people: pd.DataFrame, predictions: pd.DataFrame, outcome: str, arm: str) -> tuple[pd.DataFrame, Floats, list[str]]:
    predictions = predictions.rename(columns=str)
    people = people.assign(**{arm: names_of(people[arm])})
    arms = sorted(name for name in predictions.columns if name in set(people[arm].dropna()))
    if len(arms) < 2:
        raise RefusalError(f"predictions hold {len(arms)} randomised arm; a choice needs at least two")
    rows = people[people[arm].isin(arms) & people[outcome].notna()]
    rows = rows.iloc[patient_order(rows)].reset_index(drop=True)  # lots are drawn by patient, not by place in the file
    if "trial" in rows and rows["trial"].nunique() > 1:
        names = ", ".join(sorted(names_of(rows["trial"]).dropna().unique()))
        raise RefusalError(f"trials {names} are mixed, between which nobody was randomised; give the patients of one trial")
    few = rows[arm].value_counts().reindex(arms, fill_value=0)
    if (few < 2).any():
        raise RefusalError(f"arm {few.idxmin()!r} has {few.min()} patients with an outcome; at least two are needed")
    keyed = predictions.assign(key=participant_key(predictions["participant_id"])).set_index("key")
    keys = participant_key(rows["participant_id"])
    if lost := sorted(set(keys) - set(keyed.index)):
        raise InputError(f"predictions: participant {lost[0]} has none; predict every patient of the trial")
    refuse_repeated(keys, keyed.index)
    predicted = keyed.loc[list(keys), arms].to_numpy(float)
    if not np.isfinite(predicted).all():
        unknown = rows["participant_id"].iloc[int((~np.isfinite(predicted).all(axis=1)).argmax())]
        raise InputError(f"predictions: that of participant {unknown} is no finite number; predict the patient again")
    return rows, predicted, arms


def _pseudo_outcomes(y: Floats, predicted: Floats, place: NDArray[np.intp]) -> Floats:
    """(n, K): what randomisation says of each patient under each arm."""
    own = place[:, None] == np.arange(predicted.shape[1])
    residual = y[:, None] - predicted
    shift = (own * residual).sum(axis=0) / own.sum(axis=0)  # an arm's constant error costs no precision
    return np.asarray(predicted + shift + own * (residual - shift) / own.mean(axis=0))
