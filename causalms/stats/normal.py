"""The standard normal law in plain Python: ``scipy.special`` takes longer to import than an analysis of a trial takes to run."""

from __future__ import annotations

import math
from statistics import NormalDist

_STANDARD = NormalDist()


def normal_cdf(z: float) -> float:
    r"""Distribution function :math:`\Phi(z)`, to full precision in both tails.

    Examples
    --------
    >>> round(normal_cdf(-1.959963984540054), 12), normal_cdf(-float("inf"))
    (0.025, 0.0)
    """
    return 0.5 * math.erfc(-z / math.sqrt(2))


def normal_quantile(probability: float) -> float:
    r"""Quantile :math:`\Phi^{-1}(p)` of a probability between 0 and 1.

    References
    ----------
    Wichura (1988), Applied Statistics 37:477, algorithm AS 241.

    Examples
    --------
    >>> round(normal_quantile(0.975), 12)
    1.95996398454
    """
    return _STANDARD.inv_cdf(probability)
