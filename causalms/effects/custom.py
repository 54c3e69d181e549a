"""A contrast of one's own: any smooth function of the arms' means, by the delta method on their joint covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from causalms.effects.contrasts import Contrast, transformed, wald
from causalms.effects.observed import Analysis
from causalms.errors import InputError, RefusalError, UsageError, near_or_all
from causalms.stats import Array

_STEP = 1e-5


def custom_contrast(analysis: Analysis, function: Callable[[Array], float], *, null: float = 0.0, log: bool = False) -> Contrast:
    r"""A function of the arms' means with its interval.

    Parameters
    ----------
    analysis : Analysis
        Of means; its ``means.estimates`` and ``joint_covariance`` are in the order of ``data.arms``.
    function : callable
        Of the array of means; its derivative is taken numerically (central differences of fourth order).
    null : float
        Value of no effect on the scale of ``function``.
    log : bool
        Whether ``function`` gives a logarithm, which is reported back-transformed.

    Raises
    ------
    UsageError
        The analysis is of a coefficient.
    RefusalError
        The function is not finite at the means.

    References
    ----------
    Bannick, Ye, Yi, Bian (2024), RobinCar2: ``robin_glm(contrast = function)``.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"y": [5, 7, 6, 9, 2, 3, 4, 2, 1, 2, 0, 1], "arm": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    >>> analysis = analyse(table, outcome="y", reference="a")
    >>> round(custom_contrast(analysis, lambda m: np.log((m[1] + m[2]) / 2 / m[0]), log=True).estimate, 4)
    0.2778
    """
    if analysis.means is None:
        raise UsageError("a contrast of means needs `estimator` standardized or unadjusted")
    means = analysis.means.estimates
    value, slopes = float(function(means)), np.empty(len(means))
    for index, mean in enumerate(means):
        step = np.eye(len(means))[index] * _STEP * max(abs(mean), _STEP)
        ends = [function(means + part * step) for part in (1, -1, 2, -2)]
        slopes[index] = (8 * (ends[0] - ends[1]) - ends[2] + ends[3]) / (12 * step[index])
    if not (np.isfinite(value) and np.isfinite(slopes).all()):
        raise RefusalError("the contrast or its derivative is not finite at the arms' means; an arm may have no event")
    variance, degrees = analysis.covariance.of_contrast(np.arange(len(means)), slopes)
    return wald(
        value,
        float(np.sqrt(max(float(variance), 0.0))),
        log=log,
        level=analysis.settings.level,
        degrees_of_freedom=float(degrees),
        null=null,
    )


def weighted_contrast(analysis: Analysis, weights: Mapping[str, float]) -> Contrast:
    """A sum of the arms' means with weights, on the scale of inference (logarithms for ratios).

    Parameters
    ----------
    analysis : Analysis
    weights : mapping of str to float
        Of arms; arms that are not named have 0. Weights add up to 0.

    Raises
    ------
    InputError
        An unknown arm, or weights that do not add up to 0.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"y": [5, 7, 6, 9, 2, 3, 4, 2, 1, 2, 0, 1], "arm": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    >>> analysis = analyse(table, outcome="y", reference="a", measure="mean-difference")
    >>> round(weighted_contrast(analysis, {"b": 0.5, "c": 0.5, "a": -1}).estimate, 6)
    -4.875
    """
    arms, scale = analysis.data.arms, analysis.settings.measure.scale
    unknown = [name for name in weights if name not in arms]
    if unknown:
        raise InputError(f"`contrast`: no arm {unknown[0]!r}; {near_or_all(unknown[0], arms, 'arms are', always=True)}")
    given = np.array([float(weights.get(arm, 0.0)) for arm in arms])
    if abs(given.sum()) > 1e-9 or not given.any():
        raise InputError(
            f"`contrast`: weights add up to {given.sum():g}, expected 0 (what is compared less what it is compared with)"
        )
    return custom_contrast(
        analysis, lambda means: float(given[given != 0] @ transformed(means, scale)[0][given != 0]), log=scale != "identity"
    )
