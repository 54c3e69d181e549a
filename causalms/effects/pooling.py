"""Rubin's rules for analyses of completed tables, with the degrees of freedom of Barnard and Rubin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalms.effects.contrasts import wald
from causalms.effects.observed import Analysis
from causalms.errors import RefusalError


def barnard_rubin(within: float, between: float, count: int, complete: float) -> float:
    r"""Degrees of freedom of a pooled estimate.

    With :math:`\lambda = \text{between}/(\text{within}+\text{between})`, :math:`\nu_m=(M-1)/\lambda^2` and
    :math:`\nu_{obs}=\frac{\nu_{com}+1}{\nu_{com}+3}\nu_{com}(1-\lambda)`, it is :math:`1/(1/\nu_m+1/\nu_{obs})`.

    Parameters
    ----------
    within, between : float
        Mean variance of the completed tables, and :math:`(1+1/M)` times the variance of their estimates.
    count : int
        Number of imputations M.
    complete : float
        Degrees of freedom of a table without missing values.

    References
    ----------
    Barnard and Rubin (1999), Biometrika 86:948-955.

    Examples
    --------
    >>> round(barnard_rubin(1.0, 0.5, 5, 50.0), 3)
    16.962
    """
    share = between / (within + between)
    observed = (complete + 1) / (complete + 3) * complete * (1 - share) if np.isfinite(complete) else np.inf
    if share <= 0:
        return float(observed)
    return float(1 / (share**2 / (count - 1) + 1 / observed))


def pooled_results(analyses: Sequence[Analysis], level: float) -> pd.DataFrame:
    """Results of the completed tables pooled by Rubin's rules.

    Raises
    ------
    RefusalError
        A completed table has an arm without events, whose ratio cannot be pooled.
    """
    count, first = len(analyses), analyses[0]
    results = first.results.astype({"estimator": object, "variance": object})
    log = first.settings.measure.is_ratio
    estimates = np.array([run.results["estimate"].to_numpy() for run in analyses])
    variances = np.array([run.results["se"].to_numpy() ** 2 for run in analyses])
    complete = np.mean([_complete_degrees(run) for run in analyses], axis=0)
    for index in range(len(results)):
        if np.isnan(variances[:, index]).any():
            raise RefusalError(
                f"arm {results['arm'].iloc[index]!r} has no event in a completed table: its ratio 0 cannot be pooled; "
                "ask for a difference"
            )
        values = np.log(estimates[:, index]) if log else estimates[:, index]
        within, between = float(np.mean(variances[:, index])), (1 + 1 / count) * float(values.var(ddof=1))
        degrees = barnard_rubin(within, between, count, float(complete[index]))
        pooled = wald(float(values.mean()), float(np.sqrt(within + between)), log=log, level=level, degrees_of_freedom=degrees)
        for name in ("estimate", "se", "lower", "upper", "p_value"):
            results.loc[index, name] = getattr(pooled, name)
        results.loc[index, "se_patient"] = np.sqrt(within)
        results.loc[index, "se_monte_carlo"] = np.sqrt(between)
    results["variance"] += "; Rubin's rules, degrees of freedom of Barnard and Rubin"
    return results


def _complete_degrees(analysis: Analysis) -> list[float]:
    """Degrees of freedom of each reported contrast; patients less coefficients where its law is the normal."""
    degrees = []
    for part in analysis.parts:
        for arm in part.reported:
            own = part.contrasts[arm - 1].degrees_of_freedom
            degrees.append(own if np.isfinite(own) else float(part.data.n - part.fit.rank))
    return degrees
