"""Step 4, the contrast between arms by the delta method, and the one place where an interval is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalms.errors import RefusalError, UsageError
from causalms.stats import Array, normal_cdf, normal_quantile
from causalms.tables import name_of

if TYPE_CHECKING:
    from causalms.effects.covariance import Covariance


#: A standard error below this share of the means is rounding.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Contrast:
    """An effect with its interval.

    Attributes
    ----------
    estimate : float
        Back-transformed where the scale is a logarithm.
    se : float
        On the scale of inference: of the logarithm for a ratio.
    lower, upper : float
    p_value : float
        Two-sided, against no effect.
    level : float
    degrees_of_freedom : float
        Of t; infinite for the normal law.
    """

    estimate: float
    se: float
    lower: float
    upper: float
    p_value: float
    level: float
    degrees_of_freedom: float = np.inf

    @property
    def columns(self) -> dict[str, float]:
        """What a row of results holds of a contrast."""
        return {name: value for name, value in vars(self).items() if name != "degrees_of_freedom"}


def wald(
    value: float,
    se: float,
    *,
    log: bool,
    level: float = 0.95,
    degrees_of_freedom: float = np.inf,
    null: float = 0.0,
    exact: bool = False,
) -> Contrast:
    r"""Interval :math:`\hat\delta \pm q\,\mathrm{se}` with the normal or t quantile, and its two-sided p-value.

    Parameters
    ----------
    value : float
        Estimate on the scale of inference (log for ratios).
    se : float
        Its standard error.
    log : bool
        Whether to report the exponential.
    level : float
        Such as 0.95, for the 2.5 and 97.5 percentiles.
    degrees_of_freedom : float
    null : float
        Value of no effect on the scale of inference.
    exact : bool
        Whether a standard error of zero is a fact (expected outcomes that do not vary) and not a failure of the data.

    Raises
    ------
    RefusalError
        The standard error is zero or missing.

    Examples
    --------
    >>> wald(0.0, 1.0, log=False).upper.__round__(6)
    1.959964
    """
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {name_of(level)}, expected a number between 0 and 1 such as 0.95")
    if not (np.isfinite(value) and np.isfinite(se)) or se < 0 or (se == 0 and not exact):
        raise RefusalError(
            "outcome: does not vary within the arms, so the contrast has no standard error; choose another outcome"
        )
    tail = (1 + level) / 2
    statistic = -abs(value - null) / se if se > 0 else (-np.inf if value != null else 0.0)
    if np.isfinite(degrees_of_freedom):
        from scipy.special import stdtr, stdtrit

        quantile, p_value = float(stdtrit(degrees_of_freedom, tail)), 2 * float(stdtr(degrees_of_freedom, statistic))
    else:
        quantile, p_value = normal_quantile(tail), 2 * normal_cdf(statistic)
    ends = value - quantile * se, value + quantile * se
    if not log:
        return Contrast(value, se, ends[0], ends[1], p_value, level, degrees_of_freedom)
    with np.errstate(over="ignore"):
        lower, upper = float(np.exp(ends[0])), float(np.exp(ends[1]))
        return Contrast(float(np.exp(value)), se, lower, upper, p_value, level, degrees_of_freedom)


def transformed(means: Array, scale: str, arms: tuple[str, ...] = ()) -> tuple[Array, Array]:
    """Means on the scale of inference and the derivative there; a mean where the scale ends is refused by its arm's name.

    Examples
    --------
    >>> import numpy as np
    >>> [part.round(3).tolist() for part in transformed(np.array([1.0, 2.0]), "log")]
    [[0.0, 0.693], [1.0, 0.5]]
    """
    if scale == "identity":
        return means, np.ones_like(means)
    means = np.where(np.abs(means) <= _ROUNDING * np.abs(means).max(), 0.0, means)  # rounding of an arm without events
    outside = (means <= 0) | ((means >= 1) if scale == "logit" else np.zeros(len(means), dtype=bool))
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        name = f"arm {arms[at]!r}" if arms else f"arm {at}"
        raise RefusalError(
            f"outcome: {name} has an estimated mean of {means[at]:g}, so no ratio can be formed; ask for a difference"
        )
    if scale == "log":
        return np.log(means), 1 / means
    return np.log(means / (1 - means)), 1 / (means * (1 - means))


def contrast_with_reference(
    means: Array, covariance: Covariance, arm: int, *, scale: str, level: float, arms: tuple[str, ...] = ()
) -> Contrast:
    """Contrast of arm ``arm`` with arm 0 by the delta method."""
    pair = np.array([0, arm])
    names = tuple(arms[index] for index in pair) if arms else ()
    values, slopes = transformed(means[pair], scale, names)
    variance, degrees = (float(part) for part in covariance.of_contrast(pair, slopes * np.array([-1.0, 1.0])))
    se = float(np.sqrt(max(variance, 0.0)))
    if se <= _ROUNDING * (1.0 if scale != "identity" else float(np.abs(means[pair]).max())):
        se = 0.0  # refused below
    return wald(float(values[1] - values[0]), se, log=scale != "identity", level=level, degrees_of_freedom=degrees)
