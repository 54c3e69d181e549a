"""Entropy balancing: the weights of least change under which covariate means reach a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_LARGEST_MULTIPLIER = 200.0


@dataclass(frozen=True)
class EntropyBalance:
    """Weights and how far they are from the target.

    Attributes
    ----------
    weights : array (n,)
        At least 0, adding up to 1.
    imbalance : array (q,)
        Weighted means of the centred covariates; 0 where the target is reached.
    """

    weights: Array
    imbalance: Array

    @property
    def reached(self) -> bool:
        """Whether every weighted mean is the target, to 1e-6 of the covariates' unit."""
        return bool(np.abs(self.imbalance).max(initial=0.0) < 1e-6)


def entropy_balance(centred: npt.ArrayLike) -> EntropyBalance:
    r"""Weights :math:`w_i \propto \exp(\lambda^T x_i)` with :math:`\sum_i w_i x_i = 0`.

    Of all weights that reach the target they have the largest entropy.  :math:`\lambda` minimises the convex dual
    :math:`\log \sum_i \exp(\lambda^T x_i)`, by Newton's method with step halving.  Where the target lies outside what the rows
    span, the multipliers run away and ``reached`` is False.

    Parameters
    ----------
    centred : array_like (n, q)
        Covariates less their target means, in units of about their standard deviation.

    References
    ----------
    Hainmueller (2012), Political Analysis 20:25-46; Signorovitch et al. (2010), Pharmacoeconomics 28:935-945.

    Examples
    --------
    >>> found = entropy_balance([[-1.0], [0.0], [2.0]])
    >>> found.reached, (found.weights @ [-1.0, 0.0, 2.0]).round(9) + 0.0
    (True, np.float64(0.0))
    >>> entropy_balance([[1.0], [2.0]]).reached
    False
    """
    x = np.asarray(centred, dtype=float)
    multiplier = np.zeros(x.shape[1])
    height, weights = _dual(x, multiplier)
    for _ in range(200):
        gradient = weights @ x
        if np.abs(gradient).max(initial=0.0) < 1e-10 or np.abs(multiplier).max(initial=0.0) > _LARGEST_MULTIPLIER:
            break
        curvature = (x * weights[:, None]).T @ x - np.outer(gradient, gradient)
        step, size = np.linalg.lstsq(curvature, gradient, rcond=None)[0], 1.0
        lower, shares = _dual(x, multiplier - step)
        # near the solution the height is flat to rounding: there a smaller gradient is progress too
        while not (lower < height - 1e-14 or np.abs(shares @ x).max() < np.abs(gradient).max()) and size > 1e-7:
            size /= 2
            lower, shares = _dual(x, multiplier - size * step)
        multiplier, height, weights = multiplier - size * step, lower, shares
    return EntropyBalance(weights, weights @ x)


def _dual(x: Array, multiplier: Array) -> tuple[float, Array]:
    """Log of the sum of the exponentials, and their shares."""
    exponent = x @ multiplier
    top = float(exponent.max())
    raised = np.exp(exponent - top)
    return top + float(np.log(raised.sum())), raised / raised.sum()
