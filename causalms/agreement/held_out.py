"""Leave one trial out: the simulator has never seen the trial by whose randomised arms it is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from causalms.agreement.agree import Agreement, agree
from causalms.agreement.published import by_efficacy
from causalms.errors import InputError, RefusalError, UsageError

#: From the participants of the other trials, and those of the held-out trial without outcomes, to a draws table of the latter.
Predict = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


def predictable_contrasts(participants: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Randomised contrasts of every trial, and which of them the other trials can teach a simulator.

    A contrast can be predicted without its trial where both of its arms were given to somebody in the other trials.

    Parameters
    ----------
    participants : DataFrame
        With ``trial`` and ``arm``.
    reference : str, optional
        Default: each trial's least effective arm by the published numbers; among other drugs the first by name.

    Returns
    -------
    DataFrame
        ``trial``, ``arm``, ``reference``, ``predictable``, and ``why`` in words.

    Raises
    ------
    InputError
        If a column is missing.

    Examples
    --------
    >>> people = pd.DataFrame({"trial": list("AABBC"), "arm": ["placebo", "laquinimod"] * 2 + ["placebo"]})
    >>> predictable_contrasts(people)[["trial", "arm", "predictable"]].values.tolist()
    [['A', 'laquinimod', True], ['B', 'laquinimod', True]]
    """
    for name in ("trial", "arm"):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it")
    arms = participants["arm"].astype(str)
    rows = []
    for trial, held in arms.groupby(participants["trial"].astype(str)):
        order = by_efficacy(held)
        base = order[0] if reference is None else reference
        for arm in [arm for arm in order if arm != base and base in order]:
            elsewhere = participants.loc[participants["trial"].astype(str) != str(trial)]
            where = {name: sorted(elsewhere.loc[elsewhere["arm"] == name, "trial"].astype(str).unique()) for name in (base, arm)}
            lost = [name for name, trials in where.items() if not trials]
            told = "; ".join(f"{name} in {', '.join(trials)}" for name, trials in where.items())
            why = f"no other trial gave {' or '.join(lost)}" if lost else f"learned from {told}"
            rows.append({"trial": trial, "arm": arm, "reference": base, "predictable": not lost, "why": why})
    return pd.DataFrame(rows, columns=["trial", "arm", "reference", "predictable", "why"])


def leave_one_trial_out(
    participants: pd.DataFrame, predict: Predict, trials: Sequence[str] | None = None, **options: Any
) -> Agreement:
    """Agreement of every trial with a simulator that was trained on the others.

    Parameters
    ----------
    participants : DataFrame
        Several trials with their observed outcomes.
    predict : callable
        ``predict(training, held_out)`` trains on the first table and returns a draws table, sampled or expected, of the patients
        of the second.  The second has no outcome columns (``net2_...``), so a simulator cannot look.
    trials : sequence of str, optional
        Leave out only these; default: every trial in turn.
    **options
        As for :func:`causalms.agreement.agree`.

    Returns
    -------
    Agreement
        Trials without a predictable contrast (:func:`predictable_contrasts`) are absent, and nothing is trained for them.

    Raises
    ------
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
    for name in ("participant_id", "trial", "arm"):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it")
    found_trials = sorted(participants["trial"].astype(str).unique())
    if len(found_trials) < 2:
        raise RefusalError(f"participants: one trial only ({found_trials[0]}); nothing is left to train on when it is held out")
    if strange := sorted(set(trials or ()) - set(found_trials)):
        raise UsageError(f"no trial is called {strange[0]!r}; trials are {', '.join(found_trials)}")
    outcomes = [name for name in participants.columns if str(name).startswith("net2_")]
    known = predictable_contrasts(participants, options.get("reference"))
    tables, results, refusals = [], [], []
    for trial in trials or found_trials:
        own = known[known["trial"] == trial]
        if not own["predictable"].any():  # nothing to learn elsewhere: a simulator need not be trained for it
            told = ", ".join(f"{row['arm']} against {row['reference']}: {row['why']}" for row in own.to_dict("records"))
            refusals.append(f"{trial}: {told or 'one arm only'}")
            continue
        held = participants["trial"].astype(str) == trial
        draws = predict(
            participants[~held].reset_index(drop=True), participants[held].drop(columns=outcomes).reset_index(drop=True)
        )
        try:
            agreed = agree(draws, participants[held], **options)
        except RefusalError as refusal:
            refusals.append(f"{trial}: {refusal}")
            continue
        tables.append(agreed.table)
        results.append(agreed.results.assign(analysis="held-out trial, " + agreed.results["analysis"].astype(str)))
    if not tables:
        raise RefusalError(f"no contrast of a held-out trial could be predicted ({'; '.join(refusals)})")
    return Agreement(pd.concat(tables, ignore_index=True), pd.concat(results, ignore_index=True))
