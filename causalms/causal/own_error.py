"""A mechanism's own error in every world of a query, as the draws table carries it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalms.causal.mechanism import Mechanism, Subject
from causalms.causal.query import Query
from causalms.tables import ModelError


def error_texts(mechanism: Mechanism, subject: Subject, query: Query) -> list[str] | None:
    """The error of every world (interventions x weeks) of one patient; None where the mechanism does not know its own.

    Raises
    ------
    RefusalError
        If an arm or week is outside the mechanism's support.
    """
    worlds = [(intervention.law(subject), week) for intervention in query.interventions for week in query.weeks]
    texts = []
    for law, week in worlds:
        parts = [(share, mechanism.error(subject, arm, week)) for arm, share in law.items()]
        if any(error is None for _, error in parts):
            return None
        known = [(share, error) for share, error in parts if error is not None]
        if len(known) == 1:
            texts.append(known[0][1].text())
            continue
        means = [share * mechanism.expect(subject, arm, week).lesions for arm, share in law.items()]
        texts.append(_mixed([error for _, error in known], np.array([share for share, _ in known]), np.array(means)).text())
    return texts


def _mixed(errors: list[ModelError], shares: np.ndarray, means: np.ndarray) -> ModelError:
    """The error of a mixture of arms: log means weighted by their part of the mean, activities by their shares."""
    weights = means / means.sum() if means.sum() > 0 else shares
    log_mean = weights @ np.array([error.log_mean for error in errors])
    slope = float(shares @ [error.activity_slope for error in errors])
    size = float(np.linalg.norm(shares * [error.activity_size for error in errors]))
    return replace(errors[0], log_mean=log_mean, activity_slope=slope, activity_size=size, log_volume=np.nan, log_size=np.nan)
