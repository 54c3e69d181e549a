"""The columns of an analysis that a report carries, so that its reader computes the effects again from the patients."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalms.effects.design import COEFFICIENTS
from causalms.effects.observed import Analysis

_OF_MEANS = ("influence", "small-sample", "leave-one-out", "leave-one-out-t")
_OF_COEFFICIENTS = ("model-r", "model-sas")
#: Columns of a contrast that are computed again.
RECOMPUTED = ("estimate", "se", "lower", "upper", "p_value")


def recomputation(analysis: Analysis) -> dict[str, Any]:
    """What is needed to compute an analysis again: patients without their names, settings, and the numbers to be reached.

    Parameters
    ----------
    analysis : Analysis

    Returns
    -------
    dict
        ``parts``: one for each set of patients, with ``arms``, ``settings`` and, a value a patient, ``arm`` (index), ``outcome``,
        ``time`` and ``covariates`` (columns of the adjustment formula, centred and scaled); ``rows`` are the contrasts.
        Patients are sorted by these values, so that their order says nothing of who they are.  ``left_out``: why a part cannot be
        computed again.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.observed import analyse
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> part = recomputation(analyse(table, outcome="relapses", reference="placebo"))["parts"][0]
    >>> part["arm"], part["outcome"], part["variance"]
    ([0, 0, 0, 1, 1, 1], [2.0, 3.0, 4.0, 0.0, 1.0, 2.0], 'small-sample')
    """
    reasons = {part.populations[0].words: reason for part in analysis.parts if (reason := _beyond(part))}
    left_out = [f"{words}: {reason}" for words, reason in reasons.items()]
    return {
        "outcome": analysis.outcome,
        "measure": analysis.settings.measure.name,
        "estimator": analysis.estimator_name,
        "parts": [_part(part) for part in analysis.parts if not _beyond(part)],
        "left_out": left_out,
    }


def _beyond(analysis: Analysis) -> str | None:
    """Why an analysis is not computed again in a page; None where it is."""
    settings, coefficient = analysis.settings, analysis.settings.estimator in COEFFICIENTS
    if settings.estimator == "firth" or (coefficient and settings.family == "linear"):
        return f"estimator {settings.estimator} of the {settings.family} model"
    if analysis.data.cluster is not None or settings.variance not in (_OF_COEFFICIENTS if coefficient else _OF_MEANS):
        return f"variance {analysis.covariance.name}"
    if settings.randomization != "simple":
        return "permuted blocks within strata"
    if settings.test != "wald":
        return f"test {settings.test}"
    if analysis.fit.limit is not None or (not coefficient and analysis.means is None):
        return "an arm or level without events"
    return None


def _part(analysis: Analysis) -> dict[str, Any]:
    data, settings = analysis.data, analysis.settings
    order = np.lexsort((*data.covariates.T[::-1], data.exposure, data.outcome, data.arm))
    return {
        "population": analysis.populations[0].words,
        "arms": list(data.arms),
        "estimator": "coefficient" if settings.estimator in COEFFICIENTS else settings.estimator,
        "family": settings.family,
        "variance": settings.variance,
        "rate": settings.rate,
        "interaction": settings.interaction,
        "counts": bool(analysis.means is not None and analysis.means.counts),
        "scale": settings.measure.scale,
        "level": settings.level,
        "covariate_names": list(data.covariate_names),
        "arm": data.arm[order].tolist(),
        "outcome": data.outcome[order].astype(float).tolist(),
        "time": data.exposure[order].astype(float).tolist(),
        "covariates": data.covariates[order].astype(float).tolist(),
        "rows": [
            {"arm": data.arms[index], "reference": data.arms[0], "index": index - 1}
            | {name: float(value) for name, value in analysis.contrasts[index - 1].columns.items() if name in RECOMPUTED}
            for index in analysis.reported
        ],
    }
