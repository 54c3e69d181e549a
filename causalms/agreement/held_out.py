"""Leave one trial out: a simulator trained on the other trials is judged by the randomised arms of this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from causalms.agreement.against_randomised import agree
from causalms.agreement.published import least_effective_arm
from causalms.agreement.result import Agreement
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.tables import arm_order, as_frame, name_of, names_of

#: From the participants of the other trials, and those of the held-out trial without outcomes, to a draws table of the latter.
Predict = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


@named_arguments
def predictable_contrasts(participants: Any, reference: str | None = None) -> pd.DataFrame:
    """Randomised contrasts of every trial, and which of them the other trials can teach a simulator.

    A contrast can be predicted without its trial where both of its arms were given to somebody in the other trials.

    Parameters
    ----------
    participants : DataFrame, or path
        With ``trial`` and ``arm``.
    reference : str, optional
        Default: each trial's least effective arm as published.

    Returns
    -------
    DataFrame
        ``trial``, ``arm``, ``reference``, ``predictable``, and ``why`` in words.

    Raises
    ------
    InputError
        If a column is missing.
    RefusalError
        If no reference is named and a trial has an arm that the published data do not know.

    Examples
    --------
    >>> people = pd.DataFrame({"trial": list("AABBC"), "arm": ["placebo", "laquinimod"] * 2 + ["placebo"]})
    >>> predictable_contrasts(people)[["trial", "arm", "predictable"]].values.tolist()
    [['A', 'laquinimod', True], ['B', 'laquinimod', True]]
    """
    participants = as_frame(participants)
    for name in ("trial", "arm"):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it")
    trials_of_arm = {
        name_of(arm): sorted(names_of(trials).dropna().unique())
        for arm, trials in participants.groupby("arm", sort=False)["trial"]
    }
    rows = []
    for trial, arms_of_trial in participants["arm"].groupby(names_of(participants["trial"])):
        arms = arm_order(arms_of_trial)
        if len(arms) < 2 or (reference is not None and reference not in arms):
            continue
        base, *others = arm_order(arms, reference or least_effective_arm(str(trial), arms))
        for arm in others:
            elsewhere = {name: [other for other in trials_of_arm[name] if other != trial] for name in (base, arm)}
            unseen = [name for name, trials in elsewhere.items() if not trials]
            learned = "; ".join(f"{name} in {', '.join(trials)}" for name, trials in elsewhere.items())
            why = f"no other trial gave {' or '.join(unseen)}" if unseen else f"learned from {learned}"
            rows.append({"trial": trial, "arm": arm, "reference": base, "predictable": not unseen, "why": why})
    return pd.DataFrame(rows, columns=["trial", "arm", "reference", "predictable", "why"])


@named_arguments
def leave_one_trial_out(
    participants: Any,
    predict: Predict,
    *,
    trials: Sequence[str] | None = None,
    measure: str = "rate-ratio",
    week: float | None = None,
    reference: str | None = None,
    margin: float = 1.25,
    level: float = 0.95,
) -> Agreement:
    """Agreement of every trial with a simulator that was trained on the others.

    Parameters
    ----------
    participants : DataFrame, or path
        Several trials with their observed outcomes.
    predict : callable
        ``predict(training, held_out)`` trains on the first table and returns a draws table, sampled or expected, of the patients
        of the second.  The second has no outcome columns (``net2_...``), so a simulator cannot look.
    trials : sequence of str, optional
        Leave out only these; default: every trial in turn.
    measure, week, reference, margin, level
        As for :func:`causalms.agreement.agree`.

    Returns
    -------
    Agreement
        Trials without a predictable contrast (:func:`predictable_contrasts`) are in ``refused``, and nothing is trained for them.

    Raises
    ------
    InputError
        If a column is missing.
    UsageError
        If ``trials`` names an unknown one.
    RefusalError
        If there is one trial only, or no contrast could be predicted.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"participant_id": range(120), "trial": ["A", "B"] * 60, "arm": "placebo"})
    >>> people.loc[60:, "arm"] = "laquinimod"
    >>> people["net2_lesions_week48"] = rng.poisson(np.where(people["arm"] == "placebo", 5, 3))
    >>> def arm_means(training, held_out):
    ...     means = training.groupby("arm")["net2_lesions_week48"].mean()
    ...     tables = [held_out.assign(arm_randomised=held_out["arm"], arm=a, expected_net2_lesions=m) for a, m in means.items()]
    ...     return pd.concat(tables).assign(visit_week=48.0, query="interventional", query_id="q")
    >>> leave_one_trial_out(people, arm_means).table[["trial", "ratio"]].round(2).values.tolist()
    [['A', 1.01], ['B', 0.99]]
    """
    participants = as_frame(participants)
    for name in ("participant_id", "trial", "arm"):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it")
    trial_of_patient = names_of(participants["trial"])
    names = sorted(trial_of_patient.dropna().unique())
    if len(names) < 2:
        raise RefusalError(f"participants: one trial only ({names[0]}); nothing is left to train on when it is held out")
    if unknown := sorted(set(trials or ()) - set(names)):
        raise UsageError(f"`trials`: unknown trial {unknown[0]!r}; trials are {', '.join(names)}")
    outcomes = [name for name in participants.columns if str(name).startswith("net2_")]
    contrasts = predictable_contrasts(participants, reference)
    tables, results, refused = [], [], []
    for trial in trials or names:
        own = contrasts[contrasts["trial"] == trial]
        if not own["predictable"].any():  # nothing to learn elsewhere: a simulator need not be trained for it
            reasons = [f"{row['arm']} against {row['reference']}: {row['why']}" for row in own.to_dict("records")]
            refused.append(f"{trial}: {', '.join(reasons) or 'nothing to compare'}")
            continue
        held_out = participants[trial_of_patient == trial]
        training = participants[trial_of_patient != trial].reset_index(drop=True)
        draws = predict(training, held_out.drop(columns=outcomes).reset_index(drop=True))
        try:
            agreement = agree(draws, held_out, measure=measure, week=week, reference=reference, margin=margin, level=level)
        except RefusalError as refusal:
            refused.append(f"{trial}: {refusal}")
            continue
        tables.append(agreement.table)
        results.append(agreement.results.assign(analysis="held-out trial, " + agreement.results["analysis"].astype(str)))
        refused += agreement.refused
    if not tables:
        raise RefusalError(f"no contrast of a held-out trial could be predicted ({'; '.join(refused)})")
    return Agreement(pd.concat(tables, ignore_index=True), pd.concat(results, ignore_index=True), tuple(refused))
