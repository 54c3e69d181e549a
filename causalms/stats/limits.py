r"""Fits whose maximum lies at infinity: a site or level in which nobody has an event, or everybody.

The likelihood of such a table rises without end along a direction d of the coefficients: :math:`x_i'd = 0` for every patient
that holds the fit back, :math:`x_i'd < 0` for those without events (and, of a 0/1 outcome, :math:`x_i'd > 0` for those with
one).  In the limit the predictions of these patients are 0 (or 1), they carry no weight, and the other coefficients are
those of the fit without them.  It is what ``glm`` of R approaches; its iterations stop where these predictions are about 1e-9.

The direction is found by a linear program (Konis 2007): the largest sum of :math:`s_i x_i'd` under :math:`0 \le s_i x_i'd \le 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalms.errors import RefusalError

if TYPE_CHECKING:
    from causalms.stats.glm import Family

Array = NDArray[np.float64]
_NONE = 1e-7  # of a direction's own largest step, below which a patient does not move along it


@dataclass(frozen=True, eq=False)
class Limit:
    """Directions in which a fit goes to infinity, first to last.

    Attributes
    ----------
    directions : array (r, p)
        A patient is moved by the first direction that moves it at all.
    kept : array of bool (p,)
        Coefficients that the other patients determine; the rest are written as 0.
    """

    directions: Array
    kept: NDArray[np.bool_]

    def side(self, X: Array) -> Array:
        """Where each row of a design goes: -1 to prediction 0, 1 to infinity (or probability 1), 0 nowhere."""
        side = np.zeros(X.shape[:-1])
        for direction in self.directions:
            moved = X @ direction
            side = np.where((side == 0) & (np.abs(moved) > _NONE), np.sign(moved), side)
        return side

    def predictions(self, X: Array, finite: Array, family: Family) -> Array:
        """Predictions of the finite coefficients, replaced by 0 (or 1) where a direction decides.

        Raises
        ------
        RefusalError
            If a predicted rate is infinite.
        """
        side = self.side(X)
        if family != "logistic" and (side > 0).any():
            raise RefusalError(
                "outcome: covariates single out patients without events so that others have no finite prediction; "
                "leave out the covariate that does"
            )
        return np.where(side == 0, finite, (side > 0).astype(float))

    def inverse(self, matrix: Array) -> Array:
        """Inverse over the finite coefficients (and what follows them); zero in the others' rows and columns."""
        kept = np.concatenate([self.kept, np.ones(matrix.shape[-1] - len(self.kept), dtype=bool)])
        out = np.zeros_like(matrix)
        out[np.ix_(kept, kept)] = np.linalg.inv(matrix[np.ix_(kept, kept)])
        return out


def limit_of_fit(family: Family, X: Array, y: Array) -> tuple[Limit, NDArray[np.bool_]] | None:
    """Directions in which the likelihood has no maximum, and the patients that they leave; None if there is no direction.

    Of collinear columns (an interaction with a site that has patients of one arm only) the later ones stay at 0, as in R.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.column_stack([np.ones(6), [0, 0, 0, 0, 1, 1]])
    >>> limit, left = limit_of_fit("poisson", X, np.array([1.0, 2, 0, 3, 0, 0]))
    >>> limit.side(X).tolist(), left.tolist(), limit.kept.tolist()
    ([0.0, 0.0, 0.0, 0.0, -1.0, -1.0], [True, True, True, True, False, False], [True, False])
    """
    left, directions, estimable = np.ones(len(y), dtype=bool), [], determined(X)
    while left.any():
        moving = _direction(family, X[left][:, estimable], y[left])
        if moving is None:
            break
        direction = np.zeros(X.shape[1])
        direction[estimable] = moving
        still = np.abs(X[left] @ direction) <= _NONE
        directions.append(direction)
        left[np.flatnonzero(left)[~still]] = False
    if not directions:
        return None
    return Limit(np.array(directions), determined(X[left]) & estimable), left


def _direction(family: Family, X: Array, y: Array) -> Array | None:
    """A direction in which the likelihood does not fall and some patient moves, scaled to a largest step of 1."""
    from scipy.optimize import linprog

    free = np.ones(len(y), dtype=bool) if family == "logistic" else y == 0
    if not free.any():
        return None
    steps = X[free] * (np.where(y[free] > 0, 1.0, -1.0) if family == "logistic" else np.full(free.sum(), -1.0))[:, None]
    held = X[~free] if (~free).any() else None
    count = len(steps)
    answer = linprog(
        -steps.sum(axis=0),
        A_ub=np.concatenate([steps, -steps]),
        b_ub=np.concatenate([np.ones(count), np.zeros(count)]),
        A_eq=held,
        b_eq=None if held is None else np.zeros(len(held)),
        bounds=(None, None),
        method="highs",
    )
    if answer.status != 0 or (steps @ answer.x).max() < 1e-4:
        return None
    still = np.concatenate([X[~free], X[free][steps @ answer.x < 1e-6]])
    direction = _exactly_still(still, answer.x)
    largest = np.abs(X @ direction).max()
    return None if largest < 1e-6 else np.asarray(direction / largest)


def _exactly_still(still: Array, direction: Array) -> Array:
    """The direction less its rounding along the rows that must not move."""
    if not len(still):
        return direction
    _, sizes, rows = np.linalg.svd(still, full_matrices=False)
    basis = rows[sizes > 1e-9 * max(sizes[0], 1e-300)]
    return np.asarray(direction - basis.T @ (basis @ direction))


def determined(X: Array) -> NDArray[np.bool_]:
    """Columns that are no combination of the columns before them."""
    kept = np.zeros(X.shape[1], dtype=bool)
    orthonormal = np.empty((len(X), 0))
    for index in range(X.shape[1]):
        rest = X[:, index]
        length = np.sqrt((rest**2).sum())
        for _ in range(2):  # twice, because one Gram-Schmidt pass loses digits
            rest = rest - orthonormal @ (orthonormal.T @ rest)
        norm = np.sqrt((rest**2).sum())
        if norm > 1e-7 * max(length, 1e-300):
            kept[index] = True
            orthonormal = np.column_stack([orthonormal, rest / norm])
    return kept
