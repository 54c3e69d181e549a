"""Marginal calibration: how often each count was observed, and how often the forecasts expected it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.tests import replicates
from causalms.stats import Array, CountLaw, DrawsLaw, simultaneous_band


@dataclass(frozen=True)
class Rootogram:
    """A hanging rootogram.

    Attributes
    ----------
    table : DataFrame
        ``count`` (the last row holds all larger counts too), ``label``, ``observed``, ``expected`` (patients), ``sqrt_expected``
        (top of the hanging bar), ``hanging`` (its foot: sqrt expected - sqrt observed), ``lower``, ``upper`` (simultaneous
        tolerance band of the observed patients under calibration, judged on the root scale), ``level``.
    p_value : float
    n : int
    """

    table: pd.DataFrame
    p_value: float
    n: int


def rootogram(
    law: CountLaw, observed: object, largest: int | None = None, level: float = 0.95, repetitions: int = 999, seed: int = 0
) -> Rootogram:
    """Hanging rootogram of counts with a simultaneous tolerance band.

    Parameters
    ----------
    law : CountLaw
    observed : array (n,)
    largest : int, optional
        First count of the last, open class; by default with at most 5% of the patients beyond it, and 25 at most.
    level : float
    repetitions, seed : int

    Returns
    -------
    Rootogram

    References
    ----------
    Kleiber, Zeileis (2016), Am Stat 70:296.

    Examples
    --------
    >>> from causalms.stats import NegativeBinomialLaw
    >>> root = rootogram(NegativeBinomialLaw([1.0] * 40, [0.8] * 40), [0] * 22 + [1] * 9 + [2] * 9, largest=3)
    >>> root.table[["label", "observed", "expected"]].round(1).values.tolist()
    [['0', 22.0, 20.9], ['1', 9.0, 9.3], ['2', 9.0, 4.6], ['3+', 0.0, 5.2]]
    """
    y = np.asarray(observed, np.int64)
    top = _open_class(y) if largest is None else largest
    expected = _expected(law, top)
    seen = np.bincount(np.minimum(y, top), minlength=top + 1).astype(float)
    again = np.minimum(replicates(law, y, repetitions, seed).counts, top)
    null = np.stack([np.bincount(column, minlength=top + 1) for column in again.T])
    foot = np.sqrt(expected) - np.sqrt(seen)
    band = simultaneous_band(foot, np.sqrt(expected) - np.sqrt(null), level)
    table = pd.DataFrame(
        {
            "count": np.arange(top + 1),
            "label": [*map(str, range(top)), f"{top}+"],
            "observed": seen,
            "expected": expected,
            "sqrt_expected": np.sqrt(expected),
            "hanging": foot,
            "lower": np.maximum(np.sqrt(expected) - band.upper, 0) ** 2,
            "upper": (np.sqrt(expected) - band.lower) ** 2,
            "level": level,
        }
    )
    return Rootogram(table, band.p_value, law.n)


def _open_class(y: NDArray[np.int64]) -> int:
    return min(max(int(np.quantile(y, 0.95, method="higher")), 1), 25)


def _expected(law: CountLaw, top: int) -> Array:
    """Expected number of patients with 0, 1, ..., top - 1 and at least top lesions."""
    if isinstance(law, DrawsLaw):
        classes = np.bincount(np.minimum(law.draws, top).ravel(), minlength=top + 1)
        return np.asarray(classes / law.draws.shape[1])
    below = law.cdf(np.broadcast_to(np.arange(top), (law.n, top))).sum(axis=0)
    return np.diff(np.concatenate([[0.0], below, [float(law.n)]]))
