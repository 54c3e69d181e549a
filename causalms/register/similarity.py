"""How well two scans fit each other, whatever their contrasts: normalised mutual information."""

from __future__ import annotations

import numpy as np

from causalms.register.scan import Scan

_LEVELS = 32
_SHIFT_MM = 8.0


def mutual_information(fixed: Scan, moving: Scan, within: np.ndarray) -> float:
    """Normalised mutual information (H(X) + H(Y)) / H(X, Y), 1 for independent scans, of 32 levels of equal counts each.

    Parameters
    ----------
    fixed, moving : Scan
    within : array of bool, of the shape of ``fixed``
        Only these voxels are compared.

    References
    ----------
    Studholme C, Hill DLG, Hawkes DJ. An overlap invariant entropy measure of 3D medical image alignment. Pattern Recognition
    1999.

    Examples
    --------
    >>> import numpy as np
    >>> from causalms.trials import Space
    >>> scan = Scan(np.random.default_rng(1).random((10, 10, 10)), Space((10, 10, 10), np.eye(4)))
    >>> round(mutual_information(scan, Scan(-scan.values, scan.space), scan.values > 0), 6)
    2.0
    """
    first, second = (_levels(scan.values[within]) for scan in (fixed, moving.on(fixed.space)))
    joint = np.histogram2d(first, second, bins=_LEVELS)[0] / within.sum()
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / max(_entropy(joint), 1e-12)


def fits_best_in_place(fixed: Scan, moving: Scan, within: np.ndarray) -> bool:
    """Whether no shift of ``moving`` by 8 mm along an axis gives more mutual information than where it lies."""
    in_place = mutual_information(fixed, moving, within)
    for axis in range(3):
        for sign in (-1, 1):
            shift = np.eye(4)
            shift[axis, 3] = sign * _SHIFT_MM
            if mutual_information(fixed, moving.moved(shift), within) > in_place:
                return False
    return True


def _levels(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.digitize(values, np.quantile(values, np.linspace(0, 1, _LEVELS + 1)[1:-1])))


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
