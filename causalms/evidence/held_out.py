"""Leave one trial out: the simulator has never seen the trial by whose randomised arms it is judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from causalms.errors import InputError, RefusalError
from causalms.evidence.agreement import Agreement, agree

#: From the participants of the other trials, and those of the held-out trial without outcomes, to a draws table of the latter.
Predict = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]


def leave_one_trial_out(participants: pd.DataFrame, predict: Predict, **options: Any) -> Agreement:
    """Agreement of every trial with a simulator that was trained on the others.

    Parameters
    ----------
    participants : DataFrame
        Several trials with their observed outcomes.
    predict : callable
        ``predict(training, held_out)`` trains on the first table and returns a draws table, sampled or expected, of the patients
        of the second.  The second has no outcome columns (``net2_...``), so a simulator cannot look.
    **options
        As for :func:`causalms.evidence.agree`.

    Returns
    -------
    Agreement
        Trials of which the draws hold fewer than two randomised arms are absent: what only they had cannot be learned elsewhere.

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
    for name in ("participant_id", "trial"):
        if name not in participants:
            raise InputError(f"participants: no column {name!r}; add it")
    trials = sorted(participants["trial"].astype(str).unique())
    if len(trials) < 2:
        raise RefusalError(f"participants: one trial only ({trials[0]}); nothing is left to train on when it is held out")
    outcomes = [name for name in participants.columns if str(name).startswith("net2_")]
    tables, results, refusals = [], [], []
    for trial in trials:
        held = participants["trial"].astype(str) == trial
        draws = predict(
            participants[~held].reset_index(drop=True), participants[held].drop(columns=outcomes).reset_index(drop=True)
        )
        try:
            found = agree(draws, participants[held], **options)
        except RefusalError as refusal:
            refusals.append(f"{trial}: {refusal}")
            continue
        tables.append(found.table)
        results.append(found.results.assign(analysis="held-out trial, " + found.results["analysis"].astype(str)))
    if not tables:
        raise RefusalError(f"no contrast of a held-out trial could be predicted ({'; '.join(refusals)})")
    return Agreement(pd.concat(tables, ignore_index=True), pd.concat(results, ignore_index=True))
