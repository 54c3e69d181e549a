"""The forecasts that a report carries, so that its reader computes coverage and PIT histogram again."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalms.calibration.assessment import Assessment
from causalms.calibration.pairs import Pairs
from causalms.errors import UsageError
from causalms.stats import NegativeBinomialLaw
from causalms.tables import percent_in_full


def forecasts_again(pairs: Pairs, assessment: Assessment) -> dict[str, Any]:
    """What a report needs to compute coverage and PIT histogram of all patients again: counts and laws, without identifiers.

    Parameters
    ----------
    pairs : Pairs
        From expected outcomes: laws with a formula.
    assessment : Assessment
        Of these pairs.

    Returns
    -------
    dict
        For :meth:`causalms.report.Report.add_recomputation`: per patient ``observed``, ``mean`` and ``size`` (none: Poisson),
        sorted by these values, so that their order says nothing of who they are.

    Raises
    ------
    UsageError
        The laws are draws, or have extra zeros.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.calibration import assess
    >>> law = NegativeBinomialLaw([2.0, 1.0], [0.8, 0.8])
    >>> pairs = Pairs(pd.DataFrame({"arm": "a", "observed": [3, 0]}), law, law.activity, 48.0)
    >>> part = forecasts_again(pairs, assess(pairs, repetitions=9))["parts"][0]
    >>> part["observed"], part["rows"][0]["of"]
    ([0, 3], 'coverage of 50% intervals')
    """
    law = pairs.law
    if not isinstance(law, NegativeBinomialLaw) or law.zero_inflation.any():
        raise UsageError("a page computes the coverage of expected outcomes again, not of draws; ask the query with `expected`")
    order = np.lexsort((law.size, law.mean, pairs.observed))
    coverage, pit = (table[table["subgroup"] == "all"] for table in (assessment.coverage, assessment.pit))
    said = [
        (f"coverage of {percent_in_full(level)} intervals", value)
        for level, value in coverage[["level", "coverage"]].to_numpy(float).tolist()
    ]
    said += [
        (f"PIT density, {low:g} to {high:g}", value)
        for low, high, value in pit[["lower_edge", "upper_edge", "density"]].to_numpy(float).tolist()
    ]
    part = {
        "kind": "forecasts",
        "observed": pairs.observed[order].tolist(),
        "mean": law.mean[order].tolist(),
        "size": [None if np.isinf(size) else float(size) for size in law.size[order]],
        "levels": coverage["level"].tolist(),
        "bins": len(pit),
        "rows": [{"of": of, "estimate": value, "index": index} for index, (of, value) in enumerate(said)],
    }
    return {"heading": "Number", "outcome": pairs.outcome, "measure": "calibration", "parts": [part], "left_out": []}
